"""What a data set must be before anything is computed from it; each refusal says how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.controls import MATCHES
from perturbfm.errors import (
    BadValue,
    ContextWithoutControls,
    ControlLabelAbsent,
    DuplicateNames,
    LabelMalformed,
    MissingColumn,
    MissingLabel,
    ScaleMismatch,
    ShapeMismatch,
    ValuesNegative,
    ValuesNotFinite,
)
from perturbfm.types import CONTROLS, MODES, SCALES, UNITS

if TYPE_CHECKING:
    from anndata import AnnData

    from perturbfm.data.declaration import Declaration

LARGEST_LOG1P = 20.0
"""log1p of 485 million: a value above it was never log-transformed."""

_BLOCK = 4_000_000
"""Values looked at at once."""

_ROWS_SUMMED, _LEAST_SUMS, _ONE_NUMBER = 2000, 20, 1e-4
"""Rows looked at, sums needed, and how far apart sums of one normalisation are at most."""

LABELS = ("pert_id", "context_id", "batch_id", "mode")

OWN_COLUMNS = (*LABELS, "is_control", "size_factor", "dose", "time")
"""Columns of `obs` with a meaning of their own; all others are covariates."""

VARIANCES = ("cells", "sampling")
"""What a variance beside a mean may be: of single cells, or of the mean itself."""

LONGEST_LABEL = 10_000
"""Characters; a label beyond it is a document that slipped into a column."""


def check_options(declared: Declaration) -> None:
    """Refuse declared options outside their vocabulary or range."""
    for key, allowed in (("scale", SCALES), ("unit", UNITS), ("controls", CONTROLS), ("match", MATCHES)):
        value = getattr(declared, key)
        if value not in allowed:
            raise BadValue(
                f"Unknown data.{key}",
                given=repr(value),
                expected=" | ".join(allowed),
                fix=f"Set data.{key} to one of them.",
            )
    if declared.match_seed < 0:
        raise BadValue(
            "data.match_seed is negative",
            given=declared.match_seed,
            expected="a whole number from 0",
            fix="Set data.match_seed to one.",
        )


def check_names(cells: pd.Index, genes: pd.Index) -> None:
    """Refuse repeated cell ids or gene names."""
    for what, names in (("cell ids", cells), ("gene names", genes)):
        if not names.is_unique:
            repeated = names[names.duplicated()]
            raise DuplicateNames(
                f"Repeated {what}",
                given=f"{len(repeated)} repeats, first {repeated[0]!r}",
                expected="unique names",
                fix="Make them unique in the file (anndata: obs_names_make_unique, var_names_make_unique)"
                + (
                    "."
                    if what == "cell ids"
                    else ", name another data.gene_column, or add up counts with data.duplicate_genes=sum."
                ),
            )


def check_columns(columns: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse a file that lacks a named column, with the columns there are."""
    missing = [c for c in wanted if c not in columns]
    if missing:
        raise MissingColumn(
            f"Missing column {missing[0]!r} in obs",
            given=f"columns {', '.join(columns) or 'none'}",
            expected=", ".join(repr(m) for m in missing),
            fix="Name the right column in the data yaml (data.pert_column, data.context_column, ...).",
        )


def check_labels(obs: pd.DataFrame, declared: Declaration, *, needs_controls: bool) -> None:
    """Refuse missing labels, unknown modes, and contexts that have no control."""
    check_columns(list(obs.columns), (*LABELS, "is_control"))
    for column in LABELS:
        check_text(obs[column].unique().tolist(), column)
        empty = [v for v in obs[column].unique() if str(v).lower() in ("nan", "")]
        missing = (obs[column].isna() | obs[column].isin(empty)).to_numpy()
        if missing.any():
            raise MissingLabel(
                f"Rows have no {column}",
                given=f"{int(missing.sum())} rows, first cell {obs.index[missing][0]!r}",
                expected="a label for every row",
                fix="Remove those rows from the file, or give them a label."
                + (" data.drop_missing=true leaves them out." if column == "pert_id" else ""),
            )
    unknown = sorted(set(obs["mode"]) - set(MODES))
    if unknown:
        raise BadValue(
            "Unknown intervention mode",
            given=repr(unknown[0]),
            expected=" | ".join(MODES),
            fix="Set data.mode, or data.mode_column with data.mode_values.",
        )
    if needs_controls and declared.controls == "cells":
        _check_controls(obs)


def check_text(values: Iterable[object], column: str) -> None:
    """Refuse labels that are no names: documents, and text with line breaks or other control characters."""
    for label in {v for v in values if isinstance(v, str)}:
        broken = next((c for c in label[:LONGEST_LABEL] if c < " " or c == "\x7f"), None)
        if broken is None and len(label) <= LONGEST_LABEL:
            continue
        raise LabelMalformed(
            f"A label of {column} is no name",
            given=f"{len(label)} characters, {label[:40]!r}" + (f", with {broken!r}" if broken else ""),
            expected=f"at most {LONGEST_LABEL} printable characters",
            fix="Look at the column: it holds something else than labels.",
        )


def check_variance(adata: AnnData, declared: Declaration) -> None:
    """Refuse a variance that is not declared, or is none; a data set of single cells has none."""
    variance_ng = adata.layers.get("variance")
    if (variance_ng is None) != (not declared.variance) or (declared.variance and declared.unit != "pseudobulk"):
        raise BadValue(
            "A variance and its declaration do not fit",
            given=f"variance={declared.variance!r} with unit={declared.unit}, "
            f"{'no' if variance_ng is None else 'a'} variance matrix",
            expected="data.var_layer with data.unit=pseudobulk, or neither",
            fix="Name the layer in data.var_layer, or remove it.",
        )
    if declared.variance and declared.variance not in VARIANCES:
        raise BadValue(
            "Unknown data.var_kind",
            given=repr(declared.variance),
            expected=" | ".join(VARIANCES),
            fix="Set data.var_kind to one of them.",
        )
    if variance_ng is not None:
        value = variance_ng.data if sparse.issparse(variance_ng) else np.asarray(variance_ng).ravel()
        if not (np.isfinite(value) & (value >= 0)).all():
            raise ValuesNegative(
                "A variance is negative or not finite",
                given=f"{int((~(np.isfinite(value) & (value >= 0))).sum())} entries",
                expected="finite variances of zero and more",
                fix="Name another layer in data.var_layer.",
            )


def _check_controls(obs: pd.DataFrame) -> None:
    is_control = obs["is_control"].to_numpy(dtype=bool)
    if not is_control.any():
        raise ControlLabelAbsent(
            "No row carries a control label",
            given=f"perturbations {', '.join(sorted(set(obs['pert_id'].astype(str)))[:8])}",
            expected="at least one row with a declared control label",
            fix="Name the control label in data.control_labels, or declare data.controls=baked_in.",
        )
    lacking = sorted(set(obs["context_id"][~is_control]) - set(obs["context_id"][is_control]))
    if lacking:
        raise ContextWithoutControls(
            "A context has no control cells",
            given=", ".join(map(str, lacking)),
            expected="controls in every context",
            fix="Drop that context, or declare the label its controls carry.",
        )


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse a data set without rows or genes."""
    if 0 in shape:
        raise ShapeMismatch(
            "The matrix is empty",
            given=f"shape {shape}",
            expected="rows and genes",
            fix="Look at the file: nothing is in it.",
        )


def check_matrix(x_ng: Any, scale: str) -> None:
    """Refuse values that do not fit the declared scale: NaN, negatives, integers called log, logs called counts."""
    check_shape(x_ng.shape)
    found = _Values.of(x_ng)
    if found.not_finite:
        raise ValuesNotFinite(
            "The matrix holds values that are not finite",
            given=f"{found.not_finite} NaN or infinite entries",
            expected="finite values",
            fix="Find out where they come from; do not fill them silently.",
        )
    if scale in ("counts", "log1p") and found.low < 0:
        raise ValuesNegative(
            f"The matrix holds negative values on the scale {scale}",
            given=f"minimum {found.low:.4g}",
            expected="values of zero and more",
            fix="Declare data.scale=log2 or data.scale=delta if the values are that.",
        )
    _check_looks_like(found, scale)
    if scale == "log1p":
        _check_logged(x_ng)


def _check_logged(x_ng: Any) -> None:
    """Refuse rows that all sum to one number: they were normalised and never logged."""
    some = x_ng[: min(x_ng.shape[0], _ROWS_SUMMED)]
    sums = np.asarray(some.sum(axis=1), dtype=np.float64).ravel()
    sums = sums[sums > 0]
    if len(sums) > _LEAST_SUMS and np.ptp(sums) < _ONE_NUMBER * np.median(sums):
        raise ScaleMismatch(
            "Values declared as log1p were normalised, but never logged",
            given=f"rows that all sum to {np.median(sums):.6g}",
            expected="logarithms, whose sums differ from cell to cell",
            fix="Log them (scanpy.pp.log1p), or point data.layer to counts.",
        )


@dataclass
class _Values:
    """What one pass over stored values finds, a block at a time."""

    not_finite: int = 0
    low: float = np.inf
    high: float = -np.inf
    fraction: float | None = None
    """The first value that is no integer."""
    any_nonzero: bool = False

    @classmethod
    def of(cls, x_ng: Any) -> _Values:
        found = cls()
        values = x_ng.data if sparse.issparse(x_ng) else np.asarray(x_ng)
        step = max(1, _BLOCK // (1 if values.ndim == 1 else values.shape[1]))
        for start in range(0, len(values), step):
            found.add(values[start : start + step].ravel())
        return found

    def add(self, value: np.ndarray) -> None:
        self.not_finite += int((~np.isfinite(value)).sum())
        self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))
        if self.fraction is None:
            wrong = value != np.rint(value)
            self.fraction = float(value[np.argmax(wrong)]) if wrong.any() else None
        self.any_nonzero = self.any_nonzero or bool(np.any(value != 0))


def _check_looks_like(found: _Values, scale: str) -> None:
    if scale == "counts" and found.fraction is not None:
        raise ScaleMismatch(
            "Values declared as counts are not integers",
            given=f"for example {found.fraction:.6g}",
            expected="integers (stored as float is fine)",
            fix="Declare data.scale=log1p if they were normalised and logged, or point data.layer to the counts.",
        )
    if scale in ("log1p", "log2") and found.fraction is None and found.any_nonzero:
        raise ScaleMismatch(
            f"Values declared as {scale} are all integers",
            given=f"integers up to {found.high:.6g}",
            expected="logarithms",
            fix="Declare data.scale=counts with data.target_sum, so that they are normalised and logged once.",
        )
    if scale == "log1p" and found.high > LARGEST_LOG1P:
        raise ScaleMismatch(
            "Values declared as log1p are too large for a logarithm",
            given=f"maximum {found.high:.6g}",
            expected=f"at most {LARGEST_LOG1P:g}",
            fix="Log them (scanpy.pp.log1p) or declare the scale they are on.",
        )
