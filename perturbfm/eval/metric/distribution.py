"""How far predicted cells are from true cells, as distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from scipy.spatial.distance import cdist, pdist

from perturbfm.errors import ShapeMismatch, UnknownChoice
from perturbfm.eval.case import Case, PerCondition, nowhere, plain

STATISTICS = ("U", "V")

EXACT_UP_TO = 100_000_000
"""Pairs x genes up to which distances are summed from differences rather than from inner products."""

CLOSE = 1e-6
"""Squared distances below this share of the squared norms are computed again from differences."""

BLOCK = 4_000_000
"""Numbers (32 MB) held at once."""


@dataclass(frozen=True)
class PairSums:
    """Sums of Euclidean distances over all ordered pairs of cells: between two groups and within each.

    Attributes:
        between: Sum over all pairs (x, y).
        within_x: Sum over all ordered pairs (x, x'); the diagonal adds 0.
        within_y: The same for y.
        n: Cells of x.
        m: Cells of y.
    """

    between: float
    within_x: float
    within_y: float
    n: int
    m: int

    def energy(self, statistic: str) -> float:
        """Energy distance; NaN with an empty group, or a group of one cell when `statistic` is `U`."""
        off = _diagonal(statistic)
        if min(self.n, self.m) <= off:
            return float("nan")
        within = self.within_x / (self.n * (self.n - off)) + self.within_y / (self.m * (self.m - off))
        return 2 * self.between / (self.n * self.m) - within

    def lacking(self, statistic: str) -> str:
        """Why there is no energy distance; empty where there is one."""
        least = 1 + _diagonal(statistic)
        if min(self.n, self.m) >= least:
            return ""
        return f"{self.n} true and {self.m} predicted cells, {least} of each needed"


def energy_distance_cells(x_ng: np.ndarray, y_mg: np.ndarray, statistic: str) -> float:
    r"""Euclidean energy distance between two groups of cells.

    .. math:: 2\,E\lVert X-Y\rVert - E\lVert X-X'\rVert - E\lVert Y-Y'\rVert

    Args:
        x_ng: Cells of one group, dense, shape (n, g).
        y_mg: Cells of the other, same genes in the same order, shape (m, g).
        statistic: `U` averages within a group over pairs of different cells (0 in expectation for equal
            distributions, may be negative); `V` includes each cell with itself (never negative).

    Returns:
        Distance in units of the matrix; NaN where a group is empty, or has one cell under `U`.

    Raises:
        ShapeMismatch: The groups have different numbers of genes.
        UnknownChoice: `statistic` is neither `U` nor `V`.

    Source:
        Szekely & Rizzo (2013), doi:10.1016/j.jspi.2013.03.018. `V` is pertpy 0.11 to 1.0.3, `U` pertpy from 1.0.4.
    """
    return pair_distance_sums(x_ng, y_mg).energy(statistic)


def energy_distance(case: Case, *, statistic: str) -> PerCondition:
    """Energy distance between true and predicted cells of each condition; see `energy_distance_cells`.

    Both statistics rest on the same sums over pairs, which are kept for as long as `case.cells` lives, so asking for
    the second one costs nothing.

    Args:
        case: A case with cells.
        statistic: `U` or `V`.

    Returns:
        One value per condition, in units of the matrix; 0 is best. *Undefined* where a side has too few cells.
        *Not applicable* where the file has no cells, or the prediction is a point.

    Raises:
        UnknownChoice: `statistic` is neither `U` nor `V`.

    Source:
        Protocol section 3.3. Each predicted cell counts once; nothing is resampled or clipped here.
    """
    _diagonal(statistic)
    if case.cells is None:
        return nowhere(case.n_conditions, case.incomparable)
    sums_c = _sums_of(case.cells, case.n_conditions)
    reason_c = np.array([s.lacking(statistic) for s in sums_c], dtype=object)
    return plain(np.array([s.energy(statistic) for s in sums_c], dtype=float), reason_c)


def pair_distance_sums(x_ng: np.ndarray, y_mg: np.ndarray) -> PairSums:
    """Sum Euclidean distances between and within two groups of cells, in blocks of bounded size.

    Args:
        x_ng: Cells of one group, dense, shape (n, g).
        y_mg: Cells of the other, same genes, shape (m, g).

    Returns:
        The three sums, exact to about 1e-9 relative.

    Raises:
        ShapeMismatch: The groups have different numbers of genes.
    """
    x_ng, y_mg = np.asarray(x_ng, dtype=float), np.asarray(y_mg, dtype=float)
    if x_ng.ndim != 2 or y_mg.ndim != 2 or x_ng.shape[1] != y_mg.shape[1]:
        raise ShapeMismatch(
            "Two groups of cells cannot be compared",
            given=f"shapes {x_ng.shape} and {y_mg.shape}",
            expected="matrices of cells x genes with the same genes",
            fix="Take both from the same list of genes.",
        )
    if len(x_ng) and len(y_mg):
        centre_g = 0.5 * (x_ng.mean(axis=0) + y_mg.mean(axis=0))
        x_ng, y_mg = x_ng - centre_g, y_mg - centre_g
    return PairSums(_between(x_ng, y_mg), _within(x_ng), _within(y_mg), len(x_ng), len(y_mg))


_KNOWN: WeakKeyDictionary[Callable[[int], tuple[np.ndarray, np.ndarray]], list[PairSums]] = WeakKeyDictionary()


def _sums_of(cells: Callable[[int], tuple[np.ndarray, np.ndarray]], n_conditions: int) -> list[PairSums]:
    known = _KNOWN.setdefault(cells, [])
    known.extend(pair_distance_sums(*cells(c)) for c in range(len(known), n_conditions))
    return known[:n_conditions]


def _diagonal(statistic: str) -> int:
    if statistic not in STATISTICS:
        raise UnknownChoice(
            "There is no such energy statistic",
            given=repr(statistic),
            expected="'U' (pairs of different cells) or 'V' (all pairs)",
            fix="Name one of the two.",
        )
    return 1 if statistic == "U" else 0


def _within(x_ng: np.ndarray) -> float:
    if len(x_ng) ** 2 * x_ng.shape[1] <= EXACT_UP_TO:
        return 2.0 * float(pdist(x_ng).sum()) if len(x_ng) > 1 else 0.0
    return _between(x_ng, x_ng)


def _between(x_ng: np.ndarray, y_mg: np.ndarray) -> float:
    if not len(x_ng) or not len(y_mg):
        return 0.0
    few = max(1, BLOCK // len(y_mg))
    distance = _exact_sum if len(x_ng) * len(y_mg) * x_ng.shape[1] <= EXACT_UP_TO else _fast_sum
    return sum(distance(x_ng[i : i + few], y_mg) for i in range(0, len(x_ng), few))


def _exact_sum(x_ng: np.ndarray, y_mg: np.ndarray) -> float:
    return float(cdist(x_ng, y_mg).sum())


def _fast_sum(x_ng: np.ndarray, y_mg: np.ndarray) -> float:
    size_nm = np.sum(x_ng**2, axis=1)[:, None] + np.sum(y_mg**2, axis=1)[None, :]
    square_nm = size_nm - 2.0 * (x_ng @ y_mg.T)
    close_nm = square_nm <= CLOSE * size_nm
    total = float(np.sqrt(np.where(close_nm, 0.0, square_nm)).sum())
    row, column = np.nonzero(close_nm)
    few = max(1, BLOCK // x_ng.shape[1])
    for i in range(0, len(row), few):
        total += float(np.linalg.norm(x_ng[row[i : i + few]] - y_mg[column[i : i + few]], axis=1).sum())
    return total
