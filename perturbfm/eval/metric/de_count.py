"""How many genes a perturbation moves significantly."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.differential import Recipe, calls
from perturbfm.eval.metric.ranks import spearman


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


def de_count_spearman(comparison: Comparison, *, recipe: Recipe) -> PerCondition:
    """Spearman correlation over a context's perturbations of the number of called genes, true against predicted.

    Perturbations without a significant gene in truth are left out.

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change.

    Returns:
        The context's value for each of its conditions, in [-1, 1], 1 is best. *Undefined* where a side's numbers are
        all the same, or fewer than 2 perturbations have a significant gene in truth.

    Source:
        cell-eval `de_spearman_sig` (1 where no perturbation has a significant gene; we say undefined); cell-eval2
        `de_wilcoxon_nsig_spearman`.
    """
    n_true_c = calls(comparison, "truth", recipe).n_called_c
    n_predicted_c = calls(comparison, "predicted", recipe).n_called_c
    value_c = np.full(comparison.n_conditions, np.nan)
    for member_q in comparison.members():
        moved_q = member_q[n_true_c[member_q] > 0]
        value_c[member_q] = spearman(n_true_c[moved_q], n_predicted_c[moved_q])
    lost = "numbers of significant genes do not vary over perturbations on one side"
    return plain(value_c, np.where(np.isnan(value_c), lost, ""))
