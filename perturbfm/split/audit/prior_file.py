"""Reading what people declare beside a run: provenance files of priors, tables of aliases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from perturbfm.errors import BadValue, MissingValue, UnknownKey, UnreadableFile, nearest
from perturbfm.split.audit.evidence import KINDS, Prior
from perturbfm.split.split import FOLDS, ROLES

LISTS = ("fingerprints", "data_sets", "cell_ids", "rows", "perturbations", "contexts", "folds")
KEYS = ("name", "kind", *LISTS, "unknown")


def read_prior(path: str | Path) -> Prior:
    """Read where a graph, an embedding, weights or a gene list come from.

    The file is yaml with `name`, `kind` (graph, embedding, weights, gene_list) and any of the lists `fingerprints`,
    `data_sets`, `cell_ids` (or a text file of them, one per line, beside it), `rows`, `perturbations`, `contexts`,
    `folds`; or `unknown: true`. An empty list says that there are none.

    Args:
        path: The yaml file.

    Raises:
        UnreadableFile: There is no such file, or it is no yaml mapping.
        UnknownKey: A key is not one of these.
        MissingValue: Name or kind are not given, or rows without the fingerprint of their data.
        BadValue: A value is of another type or kind.
    """
    file = Path(path)
    content = _mapping(file)
    for key in content:
        if key not in KEYS:
            raise UnknownKey(
                f"Unknown key {key!r} in the provenance file {file.name}",
                given=key,
                expected=f"one of {', '.join(KEYS)}",
                fix=f"Did you mean {nearest(str(key), KEYS)}?",
            )
    for key in ("name", "kind"):
        if not isinstance(content.get(key), str) or not content[key]:
            raise MissingValue(
                f"The provenance file {file.name} gives no {key}",
                given=repr(content.get(key)),
                expected="text",
                fix=f"Add {key}: to the file.",
            )
    _check_choices(file, content)
    lists = {key: _list(file, key, content[key]) for key in LISTS if content.get(key) is not None}
    if "rows" in lists and not lists.get("fingerprints"):
        raise MissingValue(
            f"The provenance file {file.name} names rows of unknown data",
            given="rows without fingerprints",
            expected="the fingerprint of the data that the rows are of",
            fix="Add fingerprints: (`perturbfm data info` prints it).",
        )
    unknown = content.get("unknown", False)
    return Prior(
        content["name"],
        content["kind"],
        **{k: v for k, v in lists.items() if k != "rows"},
        rows=tuple(int(row) for row in lists["rows"]) if "rows" in lists else None,
        unknown=unknown,
        source=file.name,
    )


def _check_choices(file: Path, content: Mapping[str, Any]) -> None:
    places = (*FOLDS, *ROLES)
    folds = content.get("folds") or ()
    for what, values, choices in (
        ("kind", [content["kind"]], KINDS),
        ("folds", folds if isinstance(folds, list) else [], places),
        ("unknown", [content.get("unknown", False)], (True, False)),
    ):
        wrong = [v for v in values if not any(v is c or (isinstance(v, str) and v == c) for c in choices)]
        if wrong:
            raise BadValue(
                f"Value of {what} in the provenance file {file.name} is not one that there is",
                given=repr(wrong[0]),
                expected=" | ".join(str(c).lower() if isinstance(c, bool) else c for c in choices),
                fix="Choose one of these.",
            )


def _list(file: Path, key: str, value: Any) -> tuple[Any, ...]:
    if key == "cell_ids" and isinstance(value, str):
        return tuple(line.strip() for line in _text(file.parent / value).splitlines() if line.strip())
    kinds: tuple[type, ...] = (int,) if key == "rows" else (str, int, float)
    if not isinstance(value, list) or not all(isinstance(v, kinds) and not isinstance(v, bool) for v in value):
        raise BadValue(
            f"{key} in the provenance file {file.name} is not a list of {'row numbers' if key == 'rows' else 'names'}",
            given=repr(value)[:80],
            expected="a list, [] for none" + (", or the name of a text file" if key == "cell_ids" else ""),
            fix=f"Write {key}: [first, second].",
        )
    return tuple(value) if key == "rows" else tuple(str(v) for v in value)


def read_aliases(path: str | Path) -> dict[str, str]:
    """Read a table of gene symbols: a yaml mapping, or lines of symbol and official symbol (tab or comma between).

    Args:
        path: A `.yaml`, `.tsv`, `.csv` or `.txt` file. Lines that begin with `#` are left out.

    Raises:
        UnreadableFile: There is no such file, or it is no mapping.
        BadValue: A line has not two names, or a symbol has two official ones.
    """
    file = Path(path)
    if file.suffix in (".yaml", ".yml", ".json"):
        pairs = [(str(k), v) for k, v in _mapping(file).items()]
    else:
        lines = [line for line in _text(file).splitlines() if line.strip() and not line.startswith("#")]
        pairs = [(k.strip(), v.strip()) for k, _, v in (line.replace(",", "\t").partition("\t") for line in lines)]
    found: dict[str, str] = {}
    for symbol, official in pairs:
        if not isinstance(official, str) or not official or not symbol or "\t" in official:
            raise BadValue(
                f"An entry of the alias table {file.name} is not two names",
                given=f"{symbol!r}, {official!r}",
                expected="symbol and official symbol",
                fix="Write one pair per line, with a tab between.",
            )
        if found.setdefault(symbol, official) != official:
            raise BadValue(
                f"The alias table {file.name} gives a symbol two meanings",
                given=f"{symbol} is {found[symbol]} and {official}",
                expected="one official symbol",
                fix="Remove the one that is not meant.",
            )
    return found


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_text(file))
    except yaml.YAMLError as e:
        raise _unreadable(file, str(e).splitlines()[0]) from e
    if not isinstance(content, dict):
        raise _unreadable(file, f"a {type(content).__name__}")
    return content


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise _unreadable(file, getattr(e, "strerror", None) or "bytes that are not UTF-8") from e


def _unreadable(file: Path, given: str) -> UnreadableFile:
    return UnreadableFile(
        f"Cannot read {file} for the audit",
        given=given,
        expected="a readable text file; yaml where keys are expected",
        fix="Check the path and the content.",
    )
