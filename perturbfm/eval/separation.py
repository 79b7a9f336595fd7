"""Whether uncertainty rises out of distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case
from perturbfm.eval.gate import UNKNOWN
from perturbfm.eval.metric.ood import auroc, separation_score
from perturbfm.eval.panel.metric import NO_VARIANCE
from perturbfm.eval.truth import Truth
from perturbfm.types import Prediction

TIE = 1e-5
"""Scores closer than this share of their size are a tie: variances are averaged over rows and stored as float32."""


@dataclass(frozen=True)
class Separation:
    """What is needed to ask whether uncertainty rises out of distribution.

    Attributes:
        truth: The calibration fold, which is in distribution.
        prediction: Its prediction; None where there is none.
        axis: What is new about the test, several axes joined by `+`.
        out_c: Which conditions of the test are out of distribution; None means all.
    """

    truth: Truth
    prediction: Prediction | None
    axis: str = "context"
    out_c: np.ndarray | None = None


def separation(case: Case, seen: Separation) -> dict[str, Any]:
    """Whether uncertainty tells what is new from what train knows, beside two scores that know nothing of the model.

    Returns:
        AUROC of the model's scale-free uncertainty, of the variance of the controls alone, and of the label lookup.
    """
    unknown = np.array([UNKNOWN] * len(seen.truth.n_c), dtype=object)
    silent = _silent(case, seen)
    nothing_cg = np.full_like(seen.truth.mean_cg, np.nan)
    mean_cg, var_cg = (nothing_cg, nothing_cg) if seen.prediction is None else seen.truth.predicted(seen.prediction)
    inside = seen.truth.case(mean_cg, var_cg, None, unknown)
    known = {"in": inside, "out": case}
    scores = {k: separation_score(c.variance_cg, _spread(c), c.scored_cg) for k, c in known.items()}
    raw = {
        k: np.array([np.mean(v[s]) if s.any() else np.nan for v, s in zip(_spread(c), c.scored_cg, strict=True)])
        for k, c in known.items()
    }
    out_c = np.ones(case.n_conditions, dtype=bool) if seen.out_c is None else seen.out_c
    lookup = {k: np.isin(c.context_c, inside.context_c, invert=True).astype(float) for k, c in known.items()}
    entry = {}
    for name, pair in (("model", scores), ("control_variance", raw), ("context_lookup", lookup)):
        pair["out"] = pair["out"][out_c]
        value, reason = auroc(*_places(*(pair[k][np.isfinite(pair[k])] for k in ("in", "out"))))
        reason = reason if out_c.any() else "nothing in the test is out of distribution"
        entry[name] = {"value": value, "status": OK if value is not None else UNDEFINED, "reason": reason}
    if silent:
        entry["model"] = {"value": None, "status": NOT_APPLICABLE, "reason": silent}
    return {
        "axis": seen.axis,
        "identifier": f"ood_auroc[axis={seen.axis},score=mean_var_over_control_var,ties=half]",
        "n_in": len(inside.n_c),
        "n_out": int(out_c.sum()),
        **entry,
    }


def _silent(case: Case, seen: Separation) -> str:
    """Why a model's uncertainty cannot be compared at all; empty where it can."""
    if not case.has_variance or (seen.prediction is not None and not seen.prediction.has_variance):
        return NO_VARIANCE
    return "" if seen.prediction is not None else "no prediction of the calibration fold"


def _places(score_in: np.ndarray, score_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of every score in the order of all of them; scores that differ by rounding share one."""
    score = np.concatenate([score_in, score_out])
    order = np.argsort(score, kind="stable")
    place = np.zeros(len(score))
    if len(score):
        step = np.diff(score[order]) > TIE * np.abs(score[order][1:])
        place[order] = np.concatenate([[0], np.cumsum(step)])
    return place[: len(score_in)], place[len(score_in) :]


def _spread(case: Case) -> np.ndarray:
    """Variance of control cells, or one where the file has none."""
    return np.where(case.input_var_cg.sum(1, keepdims=True) > 0, case.input_var_cg, 1.0)
