"""Whether predicted fold changes are right on the genes that are significant in truth."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.de_overlap import off_target, too_few
from perturbfm.eval.metric.differential import Recipe, calls
from perturbfm.eval.metric.ranks import spearman


def de_lfc_spearman(comparison: Comparison, *, recipe: Recipe, least: int = 1) -> PerCondition:
    """Spearman correlation of true and predicted log2 fold changes over the genes significant in truth.

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change; infinite fold changes rank first and last.
        least: Significant genes that a truth must have.

    Returns:
        One value in [-1, 1] per condition, 1 is best. *Undefined* where truth has fewer than `least` significant genes,
        or fold changes do not vary over them on one side (so always with a single gene).

    Source:
        cell-eval `de_spearman_lfc_sig`; cell-eval2 `de_wilcoxon_lfc_spearman` with its gate of 10.
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    reason_c = too_few(true.n_called_c, least)
    value_c = np.full(comparison.n_conditions, np.nan)
    for c in np.flatnonzero(reason_c == ""):
        called_g = true.called_cg[c]
        guess_g = predicted.lfc_cg[c, called_g]
        value_c[c] = spearman(true.lfc_cg[c, called_g], np.where(np.isnan(guess_g), 0.0, guess_g))
    flat = "fold changes of the significant genes do not vary on one side"
    return plain(value_c, np.where((reason_c == "") & np.isnan(value_c), flat, reason_c))


def de_lfc_nmae(comparison: Comparison, *, recipe: Recipe, least: int = 10) -> PerCondition:
    r"""Absolute error of log2 fold changes over the genes significant in truth, as a share of the true ones' size.

    .. math:: \sum_g |\hat l_g - l_g| \,/\, \sum_g |l_g|

    No change scores 1. The perturbation's own genes are left out, and so are genes whose true fold change is infinite;
    a predicted one that is infinite or missing counts as no change.

    Args:
        comparison: Cells of both sides; `targets_cg` says which genes a perturbation acts on directly.
        recipe: Test, correction and fold change.
        least: Significant genes that a truth must have.

    Returns:
        One value from 0 (best) per condition. *Undefined* where truth has fewer than `least` such genes.

    Source:
        cell-eval2 0.20.0 `de_wilcoxon_lfc_nmae` (scored in vcc2026).
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    judged_cg = true.called_cg & off_target(comparison) & np.isfinite(true.lfc_cg)
    size_cg = np.where(judged_cg, np.abs(true.lfc_cg), 0.0)
    guess_cg = np.where(np.isfinite(predicted.lfc_cg), predicted.lfc_cg, 0.0)
    off_cg = np.where(judged_cg, np.abs(guess_cg - np.where(judged_cg, true.lfc_cg, 0.0)), 0.0)
    total_c = size_cg.sum(axis=1)
    reason_c = too_few(judged_cg.sum(axis=1), least)
    reason_c = np.where((reason_c == "") & (total_c == 0), "true fold changes are all zero", reason_c)
    return plain(off_cg.sum(axis=1) / np.where(total_c > 0, total_c, 1.0), reason_c)
