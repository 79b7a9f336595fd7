"""Rows that are copies of other rows, to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

SAME_TO = 1e-3
"""Largest difference on any gene up to which two rows are one: files are stored with three decimals or half floats."""

DIRECTIONS, NEIGHBOURS, BLOCK = 8, 4, 4096
LOOKED_AT = 200
"""Cells of a condition that are asked for their nearest true cell."""

DETAILED_FROM = 5
"""Genes that are not zero in a row from which on equality is no accident."""


def copies_of(x_mg: Any, pool_ng: Any) -> np.ndarray:
    """For each row, the row of a pool that it equals on every gene to `SAME_TO`; -1 where there is none.

    Rows are compared in a few random directions first, so that only near ones are looked at gene by gene.

    Args:
        x_mg: Rows, CSR or dense, shape (m, g).
        pool_ng: Rows that may have been copied, CSR, dense or a `RowView`, shape (n, g).
    """
    found_m = np.full(x_mg.shape[0], -1)
    if not x_mg.shape[0] or not pool_ng.shape[0]:
        return found_m
    near_m, row_m = _nearest(projected(x_mg), projected(pool_ng), pool_ng.shape[0])
    for k in range(row_m.shape[1]):
        open_m = np.flatnonzero((found_m < 0) & near_m[:, k])
        for start in range(0, len(open_m), BLOCK):
            some = open_m[start : start + BLOCK]
            difference = _dense(x_mg[some]) - _dense(pool_ng[row_m[some, k]])
            same = some[np.abs(difference).max(axis=1, initial=0.0) <= SAME_TO]
            found_m[same] = row_m[same, k]
    return found_m


def _nearest(z_m: np.ndarray, z_n: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the nearest rows could be equal, and their numbers, each [m, k]."""
    k = min(NEIGHBOURS, n)
    distance, row = cKDTree(z_n).query(z_m, k=list(range(1, k + 1)))
    # a difference of SAME_TO on each of g genes moves a projection by SAME_TO on average, by a few times that at worst
    return np.asarray(distance) <= 6 * SAME_TO * np.sqrt(DIRECTIONS), np.asarray(row)


def projected(x_ng: Any) -> np.ndarray:
    """Rows in a few random directions that are always the same, [n, DIRECTIONS], float64."""
    n, g = x_ng.shape
    rng = np.random.Generator(np.random.PCG64(0))
    direction = rng.choice([-1.0, 1.0], size=(g, DIRECTIONS)) / np.sqrt(g)
    parts = [_times(x_ng[i : i + BLOCK], direction) for i in range(0, n, BLOCK)]
    return np.concatenate(parts) if parts else np.zeros((0, DIRECTIONS))


def distinct(x_mg: Any, group_m: np.ndarray, n_groups: int) -> np.ndarray:
    """Number of rows of each group that are not copies of another row of it, to nine decimals of their projections.

    Args:
        x_mg: Rows, CSR or dense.
        group_m: Group of each row; negative ones are left out.
        n_groups: Number of groups.
    """
    use = group_m >= 0
    z_m = np.ascontiguousarray(np.column_stack([group_m[use].astype(float), np.round(projected(x_mg)[use], 9)]))
    unique = np.unique(z_m, axis=0)[:, 0].astype(int) if len(z_m) else np.empty(0, dtype=int)
    return np.bincount(unique, minlength=n_groups)


def nearness(x_mg: np.ndarray, true_ng: np.ndarray) -> float:
    """How near predicted cells lie to single true cells, in units of how near true cells lie to each other.

    A true cell of another sample gives about 1, a cell at the mean about 0.7 where genes are many; jittered copies of
    true cells give little. At most `LOOKED_AT` cells of each side ask, all true cells answer.

    Args:
        x_mg: Predicted cells, dense.
        true_ng: True cells, dense; at least two.

    Returns:
        Ratio of the two median distances to the nearest true cell; NaN where true cells are not apart.
    """
    asked, among = (_some(len(x)) for x in (x_mg, true_ng))
    to_true = cdist(x_mg[asked], true_ng).min(axis=1)
    each_nn = cdist(true_ng[among], true_ng)
    each_nn[np.arange(len(among)), among] = np.inf
    apart = float(np.median(each_nn.min(axis=1)))
    return float(np.median(to_true)) / apart if apart > 0 else float("nan")


def _some(n: int) -> np.ndarray:
    """Up to `LOOKED_AT` row numbers, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int))


def detailed(x_mg: Any) -> np.ndarray:
    """Rows with enough genes that are not zero for equality to mean something."""
    return np.asarray((x_mg != 0).sum(axis=1)).ravel() >= DETAILED_FROM


def _times(x: Any, direction: np.ndarray) -> np.ndarray:
    return np.asarray(x.astype(np.float64) @ direction)


def _dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float64)
