"""Wilcoxon's rank sum of each condition against control cells, gene by gene, without tie correction."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from perturbfm.eval.comparison import Comparison, Side
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
    z_cg = np.zeros((comparison.n_conditions, len(comparison.genes_g)))
    for member_q in comparison.members():
        control_gm = np.sort(comparison.truth.control(int(comparison.context_of_c[member_q[0]])).T, axis=1)
        for c in member_q:
            cells_gn = np.sort(side.cells(int(c)).T, axis=1)
            n, m = cells_gn.shape[1], control_gm.shape[1]
            with np.errstate(invalid="ignore", divide="ignore"):
                z_cg[c] = (superiority(cells_gn, control_gm) - n * m / 2.0) / np.sqrt(n * m * (n + m + 1) / 12.0)
    return Scores(z_cg, 2.0 * norm.sf(np.abs(z_cg)))


def superiority(x_gn: np.ndarray, y_gm: np.ndarray) -> np.ndarray:
    """Pairs in which x is the larger one, ties counted half (Mann-Whitney's U of x), for each gene.

    Args:
        x_gn: Values of one group, sorted along each row, shape (g, n).
        y_gm: Values of the other, sorted along each row, shape (g, m).

    Returns:
        U per gene, between 0 and n m.
    """
    n, m = x_gn.shape[1], y_gm.shape[1]
    u_g = np.full(len(x_gn), n * m / 2.0)
    if n == 0 or m == 0:
        return u_g
    differs_g = (np.minimum(x_gn[:, 0], y_gm[:, 0]) < np.maximum(x_gn[:, -1], y_gm[:, -1])).nonzero()[0]
    for g in differs_g:
        below, upto = (y_gm[g].searchsorted(x_gn[g], side).sum() for side in ("left", "right"))
        u_g[g] = (below + upto) / 2.0
    return u_g
