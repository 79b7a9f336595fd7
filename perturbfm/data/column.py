"""Columns of `obs` as text or numbers, joined, translated and filtered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.errors import BadValue, LabelMalformed, MissingColumn, MissingValue, UnknownValue, nearest

JOINT = "::"
"""What joins the values of several columns; a value that holds it is refused."""


def text(column: pd.Series) -> np.ndarray:
    """Labels as strings, bytes decoded; missing ones stay missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):  # a million rows have few categories
        words = np.array([*(_word(v) for v in column.cat.categories), None], dtype=object)
        return words[column.cat.codes.to_numpy()]
    return np.array([_word(v) for v in column.tolist()], dtype=object)


def _word(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if pd.isna(value) else str(value)


def plain(column: pd.Series) -> np.ndarray:
    """A covariate as numbers if it is numeric, as strings otherwise."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    return np.array([str(v) if v is not None else "nan" for v in text(column)], dtype=object)


def sizes(column: pd.Series) -> np.ndarray:
    """Library sizes as numbers; what is no number becomes NaN and is refused as a size."""
    return pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64)


def names_of(columns: str | Sequence[str] | None) -> list[str]:
    """Columns of an option that takes one, several or none."""
    return [] if columns is None else [columns] if isinstance(columns, str) else list(columns)


def joined(obs: pd.DataFrame, columns: str | Sequence[str], key: str) -> np.ndarray:
    """Values of several columns joined by `::`; a row that lacks one of them lacks all."""
    names = names_of(columns)
    if not names:
        raise MissingValue(f"data.{key} is empty", given="[]", expected="one column or more", fix=f"Set data.{key}.")
    parts = [text(obs[name]) for name in names]
    if len(parts) == 1:
        return parts[0]
    for name, part in zip(names, parts, strict=True):
        broken = next((v for v in part if v is not None and JOINT in v), None)
        if broken is not None:
            raise LabelMalformed(
                f"A value of {name!r} holds what joins columns",
                given=repr(broken),
                expected=f"values without {JOINT!r}",
                fix=f"Rename it in the file, or give data.{key} one column.",
            )
    return np.array([None if None in row else JOINT.join(row) for row in zip(*parts, strict=True)], dtype=object)


def modes(
    obs: pd.DataFrame, mode: str | None, column: str | None, values: Mapping[str, str] | None, is_control: np.ndarray
) -> np.ndarray:
    """Mode of each row; a control has the mode of its study, which no rule looks at."""
    if (mode is None) == (column is None):
        raise MissingValue(
            "The intervention mode is not declared once",
            given=f"mode={mode}, mode_column={column}",
            expected="either a mode or the column that tells it",
            fix="Set data.mode (activation, knockdown, knockout, drug, ligand, other), "
            "or data.mode_column with data.mode_values.",
        )
    if column is None:
        return np.full(len(obs), mode, dtype=object)
    word_n, table = text(obs[column]), dict(values or {})
    unknown = sorted({str(t) for t, c in zip(word_n, is_control, strict=True) if t not in table and not c})
    if unknown:
        raise MissingColumn(
            f"Values of {column!r} have no declared mode",
            given=", ".join(unknown[:8]),
            expected=f"values among {sorted(table)}",
            fix="Add them to data.mode_values.",
        )
    return np.array([table.get(t, "other") for t in word_n], dtype=object)


def kept_rows(
    obs: pd.DataFrame, keep: Mapping[str, Sequence[Any]], drop: Mapping[str, Sequence[Any]]
) -> tuple[np.ndarray, list[str]]:
    """Rows that a filter by column values leaves, and what it did, for the record.

    Args:
        obs: The file's table.
        keep: Per column, the only values to keep.
        drop: Per column, the values to leave out.

    Raises:
        UnknownValue: A named value does not occur.
        BadValue: Nothing is left.
    """
    kept, notes = np.ones(len(obs), dtype=bool), []
    for key, table in (("keep", keep), ("drop", drop)):
        for column, wanted in table.items():
            values = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Sequence) else list(wanted)
            hit = _occurs(obs[column], values, f"data.{key}.{column}")
            kept &= hit if key == "keep" else ~hit
            notes.append(f"{key} {column}={','.join(map(str, values))}")
    if not kept.any():
        raise BadValue(
            "Nothing is left of the file",
            given="; ".join(notes) or "a file without rows",
            expected="rows",
            fix="Loosen data.keep and data.drop.",
        )
    return kept, [f"{'; '.join(notes)}: {int(kept.sum())} of {len(kept)} rows"] if notes else []


def _occurs(column: pd.Series, values: Sequence[Any], where: str) -> np.ndarray:
    """Rows with one of some values, compared as text and, where both are numbers, as numbers."""
    word_n, hit = text(column), np.zeros(len(column), dtype=bool)
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    for value in values:
        here = word_n == str(value)
        if numeric and isinstance(value, int | float) and not isinstance(value, bool):
            here = here | (column.to_numpy(np.float64, na_value=np.nan) == float(value))
        if not here.any():
            known = sorted({str(w) for w in word_n if w is not None})
            raise UnknownValue(
                f"{where} names a value that does not occur",
                given=value,
                expected=f"a value of the column, near it {nearest(str(value), known[:2000])[:300]}",
                fix="Correct it; values are compared as text.",
            )
        hit |= here
    return hit
