"""Means as suites take them: sums in the matrix's own float32, which scipy's sparse `mean` keeps to.

Ours are sums in float64. On the reference cells the two differ by up to 2e-6 of a mean, 3e-5 of a small error and 7e-3
of a correlation near zero. With the suite's means its numbers come back, so no formula is behind the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy import sparse

from perturbfm.eval.comparison import Comparison, GroupMoments, Side


class Averaged(Side):
    """A side whose means are float32 sums; everything else about it is as measured."""

    def __init__(self, side: Side) -> None:
        super().__init__(side.cells, side.control, side.n_conditions, side.n_contexts)
        self._exact = side

    @cached_property
    def moments(self) -> GroupMoments:
        """Moments of every condition, means in float32."""
        return _averaged(self._exact.moments, self._exact.cells)

    @cached_property
    def control_moments(self) -> GroupMoments:
        """Moments of the controls, means in float32."""
        return _averaged(self._exact.control_moments, self._exact.control)


def in_float32(comparison: Comparison) -> Comparison:
    """The same cells with means as a suite takes them from float32 matrices.

    What was made of the exact moments stays: scanpy tests in float64, also where a suite then averages in float32.
    """
    return replace(
        comparison,
        truth=Averaged(comparison.truth),
        predicted=Averaged(comparison.predicted),
        _made=dict(comparison._made),
    )


def _averaged(exact: GroupMoments, cells_of: Callable[[int], np.ndarray]) -> GroupMoments:
    rows = range(len(exact.n_r))
    means = [np.asarray(sparse.csr_matrix(cells_of(r).astype(np.float32)).mean(axis=0)).ravel() for r in rows]
    return replace(exact, mean_rg=np.stack(means).astype(float))
