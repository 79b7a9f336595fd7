"""A matrix as text: `.csv`, `.tsv` or `.txt`, packed with gzip or not, names in the first row and column."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data.reader.obs_table import separator
from perturbfm.data.reader.raw import Raw, ReadOptions, missing_layer, refusing
from perturbfm.errors import BadValue, DuplicateNames, UnreadableFile

ORIENTATIONS = ("cells_by_genes", "genes_by_cells")


def read_text(path: Path, options: ReadOptions) -> Raw:
    """Read a text matrix; labels of its cells come from `data.obs`.

    Raises:
        UnreadableFile: It is no matrix of numbers.
        DuplicateNames: A column name is there twice.
        BadValue: An unknown orientation.
    """
    if options.orientation not in ORIENTATIONS:
        raise BadValue(
            "Unknown data.orientation",
            given=repr(options.orientation),
            expected=" | ".join(ORIENTATIONS),
            fix="Set data.orientation to one of them.",
        )
    if options.layer is not None:
        raise missing_layer(options.layer, [])
    sign = separator(path)
    with refusing(path, "a matrix", "rows of one length, packed by gzip only if the name says so"):
        _check_header(path, sign)
        table = pd.read_csv(path, sep=sign, index_col=0, dtype={0: str}, keep_default_na=True, na_filter=True)
    words = [str(c) for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
    if words or not len(table.columns):
        found = f"columns {', '.join(words[:4])}" if words else "one column"
        raise UnreadableFile(
            "A text matrix holds words",
            given=f"{path.name}: {found}",
            expected="numbers beside the names in the first row and the first column",
            fix="Put columns of labels into a table of their own and name it in data.obs; .tsv and .txt are cut at "
            "tabs, .csv at commas.",
        )
    if options.orientation == "genes_by_cells":
        table = table.T
    cells, genes = (pd.Index([str(v) for v in names], dtype=object) for names in (table.index, table.columns))
    values = table.to_numpy(np.float32)

    def load(layer: str | None) -> Any:
        if layer is not None:
            raise missing_layer(layer, [])
        return values

    return Raw(path.name, pd.DataFrame(index=cells), pd.DataFrame(index=genes), load)


def _check_header(path: Path, sign: str) -> None:
    """A repeated column name would be renamed while reading; it is refused instead."""
    with gzip.open(path, "rt") if path.name.lower().endswith(".gz") else path.open(encoding="utf-8") as file:
        names = [name.strip().strip('"') for name in str(file.readline()).rstrip("\r\n").split(sign)][1:]
    if len(set(names)) < len(names):
        repeated = next(n for n in names if names.count(n) > 1)
        raise DuplicateNames(
            "A text matrix has a column twice",
            given=f"{repeated!r} in {path.name}",
            expected="unique names",
            fix="Make them unique in the file.",
        )
