"""The Mann-Whitney U test of groups of cells against controls, for all genes at once, with tie correction."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from perturbfm.errors import ValuesNotFinite
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.rank_test import RankedControls, counted, rank_sums


def mann_whitney(x_ng: np.ndarray, controls: RankedControls) -> np.ndarray:
    r"""Two-sided p per gene that a group's values and the controls' values have one distribution.

    .. math::
        z = \frac{\max(U, nm - U) - nm/2 - 1/2}{s}, \qquad
        s^2 = \frac{nm}{12}\Bigl(N + 1 - \frac{\sum_v t_v^3 - t_v}{N (N - 1)}\Bigr), \qquad N = n + m

    U counts pairs in which the group's cell is higher, ties as one half; t is the number of cells of both groups that
    share a value. p = 2 (1 - Phi(z)), at most 1. The group is sorted and looked up among the sorted controls, so a
    group costs n log(m) per gene however many controls there are, and next to nothing where values are at the least.

    Args:
        x_ng: Cells of the group, dense, shape (n, g), in any monotone unit.
        controls: Sorted controls of the same genes.

    Returns:
        One p per gene; 1 where all cells of both groups share one value.

    Raises:
        ValuesNotFinite: A value is NaN.

    Source:
        scipy.stats.mannwhitneyu(method="asymptotic", use_continuity=True); pdex 0.3.0 and 0.1.28 (which for groups of
        up to 8 cells without any ties takes scipy's exact distribution instead; not done here).
    """
    u_g, ties_g = counted(x_ng, controls)
    return _two_sided(u_g, ties_g, len(x_ng), controls.value_gm.shape[1])


def mann_whitney_p(comparison: Comparison, side: Side, controls: Side) -> np.ndarray:
    """p of every condition's cells of one side against the control cells of its context, shape (c, g).

    Raises:
        ValuesNotFinite: A value is NaN.
    """
    sums = rank_sums(comparison, side, controls)
    return _two_sided(sums.u_rg, sums.ties_rg, sums.n_r[:, None], sums.m_r[:, None])


def _two_sided(u_rg: np.ndarray, ties_rg: np.ndarray, n_r1: int | np.ndarray, m_r1: int | np.ndarray) -> np.ndarray:
    if np.isnan(u_rg).any():
        n_genes = u_rg.shape[-1]
        raise ValuesNotFinite(
            "Cells to be ranked hold values that are not numbers",
            given=f"NaN in {int(np.isnan(u_rg.reshape(-1, n_genes)).any(axis=0).sum())} of {n_genes} genes",
            expected="a number in every cell",
            fix="Look for the cause in the prediction; nothing is filled in.",
        )
    pairs, total = n_r1 * m_r1, n_r1 + m_r1
    excess_rg = np.maximum(u_rg, pairs - u_rg) - pairs / 2.0 - 0.5
    with np.errstate(invalid="ignore", divide="ignore"):
        square_rg = pairs / 12.0 * ((total + 1.0) - ties_rg / (total * (total - 1.0)))
        p_rg = 2.0 * norm.sf(excess_rg / np.sqrt(square_rg))
    return np.where(square_rg > 0, np.minimum(p_rg, 1.0), 1.0)
