"""Whether a model is less wrong where it says it is sure: risk-coverage curves and their areas.

In: a case. Out: curve and values for a report, plain numbers, JSON-able. Risk of a condition is the mean squared error
of its delta over scored genes; sampling noise of the truth is in it, for every order of conditions alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from perturbfm.errors import ShapeMismatch, ValuesNotFinite
from perturbfm.eval.case import OK, UNDEFINED, Case
from perturbfm.eval.metric.ood import control_spread, mean_variance, places, separation_score
from perturbfm.eval.metric.uncertainty import error_of, predictive_variance

LEAST = 5
"""Conditions below which no order is judged."""

POINTS = 200
"""Points of a curve that are kept for a picture; values come from all of them."""

VALUES = ("mean_risk", "aurc", "aurc_oracle", "e_aurc", "augrc", "spearman")
FEW = "{} conditions with a score: at least {} needed to judge an order"
ALL_TIED = "all uncertainties are equal: nothing is ordered, and AURC equals the mean risk {:.6g}"
EVEN = "all conditions have the same risk: no order is better than another"
NO_SCORE = "no scored gene has an uncertainty that can be compared"


def risk_coverage(case: Case) -> dict[str, Any]:
    """Selective risk by two uncertainties: the raw mean variance, and the one free of the context's scale.

    Args:
        case: Predictions, variances and truths, shape (c, g).

    Returns:
        `scores`: for `mean_var` and `mean_var_over_control_var` the `identifier`; `pooled` over all conditions, with
        `curve` (`coverage`, `risk`, `oracle`); `per_context`; and `macro_context`, the unweighted mean over contexts
        that have a value. Each holds `status`, `reason`, `n_scored`, `n_total` and, of `VALUES`, numbers or None.
        Undefined below 5 conditions, where all uncertainties are tied, and where all risks are equal; `mean_risk`
        stands there all the same.

    Raises:
        PredictionMismatch: A variance that is not positive.
        ValuesNotFinite: An error that is not a number.

    Source:
        Geifman, Uziel & El-Yaniv (2019), arXiv:1805.08206 (AURC, E-AURC); Traub et al. (2024), arXiv:2407.01032
        (AUGRC).
    """
    predictive_variance(case, "ignored")  # refuses a variance that is not positive
    scored_cg = np.asarray(case.scored_cg, dtype=bool)
    risk_c = mean_variance(error_of(case) ** 2, scored_cg)
    if not np.isfinite(risk_c[scored_cg.any(axis=1)]).all():
        raise ValuesNotFinite(
            "The error of a condition is not a number",
            given="NaN or infinite predicted or true deltas on scored genes",
            expected="finite deltas",
            fix="Repair the prediction: leaving a condition out would reward it.",
        )
    scores = {
        "mean_var": mean_variance(case.variance_cg, scored_cg),
        "mean_var_over_control_var": separation_score(case.variance_cg, control_spread(case.input_var_cg), scored_cg),
    }
    return {
        "unit": "condition",
        "risk": "mean squared error of the delta over scored genes",
        "ties": "tied conditions share their mean risk",
        "least_conditions": LEAST,
        "scores": {name: _scored(name, score_c, risk_c, case) for name, score_c in scores.items()},
    }


def _scored(name: str, score_c: np.ndarray, risk_c: np.ndarray, case: Case) -> dict[str, Any]:
    per_context = {str(case.context_c[m[0]]): _judged(score_c[m], risk_c[m]) for m in case.members()}
    pooled = _judged(score_c, risk_c)
    known_c = np.isfinite(score_c)
    curve = _curve(places(score_c[known_c]), risk_c[known_c]) if pooled["status"] == OK else None
    return {
        "identifier": f"pfm.risk_coverage[uncertainty={name},risk=mse,genes=detected10,ties=mean]",
        "better": {"aurc": "lower", "e_aurc": "lower", "augrc": "lower", "spearman": "higher"},
        "pooled": {**pooled, "curve": curve},
        "per_context": per_context,
        "macro_context": _macro(list(per_context.values())),
    }


def _judged(score_c: np.ndarray, risk_c: np.ndarray) -> dict[str, Any]:
    """Values of one group of conditions, or why there are none."""
    known_c = np.isfinite(score_c)
    place_c, risk_c = places(score_c[known_c]), risk_c[known_c]
    reason = _refused(place_c, risk_c) if known_c.any() else NO_SCORE
    values = dict.fromkeys(VALUES) if reason else selective_values(place_c, risk_c)
    if len(risk_c):
        values["mean_risk"] = float(risk_c.mean())
    return {
        "status": UNDEFINED if reason else OK,
        "reason": reason,
        "n_scored": 0 if reason else int(known_c.sum()),
        "n_total": len(score_c),
        "unscored": {NO_SCORE: int((~known_c).sum())} if not known_c.all() else {},
        **values,
    }


def _refused(place_n: np.ndarray, risk_n: np.ndarray) -> str:
    if len(risk_n) < LEAST:
        return FEW.format(len(risk_n), LEAST)
    if np.ptp(place_n) == 0:
        return ALL_TIED.format(risk_n.mean())
    return EVEN if np.ptp(risk_n) == 0 else ""


def _macro(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Unweighted mean over contexts that have values."""
    valued = [p for p in parts if p["status"] == OK]
    means = {v: float(np.mean([p[v] for p in valued])) if valued else None for v in VALUES}
    reasons = sorted({p["reason"] for p in parts if p["reason"]})
    return {
        "status": OK if valued else UNDEFINED,
        "reason": "" if valued else "; ".join(reasons),
        "n_contexts": len(valued),
        "n_contexts_total": len(parts),
        **means,
    }


def _curve(place_n: np.ndarray, risk_n: np.ndarray) -> dict[str, list[float]]:
    n = len(risk_n)
    kept_k = np.unique(np.round(np.linspace(0, n - 1, min(n, POINTS))).astype(int))
    return {
        "coverage": ((kept_k + 1) / n).tolist(),
        "risk": selective_risks(place_n, risk_n)[kept_k].tolist(),
        "oracle": selective_risks(risk_n, risk_n)[kept_k].tolist(),
    }


# --- arrays ----------------------------------------------------------------------------------------


def selective_risks(uncertainty_n: np.ndarray, risk_n: np.ndarray) -> np.ndarray:
    r"""Mean risk of the k most certain units, k = 1 to n.

    .. math:: \frac1k \sum_{i=1}^{k} e_{(i)}, \quad u_{(1)} \le u_{(2)} \le \dots

    Units of equal uncertainty each count with their common mean risk, which is the expectation over their orders: the
    order of rows decides nothing.

    Args:
        uncertainty_n: Uncertainty of each unit.
        risk_n: Its risk.

    Returns:
        Shape (n,), in units of the risk.

    Raises:
        ShapeMismatch: Other numbers of one than of the other, or none.

    Source:
        Geifman, Uziel & El-Yaniv (2019), arXiv:1805.08206.
    """
    return np.cumsum(_in_order(uncertainty_n, risk_n)) / np.arange(1, len(risk_n) + 1)


def generalised_risks(uncertainty_n: np.ndarray, risk_n: np.ndarray) -> np.ndarray:
    """Selective risk times coverage, k = 1 to n: what the accepted units cost, over all units; ties likewise."""
    return np.cumsum(_in_order(uncertainty_n, risk_n)) / len(risk_n)


def selective_values(uncertainty_n: np.ndarray, risk_n: np.ndarray) -> dict[str, float | None]:
    r"""Areas of the risk-coverage curve.

    * `aurc`: mean of the selective risks over k = 1 to n (no trapezoids);
    * `aurc_oracle`: the same in the order of the risks themselves, the least possible;
    * `e_aurc`: their difference, 0 at best; `mean_risk` is what any order gives on average;
    * `augrc`: mean of the generalised risks;
    * `spearman`: rank correlation of uncertainty and risk, mid-ranks; None where either is constant.

    Args:
        uncertainty_n: Uncertainty of each unit.
        risk_n: Its risk.

    Raises:
        ShapeMismatch: Other numbers of one than of the other, or none.
    """
    aurc = float(selective_risks(uncertainty_n, risk_n).mean())
    oracle = float(selective_risks(risk_n, risk_n).mean())
    constant = np.ptp(uncertainty_n) == 0 or np.ptp(risk_n) == 0
    return {
        "mean_risk": float(np.mean(risk_n)),
        "aurc": aurc,
        "aurc_oracle": oracle,
        "e_aurc": max(aurc - oracle, 0.0),  # rounding alone can take it below
        "augrc": float(generalised_risks(uncertainty_n, risk_n).mean()),
        "spearman": None if constant else float(spearmanr(uncertainty_n, risk_n).statistic),
    }


def _in_order(uncertainty_n: np.ndarray, risk_n: np.ndarray) -> np.ndarray:
    """Risks from the most certain unit on, each tied one with the mean of its group."""
    uncertainty_n, risk_n = np.asarray(uncertainty_n, dtype=float), np.asarray(risk_n, dtype=float)
    if not len(risk_n) or uncertainty_n.shape != risk_n.shape:
        raise ShapeMismatch(
            "Uncertainties and risks do not pair up",
            given=f"{len(uncertainty_n)} and {len(risk_n)}",
            expected="one of each per unit, one unit at least",
            fix="Take both from the same units.",
        )
    group_n = rankdata(uncertainty_n, method="dense").astype(int) - 1
    count_q = np.bincount(group_n)
    return np.repeat(np.bincount(group_n, weights=risk_n) / count_q, count_q)
