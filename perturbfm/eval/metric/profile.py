"""Profiles of both sides: one vector over genes per condition, by the aggregations of PerturBench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import false_discovery_control

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.comparison import Comparison, GroupMoments, Side
from perturbfm.eval.metric.correlation import ROUNDING
from perturbfm.eval.metric.ranksum import against_shared_control
from perturbfm.eval.metric.welch import rows, single_control_moments, single_moments, welch

T = TypeVar("T")

PSEUDOCOUNT = 0.1
CLIP = 10.0
P_FLOOR = 1e-24
Q_FLOOR = 1e-37

SPACES = {
    "mean": "mean",
    "logfc": "log fold change",
    "scaled": "scaled mean",
    "cv": "coefficient of variation",
    "logp_ranksum": "log p-value",
    "t": "t-score",
    "p": "p-value",
    "logq_t": "log p-value",
}
"""Aggregations, and what a profile of each holds."""

TESTS = ("logp_ranksum", "t", "p", "logq_t")


@dataclass(frozen=True)
class Profiles:
    """What is compared, shape (c, g) on both sides.

    Attributes:
        predicted_cg: Profile of the predicted cells.
        true_cg: Profile of the true cells.
        least_predicted_c: Norm a predicted profile must exceed to be more than rounding.
        least_true_c: The same for the truth.
        reason_c: Why a condition has no profile; empty where it has one.
        word: What a profile holds, for reasons.
    """

    predicted_cg: np.ndarray
    true_cg: np.ndarray
    least_predicted_c: np.ndarray
    least_true_c: np.ndarray
    reason_c: np.ndarray
    word: str


@dataclass(frozen=True)
class Tested:
    """Welch's t, its two-sided p, and the p adjusted over the genes of a condition, shape (c, g)."""

    t_cg: np.ndarray
    p_cg: np.ndarray
    q_cg: np.ndarray


def profiles(comparison: Comparison, space: str) -> Profiles:
    r"""Aggregate the cells of each condition on both sides; true control cells serve both.

    * `mean`: mean over cells.
    * `logfc`: :math:`\log_2(\bar x + 0.1) - \log_2(\bar x_{control} + 0.1)` of those means, without undoing log1p; a
      gene without a logarithm (mean not above -0.1) counts 0.
    * `scaled`: mean of :math:`(x - m_g)/s_g` clipped to [-10, 10], m and s (divisor n - 1) over all cells and controls
      of the side, in all contexts; s = 0 counts as 1.
    * `cv`: standard deviation over mean (divisor n); 0 where that is not a finite number.
    * `logp_ranksum`: :math:`-\mathrm{sign}(z)\ln(p + 10^{-24})` of the rank sum without tie correction.
    * `t`: Welch's t with the group's number of cells on both sides; 0 where it is infinite.
    * `p`: its two-sided p; 1 where t is infinite.
    * `logq_t`: :math:`-\mathrm{sign}(t)\ln(q + 10^{-37})`, q the p adjusted over genes (Benjamini-Hochberg).

    Args:
        comparison: Cells of both sides.
        space: One of `SPACES`.

    Returns:
        Profiles; with a reason where a side is not finite, or a test has fewer than 2 cells in a group.

    Raises:
        UnknownChoice: Another word for `space`.

    Source:
        altoslabs/perturbench d357dfa (2024-08) and c84038b (2026), `aggregation.py`.
    """
    if space not in SPACES:
        raise UnknownChoice(
            "There is no such profile of a condition",
            given=repr(space),
            expected=f"one of {', '.join(SPACES)}",
            fix=f"Closest: {nearest(space, SPACES, most=1)}.",
        )
    predicted_cg, true_cg = _vectors(comparison, space)
    nothing_c = np.zeros(comparison.n_conditions)
    least = (nothing_c, nothing_c)
    if space == "logfc":
        least = _sides(comparison, _log_rounding)
    elif space == "logq_t":
        least = (nothing_c + ROUNDING, nothing_c + ROUNDING)
    reason_c = _reasons(comparison, predicted_cg, true_cg, space in TESTS)
    return Profiles(predicted_cg, true_cg, *least, reason_c, SPACES[space])


def t_scores(comparison: Comparison) -> tuple[Tested, Tested]:
    """Welch's t with overestimated control variance against the true controls, predicted and true cells, made once.

    An infinite t is 0 with p = q = 1, after q of the other genes has been adjusted for it. Means that agree to rounding
    give exactly 0, so a copy of the controls has no score.
    """
    return comparison.once("t_overestimated", lambda: _sides(comparison, _tested))


def _vectors(comparison: Comparison, space: str) -> tuple[np.ndarray, np.ndarray]:
    match space:
        case "mean":
            return comparison.predicted.moments.mean_rg, comparison.truth.moments.mean_rg
        case "logfc":
            return _sides(comparison, _log_fold)
        case "scaled":
            return comparison.once("scaled_means", lambda: _sides(comparison, _scaled))
        case "cv":
            return _sides(comparison, lambda _, side: _variation(side.moments))
        case "logp_ranksum":
            z = _sides(comparison, against_shared_control)
            return _signed_log(z[0].t_rg, z[0].p_rg, P_FLOOR), _signed_log(z[1].t_rg, z[1].p_rg, P_FLOOR)
        case "t":
            predicted, true = t_scores(comparison)
            return predicted.t_cg, true.t_cg
        case "p":
            predicted, true = t_scores(comparison)
            return predicted.p_cg, true.p_cg
        case _:
            predicted, true = t_scores(comparison)
            return _signed_log(predicted.t_cg, predicted.q_cg, Q_FLOOR), _signed_log(true.t_cg, true.q_cg, Q_FLOOR)


def _sides(comparison: Comparison, function: Callable[[Comparison, Side], T]) -> tuple[T, T]:
    return function(comparison, comparison.predicted), function(comparison, comparison.truth)


def _reasons(comparison: Comparison, predicted_cg: np.ndarray, true_cg: np.ndarray, test: bool) -> np.ndarray:
    """Why a condition has no profile: not finite, or too few cells for a test."""
    reason_c = np.full(comparison.n_conditions, "", dtype=object)
    sides = (("truth", comparison.truth, true_cg), ("prediction", comparison.predicted, predicted_cg))
    for word, side, profile_cg in sides:
        reason_c[~np.isfinite(side.moments.mean_rg + profile_cg).all(axis=1)] = f"{word} is not finite"
    if test:
        control_c = comparison.truth.control_moments.n_r[comparison.context_of_c]
        for word, n_c in (
            ("predicted", comparison.predicted.moments.n_r),
            ("true", comparison.truth.moments.n_r),
            ("control", control_c),
        ):
            few_c = n_c < 2
            reason_c[few_c] = [f"{n} {word} cells, 2 needed for a test" for n in n_c[few_c]]
    return reason_c


def _shared_control(comparison: Comparison) -> GroupMoments:
    return rows(comparison.truth.control_moments, comparison.context_of_c)


def _log2(mean_cg: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log2(mean_cg + PSEUDOCOUNT)


def _log_fold(comparison: Comparison, side: Side) -> np.ndarray:
    fold_cg = _log2(side.moments.mean_rg) - _log2(_shared_control(comparison).mean_rg)
    return np.where(np.isfinite(fold_cg), fold_cg, 0.0)


def _log_rounding(comparison: Comparison, side: Side) -> np.ndarray:
    parts = (_log2(side.moments.mean_rg), _log2(_shared_control(comparison).mean_rg))
    return ROUNDING * sum(np.linalg.norm(np.where(np.isfinite(x), x, 0.0), axis=1) for x in parts)


def _variation(moments: GroupMoments) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        cv_cg = np.sqrt(moments.var_rg) / moments.mean_rg
    return np.where(np.isfinite(cv_cg), cv_cg, 0.0)


def _scaled(comparison: Comparison, side: Side) -> np.ndarray:
    """Mean over cells of clipped z-scores, in a second pass over the cells, one condition in memory."""
    mean_g, sd_g = _all_cells(side.moments, comparison.truth.control_moments)
    scaled_cg = np.empty((comparison.n_conditions, len(mean_g)))
    for c in range(comparison.n_conditions):
        z_ng = side.cells(c)
        z_ng = (z_ng - mean_g) / sd_g
        scaled_cg[c] = np.clip(z_ng, -CLIP, CLIP, out=z_ng).mean(axis=0)
    return scaled_cg


def _all_cells(group: GroupMoments, control: GroupMoments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (divisor n - 1) over all cells and controls of a side; 1 for a constant gene."""
    n_r = np.concatenate([group.n_r, control.n_r]).astype(float)
    mean_rg, var_rg = np.vstack([group.mean_rg, control.mean_rg]), np.vstack([group.var_rg, control.var_rg])
    mean_g = n_r @ mean_rg / n_r.sum()
    var_g = n_r @ (var_rg + (mean_rg - mean_g) ** 2) / max(n_r.sum() - 1.0, 1.0)
    sd_g = np.sqrt(var_g)
    return mean_g, np.where(sd_g > ROUNDING * np.abs(mean_g), sd_g, 1.0)


def _tested(comparison: Comparison, side: Side) -> Tested:
    group = single_moments(side)
    control = rows(single_control_moments(comparison.truth), comparison.context_of_c)
    raw = welch(group, control, overestimate=True)
    same_cg = np.abs(group.mean_rg - control.mean_rg) <= ROUNDING * (np.abs(group.mean_rg) + np.abs(control.mean_rg))
    p_cg = np.where(same_cg, 1.0, raw.p_rg)
    void_cg = same_cg | ~np.isfinite(raw.t_rg)
    q_cg = false_discovery_control(np.clip(p_cg, 0.0, 1.0), axis=1, method="bh")
    return Tested(*(np.where(void_cg, empty, x) for x, empty in ((raw.t_rg, 0.0), (p_cg, 1.0), (q_cg, 1.0))))


def _signed_log(score_cg: np.ndarray, p_cg: np.ndarray, floor: float) -> np.ndarray:
    return -np.sign(score_cg) * np.log(p_cg + floor)
