"""How far predicted cells are from true cells, as distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from scipy.spatial.distance import cdist, pdist

from perturbfm.errors import ShapeMismatch, UnknownChoice
from perturbfm.eval.case import Case, PerCondition, nowhere, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.drawn import drawn, rounded
from perturbfm.eval.metric.ranked_gene import fewer, gene_sets

STATISTICS = ("U", "V")

EXACT_UP_TO = 100_000_000
"""Pairs x genes up to which distances are summed from differences rather than from inner products."""

DRAWN_EXACT_UP_TO = 5_000_000
"""The same where a suite's cells are drawn: above, inner products are faster, and as good to about 1e-9."""

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


def energy_distance_drawn(
    comparison: Comparison, *, statistic: str, top: int | None, cap: int | None, half: bool, decimals: int | None
) -> PerCondition:
    r"""Euclidean energy distance between true and predicted cells on a suite's genes; see `energy_distance_cells`.

    Args:
        comparison: Cells of both sides, in units of the matrix.
        statistic: `U` or `V`.
        top: Genes, first by |t| of the truth against control; None for all.
        cap: Most cells of a group; None for all. The cost is quadratic in it.
        half: Halve it: :math:`E\lVert X-Y\rVert - E\lVert X-X'\rVert/2 - E\lVert Y-Y'\rVert/2`.
        decimals: Decimals to round to; None for none.

    Returns:
        One value per condition, in units of the matrix; 0 is best. *Undefined* where a side has too few cells.

    Raises:
        UnknownChoice: `statistic` is neither `U` nor `V`.

    Source:
        `V`: pertpy 0.7.0 `onesided_distances` of `edistance`, as scPerturBench calls it, and pertpy 0.11 to 1.0.3;
        `U`: pertpy from 1.0.4; half of `V`: geomloss 0.3.1 `SamplesLoss("energy", p=2)`.
    """
    _diagonal(statistic)
    sums_c = comparison.once(("pairs", fewer(comparison, top), cap), lambda: _sums_drawn(comparison, top, cap))
    value_c = np.array([s.energy(statistic) for s in sums_c], dtype=float) * (0.5 if half else 1.0)
    return plain(rounded(value_c, decimals), np.array([s.lacking(statistic) for s in sums_c], dtype=object))


def energy_distance_squared(comparison: Comparison, *, statistic: str, top: int | None) -> PerCondition:
    r"""Energy distance with squared Euclidean distances, which is a distance of means and needs no pairs of cells.

    .. math:: V: 2\lVert\bar x - \bar y\rVert^2 \quad
        U: 2\lVert\bar x - \bar y\rVert^2 - 2 \sum_g (s^2_{x,g}/n + s^2_{y,g}/m)

    with unbiased variances s^2. It carries no information on the distributions beyond their means.

    Args:
        comparison: Cells of both sides, in units of the matrix.
        statistic: `U` (within a group over pairs of different cells) or `V` (all pairs).
        top: Genes, first by |t| of the truth against control; None for all.

    Returns:
        One value per condition, in squared units of the matrix; 0 is best. *Undefined* under `U` where a side has one
        cell.

    Raises:
        UnknownChoice: `statistic` is neither `U` nor `V`.

    Source:
        `V`: pertpy to 0.10, `Distance("edistance")` called on two matrices. `U`: scperturb 0.1.0 `edist`.
    """
    off = _diagonal(statistic)
    x, y = comparison.truth.moments, comparison.predicted.moments
    noise_cg = off * (x.unbiased_rg / x.n_r[:, None] + y.unbiased_rg / y.n_r[:, None])
    square_cg = (x.mean_rg - y.mean_rg) ** 2
    value_c, reason_c = [], []
    for c, genes in enumerate(gene_sets(comparison, top)):
        value_c.append(2.0 * float(np.sum(square_cg[c, genes] - noise_cg[c, genes])))
        reason_c.append(PairSums(0.0, 0.0, 0.0, int(x.n_r[c]), int(y.n_r[c])).lacking(statistic))
    return plain(np.array(value_c), np.array(reason_c, dtype=object))


def mmd_gaussian(comparison: Comparison, *, gamma: float, top: int | None, cap: int | None) -> PerCondition:
    r"""Squared maximum mean discrepancy with a Gaussian kernel, each cell with itself included.

    .. math:: E\,k(X, X') + E\,k(Y, Y') - 2 E\,k(X, Y), \quad k(x, y) = e^{-\gamma \lVert x - y \rVert^2}

    With gamma 1 on hundreds of genes nearly all that is left is each cell with itself, 1/n + 1/m.

    Args:
        comparison: Cells of both sides, in units of the matrix.
        gamma: Inverse squared width of the kernel.
        top: Genes, first by |t| of the truth against control; None for all.
        cap: Most cells of a group; None for all. The cost is quadratic in it.

    Returns:
        One value per condition; 0 is best. Never undefined.

    Source:
        pertpy 1.0.3 `mmd` with `kernel="rbf"` (gamma 1).
    """
    value_c = []
    for c, genes in enumerate(gene_sets(comparison, top)):
        x_ng, y_mg = (side_ng[:, genes] for side_ng in drawn(comparison, c, cap))
        within = _kernel_mean(x_ng, x_ng, gamma) + _kernel_mean(y_mg, y_mg, gamma)
        value_c.append(within - 2.0 * _kernel_mean(x_ng, y_mg, gamma))
    return plain(np.array(value_c))


def pair_distance_sums(x_ng: np.ndarray, y_mg: np.ndarray, exact_up_to: int = EXACT_UP_TO) -> PairSums:
    """Sum Euclidean distances between and within two groups of cells, in blocks of bounded size.

    Args:
        x_ng: Cells of one group, dense, shape (n, g).
        y_mg: Cells of the other, same genes, shape (m, g).
        exact_up_to: Pairs x genes up to which distances come from differences rather than from inner products.

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
    within_x, within_y = _within(x_ng, exact_up_to), _within(y_mg, exact_up_to)
    return PairSums(_between(x_ng, y_mg, exact_up_to), within_x, within_y, len(x_ng), len(y_mg))


def squared_distances(x_ng: np.ndarray, y_mg: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, shape (n, m), from inner products around the mean of y, never negative.

    A distance that is small beside the cells' spread keeps the absolute precision of that spread, about 1e-15 of its
    square. Take `pair_distance_sums` where its root is needed.
    """
    centre_g = y_mg.mean(axis=0)
    x_ng, y_mg = x_ng - centre_g, y_mg - centre_g
    size_n, size_m = (np.einsum("ng,ng->n", side_ng, side_ng) for side_ng in (x_ng, y_mg))
    return np.maximum(size_n[:, None] + size_m[None, :] - 2.0 * (x_ng @ y_mg.T), 0.0)


def distance_sum(x_ng: np.ndarray, y_mg: np.ndarray) -> float:
    """Sum of Euclidean distances over all pairs of a cell of x and a cell of y, by inner products in bounded blocks."""
    few = max(1, BLOCK // max(len(y_mg), 1))
    return sum(_fast_sum(x_ng[i : i + few], y_mg) for i in range(0, len(x_ng), few))


_KNOWN: WeakKeyDictionary[Callable[[int], tuple[np.ndarray, np.ndarray]], list[PairSums]] = WeakKeyDictionary()


def _sums_of(cells: Callable[[int], tuple[np.ndarray, np.ndarray]], n_conditions: int) -> list[PairSums]:
    known = _KNOWN.setdefault(cells, [])
    known.extend(pair_distance_sums(*cells(c)) for c in range(len(known), n_conditions))
    return known[:n_conditions]


def _sums_drawn(comparison: Comparison, top: int | None, cap: int | None) -> list[PairSums]:
    found = []
    for c, genes in enumerate(gene_sets(comparison, top)):
        true_ng, predicted_mg = drawn(comparison, c, cap)
        found.append(pair_distance_sums(true_ng[:, genes], predicted_mg[:, genes], DRAWN_EXACT_UP_TO))
    return found


def _kernel_mean(x_ng: np.ndarray, y_mg: np.ndarray, gamma: float) -> float:
    few = max(1, BLOCK // len(y_mg))
    blocks = (x_ng[i : i + few] for i in range(0, len(x_ng), few))
    total = sum(float(np.exp(-gamma * squared_distances(block, y_mg)).sum()) for block in blocks)
    return total / (len(x_ng) * len(y_mg))


def _diagonal(statistic: str) -> int:
    if statistic not in STATISTICS:
        raise UnknownChoice(
            "There is no such energy statistic",
            given=repr(statistic),
            expected="'U' (pairs of different cells) or 'V' (all pairs)",
            fix="Name one of the two.",
        )
    return 1 if statistic == "U" else 0


def _within(x_ng: np.ndarray, exact_up_to: int = EXACT_UP_TO) -> float:
    if len(x_ng) ** 2 * x_ng.shape[1] <= exact_up_to:
        return 2.0 * float(pdist(x_ng).sum()) if len(x_ng) > 1 else 0.0
    return _between(x_ng, x_ng, exact_up_to)


def _between(x_ng: np.ndarray, y_mg: np.ndarray, exact_up_to: int = EXACT_UP_TO) -> float:
    if not len(x_ng) or not len(y_mg):
        return 0.0
    few = max(1, BLOCK // len(y_mg))
    distance = _exact_sum if len(x_ng) * len(y_mg) * x_ng.shape[1] <= exact_up_to else _fast_sum
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
