"""Reads somebody else's split: a table of two columns, cell id and fold."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from perturbfm.errors import UnreadableFile

FOLDS = ("train", "val", "test")


def read_folds(path: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """Fold by cell id, and where it comes from: the file's name and checksum.

    A first line whose second word is no fold is a header.

    Raises:
        UnreadableFile: There is no such file, or it is not such a table.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    rows = list(csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
    wrong = next((i for i, row in enumerate(rows) if len(row) != 2), None)
    if not rows or wrong is not None:
        at = wrong or 0
        raise _unreadable(path, f"line {at + 1} with {len(rows[at])} columns" if rows else "an empty file")
    rows = rows[rows[0][1] not in FOLDS :]
    folds = {row[0]: row[1] for row in rows}
    if len(folds) != len(rows):
        raise _unreadable(path, f"{len(rows)} lines with {len(folds)} cell ids")
    return folds, {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}


def _unreadable(path: Path, found: str) -> UnreadableFile:
    return UnreadableFile(
        f"Cannot read the official split {path.name}",
        given=found,
        expected="a CSV (or .tsv) of two columns: cell id, each once, and train, val or test",
        fix="Write it as such a table.",
    )
