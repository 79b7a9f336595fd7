"""Weights of genes by how much a perturbation sets them apart from the other perturbations of its context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison, GroupMoments
from perturbfm.eval.metric.welch import against_rest

CELLS_AT_LEAST = 4
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class RestTest:
    """Test of each condition against the other perturbed cells of its context.

    Attributes:
        t_cg: t; 0 where there is no test.
        p_cg: Two-sided p, not adjusted; 1 where there is no test.
        reason_c: Why a condition has no test, empty where it has one.
    """

    t_cg: np.ndarray
    p_cg: np.ndarray
    reason_c: np.ndarray


def rest_test(group: GroupMoments, members: list[np.ndarray]) -> RestTest:
    r"""Welch's t of each condition against the other perturbed cells of its context, variance overestimated.

    .. math:: t_g = \frac{\bar x_g - \bar y_g}{\sqrt{(s^2_{x,g} + s^2_{y,g}) / n_x}}

    with y the cells of all other conditions of the context (no control) that have at least 4 cells, like the condition.

    Args:
        group: Moments of the conditions' cells.
        members: Condition numbers of each context.

    Returns:
        t and p, shape (c, g). No test where a condition has fewer than 4 cells, or is the only one that has them.

    Source:
        scanpy `rank_genes_groups(method='t-test_overestim_var', reference='rest')` as called by Shift Bioscience
        08db3c1 (`min_cells=4`), which keeps t in float32.
    """
    shape = group.mean_rg.shape
    t_cg, p_cg, reason_c = np.zeros(shape), np.ones(shape), np.full(shape[0], "", dtype=object)
    for member_q in members:
        enough_q = group.n_r[member_q] >= CELLS_AT_LEAST
        reason_c[member_q[~enough_q]] = f"fewer than {CELLS_AT_LEAST} cells to learn weights from"
        tested_q = member_q[enough_q]
        if len(tested_q) < 2:
            reason_c[tested_q] = "no other perturbation to learn weights against"
            continue
        found = against_rest(group, tested_q, overestimate=True)
        t_cg[tested_q], p_cg[tested_q] = found.t_rg.astype(np.float32), found.p_rg
    return RestTest(t_cg, p_cg, reason_c)


def squared_share(t_cg: np.ndarray) -> np.ndarray:
    r"""Weights from t: its size between the smallest and the largest of the condition, squared.

    .. math:: w_g = \left(\frac{|t_g| - \min_h |t_h|}{\max_h |t_h| - \min_h |t_h|}\right)^2

    Args:
        t_cg: t, shape (c, g).

    Returns:
        Weights in [0, 1], not normalised; what is not a number (all sizes equal, or infinite) is 0.

    Source:
        Shift Bioscience 08db3c1 `DataManager._precompute_deg_weights`.
    """
    size_cg = np.abs(t_cg)
    low_c, high_c = size_cg.min(axis=1, keepdims=True), size_cg.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.square(np.nan_to_num((size_cg - low_c) / (high_c - low_c), nan=0.0))


def truth_test(comparison: Comparison) -> RestTest:
    """The test on all measured cells, made once."""
    return comparison.once("rest_test", lambda: rest_test(comparison.truth.moments, comparison.members()))


def n_rest_genes(comparison: Comparison) -> PerCondition:
    """Number of genes that tell a perturbation from the other perturbations of its context, of the truth.

    Adjusted p (Benjamini-Hochberg over the genes of a condition) below 0.05 in `rest_test`.

    Args:
        comparison: Cells of both sides; only measured ones are looked at.

    Returns:
        One count per condition; no prediction changes it. *Undefined* where there is no test.

    Source:
        Shift Bioscience 08db3c1 `get_deg_mask`, summed (`n_degs`).
    """
    test = truth_test(comparison)
    return plain(np.sum(false_discovery_control(test.p_cg, axis=1) < SIGNIFICANT, axis=1), test.reason_c)
