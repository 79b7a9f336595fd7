"""Scores a prediction, its floors and its replicate against one truth; refuses an incomplete panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.errors import IncompletePanel
from perturbfm.eval.aggregate import summary
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case, PerCondition
from perturbfm.eval.effort import Effort
from perturbfm.eval.intervals import faint_contexts, intervals, refusals
from perturbfm.eval.panel import Panel, score, with_emitted_cells, without_noise
from perturbfm.eval.replicate import BASE_FLOOR, RANDOM_OTHER, REPLICATE, halves_of
from perturbfm.eval.separation import Separation, separation
from perturbfm.eval.truth import TrainCentroids, Truth
from perturbfm.eval.verdict import gate_entry, open_gate
from perturbfm.types import Prediction

SCHEMA = "perturbfm.metrics/1"


@dataclass(frozen=True)
class Judged:
    """What a panel gives: the combined object, and a table with a row per condition, metric and predictor."""

    metrics: dict[str, Any]
    per_condition: pd.DataFrame


def judge(
    panel: Panel,
    truth: Truth,
    prediction: Prediction,
    floors: Mapping[str, Prediction],
    train: TrainCentroids,
    seen: Separation,
    effort: Effort,
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

    Returns:
        The complete panel.

    Raises:
        PredictionMismatch: A prediction is not of this truth.
        IncompletePanel: Something is missing from what would be reported.
    """
    panel = panel if truth.has_cells else without_noise(panel)
    panel = panel if prediction.cells is None else with_emitted_cells(panel)
    gate = open_gate(truth, effort)
    truth.faint = faint_contexts(truth, effort)
    verdict_c = np.array([gate[c].verdict for c in truth.context_c], dtype=object)
    names = {"model": prediction, **floors}
    cases = {n: truth.judged(p, train, verdict_c) for n, p in names.items()}
    stats = {n: score(panel, c) for n, c in cases.items()}
    refusal = refusals(panel, truth, gate)
    halves = halves_of(panel, truth, cases, train, verdict_c, effort)
    metrics = {
        "schema": SCHEMA,
        "panel": {
            "name": panel.name,
            "version": panel.version,
            "comparable": panel.comparable,
            "metrics": list(panel.identifiers),
        },
        "gate": {k: gate_entry(v) for k, v in gate.items()},
        "metrics": _entries(panel, cases["model"], stats["model"], refusal),
        "floors": {n: _entries(panel, cases[n], stats[n], refusal) for n in floors} | halves.entries(panel, refusal),
        "skill": halves.skill(panel, refusal, gate),
        "intervals": intervals(panel, truth, cases, refusal, gate, effort),
        "separation": separation(cases["model"], seen),
    }
    check_complete(metrics, panel)
    return Judged(metrics, _table(panel, cases, stats))


def _entries(panel: Panel, case: Case, stats: Mapping[str, PerCondition], refusal: Mapping[str, str]) -> dict[str, Any]:
    return {m.identifier: summary(m, stats[m.identifier], case, refusal.get(m.identifier, "")) for m in panel.metrics}


def check_complete(metrics: Mapping[str, Any], panel: Panel) -> None:
    """Refuse a panel that lacks a metric, a floor, a status or a reason.

    Raises:
        IncompletePanel: With the first thing that is missing.
    """
    wanted = ("no_change", BASE_FLOOR, REPLICATE, RANDOM_OTHER)
    lacking = [f for f in wanted if f not in metrics.get("floors", {})]
    for where, entries in [("metrics", metrics.get("metrics", {})), *metrics.get("floors", {}).items()]:
        for identifier in panel.identifiers:
            lacking += _flaws(where, identifier, entries.get(identifier))
    lacking += [part for part in ("gate", "separation", "intervals", "skill") if part not in metrics]
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


def _table(panel: Panel, cases: Mapping[str, Case], stats: Mapping[str, Mapping[str, PerCondition]]) -> pd.DataFrame:
    """One row per predictor, condition and metric."""
    parts = []
    for name, case in cases.items():
        for i in panel.identifiers:
            s = stats[name][i]
            columns = {"predictor": name, "metric": i, "context": case.context_c, "intervention": case.intervention_c}
            bare = s.ok_c & ~np.isfinite(s.value_c)  # takes part in the sums of a ratio, has no value of its own
            status = np.where(bare, UNDEFINED, s.status_c)
            reason = np.where(bare, "no positive signal energy in this condition alone", s.reason_c)
            columns |= {"n_rows": case.n_c, "value": s.value_c, "status": status, "reason": reason}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
