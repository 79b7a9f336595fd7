"""Cells of two sides, measured and predicted, with controls on both: what benchmark suites compare.

Our own metrics look at `Case`, where controls are divided between what a model is shown and what truth is measured
against. Benchmark suites know no such division: they take cells of a condition, predicted cells of it and control
cells, and this is that view. A suite's metric is one function `(Comparison) -> PerCondition`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

T = TypeVar("T")


@dataclass(frozen=True)
class GroupMoments:
    """Number, mean and variance of the cells of each group, shape (r, g).

    Attributes:
        n_r: Cells per group.
        mean_rg: Mean, in units of the matrix.
        var_rg: Variance with divisor n (ddof 0), in squared units.
        nonzero_rg: Share of cells in which the gene is not exactly zero.
    """

    n_r: np.ndarray
    mean_rg: np.ndarray
    var_rg: np.ndarray
    nonzero_rg: np.ndarray

    @property
    def unbiased_rg(self) -> np.ndarray:
        """Variance with divisor n - 1; zero where a group has one cell."""
        n_r = self.n_r.astype(float)
        return self.var_rg * (n_r / np.maximum(n_r - 1.0, 1.0))[:, None]


class Side:
    """Cells of one side, condition by condition, and its control cells, context by context.

    A matrix is dense or CSR, in units of the data's scale; it is asked for when needed and never kept, so memory is
    that of one group.

    Args:
        cells_of: For a condition's number, its cells [n, g].
        control_of: For a context's number, its control cells [m, g].
        n_conditions: Number of conditions.
        n_contexts: Number of contexts.
        known: Moments of the conditions where they follow from something else; counted from the cells otherwise.
        known_control: Moments of the controls, likewise.
    """

    def __init__(
        self,
        cells_of: Callable[[int], Any],
        control_of: Callable[[int], Any],
        n_conditions: int,
        n_contexts: int,
        known: Callable[[], GroupMoments] | None = None,
        known_control: Callable[[], GroupMoments] | None = None,
    ) -> None:
        self._cells_of, self._control_of = cells_of, control_of
        self._known = known or (lambda: moments_of(cells_of, n_conditions))
        self._known_control = known_control or (lambda: moments_of(control_of, n_contexts))
        self.n_conditions, self.n_contexts = n_conditions, n_contexts
        self._made: dict[Hashable, Any] = {}

    def cells(self, condition: int) -> np.ndarray:
        """Cells of one condition, dense float64, shape (n, g)."""
        return dense(self._cells_of(condition))

    def control(self, context: int) -> np.ndarray:
        """Control cells of one context, dense float64, shape (m, g)."""
        return dense(self._control_of(context))

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Something that rests on this side alone (a test per gene), made on first asking; models share a truth."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    @cached_property
    def moments(self) -> GroupMoments:
        """Moments of every condition, in one pass over the cells."""
        return self._known()

    @cached_property
    def control_moments(self) -> GroupMoments:
        """Moments of the controls of every context."""
        return self._known_control()


@dataclass(frozen=True, eq=False)
class Comparison:
    """Measured and predicted cells of the same conditions and genes.

    Attributes:
        context_k: Names of the contexts, sorted.
        context_of_c: Number of each condition's context.
        perturbation_c: Perturbation of each condition as its file writes it (`A`, `A+B`).
        genes_g: Gene names.
        truth: What was measured.
        predicted: What was predicted.
        train_centroid_g: Unweighted mean over train conditions of their mean expression (never of judged ones); None
            when unknown.
        targets_cg: Which measured genes a condition's perturbation acts on directly; all false when unknown.
    """

    context_k: tuple[str, ...]
    context_of_c: np.ndarray
    perturbation_c: np.ndarray
    genes_g: tuple[str, ...]
    truth: Side
    predicted: Side
    train_centroid_g: np.ndarray | None = None
    targets_cg: np.ndarray | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return len(self.perturbation_c)

    @property
    def context_c(self) -> np.ndarray:
        """Name of each condition's context."""
        return np.array([self.context_k[k] for k in self.context_of_c], dtype=object)

    def members(self) -> list[np.ndarray]:
        """Condition numbers of each context that has any, contexts in sorted order."""
        found = (np.flatnonzero(self.context_of_c == k) for k in range(len(self.context_k)))
        return [member_q for member_q in found if len(member_q)]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Something several metrics share (a test per gene, a matrix of distances), made on first asking."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def moments_of(cells_of: Callable[[int], Any], n_groups: int) -> GroupMoments:
    """Moments of each group's cells, one group in memory at a time, in float64."""
    parts = [_moments(cells_of(r)) for r in range(n_groups)]
    n, mean, var, nonzero = zip(*parts, strict=True)
    return GroupMoments(np.array(n), np.stack(mean), np.stack(var), np.stack(nonzero))


def _moments(x: Any) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    n = int(x.shape[0])
    if sparse.issparse(x):
        x = x.tocsr().astype(np.float64)
        x.eliminate_zeros()
        mean_g = np.asarray(x.mean(axis=0)).ravel()
        stored_g = np.bincount(x.indices, minlength=x.shape[1])
        deviation = (x.data - mean_g[x.indices]) ** 2
        var_g = (np.bincount(x.indices, deviation, minlength=x.shape[1]) + (n - stored_g) * mean_g**2) / max(n, 1)
        return n, mean_g, var_g, stored_g / max(n, 1)
    x = np.asarray(x, dtype=np.float64)
    return n, x.mean(axis=0), x.var(axis=0), (x != 0).mean(axis=0)


def dense(x: Any) -> np.ndarray:
    """Rows as dense float64."""
    return np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float64)
