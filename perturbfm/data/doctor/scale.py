"""What the matrix holds: counts, logarithms, differences, or something that no scale fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from perturbfm.data.check import LARGEST_LOG1P
from perturbfm.data.doctor.survey import Survey

UNLOGGED, SCALED = "normalised, not logged", "scaled per gene"

LEAST_SUMS = 20
"""Rows from which equal sums say something."""


@dataclass(frozen=True)
class ScaleEvidence:
    """What a sample of the matrix says.

    Attributes:
        scale: `counts`, `log1p`, `log2`, `delta`, or words for what no declared scale fits.
        reason: In words, with numbers.
    """

    scale: str
    reason: str


def scale_of(survey: Survey, is_control_n: np.ndarray | None = None) -> ScaleEvidence:
    """Read the scale off a sample of rows.

    Integers of zero and more are counts. Negative values are differences where controls are all zero or nearly so,
    values scaled per gene where genes have mean 0 and variance 1, and log2 otherwise. Other values are log1p where
    zeros are stored or left out and nothing exceeds the logarithm of any count; log2 where zeros hardly occur.

    Args:
        survey: The file.
        is_control_n: Which rows are controls, where that is known.
    """
    value = survey.values
    if not len(value):
        return ScaleEvidence("counts", "no value is stored: every entry is zero")
    if not np.isfinite(value).all():
        value = value[np.isfinite(value)]
    low, high = float(value.min(initial=0)), float(value.max(initial=0))
    if bool(np.all(value == np.rint(value))):
        if low >= 0:
            return ScaleEvidence("counts", f"integers from {low:g} to {high:g}")
        return ScaleEvidence("delta", f"integers from {low:g} to {high:g}, negative ones too")
    if low < 0:
        return _negative(survey, is_control_n, low, high)
    if high > LARGEST_LOG1P:
        return ScaleEvidence(UNLOGGED, f"fractions up to {high:g}, too large for a logarithm")
    zeros = _share_of_zeros(survey)
    if zeros < 0.01 and float(np.median(value)) > 2:  # expression of every gene: arrays, bulk
        return ScaleEvidence(
            "log2", f"{low:.3g} to {high:.3g}, hardly a zero ({zeros:.1%}), median {np.median(value):.3g}"
        )
    if _sums_are_one(survey):
        return ScaleEvidence(UNLOGGED, f"fractions to {high:.3g}, row sums all {row_sums(survey).max():.6g}")
    return ScaleEvidence("log1p", f"fractions from 0 to {high:.3g}, {zeros:.0%} zeros")


def row_sums(survey: Survey) -> np.ndarray:
    """Row sums of the sample."""
    return np.asarray(survey.sample.x_ng.sum(axis=1), dtype=np.float64).ravel()


def _sums_are_one(survey: Survey) -> bool:
    """Whether all rows sum to one number, which a logarithm undoes."""
    sums = row_sums(survey)
    sums = sums[sums > 0]
    return len(sums) > LEAST_SUMS and float(np.ptp(sums)) < 1e-3 * float(sums.mean())


def _negative(survey: Survey, is_control_n: np.ndarray | None, low: float, high: float) -> ScaleEvidence:
    span = f"{low:.3g} to {high:.3g}"
    x = survey.sample.x_ng
    dense = np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float64)
    mean, sd = dense.mean(0), dense.std(0)
    used = sd > 0
    if (
        len(dense) > 50
        and used.any()
        and np.abs(mean[used]).mean() < 0.1
        and abs(float(np.median(sd[used])) - 1) < 0.15
    ):
        return ScaleEvidence(SCALED, f"{span}, genes with mean 0 and standard deviation 1")
    control = is_control_n[survey.sample.row_n] if is_control_n is not None else np.zeros(len(dense), dtype=bool)
    if control.any() and np.abs(dense[control]).mean() < 0.05 * np.abs(dense).mean():
        return ScaleEvidence("delta", f"{span}, and control rows are zero")
    if float(np.abs(np.median(dense))) < 0.2 * max(float(dense.std()), 1e-9):
        return ScaleEvidence("delta", f"{span}, about as often below zero as above")
    return ScaleEvidence("log2", f"{span}, mostly above zero")


def _share_of_zeros(survey: Survey) -> float:
    x = survey.sample.x_ng
    total = max(1, x.shape[0] * x.shape[1])
    stored = int((survey.values != 0).sum())
    return 1.0 - stored / total
