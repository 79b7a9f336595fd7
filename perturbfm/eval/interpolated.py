"""The interpolated duplicate of a truth's half: a replicate that trusts itself only where its own cells are sure."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.comparison import GroupMoments
from perturbfm.eval.dynamic_range import adjusted_p_against_rest, interpolated_duplicate
from perturbfm.eval.metric.welch import rows
from perturbfm.eval.truth import Truth


def interpolated(half: Truth, delta_cg: np.ndarray, base_cg: np.ndarray) -> np.ndarray:
    """Mix a replicate with the train mean, gene by gene; see `interpolated_duplicate`.

    A condition is tested against all other cells of its context: those of the other conditions and the controls.

    Args:
        half: The half of the cells that predicts.
        delta_cg: Its delta against input controls, shape (c, g).
        base_cg: The train mean's prediction, same shape.

    Returns:
        Predicted deltas, shape (c, g).

    Source:
        Shift Bioscience 08db3c1, on deltas instead of means, which is the same where both add one control.
    """
    p_cg = np.ones_like(delta_cg)
    context_of_c = np.array([half.context_k.index(str(k)) for k in half.context_c])
    for k in range(len(half.context_k)):
        member_q = np.flatnonzero(context_of_c == k)
        group = _with(rows(half.measured.moments, member_q), rows(half.control_moments, np.array([k])))
        p_cg[member_q] = adjusted_p_against_rest(group)[:-1]
    return interpolated_duplicate(delta_cg, base_cg, p_cg)


def _with(group: GroupMoments, last: GroupMoments) -> GroupMoments:
    names = ("n_r", "mean_rg", "var_rg", "nonzero_rg")
    return GroupMoments(*(np.concatenate([getattr(group, n), getattr(last, n)]) for n in names))
