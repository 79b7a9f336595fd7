"""A table of cells beside a matrix: CSV or TSV, the first column the cell ids."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from perturbfm.data.reader.raw import Raw, refusing
from perturbfm.errors import BadValue, DuplicateNames, MissingLabel, UnreadableFile


def with_obs(raw: Raw, path: Path) -> Raw:
    """Add the columns of a table to a file's cells; rows of other cells are left out.

    Raises:
        MissingLabel: A cell is not in the table.
        DuplicateNames: A cell is in it twice.
        BadValue: A column is in the file already.
    """
    table = read_table(path)
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise DuplicateNames(
            "A table of cells has an id twice",
            given=f"{repeated!r} in {path.name}",
            expected="one row per cell",
            fix="Remove the repeats; the first column must be the cell id.",
        )
    lacking = raw.obs.index[~raw.obs.index.isin(table.index)]
    if len(lacking):
        raise MissingLabel(
            "Cells are not in the table of cells",
            given=f"{len(lacking)} of {len(raw.obs)} cells of {raw.name}, first {lacking[0]!r}; {path.name} has ids "
            f"such as {', '.join(map(repr, table.index[:2]))}",
            expected="a row for every cell, its id in the first column",
            fix="Make the ids equal (10x adds -1), or turn the matrix with data.orientation.",
        )
    both = [c for c in table.columns if c in raw.obs.columns]
    if both:
        raise BadValue(
            "A column is in the file and in the table of cells",
            given=f"{both[0]!r} in {raw.name} and {path.name}",
            expected="each column once",
            fix="Rename it in the table.",
        )
    obs = pd.concat([raw.obs, table.loc[raw.obs.index]], axis=1)
    return Raw(raw.name, obs, raw.var, raw.load, raw.notes, raw.stored)


def separator(path: Path) -> str:
    """Comma for `.csv`, tab for everything else."""
    return "," if path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"


def read_table(path: Path) -> pd.DataFrame:
    """A text table; a column of numbers becomes numbers, but `01` and `NA` stay text."""
    if not path.is_file():
        raise UnreadableFile(
            "There is no such table of cells", given=path, expected="a .csv or .tsv", fix="Check data.obs."
        )
    with refusing(path, "a table", "a .csv or .tsv with a header"):
        table = pd.read_csv(path, sep=separator(path), index_col=0, dtype=str, keep_default_na=False)
        if not len(table) or not len(table.columns):
            raise ValueError("it has no rows or one column")
    table.index = pd.Index([str(v) for v in table.index], dtype=object)
    for name in table.columns:
        coded = table[name].str.match(r"^-?0\d").any()
        number = pd.to_numeric(table[name].replace("", None), errors="coerce")
        if not coded and (number.notna() == (table[name] != "")).all() and number.notna().any():
            table[name] = number
    return table
