"""Scores a prediction, its floors and its replicate against one truth; refuses an incomplete panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.errors import IncompletePanel
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED
from perturbfm.eval.effort import Effort
from perturbfm.eval.intervals import intervals, refusals
from perturbfm.eval.panel import Kept, Panel, score, with_emitted_cells, without_noise
from perturbfm.eval.panel.metric import NO_VARIANCE
from perturbfm.eval.reliability import reliability
from perturbfm.eval.replicate import BASE_FLOOR, HALVED, model_on_halves
from perturbfm.eval.risk import risk_coverage
from perturbfm.eval.separation import Separation, separation
from perturbfm.eval.shown import shown_deltas
from perturbfm.eval.standing import Standing, entries_of, stand, table_of
from perturbfm.eval.truth import TrainCentroids, Truth
from perturbfm.types import Prediction

SCHEMA = "perturbfm.metrics/2"

NOT_STATED = {"status": NOT_APPLICABLE, "reason": NO_VARIANCE}


@dataclass(frozen=True)
class Judged:
    """What a panel gives.

    Attributes:
        metrics: The combined object.
        per_condition: A row per condition, metric and predictor.
        deltas: Predicted and true deltas of the few conditions that a report draws; see `shown_deltas`.
    """

    metrics: dict[str, Any]
    per_condition: pd.DataFrame
    deltas: dict[str, Any] = field(default_factory=dict)


def judge(
    panel: Panel,
    truth: Truth,
    prediction: Prediction,
    floors: Mapping[str, Prediction],
    train: TrainCentroids,
    seen: Separation,
    effort: Effort,
    standing: Standing | None = None,
    kept: Kept | None = None,
) -> Judged:
    """Score a prediction and everything that must stand beside it.

    Args:
        panel: Which metrics.
        truth: What was measured on the judged fold.
        prediction: What is judged.
        floors: Predictions of the floors; `train_mean` must be among them.
        train: Centroids of train.
        seen: Truth and prediction of the in-distribution fold, for the separation of uncertainty.
        effort: Resampling.
        standing: What stands beside every model of this split, by the same panel and effort; None makes it.
        kept: Statistics of this prediction from an evaluation that was killed; None keeps nothing.

    Returns:
        The complete panel.

    Raises:
        PredictionMismatch: A prediction is not of this truth.
        IncompletePanel: Something is missing from what would be reported.
        MetricFailed: A metric raised something that has no name here.
    """
    base_panel = panel_of(panel, truth)
    standing = standing or stand(base_panel, truth, floors, train, effort)
    panel = base_panel if prediction.cells is None else with_emitted_cells(base_panel)
    standing = standing.renamed(base_panel, panel)
    truth.faint = standing.faint
    verdict_c = np.array([standing.verdicts[c] for c in truth.context_c], dtype=object)
    case, base = (truth.judged(p, train, verdict_c) for p in (prediction, floors[BASE_FLOOR]))
    stats = score(panel, case, kept)
    refusal = refusals(panel, truth, standing.verdicts)
    skilled = {} if standing.halves.blocked(standing.verdicts) else model_on_halves(panel, truth, case, train, effort)
    metrics = {
        "schema": SCHEMA,
        "panel": {
            "name": panel.name,
            "version": panel.version,
            "comparable": panel.comparable,
            "metrics": list(panel.identifiers),
        },
        "gate": standing.gate,
        "metrics": entries_of(panel, case, stats, refusal),
        "floors": standing.floors,
        "dynamic_range": standing.dynamic_range,
        "skill": standing.halves.skill(panel, refusal, standing.verdicts, skilled),
        "intervals": intervals(panel, truth, case, base, refusal, standing.verdicts, effort),
        "separation": separation(case, seen),
        "risk": risk_coverage(case) if case.has_variance else NOT_STATED,
        "reliability": reliability(case) if case.has_variance else NOT_STATED,
    }
    check_complete(metrics, panel)
    table = pd.concat([table_of(panel, "model", case, stats), standing.table], ignore_index=True)
    return Judged(metrics, table, shown_deltas(panel, case, stats))


def panel_of(panel: Panel, truth: Truth) -> Panel:
    """The panel as this truth can carry it; identifiers say what is not known."""
    return panel if truth.has_cells else without_noise(panel)


def check_complete(metrics: Mapping[str, Any], panel: Panel) -> None:
    """Refuse a panel that lacks a metric, a floor, a status or a reason.

    Raises:
        IncompletePanel: With the first thing that is missing.
    """
    wanted = ("no_change", BASE_FLOOR, *HALVED)
    lacking = [f for f in wanted if f not in metrics.get("floors", {})]
    for where, entries in [("metrics", metrics.get("metrics", {})), *metrics.get("floors", {}).items()]:
        for identifier in panel.identifiers:
            lacking += _flaws(where, identifier, entries.get(identifier))
    lacking += [
        part
        for part in ("gate", "separation", "intervals", "skill", "dynamic_range", "risk", "reliability")
        if part not in metrics
    ]
    if lacking:
        raise IncompletePanel(
            f"The panel {panel.name!r} is not complete",
            given=f"{len(lacking)} flaws, first: {lacking[0]}",
            expected="every metric and floor with a status, a value or a reason, n_scored and n_total",
            fix="A partial panel is an invalid run, so nothing was written: score it with the whole panel.",
        )


def _flaws(where: str, identifier: str, entry: Mapping[str, Any] | None) -> list[str]:
    if entry is None:
        return [f"{where} lacks {identifier}"]
    status, value = entry.get("status"), entry.get("value")
    if status not in (OK, UNDEFINED, NOT_APPLICABLE):
        return [f"{where} {identifier} has no status"]
    if status == OK and (value is None or not np.isfinite(value)):
        return [f"{where} {identifier} is ok without a finite value"]
    if status != OK and not entry.get("reason"):
        return [f"{where} {identifier} is {status} without a reason"]
    if not isinstance(entry.get("n_scored"), int) or not isinstance(entry.get("n_total"), int):
        return [f"{where} {identifier} does not say how many conditions it covers"]
    return []
