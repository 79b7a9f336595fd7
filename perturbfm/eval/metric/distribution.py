"""How far predicted cells are from true cells, as distributions."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np

from perturbfm.eval.case import Case, PerCondition, nowhere, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.drawn import rounded
from perturbfm.eval.metric.pairs import PairSums, diagonal, few_cells, pair_distance_sums, pair_sums
from perturbfm.eval.metric.ranked_gene import gene_sets


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

    Both statistics rest on the same sums over pairs, which are kept for as long as the cells live and shared with the
    suites' distances, so asking for the second one costs nothing.

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
    diagonal(statistic)
    if case.cells is None:
        return nowhere(case.n_conditions, case.incomparable)
    if case.comparison is not None:
        return _energies(pair_sums(case.comparison, None, None), statistic)
    return _energies(_sums_of(case.cells, case.n_conditions), statistic)


def _energies(sums_c: list[PairSums], statistic: str) -> PerCondition:
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
    diagonal(statistic)
    stats = _energies(pair_sums(comparison, top, cap), statistic)
    return plain(rounded(stats.num_c * (0.5 if half else 1.0), decimals), stats.reason_c)


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
    off = diagonal(statistic)
    x, y = comparison.truth.moments, comparison.predicted.moments
    noise_cg = off * (x.unbiased_rg / x.n_r[:, None] + y.unbiased_rg / y.n_r[:, None])
    square_cg = (x.mean_rg - y.mean_rg) ** 2
    value_c, reason_c = [], []
    for c, genes in enumerate(gene_sets(comparison, top)):
        value_c.append(2.0 * float(np.sum(square_cg[c, genes] - noise_cg[c, genes])))
        reason_c.append(few_cells(int(x.n_r[c]), int(y.n_r[c]), statistic))
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
    return plain(np.array([s.discrepancy for s in pair_sums(comparison, top, cap, gamma)]))


_KNOWN: WeakKeyDictionary[Callable[[int], tuple[np.ndarray, np.ndarray]], list[PairSums]] = WeakKeyDictionary()


def _sums_of(cells: Callable[[int], tuple[np.ndarray, np.ndarray]], n_conditions: int) -> list[PairSums]:
    known = _KNOWN.setdefault(cells, [])
    known.extend(pair_distance_sums(*cells(c)) for c in range(len(known), n_conditions))
    return known[:n_conditions]
