"""Whether a prediction calls the genes that are called in truth."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.differential import Recipe, calls

NO_TRUE = "no gene is significant in truth"
NEITHER = "no gene is significant on either side"
FEW = "{n} genes significant in truth, {least} needed"


def de_overlap(comparison: Comparison, *, recipe: Recipe, k: int | None, of: str) -> PerCondition:
    r"""Share of the top called genes that both sides have, each side ordered by its own absolute fold change.

    .. math:: |A_k \cap B_k| / k, \qquad k = \min(k, n_{side})

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change.
        k: Genes taken from the top of each side; None for all that the counting side calls.
        of: Which side's calls bound k: `truth` (overlap, a recall) or `prediction` (precision).

    Returns:
        One value in [0, 1] per condition, 1 is best. *Undefined* where no gene is significant in truth (`truth`), or on
        either side (`prediction`); 0 where only one side calls genes. Ties of the fold change, of which infinite ones
        are many, go by the order of the genes.

    Raises:
        UnknownChoice: Another word for `of`.

    Source:
        cell-eval 0.6.8 and 0.8.2 `overlap_at_*`, `precision_at_*` (0 where we say undefined); `overlap_at_N` is the
        differential expression score (DES) of the Virtual Cell Challenge 2025.
    """
    if of not in ("truth", "prediction"):
        raise UnknownChoice(
            "There is no such side", given=repr(of), expected="truth or prediction", fix="Name one of the two."
        )
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    n_true_c, n_predicted_c = true.n_called_c, predicted.n_called_c
    bound_c = n_true_c if of == "truth" else n_predicted_c
    value_c = np.zeros(comparison.n_conditions)
    for c in np.flatnonzero(bound_c > 0).tolist():
        top = int(bound_c[c]) if k is None else min(k, int(bound_c[c]))
        value_c[c] = len(np.intersect1d(true.ranked(c)[:top], predicted.ranked(c)[:top])) / top
    if of == "truth":
        return plain(value_c, np.where(n_true_c > 0, "", NO_TRUE))
    return plain(value_c, np.where(n_true_c + n_predicted_c > 0, "", NEITHER))


def de_recall(comparison: Comparison, *, recipe: Recipe, least: int = 1) -> PerCondition:
    """Share of the genes significant in truth that the prediction calls too.

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change.
        least: Significant genes that a truth must have.

    Returns:
        One value in [0, 1] per condition, 1 is best. *Undefined* where truth has fewer than `least` significant genes.

    Source:
        cell-eval `de_sig_genes_recall`; cell-eval2 `de_wilcoxon_sig_recall` with its gate of 10.
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    both_c = (true.called_cg & predicted.called_cg).sum(axis=1)
    return plain(both_c / np.maximum(true.n_called_c, 1), too_few(true.n_called_c, least))


def de_jaccard(comparison: Comparison, *, recipe: Recipe, least: int = 0) -> PerCondition:
    r"""Jaccard index of the genes that the two sides call, the perturbation's own genes left out on both.

    .. math:: |A \cap B| / |A \cup B|

    Args:
        comparison: Cells of both sides; `targets_cg` says which genes a perturbation acts on directly.
        recipe: Test, correction and fold change.
        least: Significant genes that a truth must have.

    Returns:
        One value in [0, 1] per condition, 1 is best. *Undefined* where neither side calls a gene, or truth calls fewer
        than `least`.

    Source:
        cell-eval2 0.20.0 `sig_jaccard` (1 where neither side calls a gene; we say undefined).
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    others_cg = off_target(comparison)
    a_cg, b_cg = true.called_cg & others_cg, predicted.called_cg & others_cg
    union_c = (a_cg | b_cg).sum(axis=1)
    reason_c = np.where(union_c > 0, too_few(a_cg.sum(axis=1), least), NEITHER)
    return plain((a_cg & b_cg).sum(axis=1) / np.maximum(union_c, 1), reason_c)


def off_target(comparison: Comparison) -> np.ndarray:
    """Genes that a condition's perturbation does not act on directly, shape (c, g); all where that is unknown."""
    if comparison.targets_cg is None:
        return np.ones((comparison.n_conditions, len(comparison.genes_g)), dtype=bool)
    return ~comparison.targets_cg


def too_few(n_c: np.ndarray, least: int) -> np.ndarray:
    """Reasons where fewer genes than needed are significant in truth; empty where enough are."""
    return np.array([_lack(int(n), least) for n in n_c], dtype=object)


def _lack(n: int, least: int) -> str:
    if n >= least:
        return ""
    return NO_TRUE if n == 0 else FEW.format(n=n, least=least)
