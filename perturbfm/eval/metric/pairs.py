"""Sums over all pairs of two groups of cells: distances, and a Gaussian kernel, from one matrix of inner products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from perturbfm.errors import ShapeMismatch, UnknownChoice
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.drawn import drawn
from perturbfm.eval.metric.ranked_gene import fewer, gene_sets

STATISTICS = ("U", "V")

GAMMA = 1.0
"""Inverse squared width of the kernel that suites take, and which is therefore summed along with distances."""

EXACT_UP_TO = 2_000_000
"""Pairs x genes up to which distances come from differences. Above, inner products are faster, and as good to about
1e-14 of a mean distance."""

CLOSE = 1e-5
"""Squared distances below this share of the squared norms are computed again from differences."""

SEEN = 750.0
"""Beyond this exponent a kernel is 0 in double precision."""

BLOCK = 4_000_000
"""Numbers (32 MB) held at once."""


@dataclass(frozen=True)
class Sum:
    """Sums over all pairs of a cell of one group and a cell of another.

    Attributes:
        distance: Of Euclidean distances.
        kernel: Of exp(-gamma d^2).
    """

    distance: float = 0.0
    kernel: float = 0.0


@dataclass(frozen=True)
class PairSums:
    """Sums over all ordered pairs of cells: between two groups and within each.

    Attributes:
        between: All pairs (x, y).
        within_x: All ordered pairs (x, x'); the diagonal adds 0 to distances and 1 to kernels.
        within_y: The same for y.
        n: Cells of x.
        m: Cells of y.
    """

    between: Sum
    within_x: Sum
    within_y: Sum
    n: int
    m: int

    def energy(self, statistic: str) -> float:
        """Energy distance; NaN with an empty group, or a group of one cell when `statistic` is `U`."""
        off = diagonal(statistic)
        if min(self.n, self.m) <= off:
            return float("nan")
        x, y = self.within_x.distance, self.within_y.distance
        within = x / (self.n * (self.n - off)) + y / (self.m * (self.m - off))
        return 2 * self.between.distance / (self.n * self.m) - within

    @property
    def discrepancy(self) -> float:
        """Squared maximum mean discrepancy of the kernel, each cell with itself included."""
        within = self.within_x.kernel / self.n**2 + self.within_y.kernel / self.m**2
        return within - 2.0 * self.between.kernel / (self.n * self.m)

    def lacking(self, statistic: str) -> str:
        """Why there is no energy distance; empty where there is one."""
        return few_cells(self.n, self.m, statistic)


def few_cells(n: int, m: int, statistic: str) -> str:
    """Why groups of these sizes have no energy distance; empty where they have one."""
    least = 1 + diagonal(statistic)
    return "" if min(n, m) >= least else f"{n} true and {m} predicted cells, {least} of each needed"


def pair_sums(comparison: Comparison, top: int | None, cap: int | None, gamma: float = GAMMA) -> list[PairSums]:
    """Sums over all pairs of true and predicted cells of each condition, made once for all who ask for the same cells.

    Args:
        comparison: Cells of both sides.
        top: Genes, first by |t| of the truth against control; None for all.
        cap: Most cells of a group, see `drawn`; None for all.
        gamma: Inverse squared width of the kernel.
    """
    largest = max((int(side.moments.n_r.max()) for side in (comparison.truth, comparison.predicted)), default=0)
    top, cap = fewer(comparison, top), None if cap is None or cap >= largest else cap
    return comparison.once(("pairs", top, cap, gamma), lambda: _per_condition(comparison, top, cap, gamma))


def _per_condition(comparison: Comparison, top: int | None, cap: int | None, gamma: float) -> list[PairSums]:
    found = []
    for c, genes in enumerate(gene_sets(comparison, top)):
        x_ng, y_mg = drawn(comparison, c, cap)
        if top is None and cap is None:
            within = (within_sum(comparison.truth, c, x_ng, gamma), within_sum(comparison.predicted, c, y_mg, gamma))
            found.append(pair_distance_sums(x_ng, y_mg, gamma, within))
        else:
            found.append(pair_distance_sums(x_ng[:, genes], y_mg[:, genes], gamma))
    return found


def within_sum(side: Side, condition: int, x_ng: np.ndarray, gamma: float = GAMMA) -> Sum:
    """Sums within all cells of a condition on all genes, made once per side: models share a truth."""
    return side.once(("within", condition, gamma), lambda: summed(x_ng - x_ng.mean(axis=0), None, gamma))


def pair_distance_sums(
    x_ng: np.ndarray, y_mg: np.ndarray, gamma: float = GAMMA, within: tuple[Sum, Sum] | None = None
) -> PairSums:
    """Sums between and within two groups of cells, in blocks of bounded size.

    Args:
        x_ng: Cells of one group, dense, shape (n, g).
        y_mg: Cells of the other, same genes, shape (m, g).
        gamma: Inverse squared width of the kernel.
        within: Sums within x and within y where they are known.

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
    within = within or (summed(x_ng, None, gamma), summed(y_mg, None, gamma))
    return PairSums(summed(x_ng, y_mg, gamma), *within, len(x_ng), len(y_mg))


def summed(x_ng: np.ndarray, y_mg: np.ndarray | None, gamma: float | None = GAMMA) -> Sum:
    """Sums over all pairs of a cell of x and a cell of y (None: of x), both near the origin; no gamma, no kernel."""
    distance = kernel = 0.0
    for square_nm in _squares(x_ng, x_ng if y_mg is None else y_mg):
        if gamma is not None:
            kernel += float(np.exp(-gamma * square_nm[~(square_nm >= SEEN / gamma)]).sum())
        distance += float(np.sqrt(square_nm, out=square_nm).sum())
    return Sum(distance, kernel)


def _squares(x_ng: np.ndarray, y_mg: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances of some cells of x at a time to all of y; exactly 0 of equal cells."""
    if not len(x_ng) or not len(y_mg):
        return
    exact = len(x_ng) * len(y_mg) * x_ng.shape[1] <= EXACT_UP_TO
    size_n, size_m = (np.einsum("ng,ng->n", side_ng, side_ng) for side_ng in (x_ng, y_mg))
    few = max(1, BLOCK // len(y_mg))
    for i in range(0, len(x_ng), few):
        part = x_ng if few >= len(x_ng) else x_ng[i : i + few]  # of one matrix with itself, half is computed
        if exact:
            yield cdist(part, y_mg, "sqeuclidean")
            continue
        square_nm = part @ y_mg.T
        square_nm *= -2.0
        size_nm = size_n[i : i + few, None] + size_m[None, :]
        square_nm += size_nm
        size_nm *= CLOSE
        row, column = np.nonzero(square_nm <= size_nm)
        for k in range(0, len(row), most := max(1, BLOCK // x_ng.shape[1])):
            at = (row[k : k + most], column[k : k + most])
            square_nm[at] = np.sum((part[at[0]] - y_mg[at[1]]) ** 2, axis=1)
        yield square_nm


def squared_distances(x_ng: np.ndarray, y_mg: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, shape (n, m), from inner products around the mean of y, never negative.

    A distance that is small beside the cells' spread keeps the absolute precision of that spread, about 1e-15 of its
    square. Take `pair_distance_sums` where its root is needed.
    """
    centre_g = y_mg.mean(axis=0)
    x_ng, y_mg = x_ng - centre_g, y_mg - centre_g
    size_n, size_m = (np.einsum("ng,ng->n", side_ng, side_ng) for side_ng in (x_ng, y_mg))
    return np.maximum(size_n[:, None] + size_m[None, :] - 2.0 * (x_ng @ y_mg.T), 0.0)


def diagonal(statistic: str) -> int:
    """How many partners of a cell within its group a statistic leaves out.

    Raises:
        UnknownChoice: `statistic` is neither `U` nor `V`.
    """
    if statistic not in STATISTICS:
        raise UnknownChoice(
            "There is no such energy statistic",
            given=repr(statistic),
            expected="'U' (pairs of different cells) or 'V' (all pairs)",
            fix="Name one of the two.",
        )
    return 1 if statistic == "U" else 0
