"""How many genes a perturbation moves significantly."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.de_overlap import NO_TRUE
from perturbfm.eval.metric.differential import Recipe, calls
from perturbfm.eval.metric.ranks import spearman

FLAT = "numbers of significant genes do not vary over perturbations on one side"


def de_count(comparison: Comparison, *, recipe: Recipe, side: str) -> PerCondition:
    """Number of genes called on one side.

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change.
        side: `truth` or `predicted`.

    Returns:
        One count per condition; a description, neither more nor fewer is better. Never undefined.

    Source:
        cell-eval `de_nsig_counts`; cell-eval2 `de_wilcoxon_nsig_counts_*`.
    """
    return plain(calls(comparison, side, recipe).n_called_c)


def de_count_spearman(comparison: Comparison, *, recipe: Recipe, least: int = 1) -> PerCondition:
    """Spearman correlation over a context's perturbations of the number of called genes, true against predicted.

    Perturbations without a significant gene in truth are left out.

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change.
        least: Perturbations with a significant gene in truth that a context must have.

    Returns:
        The context's value for each of its conditions, in [-1, 1], 1 is best. *Undefined* where a side's numbers are
        all the same (so always with one perturbation), or fewer than `least` have a significant gene in truth.

    Source:
        cell-eval `de_spearman_sig` (1 where no perturbation has a significant gene; we say undefined); cell-eval2
        `de_wilcoxon_nsig_spearman` with its gate of 10.
    """
    n_true_c = calls(comparison, "truth", recipe).n_called_c
    n_predicted_c = calls(comparison, "predicted", recipe).n_called_c
    value_c = np.full(comparison.n_conditions, np.nan)
    reason_c = np.full(comparison.n_conditions, "", dtype=object)
    for member_q in comparison.members():
        moved_q = member_q[n_true_c[member_q] > 0]
        value = spearman(n_true_c[moved_q], n_predicted_c[moved_q])
        value_c[member_q], reason_c[member_q] = value, _lacking(len(moved_q), least, value)
    return plain(value_c, reason_c)


def _lacking(n: int, least: int, value: float) -> str:
    if n == 0:
        return NO_TRUE
    if n < least:
        return f"{n} perturbations with a significant gene in truth, {least} needed"
    return FLAT if np.isnan(value) else ""
