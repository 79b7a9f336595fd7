"""Whether uncertainty rises out of distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case
from perturbfm.eval.gate import UNKNOWN
from perturbfm.eval.metric.ood import auroc, control_spread, mean_variance, places, separation_score
from perturbfm.eval.panel.metric import NO_VARIANCE
from perturbfm.eval.truth import Truth
from perturbfm.types import Prediction

NOTHING_OUT = "nothing in the test is out of distribution"
NO_LABEL = "no label of a condition tells this axis"
REST, CALIBRATION = "rest of the test", "calibration"
BY_LABEL, BY_INTERVENTION = ("context", "pairing"), ("perturbation", "combination", "dose", "time")


@dataclass(frozen=True)
class Separation:
    """What is needed to ask whether uncertainty rises out of distribution.

    Attributes:
        truth: The calibration fold, which is in distribution.
        prediction: Its prediction; None where there is none.
        axis: What is new about the test, several axes joined by `+`.
        out_c: Which conditions of the test are out of distribution; None means all.
        axes: For each declared axis, which conditions of the test are out of distribution on it.
        train_pairs: (context, intervention) that train has; None takes those of the calibration fold.
    """

    truth: Truth
    prediction: Prediction | None
    axis: str = "context"
    out_c: np.ndarray | None = None
    axes: Mapping[str, np.ndarray] = field(default_factory=dict)
    train_pairs: frozenset[tuple[str, str]] | None = None


def separation(case: Case, seen: Separation) -> dict[str, Any]:
    """Whether uncertainty tells what is new from what train knows, beside scores that know nothing of the model.

    Returns:
        AUROC of the model's scale-free uncertainty, of the variance of the controls alone, and of the label lookup, for
        the union of all axes against the calibration fold; under `axes` the same for each declared axis against what
        the split holds it against: the rest of the test, or the calibration fold where there is no rest.
    """
    unknown = np.array([UNKNOWN] * len(seen.truth.n_c), dtype=object)
    silent = _silent(case, seen)
    nothing_cg = np.full_like(seen.truth.mean_cg, np.nan)
    mean_cg, var_cg = (nothing_cg, nothing_cg) if seen.prediction is None else seen.truth.predicted(seen.prediction)
    inside = seen.truth.case(mean_cg, var_cg, None, unknown)
    out_c = np.ones(case.n_conditions, dtype=bool) if seen.out_c is None else seen.out_c
    scores_in, scores_out = _uncertainties(inside), _uncertainties(case)
    here = frozenset(_pairs(inside))
    entry = {name: _entry(scores_in[name], scores_out[name][out_c]) for name in ("model", "control_variance")}
    entry["model"] = _mute(silent) if silent else entry["model"]
    return {
        "axis": seen.axis,
        "identifier": f"ood_auroc[axis={seen.axis},score=mean_var_over_control_var,ties=half]",
        "n_in": len(inside.n_c),
        "n_out": int(out_c.sum()),
        **entry,
        "context_lookup": _entry(_unseen("context", inside, here), _unseen("context", case, here)[out_c]),
        "axes": {
            axis: _on_axis(axis, on_c, inside, case, seen.train_pairs or here, silent)
            for axis, on_c in seen.axes.items()
        },
    }


def _silent(case: Case, seen: Separation) -> str:
    """Why a model's uncertainty cannot be compared at all; empty where it can."""
    if not case.has_variance or (seen.prediction is not None and not seen.prediction.has_variance):
        return NO_VARIANCE
    return "" if seen.prediction is not None else "no prediction of the calibration fold"


def _mute(reason: str) -> dict[str, Any]:
    return {"value": None, "status": NOT_APPLICABLE, "reason": reason}


def _on_axis(
    axis: str, on_c: np.ndarray, inside: Case, case: Case, pairs: frozenset[tuple[str, str]], silent: str
) -> dict[str, Any]:
    """AUROCs of one axis: conditions of the test on it against the rest of the test, or against calibration."""
    against, held_in = (case, ~on_c) if not on_c.all() else (inside, np.ones(inside.n_conditions, dtype=bool))
    where = REST if against is case else CALIBRATION
    scores_in, scores_out = _uncertainties(against), _uncertainties(case)
    entry = {name: _entry(scores_in[name][held_in], scores_out[name][on_c]) for name in scores_out}
    if silent and (against is inside or not case.has_variance):
        entry["model"] = _mute(silent)
    entry["label_lookup"] = {"value": None, "status": NOT_APPLICABLE, "reason": NO_LABEL, "n_unscored": 0}
    if axis in BY_LABEL or axis.split("_")[0] in BY_INTERVENTION:
        entry["label_lookup"] = _entry(_unseen(axis, against, pairs)[held_in], _unseen(axis, case, pairs)[on_c])
    held = where.replace(" ", "_")
    return {
        "identifier": f"ood_auroc[axis={axis},score=mean_var_over_control_var,in={held},ties=half]",
        "inside": where,
        "n_in": int(held_in.sum()),
        "n_out": int(on_c.sum()),
        **entry,
    }


def _uncertainties(case: Case) -> dict[str, np.ndarray]:
    """Scores per condition: the model's, free of scale; its variance as it is; the controls' variance alone."""
    spread_cg = control_spread(case.input_var_cg)
    return {
        "model": separation_score(case.variance_cg, spread_cg, case.scored_cg),
        "raw_variance": mean_variance(case.variance_cg, case.scored_cg),
        "control_variance": mean_variance(spread_cg, case.scored_cg),
    }


def _unseen(axis: str, case: Case, pairs: frozenset[tuple[str, str]]) -> np.ndarray:
    """1 where train does not have the label that the axis is about, else 0."""
    if axis == "context":
        contexts = {context for context, _ in pairs}
        new = [str(k) not in contexts for k in case.context_c]
    elif axis == "pairing":
        new = [pair not in pairs for pair in _pairs(case)]
    else:
        interventions = {intervention for _, intervention in pairs}
        new = [str(p) not in interventions for p in case.intervention_c]
    return np.array(new, dtype=float)


def _entry(score_in: np.ndarray, score_out: np.ndarray) -> dict[str, Any]:
    """One AUROC, or why there is none; conditions without a score take no part and are counted."""
    if not len(score_out):
        return {"value": None, "status": UNDEFINED, "reason": NOTHING_OUT, "n_unscored": 0}
    known_in, known_out = (s[np.isfinite(s)] for s in (score_in, score_out))
    place_n = places(np.concatenate([known_in, known_out]))
    value, reason = auroc(place_n[: len(known_in)], place_n[len(known_in) :])
    status = OK if value is not None else UNDEFINED
    lost = len(score_in) + len(score_out) - len(place_n)
    return {"value": value, "status": status, "reason": reason, "n_unscored": lost}


def _pairs(case: Case) -> list[tuple[str, str]]:
    return list(zip(map(str, case.context_c), map(str, case.intervention_c), strict=True))
