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
        control_gm = sorted_rows(comparison.truth.control(int(comparison.context_of_c[member_q[0]])))
        for c in member_q:
            cells_gn = sorted_rows(side.cells(int(c)))
            n, m = cells_gn.shape[1], control_gm.shape[1]
            sd = np.sqrt(max(n * m, 1) * (n + m + 1) / 12.0)
            z_cg[c] = (superiority(cells_gn, control_gm) - n * m / 2.0) / sd
    return Scores(z_cg, 2.0 * norm.sf(np.abs(z_cg)))


def superiority(x_gn: np.ndarray, y_gm: np.ndarray) -> np.ndarray:
    """Pairs in which x is the larger one, ties counted half (Mann-Whitney's U of x), for each gene.

    The cells that share a gene's smallest value, in sparse data most of them, are looked up once.

    Args:
        x_gn: Values of one group, sorted along each row, shape (g, n).
        y_gm: Values of the other, sorted along each row, shape (g, m).

    Returns:
        U per gene, between 0 and n m; n m / 2 where all values are equal.
    """
    n, m = x_gn.shape[1], y_gm.shape[1]
    u_g = np.full(len(x_gn), n * m / 2.0)
    if n == 0 or m == 0:
        return u_g
    constant_g = (x_gn[:, 0] == x_gn[:, -1]) & (y_gm[:, 0] == y_gm[:, -1]) & (x_gn[:, 0] == y_gm[:, 0])
    last_least_g = np.maximum((x_gn == x_gn[:, :1]).sum(axis=1) - 1, 0)
    twice_gn = np.zeros(x_gn.shape, dtype=np.int64)
    for g in np.flatnonzero(~constant_g).tolist():
        new_n = x_gn[g, last_least_g[g] :]
        np.add(y_gm[g].searchsorted(new_n), y_gm[g].searchsorted(new_n, "right"), out=twice_gn[g, last_least_g[g] :])
    skipped_g = last_least_g * np.take_along_axis(twice_gn, last_least_g[:, None], axis=1)[:, 0]
    return np.where(constant_g, u_g, 0.5 * (twice_gn.sum(axis=1) + skipped_g))


def sorted_rows(x_ng: np.ndarray) -> np.ndarray:
    """Values of each gene in rising order, shape (g, n)."""
    return np.sort(np.ascontiguousarray(x_ng.T), axis=1)
