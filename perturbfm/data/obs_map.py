"""The columns of a file -> the columns of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data import column
from perturbfm.data.check import OWN_COLUMNS, check_columns, check_text
from perturbfm.data.dose import check_against_label, cut_numbers, read_doses, read_times
from perturbfm.data.label import Labelling, LabelRules, is_missing, read_labels
from perturbfm.errors import BadValue, SizeNotPositive


@dataclass(frozen=True)
class ObsMap:
    """Which column means what; every field as `perturbfm.data.file.load_file` describes it."""

    pert_column: str
    context_column: str | Sequence[str] | None
    batch_column: str | Sequence[str] | None
    labels: LabelRules
    context: str | None = None
    mode: str | None = None
    mode_column: str | None = None
    mode_values: Mapping[str, str] | None = None
    covariates: Sequence[str] = ()
    guide_column: str | None = None
    drop_missing: bool = False
    missing_labels: Sequence[str] = ()
    keep: Mapping[str, Any] = field(default_factory=dict)
    drop: Mapping[str, Any] = field(default_factory=dict)
    dose_column: str | None = None
    dose_factor: float = 1.0
    dose_delimiter: str | None = None
    missing_doses: Sequence[Any] = ()
    dose_pattern: str | None = None
    dose_label_column: str | None = None
    time_column: str | None = None
    time_pattern: str | None = None
    n_column: str | None = None
    size_column: str | None = None

    def __post_init__(self) -> None:
        made = [*OWN_COLUMNS, *(["n_cells"] if self.n_column else []), *(["library_size"] if self.size_column else [])]
        _check_covariates(self.covariates, [*made, *(["guide"] if self.has_guides else [])])
        if self.dose_label_column is not None and self.dose_column is None:
            raise BadValue(
                "data.dose_label_column has no dose to check",
                given=f"dose_label_column={self.dose_label_column}, dose_column=null",
                expected="both or neither",
                fix="Set data.dose_column to the column of numbers.",
            )

    @property
    def has_guides(self) -> bool:
        """Whether a covariate `guide` is made."""
        return self.guide_column is not None or self.labels.guide_pattern is not None

    def columns(self) -> list[str]:
        """Every column that is named."""
        several = [*column.names_of(self.context_column), *column.names_of(self.batch_column)]
        single = (self.mode_column, self.size_column, self.dose_column, self.dose_label_column, self.time_column)
        named = [self.pert_column, *several, *single, self.guide_column, self.n_column, *self.covariates]
        return [c for c in (*named, *self.keep, *self.drop) if c is not None]


def label_rows(table: pd.DataFrame, m: ObsMap) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Labels of the rows that are kept.

    Args:
        table: The file's table of cells, ids as index.
        m: Which column means what.

    Returns:
        The labels, a mask of the file's rows that they belong to, and what was done, for the record.

    Raises:
        MissingColumn, ControlLabelAbsent, DoseMismatch, ...: What does not fit what is declared.
    """
    check_columns(list(table.columns), m.columns())
    row_n, notes = column.kept_rows(table, m.keep, m.drop)
    pert_n = column.text(table[m.pert_column])
    check_text(pert_n, m.pert_column)
    missing_n = is_missing(pert_n, m.labels.control_labels, m.missing_labels)
    pert_n[missing_n] = None
    if m.drop_missing and (missing_n & row_n).any():
        notes.append(f"{int((missing_n & row_n).sum())} rows without a perturbation label left out")
        row_n = row_n & ~missing_n
    if not row_n.all():
        table, pert_n = table[row_n], pert_n[row_n]
    return _labels(table, pert_n, m), row_n, notes


def _labels(table: pd.DataFrame, pert_n: np.ndarray, m: ObsMap) -> pd.DataFrame:
    labelling = read_labels(pert_n, m.labels)
    obs = pd.DataFrame(index=table.index.astype(str))
    obs["pert_id"] = labelling.pert_n
    obs["context_id"] = (
        m.context if m.context_column is None else column.joined(table, m.context_column, "context_column")
    )
    obs["batch_id"] = "all" if m.batch_column is None else column.joined(table, m.batch_column, "batch_column")
    obs["is_control"] = (obs["pert_id"] == "control").to_numpy()
    obs["mode"] = column.modes(table, m.mode, m.mode_column, m.mode_values, obs["is_control"].to_numpy())
    if m.dose_column is not None:
        obs["dose"] = _doses(table, labelling, m, m.dose_column)
    if m.time_column is not None:
        time_n = cut_numbers(column.text(table[m.time_column]), m.time_pattern, None, "time_pattern")
        obs["time"] = read_times(time_n, labelling, table.index, column=m.time_column)
    for name in m.covariates:
        obs[name] = column.plain(table[name])
        check_text(obs[name].tolist(), name)
    if m.has_guides:
        guide_n = pert_n if m.guide_column is None else column.text(table[m.guide_column])
        obs["guide"] = np.array(["" if g is None else g for g in guide_n], dtype=object)
    if m.n_column is not None:
        obs["n_cells"] = _cell_numbers(table, m.n_column)
    return obs


def _doses(table: pd.DataFrame, labelling: Labelling, m: ObsMap, name: str) -> np.ndarray:
    joint = m.dose_delimiter or m.labels.delimiter
    value_n = cut_numbers(column.text(table[name]), m.dose_pattern, joint, "dose_pattern")
    found = read_doses(
        value_n,
        labelling,
        table.index,
        written_delimiter=joint,
        delimiter=m.labels.delimiter,
        factor=m.dose_factor,
        missing=m.missing_doses,
        column=name,
    )
    if m.dose_label_column is not None:
        text_n, where = column.text(table[m.dose_label_column]), f"{name} and {m.dose_label_column}"
        check_against_label(value_n, text_n, labelling, table.index, factor=m.dose_factor, columns=where)
    return found


def _cell_numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """Cells behind each row, whole numbers from one."""
    number = column.sizes(table[name])
    wrong = ~(np.isfinite(number) & (number >= 1) & (number == np.rint(number)))
    if wrong.any():
        raise SizeNotPositive(
            f"Rows have no number of cells in {name!r}",
            given=f"{int(wrong.sum())} rows, first {str(table.index[wrong][0])!r}",
            expected="a whole number from 1 for every row",
            fix="Name the right column in data.n_column, or leave it out.",
        )
    return number.astype(np.int64)


def _check_covariates(covariates: Sequence[str], made: Sequence[str]) -> None:
    taken = [name for name in covariates if name in made]
    if taken:
        raise BadValue(
            "A covariate would overwrite a label",
            given=f"data.covariates with {', '.join(taken)}",
            expected=f"names other than {', '.join(made)}",
            fix="Remove it from data.covariates, or rename the column in the file; doses and times have "
            "data.dose_column and data.time_column.",
        )
