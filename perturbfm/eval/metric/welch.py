"""Welch's t of one group of cells against another, gene by gene, as scanpy computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_ind_from_stats

from perturbfm.eval.comparison import GroupMoments, Side


@dataclass(frozen=True)
class Scores:
    """t and two-sided p per group and gene; t is 0 and p is 1 where neither side varies and the means agree."""

    t_rg: np.ndarray
    p_rg: np.ndarray


def welch(group: GroupMoments, other: GroupMoments, *, overestimate: bool = False) -> Scores:
    r"""Welch's t-test of every group against the matching row of `other`.

    .. math:: t_g = \frac{\bar x_g - \bar y_g}{\sqrt{s^2_{x,g}/n_x + s^2_{y,g}/n_y}}

    Args:
        group: Moments of the groups, r rows.
        other: Moments of what each is tested against, r rows.
        overestimate: Use the group's own number of cells for both sides (`t-test_overestim_var`).

    Returns:
        Scores, shape (r, g). A gene without variance on both sides has t = +-infinity where the means differ.

    Source:
        scanpy `rank_genes_groups`, methods `t-test` and `t-test_overestim_var` (1.9 to 1.11).
    """
    n_r = group.n_r.astype(float)[:, None]
    m_r = n_r if overestimate else other.n_r.astype(float)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        t_rg, p_rg = ttest_ind_from_stats(
            group.mean_rg,
            np.sqrt(group.unbiased_rg),
            n_r,
            other.mean_rg,
            np.sqrt(other.unbiased_rg),
            m_r,
            equal_var=False,
        )
    return Scores(np.nan_to_num(t_rg, nan=0.0, posinf=np.inf, neginf=-np.inf), np.where(np.isnan(p_rg), 1.0, p_rg))


def against_control(side: Side, context_of_c: np.ndarray, *, overestimate: bool = False) -> Scores:
    """Welch's t of every condition against the control cells of its context on the same side."""
    return welch(side.moments, rows(side.control_moments, context_of_c), overestimate=overestimate)


def against_rest(group: GroupMoments, member_q: np.ndarray, *, overestimate: bool = False) -> Scores:
    """Welch's t of each of some groups against the cells of the others among them (no control)."""
    part = rows(group, member_q)
    return welch(part, _others(part), overestimate=overestimate)


def single_moments(side: Side) -> GroupMoments:
    """Moments of a side's conditions as scanpy takes them of a float32 file; see `_single`. Made once."""
    return side.once("single_moments", lambda: _single(side.cells, side.n_conditions))


def single_control_moments(side: Side) -> GroupMoments:
    """The same of its control cells, context by context."""
    return side.once("single_control_moments", lambda: _single(side.control, side.n_contexts))


def _single(cells_of: Callable[[int], np.ndarray], n_groups: int) -> GroupMoments:
    r"""Mean, and mean of squares rounded to float32 less the squared mean, one group in memory at a time.

    For a gene that is constant in a group this variance is not 0 but the rounding of one square, of either sign; no
    order of cells changes it.
    """
    number, mean, var = [], [], []
    for r in range(n_groups):
        x_ng = cells_of(r).astype(np.float32)
        number.append(len(x_ng))
        mean.append(x_ng.mean(axis=0, dtype=np.float64))
        var.append(np.square(x_ng).mean(axis=0, dtype=np.float64) - mean[-1] ** 2)
    mean_rg = np.stack(mean)
    return GroupMoments(np.array(number), mean_rg, np.stack(var), np.broadcast_to(np.nan, mean_rg.shape))


def rows(moments: GroupMoments, row_r: np.ndarray) -> GroupMoments:
    """Some rows of the moments, repeated as asked."""
    return GroupMoments(moments.n_r[row_r], moments.mean_rg[row_r], moments.var_rg[row_r], moments.nonzero_rg[row_r])


def _others(part: GroupMoments) -> GroupMoments:
    """Pooled moments of all groups but the row's own."""
    n_r = part.n_r.astype(float)[:, None]
    sum_rg, square_rg = part.mean_rg * n_r, (part.var_rg + part.mean_rg**2) * n_r
    rest_r = np.maximum(n_r.sum() - n_r, 1.0)
    mean_rg = (sum_rg.sum(axis=0) - sum_rg) / rest_r
    var_rg = np.maximum((square_rg.sum(axis=0) - square_rg) / rest_r - mean_rg**2, 0.0)
    nonzero_rg = ((part.nonzero_rg * n_r).sum(axis=0) - part.nonzero_rg * n_r) / rest_r
    return GroupMoments((part.n_r.sum() - part.n_r), mean_rg, var_rg, nonzero_rg)
