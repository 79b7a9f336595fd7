"""The Mann-Whitney U test of a group of cells against controls, for all genes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from perturbfm.errors import ValuesNotFinite


@dataclass(frozen=True)
class RankedControls:
    """Controls of one context, sorted once per gene, for any number of groups to be ranked among them.

    The least value of a gene (nearly always zero) is counted instead of listed; the others stand gene after gene,
    as complex numbers `gene + value j`, which numpy orders by gene and then by value.

    Attributes:
        m: Number of cells.
        least_g: Least value of each gene.
        n_least_g: How often it occurs.
        above_i: The other values in order.
        start_g: Where the values of a gene start in `above_i`.
        ties_g: Sum over the distinct values of t^3 - t, t the number of cells that have it.
    """

    m: int
    least_g: np.ndarray
    n_least_g: np.ndarray
    above_i: np.ndarray
    start_g: np.ndarray
    ties_g: np.ndarray

    def below_and_equal(self, key_i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many control cells lie below each `gene + value j`, and how many have that value."""
        gene_i, value_i = key_i.real.astype(np.int64), key_i.imag
        left_i = np.searchsorted(self.above_i, key_i, side="left")
        right_i = np.searchsorted(self.above_i, key_i, side="right")
        n_least_i, least_i = self.n_least_g[gene_i], self.least_g[gene_i]
        below_i = left_i - self.start_g[gene_i] + n_least_i * (least_i < value_i)
        return below_i, right_i - left_i + n_least_i * (least_i == value_i)


def ranked_controls(control_mg: np.ndarray) -> RankedControls:
    """Sort the controls of one context.

    Args:
        control_mg: Control cells, dense, shape (m, g).
    """
    least_g, n_least_g, above_i = _listed(control_mg)
    gene_i = above_i.real.astype(np.int64)
    start_g = np.searchsorted(gene_i, np.arange(control_mg.shape[1]))
    first_r, count_r = _runs(above_i)
    ties_g = np.bincount(gene_i[first_r], _tie(count_r), minlength=control_mg.shape[1]) + _tie(n_least_g)
    return RankedControls(len(control_mg), least_g, n_least_g, above_i, start_g, ties_g)


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
    n, m, n_genes = len(x_ng), controls.m, x_ng.shape[1]
    least_g, n_least_g, above_i = _listed(x_ng)
    first_r, count_r = _runs(above_i)
    key_r = np.concatenate([_key(np.arange(n_genes), least_g), above_i[first_r]])
    count_r = np.concatenate([n_least_g, count_r])
    gene_r = key_r.real.astype(np.int64)
    below_r, equal_r = controls.below_and_equal(key_r)
    u_g = np.bincount(gene_r, count_r * (below_r + 0.5 * equal_r), minlength=n_genes)
    added_r = _tie(count_r + equal_r) - _tie(equal_r)
    ties_g = controls.ties_g + np.bincount(gene_r, added_r, minlength=n_genes)
    return _two_sided(u_g, ties_g, n, m)


def _two_sided(u_g: np.ndarray, ties_g: np.ndarray, n: int, m: int) -> np.ndarray:
    total = n + m
    square_g = n * m / 12.0 * ((total + 1.0) - ties_g / (total * (total - 1.0)))
    excess_g = np.maximum(u_g, n * m - u_g) - n * m / 2.0 - 0.5
    with np.errstate(invalid="ignore", divide="ignore"):
        p_g = 2.0 * norm.sf(excess_g / np.sqrt(square_g))
    return np.where(square_g > 0, np.minimum(p_g, 1.0), 1.0)


def _listed(x_ng: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least value per gene, its count, and the other values in order of gene and value."""
    x_gn = np.ascontiguousarray(x_ng.T)
    least_g = x_gn.min(axis=1)
    if np.isnan(least_g).any():
        raise ValuesNotFinite(
            "Cells to be ranked hold values that are not numbers",
            given=f"NaN in {int(np.isnan(least_g).sum())} of {len(least_g)} genes",
            expected="a number in every cell",
            fix="Look for the cause in the prediction; nothing is filled in.",
        )
    above_gn = x_gn > least_g[:, None]
    above_i = _key(np.nonzero(above_gn)[0], x_gn[above_gn])
    above_i.sort()
    return least_g, x_gn.shape[1] - above_gn.sum(axis=1), above_i


def _key(gene_i: np.ndarray, value_i: np.ndarray) -> np.ndarray:
    key_i = np.empty(len(gene_i), dtype=np.complex128)
    key_i.real, key_i.imag = gene_i, value_i
    return key_i


def _runs(sorted_i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of equal numbers starts, and how long it is."""
    first_r = np.flatnonzero(np.concatenate([[len(sorted_i) > 0], sorted_i[1:] != sorted_i[:-1]]))
    return first_r, np.diff(np.append(first_r, len(sorted_i)))


def _tie(count_r: np.ndarray) -> np.ndarray:
    t_r = count_r.astype(float)
    return t_r**3 - t_r
