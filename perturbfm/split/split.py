"""A split: four folds, two control roles, how they were dealt, and the hash that locks all of it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from perturbfm.errors import (
    BadValue,
    FoldMalformed,
    FoldsOverlap,
    SplitEdited,
    SplitNotFrozen,
    SplitOfOtherData,
    TooFewConditions,
    UnreadableFile,
    nearest,
)
from perturbfm.types import UNITS

FOLDS = ("train", "val", "calib", "test")
ROLES = ("input_control", "reference_control")
SCHEMA = "perturbfm-split/1"
SCHEMA_BY_AXIS = "perturbfm-split/2"
"""Schema of splits whose test rows are not all out of distribution on every axis; the others stay at the first."""

HASH12 = 12

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_JSON_KINDS = {
    "schema": str,
    "rule": str,
    "params": dict,
    "seed": int,
    "ood_axes": list,
    "fingerprint": str,
    "unit": str,
    "n_obs": int,
    "data_name": str,
}


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Row numbers of each fold and control role, locked to one data set.

    Indices may be given in any order; they are kept sorted, over memory that cannot be made writable again. A control
    is *input* (what a model may be shown, and the match of train deltas) or *reference* (what deltas of the truth are
    taken against) and is in no fold. Two splits are equal when their content and frozen hashes are.

    Attributes:
        train_idx: Rows models learn from.
        val_idx: Rows that choose between models.
        calib_idx: Rows that calibration learns from.
        test_idx: Rows that judge.
        input_control_idx: Controls that models may see.
        reference_control_idx: Controls that only the truth uses.
        fingerprint: Content hash of the data set.
        data_name: Short name of the data, used in file names only and not part of the hash.
        rule: Name of the rule that dealt the folds.
        params: The rule's options and what it decided; plain JSON values, kept deeply immutable.
        ood_axes: What the test fold holds that train does not, such as `("context",)`; `("none",)` where nothing.
        seed: Seed of the dealing.
        n_obs: Number of rows of the data set.
        unit: `cells` or `pseudobulk`.
        ood_idx: For each axis the test rows that are out of distribution on it; None means all of them on every axis.
        frozen_hash: The content hash at the time of `freeze`, or None.

    Raises:
        FoldMalformed: Indices are not distinct row numbers below `n_obs`.
        FoldsOverlap: A row is in two folds or roles.
        TooFewConditions: One of the four folds is empty.
        BadValue: Another field has the wrong type or an impossible value.
    """

    train_idx: np.ndarray
    val_idx: np.ndarray
    calib_idx: np.ndarray
    test_idx: np.ndarray
    input_control_idx: np.ndarray
    reference_control_idx: np.ndarray
    fingerprint: str
    data_name: str
    rule: str
    params: Mapping[str, Any]
    ood_axes: tuple[str, ...]
    seed: int
    n_obs: int
    unit: str
    ood_idx: Mapping[str, np.ndarray] | None = None
    frozen_hash: str | None = None

    def __post_init__(self) -> None:
        self._set("n_obs", whole_number("n_obs", self.n_obs, least=1))
        self._set("seed", whole_number("seed", self.seed, least=0))
        for name in (*FOLDS, *ROLES):
            self._set(f"{name}_idx", _row_numbers(name, getattr(self, f"{name}_idx"), self.n_obs))
        self._set("params", _frozen("params", _mapping(self.params)))
        self._set("ood_axes", _axes(self.ood_axes))
        self._set("ood_idx", _by_axis(self))
        _check_names(self)
        _check_disjoint(self.indices())
        _check_filled(self)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    # --- looking ---------------------------------------------------------------------------------------

    def fold(self, name: str) -> np.ndarray:
        """Row numbers of one of `FOLDS`, sorted."""
        if name not in FOLDS:
            raise BadValue(
                "Unknown fold",
                given=repr(name),
                expected=", ".join(FOLDS),
                fix=f"Nearest: {nearest(str(name), FOLDS)}.",
            )
        return self.indices()[name]

    def indices(self) -> dict[str, np.ndarray]:
        """Row numbers by fold and role."""
        return {name: getattr(self, f"{name}_idx") for name in (*FOLDS, *ROLES)}

    def ood_rows(self, axis: str) -> np.ndarray:
        """Test rows that are out of distribution on one of `ood_axes`, sorted."""
        if axis not in self.ood_axes:
            raise BadValue(
                "The split has no such axis",
                given=repr(axis),
                expected=", ".join(self.ood_axes),
                fix=f"Nearest: {nearest(str(axis), self.ood_axes)}.",
            )
        return self.test_idx if self.ood_idx is None else self.ood_idx[axis]

    def in_distribution_rows(self, axis: str) -> np.ndarray:
        """Rows to hold those of `ood_rows` against: the rest of the test, or calibration where there is none."""
        rest = np.setdiff1d(self.test_idx, self.ood_rows(axis))
        return rest if rest.size else self.calib_idx

    def summary(self) -> dict[str, int]:
        """Number of rows by fold and role, of those in none (`left_out`), and of all (`n_obs`)."""
        counts = {name: len(idx) for name, idx in self.indices().items()}
        return {**counts, "left_out": self.n_obs - sum(counts.values()), "n_obs": self.n_obs}

    @property
    def short(self) -> str:
        """First seven characters of the frozen hash, or of the content's hash while not frozen."""
        return (self.frozen_hash or self.compute_hash())[:7]

    @property
    def file_name(self) -> str:
        """`<data>-<rule>-<hash12>.json`."""
        return f"{self.data_name}-{self.rule}-{(self.frozen_hash or self.compute_hash())[:HASH12]}.json"

    def __repr__(self) -> str:
        counts = " ".join(f"{name}={n}" for name, n in self.summary().items())
        state = "frozen" if self.frozen_hash else "not frozen"
        return f"Split({self.data_name}-{self.rule}-{self.short}, {state}, {counts})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Split):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.compute_hash())

    def __reduce__(self) -> tuple[object, ...]:
        return Split.from_json, (self.to_json(), "a pickled split")

    # --- locking ---------------------------------------------------------------------------------------

    def compute_hash(self) -> str:
        """SHA-256 over schema, sorted indices, rule, params, seed, OOD axes, fingerprint, unit and row count."""
        return _digest(self._header(), self.indices(), self.ood_idx or {})

    def freeze(self) -> Split:
        """Return this split with its hash written in; a split that is frozen already is verified instead."""
        if self.frozen_hash is not None:
            self.assert_frozen()
            return self
        return replace(self, frozen_hash=self.compute_hash())

    def assert_frozen(self) -> None:
        """Refuse a split that was never frozen, or that has changed since."""
        if self.frozen_hash is None:
            raise SplitNotFrozen(
                "Split carries no frozen hash",
                given=f"{self.data_name}-{self.rule}, not frozen",
                expected="a frozen split",
                fix="Call freeze() and save the split, then use the stored one.",
            )
        _check_hash(self.frozen_hash, self.compute_hash(), f"{self.data_name}-{self.rule}")

    def assert_fits(self, fingerprint: str, n_obs: int) -> None:
        """Refuse data other than those the split is locked to."""
        if fingerprint != self.fingerprint or n_obs != self.n_obs:
            raise SplitOfOtherData(
                f"Split {self.data_name}-{self.rule}-{self.short} is locked to other data",
                given=f"data {fingerprint[:HASH12]} with {n_obs} rows",
                expected=f"data {self.fingerprint[:HASH12]} with {self.n_obs} rows",
                fix="Restore that data, or make and freeze a split of the data at hand.",
            )

    def _header(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA if self.ood_idx is None else SCHEMA_BY_AXIS,
            "rule": self.rule,
            "params": _plain(self.params),
            "seed": self.seed,
            "ood_axes": list(self.ood_axes),
            "fingerprint": self.fingerprint,
            "unit": self.unit,
            "n_obs": self.n_obs,
        }

    # --- reading and writing ---------------------------------------------------------------------------

    def to_json(self) -> str:
        """The split as text: sorted keys, one line each; equal splits give equal text."""
        content = {**self._header(), "data_name": self.data_name, "frozen_hash": self.frozen_hash}
        content |= {f"{name}_idx": idx.tolist() for name, idx in self.indices().items()}
        if self.ood_idx is not None:
            content["ood_idx"] = {axis: idx.tolist() for axis, idx in self.ood_idx.items()}
        lines = (f"{json.dumps(key)}: {_canonical(content[key])}" for key in sorted(content))
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Split:
        """Read what `to_json` wrote and verify its hash.

        Args:
            text: The content of a split file.
            source: Where the text comes from, for messages.

        Raises:
            UnreadableFile: The text is not a split of this schema.
            SplitEdited: The content does not give the hash written in it.
        """
        content = _parse(text, source)
        index = {name: np.array(content.pop(f"{name}_idx"), dtype=np.int64) for name in (*FOLDS, *ROLES)}
        by_axis = {axis: np.array(idx, dtype=np.int64) for axis, idx in content.pop("ood_idx", {}).items()}
        header = {key: content[key] for key in _JSON_KINDS if key != "data_name"}
        if content["frozen_hash"] is not None:
            _check_hash(content["frozen_hash"], _digest(header, index, by_axis), source)
        if content.pop("schema") == SCHEMA_BY_AXIS:
            content["ood_idx"] = by_axis
        content["ood_axes"] = tuple(content["ood_axes"])
        content |= {f"{name}_idx": idx for name, idx in index.items()}
        return cls(**content)


# --- checks of the constructor -------------------------------------------------------------------------


def whole_number(name: str, value: object, *, least: int, most: int | None = None) -> int:
    """Return an option as int, or refuse what is not a whole number in its range."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    limit = f"from {least} on" if most is None else f"from {least} to {most}"
    raise BadValue(
        f"{name} is out of range",
        given=repr(value),
        expected=f"a whole number {limit}",
        fix=f"Set {name} within that range.",
    )


def _row_numbers(name: str, values: Any, n_obs: int) -> np.ndarray:
    """Sorted row numbers over immutable bytes."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise FoldMalformed(
            f"Fold {name} is not a list of row numbers",
            given=f"{array.dtype} of shape {array.shape}",
            expected="one-dimensional integers",
            fix="Turn masks into row numbers with np.flatnonzero.",
        )
    out = array[(array < 0) | (array >= n_obs)] if array.size else array
    if out.size:
        raise FoldMalformed(
            f"Fold {name} names rows that do not exist",
            given=f"{out.size} such, first {out[0]}",
            expected=f"row numbers from 0 to {n_obs - 1}",
            fix="Count rows from 0, in the data set that the split is for.",
        )
    array = np.sort(array.astype(np.int64))
    twice = array[1:][np.diff(array) == 0]
    if twice.size:
        raise FoldMalformed(
            f"Fold {name} names a row more than once",
            given=f"{twice.size} repeats, first row {twice[0]}",
            expected="each row once",
            fix="Drop the repeats.",
        )
    return np.ndarray(array.shape, dtype=np.int64, buffer=array.tobytes())


def _mapping(params: object) -> Mapping[str, Any]:
    if not isinstance(params, Mapping):
        raise BadValue("params is not a mapping", given=type(params).__name__, expected="a dict", fix="Pass a dict.")
    return params


def _frozen(name: str, value: Any) -> Any:
    """Deeply immutable copy of a plain JSON value."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return MappingProxyType({key: _frozen(f"{name}.{key}", value[key]) for key in sorted(value)})
    if isinstance(value, list | tuple):
        return tuple(_frozen(f"{name}[{i}]", item) for i, item in enumerate(value))
    if value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value)):
        return value
    raise BadValue(
        f"{name} cannot be written down exactly",
        given=f"{type(value).__name__} {value!r}",
        expected="str, int, bool, None, finite float, or lists and dicts with text keys of these",
        fix="Convert it to a plain Python value.",
    )


def _plain(value: Any) -> Any:
    """The JSON value that `_frozen` froze."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _axes(axes: object) -> tuple[str, ...]:
    given = axes if isinstance(axes, tuple | list) else ()
    if not given or len(set(given)) != len(given) or not all(isinstance(axis, str) and axis for axis in given):
        raise BadValue(
            "ood_axes is not a list of axes",
            given=repr(axes),
            expected="distinct names",
            fix='Pass a tuple such as ("context",).',
        )
    return tuple(sorted(given))


def _by_axis(split: Split) -> Mapping[str, np.ndarray] | None:
    """Sorted test rows by axis; None where every axis has the whole test, so that equal splits are written equally."""
    given = split.ood_idx
    if given is None:
        return None
    if not isinstance(given, Mapping) or tuple(sorted(given)) != split.ood_axes:
        raise BadValue(
            "ood_idx does not name the rows of each axis",
            given=", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__,
            expected=", ".join(split.ood_axes),
            fix="Give the test rows of every axis in ood_axes.",
        )
    rows = {axis: _row_numbers(f"ood {axis}", given[axis], split.n_obs) for axis in split.ood_axes}
    for axis, idx in rows.items():
        outside = idx[~np.isin(idx, split.test_idx)]
        if outside.size:
            raise FoldMalformed(
                f"Axis {axis} names rows outside of the test",
                given=f"{outside.size} such, first {outside[0]}",
                expected="rows of the test fold",
                fix="Name test rows only; other folds are in distribution.",
            )
    if all(len(idx) == len(split.test_idx) for idx in rows.values()):
        return None
    return MappingProxyType(rows)


def _check_names(split: Split) -> None:
    for name in ("data_name", "rule"):
        value = getattr(split, name)
        if not isinstance(value, str) or not _SLUG.fullmatch(value):
            raise BadValue(
                f"{name} cannot be part of a file name",
                given=repr(value),
                expected="letters, digits, dots, dashes and underscores",
                fix="Choose a short name of these.",
            )
    if not isinstance(split.fingerprint, str) or not split.fingerprint:
        raise BadValue(
            "Split without a fingerprint",
            given=repr(split.fingerprint),
            expected="the content hash of the data",
            fix="Pass the fingerprint of the data set.",
        )
    if split.unit not in UNITS:
        raise BadValue(
            "Unknown unit", given=repr(split.unit), expected=" or ".join(UNITS), fix="Say what one row of the data is."
        )


def _check_disjoint(indices: Mapping[str, np.ndarray]) -> None:
    every = np.sort(np.concatenate(list(indices.values())))
    if (np.diff(every) > 0).all():
        return
    for (one, one_idx), (other, other_idx) in combinations(indices.items(), 2):
        both = np.intersect1d(one_idx, other_idx)
        if both.size:
            raise FoldsOverlap(
                f"Rows are both in {one} and in {other}",
                given=f"{both.size} rows, first row {both[0]}",
                expected="each row in one fold or control role at most",
                fix="Deal whole conditions to one fold each.",
            )


def _check_filled(split: Split) -> None:
    empty = [name for name in FOLDS if not split.fold(name).size]
    if empty:
        raise TooFewConditions(
            "Folds are empty",
            given=", ".join(empty),
            expected=f"rows in each of {', '.join(FOLDS)}",
            fix="Use a rule that fills every fold, or data with more conditions.",
        )


# --- hash and text -------------------------------------------------------------------------------------


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _digest(header: Mapping[str, Any], indices: Mapping[str, np.ndarray], by_axis: Mapping[str, np.ndarray]) -> str:
    """Canonical header and a newline; then per fold, role and axis its name, length and little-endian sorted int64."""
    header = {**header, "ood_axes": sorted(header["ood_axes"])}
    digest = hashlib.sha256(_canonical(header).encode("ascii") + b"\n")
    for name in (*FOLDS, *ROLES):
        digest.update(f"{name} {len(indices[name])}\n".encode("ascii"))
        digest.update(np.sort(indices[name]).astype("<i8").tobytes())
    for axis in sorted(by_axis):
        digest.update(f"ood {axis} {len(by_axis[axis])}\n".encode())
        digest.update(np.sort(by_axis[axis]).astype("<i8").tobytes())
    return digest.hexdigest()


def _check_hash(frozen: str, found: str, source: str) -> None:
    if frozen != found:
        raise SplitEdited(
            f"Split {source} was changed after it was frozen",
            given=f"content with hash {found[:HASH12]}",
            expected=f"frozen hash {frozen[:HASH12]}",
            fix="Restore the file from version control, or make a new split; a frozen one is never edited.",
        )


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _unreadable(source, f"text that is not JSON ({error})") from error
    index_keys = [f"{name}_idx" for name in (*FOLDS, *ROLES)]
    wanted = {*_JSON_KINDS, "frozen_hash", *index_keys}
    by_axis = isinstance(content, dict) and content.get("schema") == SCHEMA_BY_AXIS
    wanted |= {"ood_idx"} if by_axis else set()
    if not isinstance(content, dict) or set(content) != wanted:
        found = set(content) if isinstance(content, dict) else set()
        raise _unreadable(source, f"missing keys {sorted(wanted - found)}, unknown keys {sorted(found - wanted)}")
    if content["schema"] not in (SCHEMA, SCHEMA_BY_AXIS):
        raise _unreadable(source, f"schema {content['schema']!r}")
    wrong = [key for key, kind in _JSON_KINDS.items() if type(content[key]) is not kind]
    wrong += [key for key in index_keys if not _is_index_list(content[key])]
    wrong += ["ood_idx"] if by_axis and not _is_index_table(content["ood_idx"]) else []
    wrong += ["frozen_hash"] if not isinstance(content["frozen_hash"], str | None) else []
    if wrong or not all(isinstance(axis, str) for axis in content["ood_axes"]):
        raise _unreadable(source, f"values of the wrong type at {', '.join(wrong or ['ood_axes'])}")
    return content


def _is_index_list(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and abs(item) < 2**62 for item in value)


def _is_index_table(value: object) -> bool:
    return isinstance(value, dict) and all(_is_index_list(item) for item in value.values())


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _unreadable(source: str, found: str) -> UnreadableFile:
    return UnreadableFile(
        f"Cannot read the split {source}",
        given=found,
        expected=f"a split file of schema {SCHEMA}",
        fix="Restore the file from version control.",
    )
