r"""Number, mean and scatter of the rows of each group, in one pass with bounded memory.

Rows are cut in chunks, so memory grows with groups x genes and never with rows. Chunks are merged by the update

.. math::
    \bar x = \bar x_a + (\bar x_b - \bar x_a)\, n_b / n, \quad
    M = M_a + M_b + (\bar x_b - \bar x_a)^2\, n_a n_b / n

in float64, with the scatter :math:`M_b = \sum (x - \bar x_b)^2` of a chunk taken about its own mean: no difference of
large sums is formed, so a large offset does not eat the variance.

Source:
    Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

CHUNK = 8192
"""Rows cut at once, at most."""

ENTRIES = 8_000_000
"""Entries of the rows cut at once, zeros counted: what the sums of a chunk may hold if every row is its own group."""


class GroupStatistics:
    """Running statistics of groups; the result does not depend on the order of rows beyond rounding (1e-12).

    Args:
        n_groups: Number of groups.
        n_genes: Number of genes.

    Attributes:
        n_k: Number of rows of each group.
        mean_kg: Mean row of each group, float64; zeros for empty groups.
        scatter_kg: Sum of squared deviations from the mean.
    """

    def __init__(self, n_groups: int, n_genes: int) -> None:
        self.n_k = np.zeros(n_groups)
        self.mean_kg = np.zeros((n_groups, n_genes))
        self.scatter_kg = np.zeros((n_groups, n_genes))

    def add(self, x_ng: Any, group_n: np.ndarray) -> None:
        """Add rows, CSR or dense, at once; the caller keeps them few."""
        present_h, local_n = np.unique(group_n, return_inverse=True)
        n_h = np.bincount(local_n).astype(np.float64)
        mean_hg, scatter_hg = _chunk(x_ng, local_n, n_h)
        before_h = self.n_k[present_h]
        after_h = before_h + n_h
        step_hg = mean_hg - self.mean_kg[present_h]
        self.scatter_kg[present_h] += scatter_hg + step_hg**2 * (before_h * n_h / after_h)[:, None]
        self.mean_kg[present_h] += step_hg * (n_h / after_h)[:, None]
        self.n_k[present_h] = after_h

    def merged(self, group_k: np.ndarray, n_groups: int) -> GroupStatistics:
        """Statistics of groups of groups.

        Args:
            group_k: For each of these groups, the group it goes to.
            n_groups: Number of those.
        """
        found = GroupStatistics(n_groups, self.mean_kg.shape[1])
        np.add.at(found.n_k, group_k, self.n_k)  # not a product with zeros: a group that is NaN leaves others alone
        np.add.at(found.mean_kg, group_k, self.n_k[:, None] * self.mean_kg)
        found.mean_kg /= np.maximum(found.n_k, 1.0)[:, None]
        away_kg = self.mean_kg - found.mean_kg[group_k]
        np.add.at(found.scatter_kg, group_k, self.scatter_kg + self.n_k[:, None] * away_kg**2)
        return found


def group_statistics(
    x_ng: Any, group_m: np.ndarray, n_groups: int, rows_m: np.ndarray | None = None
) -> GroupStatistics:
    """Statistics of groups of rows of a matrix, cut in chunks.

    Args:
        x_ng: Matrix, CSR (in memory or mapped) or dense.
        group_m: Group of each row.
        n_groups: Number of groups.
        rows_m: Which rows of the matrix; all of them by default.
    """
    found = GroupStatistics(n_groups, x_ng.shape[1])
    step = rows_at_once(x_ng.shape[1])
    for start in range(0, len(group_m), step):
        stop = min(start + step, len(group_m))
        found.add(x_ng[slice(start, stop) if rows_m is None else rows_m[start:stop]], group_m[start:stop])
    return found


def rows_at_once(n_genes: int) -> int:
    """Rows of a chunk; a function of the genes alone, so that results are the same each time."""
    return max(64, min(CHUNK, ENTRIES // max(n_genes, 1)))


def _chunk(x_ng: Any, group_n: np.ndarray, n_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scatter about it of the groups of one chunk, each with at least one row."""
    if not sparse.issparse(x_ng):
        member = sparse.csr_matrix((np.ones(len(group_n)), (group_n, np.arange(len(group_n)))))
        x_ng = np.asarray(x_ng, dtype=np.float64)
        mean_hg = (member @ x_ng) / n_h[:, None]
        return mean_hg, member @ (x_ng - mean_hg[group_n]) ** 2
    shape = (len(n_h), x_ng.shape[1])
    place = np.repeat(group_n * shape[1], np.diff(x_ng.indptr)) + x_ng.indices
    value = x_ng.data.astype(np.float64)
    mean_hg = _sums(place, value, shape) / n_h[:, None]
    away = (value - mean_hg.ravel()[place]) ** 2
    stored_hg = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    return mean_hg, _sums(place, away, shape) + (n_h[:, None] - stored_hg) * mean_hg**2


def _sums(place: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.bincount(place, weights=value, minlength=shape[0] * shape[1]).reshape(shape)
