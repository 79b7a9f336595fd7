"""Whether strong perturbations are predicted to be strong."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.pairs import PairSums, summed, within_sum
from perturbfm.eval.metric.ranks import correlated

ROUNDING = 1e-9
"""Energy distances that differ by less than this, in units of the matrix, are one."""


def effect_size_pearson(comparison: Comparison) -> PerCondition:
    """Pearson correlation over a context's perturbations of their energy distance to controls, true against predicted.

    Euclidean, biased (each cell also with itself), every side against its own controls.

    Args:
        comparison: Cells of both sides.

    Returns:
        The context's value for each of its conditions, in [-1, 1], 1 is best. *Undefined* where distances do not vary
        on one side, or there are fewer than 2 perturbations.

    Source:
        cell-eval 0.6.8 and 0.8.2 `pearson_edistance`.
    """
    true_c, predicted_c = (_effect_sizes(s, comparison) for s in (comparison.truth, comparison.predicted))
    value_c = np.full(comparison.n_conditions, np.nan)
    for member_q in comparison.members():
        value_c[member_q] = correlated(true_c[member_q], predicted_c[member_q], ROUNDING)
    lost = "distances to controls do not vary over perturbations on one side"
    return plain(value_c, np.where(np.isnan(value_c), lost, ""))


def _effect_sizes(side: Side, comparison: Comparison) -> np.ndarray:
    def make() -> np.ndarray:
        size_c = np.empty(comparison.n_conditions)
        for member_q in comparison.members():
            control_mg = side.control(int(comparison.context_of_c[member_q[0]]))
            size_c[member_q] = _energies(side, member_q, control_mg)
        return size_c

    return side.once("energy_to_control", make)


def _energies(side: Side, member_q: np.ndarray, control_mg: np.ndarray) -> np.ndarray:
    origin_g = control_mg.mean(axis=0)
    y_mg = control_mg - origin_g
    within, size_q = summed(y_mg, None, None), np.empty(len(member_q))
    for q, c in enumerate(member_q.tolist()):
        x_ng = side.cells(c)
        between = summed(x_ng - origin_g, y_mg, None)
        sums = PairSums(between, within_sum(side, c, x_ng), within, len(x_ng), len(y_mg))
        size_q[q] = sums.energy("V")
    return size_q
