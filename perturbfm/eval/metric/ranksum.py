"""Wilcoxon's rank sum of each condition against control cells, gene by gene, without tie correction."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.rank_test import rank_sums
from perturbfm.eval.metric.welch import Scores


def against_shared_control(comparison: Comparison, side: Side) -> Scores:
    r"""Normal score of the rank sum of one side's cells against the *true* control cells of their context.

    .. math:: z_g = \frac{U_g - nm/2}{\sqrt{nm(n + m + 1)/12}},\quad U = \#\{x > y\} + \tfrac12 \#\{x = y\}

    Tied cells share their mean rank; the variance is that of no ties.

    Args:
        comparison: Whose true controls and contexts to use.
        side: Whose cells to test, n of a condition; m control cells.

    Returns:
        z and two-sided normal p, shape (c, g); exactly 0 and 1 for a gene that has one value in all cells.

    Source:
        scanpy `rank_genes_groups`, method `wilcoxon`, `tie_correct=False` (1.9 to 1.11).
    """
    sums = rank_sums(comparison, side, comparison.truth)
    n_c1, m_c1 = sums.n_r[:, None], sums.m_r[:, None]
    sd_c1 = np.sqrt(np.maximum(n_c1 * m_c1, 1) * (n_c1 + m_c1 + 1) / 12.0)
    z_cg = (sums.u_rg - n_c1 * m_c1 / 2.0) / sd_c1
    return Scores(z_cg, 2.0 * norm.sf(np.abs(z_cg)))
