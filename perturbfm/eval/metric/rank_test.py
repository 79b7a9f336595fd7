"""Mann-Whitney's U of groups of cells against controls, gene by gene, with and without ties, from one count.

Compiled: a gene's few values above its least one are sorted and looked up among the controls' while they are in the
processor's first cache. All counts are whole or half numbers, so no order of summation moves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from perturbfm.eval.comparison import Comparison, Side


@dataclass(frozen=True)
class RankedControls:
    """Controls of one context, sorted once per gene, for any number of groups to be ranked among them.

    Attributes:
        value_gm: Values of each gene in rising order, NaN last.
        n_least_g: How often the least one occurs, nearly always a zero.
        ties_g: Sum over the distinct values of t^3 - t, t the number of cells that have it.
    """

    value_gm: np.ndarray
    n_least_g: np.ndarray
    ties_g: np.ndarray


@dataclass(frozen=True)
class RankSums:
    r"""What a rank test needs to know of each group (row) and gene.

    Attributes:
        u_rg: :math:`U = \#\{x > y\} + \tfrac12 \#\{x = y\}`; NaN where a value is NaN.
        ties_rg: :math:`\sum_v t_v^3 - t_v`, t the number of cells of both groups that share the value v.
        n_r: Cells of the group.
        m_r: Control cells.
    """

    u_rg: np.ndarray
    ties_rg: np.ndarray
    n_r: np.ndarray
    m_r: np.ndarray


def rank_sums(comparison: Comparison, side: Side, controls: Side) -> RankSums:
    """Counts of every condition's cells against the control cells of its context, made once.

    Controls of one context and cells of one condition are in memory at a time.

    Args:
        comparison: Which condition is of which context.
        side: Whose cells.
        controls: Whose control cells.
    """

    def make() -> RankSums:
        return _all(side, controls, comparison.context_of_c, len(comparison.genes_g))

    if controls is side or controls.control_moments is side.control_moments:
        return side.once("rank_sums", make)
    return comparison.once(("rank_sums", side is comparison.truth), make)


def _all(side: Side, controls: Side, context_of_c: np.ndarray, n_genes: int) -> RankSums:
    n = len(context_of_c)
    u_cg, ties_cg = np.empty((n, n_genes)), np.empty((n, n_genes))
    n_c, m_c = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    for context in np.unique(context_of_c):
        ranked = ranked_controls(controls.control(int(context)))
        for c in np.flatnonzero(context_of_c == context):
            cells_ng = side.cells(int(c))
            u_cg[c], ties_cg[c] = counted(cells_ng, ranked)
            n_c[c], m_c[c] = len(cells_ng), ranked.value_gm.shape[1]
    return RankSums(u_cg, ties_cg, n_c, m_c)


def ranked_controls(control_mg: np.ndarray) -> RankedControls:
    """Sort the controls of one context.

    Args:
        control_mg: Control cells, dense, shape (m, g).
    """
    value_gm = _sorted(control_mg)
    n_least_g, ties_g = np.zeros(len(value_gm), dtype=np.int64), np.zeros(len(value_gm))
    _ties(value_gm, n_least_g, ties_g)
    return RankedControls(value_gm, n_least_g, ties_g)


def counted(x_ng: np.ndarray, controls: RankedControls) -> tuple[np.ndarray, np.ndarray]:
    """U and ties per gene of one group of cells, dense, shape (n, g)."""
    x_gn = _sorted(x_ng)
    u_g, ties_g = np.zeros(len(x_gn)), controls.ties_g.copy()
    if x_gn.shape[1] and controls.value_gm.shape[1]:
        _count(x_gn, controls.value_gm, controls.n_least_g, u_g, ties_g)
    return u_g, ties_g


def _sorted(x_ng: np.ndarray) -> np.ndarray:
    """Values of each gene in rising order, NaN last, shape (g, n)."""
    x_gn = np.array(x_ng.T, dtype=np.float64, order="C")
    x_gn.sort(axis=1)
    return x_gn


@njit(nogil=True)
def _ties(value_gm: np.ndarray, n_least_g: np.ndarray, ties_g: np.ndarray) -> None:
    n_genes, m = value_gm.shape
    for g in range(n_genes):
        start = 0
        for i in range(1, m + 1):
            if i == m or value_gm[g, i] != value_gm[g, start]:
                t = float(i - start)
                ties_g[g] += t * t * t - t
                if start == 0:
                    n_least_g[g] = i
                start = i


@njit(nogil=True)
def _count(x_gn: np.ndarray, value_gm: np.ndarray, n_least_g: np.ndarray, u_g: np.ndarray, ties_g: np.ndarray) -> None:
    """Add each run of equal values of a group, looked up by halving among controls above the last one."""
    n_genes, n = x_gn.shape
    m = value_gm.shape[1]
    for g in range(n_genes):
        if np.isnan(x_gn[g, n - 1]) or np.isnan(value_gm[g, m - 1]):
            u_g[g] = np.nan
            continue
        start, below = 0, 0
        for i in range(1, n + 1):
            if i < n and x_gn[g, i] == x_gn[g, start]:
                continue
            value = x_gn[g, start]
            if value > value_gm[g, 0]:
                below = _first(value_gm, g, value, max(below, n_least_g[g]))
            equal = n_least_g[g] if value == value_gm[g, 0] else 0
            while below > 0 and below + equal < m and value_gm[g, below + equal] == value:
                equal += 1
            t, e = float(i - start + equal), float(equal)
            u_g[g] += (i - start) * (below + 0.5 * equal)
            ties_g[g] += (t * t * t - t) - (e * e * e - e)
            start = i


@njit(nogil=True)
def _first(value_gm: np.ndarray, g: int, value: float, low: int) -> int:
    """Where the first control that is not below a value stands, at `low` or after it."""
    high = value_gm.shape[1]
    while low < high:
        middle = (low + high) // 2
        if value_gm[g, middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
