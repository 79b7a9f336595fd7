"""Split files that benchmarks publish -> fold of each cell, with where it came from.

What is read here is a plain assignment; `perturbfm.split` makes a frozen split of it and checks it for leaks. A cell in
no fold is absent. Control cells are assigned where the file assigns them (PerturBench); a split takes its own halves.

A `table` is nobody's format: cell id and fold, for splits that come in none of the others.

Sources: PerturBench `data/datasplitter.py` (CSV without a header, saved splits with one), GEARS `pertdata.py`
(dictionary of conditions), cell-load `config.py` (TOML of STATE).
"""

from __future__ import annotations

import csv
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perturbfm.data.label import LabelRules, Parsed, read_labels
from perturbfm.errors import BadValue, OfficialSplitUnfit, PickleRefused, UnreadableFile, nearest
from perturbfm.types import Labels

KINDS = ("table", "perturbench", "gears", "cell_load")
FOLDS = ("train", "val", "test")
_NO_FOLD = ("", "none", "nan", "na", "<na>")
_CONVERT = (
    'Where you trust it, convert it once: python -c "import json, pickle, sys; '
    "d = pickle.load(open(sys.argv[1], 'rb')); "
    "json.dump({k: [str(c) for c in v] for k, v in d.items()}, open(sys.argv[2], 'w'))\" split.pkl split.json"
)


@dataclass(frozen=True)
class OfficialAssignment:
    """Fold of each cell as an official file says it.

    Attributes:
        fold_by_cell: Cell id -> `train`, `val` or `test`; a cell in no fold is absent.
        origin: `kind`, `file` (name), `sha256`, and counts of what did not match.
    """

    fold_by_cell: Mapping[str, str]
    origin: Mapping[str, Any]


def read_official(
    path: str, kind: str, labels: Labels, *, column: str | None = None, dataset: str | None = None
) -> OfficialAssignment:
    """Read an official split file against the labels of the data it is for.

    Args:
        path: `table`: CSV, or `.tsv`, of cell id and fold, with a header or without; cells it does not name are in no
            fold. `perturbench`: CSV of cell id and fold, with a header (a saved split) or without, which has every
            cell of the data. `gears`: JSON
            `{"train": [conditions], "val": [...], "test": [...]}` with conditions as GEARS writes them (`A+ctrl`).
            `cell_load`: TOML with `[datasets]`, `[training]`, `[zeroshot]`, `[fewshot]`; its cell types are contexts.
        kind: One of those four.
        labels: Labels of the data.
        column: Column of folds where a CSV has several.
        dataset: Which data set of the TOML the data is, where it names several and there is no covariate `dataset`.

    Raises:
        UnreadableFile: No such file, or none of its kind.
        PickleRefused: The dictionary is a pickle; the message says how to convert it.
        OfficialSplitUnfit: Unknown folds, an item in two folds, or a file for other data.
    """
    if kind not in KINDS:
        raise BadValue(
            "Unknown kind of official split",
            given=kind,
            expected=" | ".join(KINDS),
            fix=f"Did you mean {nearest(kind, KINDS)}?",
        )
    file = Path(path)
    content = _content(file)
    if kind == "table":
        fold_by_cell, counts = _table(file, content, labels)
    elif kind == "perturbench":
        fold_by_cell, counts = _perturbench(file, content, labels, column)
    elif kind == "gears":
        fold_by_cell, counts = _gears(file, content, labels)
    else:
        fold_by_cell, counts = _cell_load(file, content, labels, dataset)
    found = set(fold_by_cell.values())
    if not {"train", "test"} <= found:
        raise OfficialSplitUnfit(
            "An official split leaves a fold empty",
            given=f"{file.name}: {', '.join(sorted(found)) or 'no fold'} on {labels.data_name}",
            expected="train and test cells",
            fix="Check that the file is for this data: contexts, labels and cell ids must be its own.",
        )
    origin = {"kind": kind, "file": file.name, "sha256": hashlib.sha256(content).hexdigest(), **counts}
    return OfficialAssignment(fold_by_cell, origin)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UnreadableFile("There is no such split file", given=path, expected="a file", fix="Check its path.")
    try:
        content = path.read_bytes()
    except OSError as e:
        raise _unreadable(path, e, "a file that can be read") from e
    if content[:1] == b"\x80" or path.suffix.lower() in (".pkl", ".pickle"):
        raise PickleRefused(
            "A split dictionary is a pickle, which runs code when it is opened",
            given=path,
            expected='JSON: {"train": [conditions], "val": [...], "test": [...]}',
            fix=_CONVERT,
        )
    return content


def _unreadable(path: Path, what: object, expected: str) -> UnreadableFile:
    return UnreadableFile(
        "An official split cannot be read",
        given=f"{path.name}: {what}",
        expected=expected,
        fix="Fetch it again, or name its kind correctly.",
    )


def _unfit(what: str, given: str, expected: str, fix: str) -> OfficialSplitUnfit:
    return OfficialSplitUnfit(what, given=given, expected=expected, fix=fix)


def _text(path: Path, content: bytes, expected: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise _unreadable(path, e, expected) from e


# --- tables: plain, and of PerturBench ------------------------------------------------------------------------


def _table(path: Path, content: bytes, labels: Labels) -> tuple[dict[str, str], dict[str, int]]:
    """Fold of each cell from two columns; all of them must be cells of the data."""
    expected = "two columns: cell id, each once, and train, val or test"
    fold_by_cell = _listed(path, _rows(path, content, expected, "\t" if path.suffix.lower() == ".tsv" else ","), None)
    absent = sorted(set(fold_by_cell) - set(map(str, labels.cell_n)))
    if absent:
        raise _unfit(
            "An official split names cells that the data do not have",
            f"{len(absent)} of {len(fold_by_cell)}, first {absent[0]!r}",
            f"cell ids of the data, such as {str(labels.cell_n[0])!r}",
            "Use the data set that the split was made for, with its own cell ids.",
        )
    kept = {cell: fold for cell, fold in fold_by_cell.items() if fold in FOLDS}
    return kept, {"cells_without_fold": labels.n_obs - len(kept)}


def _perturbench(
    path: Path, content: bytes, labels: Labels, column: str | None
) -> tuple[dict[str, str], dict[str, int]]:
    """Fold of each cell from a CSV; the data's cells must all be in it."""
    rows = _rows(path, content, "a CSV of cell id and fold", ",")
    fold_by_cell = _listed(path, rows, column)
    cells = [str(c) for c in labels.cell_n]
    lacking = [c for c in cells if c not in fold_by_cell]
    if lacking:
        raise _unfit(
            "Cells of the data are not in the official split",
            f"{len(lacking)} of {len(cells)}, first {lacking[0]!r}; {path.name} has ids such as {rows[-1][0]!r}",
            "every cell of the data",
            "Check that the file is for this data and that its cell ids were not changed (data.prefix_cells).",
        )
    kept = {c: fold_by_cell[c] for c in cells if fold_by_cell[c] in FOLDS}
    return kept, {"cells_without_fold": len(cells) - len(kept), "cells_not_in_data": len(fold_by_cell) - len(cells)}


def _rows(path: Path, content: bytes, expected: str, sign: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(_text(path, content, expected).splitlines(), delimiter=sign) if row]
    except csv.Error as e:
        raise _unreadable(path, e, expected) from e
    if not rows or any(len(row) != len(rows[0]) for row in rows) or len(rows[0]) < 2:
        raise _unreadable(path, "no rows of two columns or more, all of one length", expected)
    return rows


def _listed(path: Path, rows: list[list[str]], column: str | None) -> dict[str, str]:
    """What each row says of its cell: a fold, or a word for none."""
    place, body = _fold_column(path, rows, column)
    fold_by_cell: dict[str, str] = {}
    for row in body:
        fold = row[place].strip().lower()
        if fold not in (*FOLDS, *_NO_FOLD):
            raise _unfit(
                "An official split names an unknown fold",
                f"{row[place]!r} of cell {row[0]!r} in {path.name}",
                ", ".join(FOLDS),
                "Name the column of folds, or correct the file.",
            )
        if row[0] in fold_by_cell:
            raise _unfit(
                "An official split names a cell twice", f"{row[0]!r} in {path.name}", "each cell once", "Correct it."
            )
        fold_by_cell[row[0]] = fold
    return fold_by_cell


def _fold_column(path: Path, rows: list[list[str]], column: str | None) -> tuple[int, list[list[str]]]:
    """Which column holds folds, and the rows below the header if there is one."""
    width = len(rows[0])
    headed = width > 2 or rows[0][1].strip().lower() not in (*FOLDS, *_NO_FOLD)
    if column is None and width == 2:
        return 1, rows[1:] if headed else rows
    if column is None or column not in rows[0][1:]:
        raise _unfit(
            "The column of folds is not named",
            f"column={column}, {path.name} has {', '.join(rows[0][1:])}",
            "one of them",
            "Name it: column, or --official-column.",
        )
    return rows[0].index(column, 1), rows[1:]


# --- GEARS -----------------------------------------------------------------------------------------


def _gears(path: Path, content: bytes, labels: Labels) -> tuple[dict[str, str], dict[str, int]]:
    """Fold of each cell from a dictionary of conditions."""
    expected = 'JSON: {"train": [conditions], "val": [...], "test": [...]}'
    try:
        table = json.loads(_text(path, content, expected))
    except (json.JSONDecodeError, RecursionError) as e:
        raise _unreadable(path, e, expected) from e
    if not isinstance(table, dict) or not all(
        k in FOLDS and isinstance(v, list) and all(isinstance(c, str) for c in v) for k, v in table.items()
    ):
        keys = ", ".join(map(str, table)) if isinstance(table, dict) else type(table).__name__
        raise _unreadable(path, f"it holds {keys[:100]}", expected)
    written = [(fold, condition) for fold, conditions in table.items() for condition in conditions]
    fold_by_pert: dict[str, str] = {}
    for (fold, condition), name in zip(written, _gears_names([c for _, c in written], labels), strict=True):
        if name == "control":
            continue
        if fold_by_pert.setdefault(name, fold) != fold:
            raise _unfit(
                "An official split has a condition in two folds",
                f"{condition!r}, read as {name!r}, in {fold_by_pert[name]} and {fold} of {path.name}",
                "each condition in one fold, in whatever order its parts are written",
                "Correct the file: scores on it would be of cells seen in training.",
            )
    return _by_perturbation(fold_by_pert, labels)


def _gears_names(conditions: list[str], labels: Labels) -> list[str]:
    """Conditions as GEARS writes them, in the names of the data."""
    if not conditions:
        return []
    rules = LabelRules(("ctrl", "control"), "+", drop_control_parts=True)
    found = read_labels(np.array(["ctrl", *conditions], dtype=object), rules)
    return [_renamed(found.parsed[code], labels.delimiter) for code in found.code_n[1:]]


def _renamed(label: Parsed, delimiter: str | None) -> str:
    return (delimiter or "+").join(label.name.split("+")) if label.order else "control"


def _by_perturbation(fold_by_pert: Mapping[str, str], labels: Labels) -> tuple[dict[str, str], dict[str, int]]:
    fold_by_cell = {
        str(cell): fold_by_pert[str(pert)]
        for cell, pert, control in zip(labels.cell_n, labels.pert_n, labels.is_control_n, strict=True)
        if not control and str(pert) in fold_by_pert
    }
    return fold_by_cell, _counts(fold_by_cell, labels, set(fold_by_pert) - set(map(str, labels.pert_n)))


def _counts(fold_by_cell: Mapping[str, str], labels: Labels, absent: set[Any]) -> dict[str, int]:
    treated = int((~labels.is_control_n.astype(bool)).sum())
    return {"cells_without_fold": treated - len(fold_by_cell), "conditions_not_in_data": len(absent)}


# --- cell-load, STATE ------------------------------------------------------------------------------


def _cell_load(
    path: Path, content: bytes, labels: Labels, dataset: str | None
) -> tuple[dict[str, str], dict[str, int]]:
    """Fold of each treated cell from a TOML: zero-shot cell types, few-shot lists, then training."""
    expected = "TOML with [datasets], [training], [zeroshot], [fewshot]"
    try:
        table = tomllib.loads(_text(path, content, expected))
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise _unreadable(path, e, expected) from e
    _check_sections(path, table, expected)
    dataset_n = _datasets(path, table, labels, dataset)
    zero = {_pair(path, key): str(fold) for key, fold in table.get("zeroshot", {}).items()}
    few = {_pair(path, key): _lists(path, key, lists) for key, lists in table.get("fewshot", {}).items()}
    mine = set(dataset_n)
    held = {pair for pair in (*zero, *few) if pair[0] in mine}
    _check_held(path, held, zero, few, dataset_n, labels)
    training = {name for name, fold in table.get("training", {}).items() if fold == "train"}
    fold_by_cell, seen = {}, set()
    for cell, name, context, pert, control in zip(
        labels.cell_n, dataset_n, labels.context_n, labels.pert_n, labels.is_control_n, strict=True
    ):
        pair = (name, str(context))
        seen.add((*pair, str(pert)))
        fold = zero.get(pair) or few.get(pair, {}).get(str(pert), "train" if pair in few or name in training else None)
        if fold is not None and not control:
            fold_by_cell[str(cell)] = fold
    listed = {(*pair, pert) for pair, perts in few.items() if pair[0] in mine for pert in perts}
    if listed and not listed & seen:
        raise _unfit(
            "No perturbation of [fewshot] is in the data",
            f"such as {sorted(listed)[0][2]!r}, data has {', '.join(sorted({str(p) for p in labels.pert_n})[:4])}",
            "labels of the data",
            "Check data.pert_column and data.aliases.",
        )
    return fold_by_cell, _counts(fold_by_cell, labels, listed - seen)


def _check_sections(path: Path, table: Mapping[str, Any], expected: str) -> None:
    sections = ("datasets", "training", "zeroshot", "fewshot")
    if not isinstance(table.get("datasets"), dict) or not all(isinstance(table.get(s, {}), dict) for s in sections):
        raise _unreadable(path, f"it has {', '.join(table) or 'nothing'}", expected)


def _datasets(path: Path, table: Mapping[str, Any], labels: Labels, dataset: str | None) -> list[str]:
    """Which data set of the TOML each row belongs to."""
    names = list(table["datasets"])
    if dataset is None and len(names) > 1 and "dataset" in labels.covariates:
        found = [str(v) for v in labels.covariates["dataset"]]
    else:
        found = [dataset if dataset is not None else names[0] if len(names) == 1 else ""] * labels.n_obs
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise _unfit(
            "Which data set of the split file this is must be said",
            f"{unknown[0] or 'nothing'!r}, {path.name} has {', '.join(names)}",
            "one of them",
            "Name the data set (--official-dataset), or keep a column `dataset` in data.covariates.",
        )
    return found


def _pair(path: Path, key: str) -> tuple[str, str]:
    name, dot, context = key.partition(".")
    if not dot or not context:
        raise _unreadable(path, f"key {key!r}", 'quoted keys "dataset.cell type"')
    return name, context


def _lists(path: Path, key: str, lists: Any) -> dict[str, str]:
    """Fold of each listed perturbation of a cell type."""
    if not isinstance(lists, dict) or not all(k in FOLDS and isinstance(v, list) for k, v in lists.items()):
        raise _unreadable(path, f"[fewshot.{key}]", "lists of perturbations for val and test")
    fold_by_pert: dict[str, str] = {}
    for fold, perts in lists.items():
        for pert in map(str, perts):
            if fold_by_pert.setdefault(pert, fold) != fold:
                raise _unfit(
                    "An official split has a condition in two folds",
                    f"{pert!r} of {key} in {fold_by_pert[pert]} and {fold} of {path.name}",
                    "each perturbation in one fold",
                    "Take it out of one list: what selects a model cannot also judge it.",
                )
    return fold_by_pert


def _check_held(
    path: Path,
    held: Iterable[tuple[str, str]],
    zero: Mapping[tuple[str, str], str],
    few: Mapping[tuple[str, str], Any],
    dataset_n: list[str],
    labels: Labels,
) -> None:
    """A held-out cell type that the data does not have would leave nothing held out, in silence."""
    there = {(name, str(context)) for name, context in zip(dataset_n, labels.context_n, strict=True)}
    absent = sorted(set(held) - there)
    if absent:
        raise _unfit(
            "A held-out cell type is no context of the data",
            f"{absent[0][1]!r} in {path.name}",
            f"a context, near it {nearest(absent[0][1], [c for _, c in there])}",
            "Check data.context_column: cell types of the file must be its values.",
        )
    both = sorted(set(zero) & set(few))
    unknown = sorted(fold for fold in zero.values() if fold not in FOLDS)
    if both or unknown:
        raise _unfit(
            "An official split holds a cell type out in two ways"
            if both
            else "An official split names an unknown fold",
            f"{'.'.join(both[0]) if both else unknown[0]} in {path.name}",
            "each cell type in [zeroshot] or in [fewshot], with train, val or test",
            "Correct the file.",
        )
