"""The facts of a data set, read from a yaml and checked: none missing, none unknown, none of the wrong type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from perturbfm.errors import BadValue, MissingValue, UnknownChoice, UnknownKey, nearest
from perturbfm.signature import type_fits

HERE = Path(__file__).parent

UNSAID = "???"
"""A column or a setting that no source publishes and a user has to say; the same sign that a configuration uses."""

FORMATS = ("h5ad", "h5mu", "zip", "tar", "rds", "mtx", "tsv", "csv", "pickle", "folder")

COLUMNS = (
    "scale",
    "pert_column",
    "context_column",
    "context",
    "batch_column",
    "control_labels",
    "delimiter",
    "drop_control_parts",
    "guide_pattern",
    "dose_column",
    "time_column",
    "mode",
    "mode_column",
    "mode_values",
    "layer",
    "size_column",
    "target_sum",
    "unit",
    "controls",
)
"""Keywords of the loader that a column map may hold, in the order they are printed."""

_DIGEST = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Licence:
    """What a data set may be used for.

    Attributes:
        tag: Short name, for example `CC-BY-4.0`, or `not published`.
        text: What it says, in a sentence, with its address where there is one.
        non_commercial: Refused unless accepted by name.
    """

    tag: str
    text: str
    non_commercial: bool


@dataclass(frozen=True)
class KnownBad:
    """A version of a file that is refused: its checksum and what is wrong with it."""

    checksum: str
    reason: str


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: File name in the cache.
        urls: Addresses over http(s), tried in order; none where the source cannot be fetched that way.
        n_bytes: Size as published, or None.
        checksums: `md5:...` or `sha256:...` as published; none where nobody publishes one.
        format: One of `FORMATS`.
        columns: Keywords of the loader that read it (`???`: a user has to say), or None where it is no data matrix.
        refused: Known bad versions.
        published_as: The address as published, where `urls` holds the same path over https.
        by_hand: The exact step that fetches it, where `urls` is empty.
        member: The file inside an archive that the column map reads.
        notes: What to know of it.
    """

    name: str
    urls: tuple[str, ...]
    n_bytes: int | None
    checksums: tuple[str, ...]
    format: str
    columns: Mapping[str, Any] | None
    refused: tuple[KnownBad, ...] = ()
    published_as: str | None = None
    by_hand: str | None = None
    member: str | None = None
    notes: str = ""

    @property
    def checksum(self) -> str | None:
        """The strongest published checksum."""
        return max(self.checksums, default=None, key=len)


@dataclass(frozen=True)
class Entry:
    """One data set in one form.

    Attributes:
        name: Name to fetch it by.
        title: What it is, in a line.
        organism: Species, or None.
        n_cells: Cells, or None where not published.
        n_genes: Genes, or None where not published.
        citation: Whom to cite.
        licence: What it may be used for.
        record: Source and version of the record that the files belong to.
        files: The files.
        preprocessing: What benchmarks do to it, by project.
        notes: Traps and facts.
        read_in: Where these facts were read.
    """

    name: str
    title: str
    organism: str | None
    n_cells: int | None
    n_genes: int | None
    citation: str
    licence: Licence
    record: str
    files: tuple[File, ...]
    preprocessing: Mapping[str, str]
    notes: tuple[str, ...]
    read_in: str

    def file(self, name: str) -> File:
        """The file of a name.

        Raises:
            UnknownChoice: There is none of that name.
        """
        known = {f.name: f for f in self.files}
        if name not in known:
            raise UnknownChoice(
                f"{self.name} has no file {name!r}",
                given=name,
                expected=f"one of {', '.join(known)}",
                fix=f"Did you mean {nearest(name, known)}?",
            )
        return known[name]


@lru_cache(maxsize=1)
def all_names() -> tuple[str, ...]:
    """Names of the shipped entries, sorted."""
    return tuple(sorted(p.stem for p in (HERE / "entry").glob("*.yaml")))


@lru_cache(maxsize=128)
def read_entry(name: str) -> Entry:
    """The shipped entry of a name, checked.

    Raises:
        UnknownChoice: There is none of that name.
        BadValue, MissingValue, UnknownKey: Its yaml does not fit the schema.
    """
    if name not in all_names():
        raise UnknownChoice(
            f"The catalog has no data set {name!r}",
            given=name,
            expected="a name of `perturbfm data list`",
            fix=f"Did you mean {nearest(name, all_names())}?",
        )
    return entry_from((HERE / "entry" / f"{name}.yaml").read_text(encoding="utf-8"), name)


def entry_from(text: str, name: str) -> Entry:
    """An entry from the text of its yaml.

    Raises:
        BadValue: A value of the wrong type, a malformed checksum or address, a name that is not the file's.
        MissingValue: A key without a value; what is not published is written as null.
        UnknownKey: A key that no schema has.
    """
    plain = yaml.safe_load(text)
    if not isinstance(plain, dict):
        raise BadValue(
            f"{name} is no mapping", given=type(plain).__name__, expected="keys and values", fix="Write one."
        )
    plain = dict(plain)
    if "preprocessing" in plain:
        plain["preprocessing"] = _preprocessing(plain["preprocessing"] or (), name)
    checked_keys(Entry, plain, name)
    licence = _made(Licence, plain["licence"], f"{name}.licence")
    files = tuple(_file(f, f"{name}.files[{i}]") for i, f in enumerate(plain["files"] or ()))
    entry = Entry(**{**plain, "licence": licence, "files": files, "notes": tuple(plain["notes"] or ())})
    _check(entry.name == name, f"{name}.name", entry.name, f"the name of its file, {name}")
    _check(bool(files), f"{name}.files", "no file", "at least one file")
    names = [f.name for f in files]
    _check(len(set(names)) == len(names), f"{name}.files", names, "distinct names")
    return entry


def _file(plain: Any, where: str) -> File:
    """A file, its addresses, checksums and column map checked."""
    mapping = dict(plain) if isinstance(plain, Mapping) else {}
    checked_keys(File, mapping, where)
    for key in ("urls", "checksums"):
        mapping[key] = tuple(mapping[key] or ())
    bad = mapping.get("refused") or ()
    mapping["refused"] = tuple(_made(KnownBad, b, f"{where}.refused[{i}]") for i, b in enumerate(bad))
    file = File(**mapping)
    _check(bool(re.fullmatch(r"[\w.\-]+", file.name)), f"{where}.name", file.name, "a plain file name")
    _check(file.format in FORMATS, f"{where}.format", file.format, f"one of {', '.join(FORMATS)}")
    for url in file.urls:
        _check(bool(re.match(r"https?://\S+$", url)), f"{where}.urls", url, "http:// or https:// addresses")
    for digest in (*file.checksums, *(b.checksum for b in file.refused)):
        _check(bool(_DIGEST.fullmatch(digest)), f"{where}.checksums", digest, "md5: or sha256: and its hex digits")
    _check(bool(file.urls) != bool(file.by_hand), f"{where}.by_hand", file.by_hand, "either urls or by_hand")
    unknown = [c for c in file.columns or {} if c not in COLUMNS]
    _check(not unknown, f"{where}.columns", unknown, f"keys among {', '.join(COLUMNS)}")
    return file


def _preprocessing(projects: Any, name: str) -> dict[str, str]:
    """What the named projects do to a data set; the texts are shared by all entries."""
    texts = benchmark_preprocessing()
    unknown = [p for p in projects if p not in texts]
    _check(not unknown, f"{name}.preprocessing", unknown, f"projects among {', '.join(texts)}")
    return {p: texts[p] for p in projects}


@lru_cache(maxsize=1)
def benchmark_preprocessing() -> dict[str, str]:
    """What each benchmark does to its data, by project."""
    text = (HERE / "preprocessing.yaml").read_text(encoding="utf-8")
    return {str(k): str(v) for k, v in yaml.safe_load(text).items()}


def checked_keys(kind: type, mapping: Mapping[str, Any], where: str) -> None:
    """Refuse keys that a dataclass does not have, obligatory ones that are absent, and values of another type."""
    known = {f.name: f for f in fields(kind)}
    for key in mapping:
        if key not in known:
            raise UnknownKey(
                f"Unknown key {f'{where}.{key}'!r}",
                given=key,
                expected=f"one of {', '.join(known)}",
                fix=f"Did you mean {nearest(str(key), known)}?",
            )
    for key, field in known.items():
        if key not in mapping and field.default is MISSING:
            raise MissingValue(
                f"{where}.{key} is not said",
                given=sorted(mapping),
                expected=key,
                fix="Write it; what is not published is null.",
            )
        value = mapping.get(key)
        if key in mapping and not _fits(value, str(field.type)):
            raise BadValue(
                f"{where}.{key} has the wrong type", given=repr(value), expected=field.type, fix="Correct it."
            )


def _fits(value: Any, annotation: str) -> bool:
    """Whether a yaml value fits; a list or mapping that is absent may be null."""
    return (value is None and annotation.startswith(("tuple", "Mapping"))) or type_fits(value, annotation)


def _made(kind: Any, plain: Any, where: str) -> Any:
    mapping = plain if isinstance(plain, Mapping) else {}
    checked_keys(kind, mapping, where)
    return kind(**mapping)


def _check(right: bool, where: str, given: object, expected: str) -> None:
    if not right:
        raise BadValue(f"{where} is not right", given=given, expected=expected, fix="Correct the catalog entry.")
