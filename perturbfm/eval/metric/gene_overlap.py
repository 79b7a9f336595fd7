"""Whether the genes that move most are the right ones."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.gene_set import gene_set, largest
from perturbfm.eval.metric.mean_correlation import ROUNDING_PREDICTED

ONLY_20 = 20


def jaccard_top20(comparison: Comparison, *, genes: str) -> PerCondition:
    r"""Jaccard index of the true 20 genes and of the 20 that the prediction moves most.

    .. math:: \frac{|A \cap B|}{|A \cup B|}

    with A the true set, chosen by a t-test, and B the 20 genes of largest :math:`|\hat\mu_{pg} - \mu_{0g}|`, chosen by
    size: two rules, as in the source.

    Args:
        comparison: Cells of both sides.
        genes: The true set: `top20_gears` or `top20_ttest_abs`.

    Returns:
        One value in [0, 1] per condition; 1 is best. *Undefined* where the 20th place of either set is tied (as for no
        change, where every gene is), or where the whole predicted delta is rounding.

    Source:
        mlbio-epfl/systema fe087c9, `jaccard` of `benchmark_all.ipynb`. There a tie is decided by the order of genes.
    """
    chosen = gene_set(comparison, genes)
    control_cg = comparison.truth.control_moments.mean_rg[comparison.context_of_c]
    predicted_cg = comparison.predicted.moments.mean_rg
    size_cg = np.abs(predicted_cg.astype(float) - control_cg)
    found = largest(size_cg, np.ones(size_cg.shape, dtype=bool), ONLY_20)
    both_c = np.sum(chosen.kept_cg & found.kept_cg, axis=1)
    either_c = np.sum(chosen.kept_cg | found.kept_cg, axis=1)
    flat_c = np.linalg.norm(size_cg, axis=1) <= ROUNDING_PREDICTED * np.linalg.norm(predicted_cg, axis=1)
    reason_c = np.where(found.reason_c != "", "predicted: " + found.reason_c, chosen.reason_c)
    return plain(both_c / np.maximum(either_c, 1), np.where(flat_c, "predicted delta is zero", reason_c))
