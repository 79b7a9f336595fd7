"""What stands beside every model of one split: gate, floors, replicate. The same for all of them, so made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.eval.aggregate import summary
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case, PerCondition
from perturbfm.eval.dynamic_range import FLAGGED_BELOW, dynamic_range
from perturbfm.eval.effort import Effort
from perturbfm.eval.intervals import faint_contexts, refusals
from perturbfm.eval.panel import Kept, Metric, Panel, score
from perturbfm.eval.panel.metric import HIGHER
from perturbfm.eval.replicate import BASE_FLOOR, INTERPOLATED, RANDOM_OTHER, REPLICATE, Halves, halves_of
from perturbfm.eval.truth import TrainCentroids, Truth
from perturbfm.eval.verdict import gate_entry, open_gate
from perturbfm.types import Prediction

ORDER = ("no_change", BASE_FLOOR, "source_delta", "additive", "matching_mean", RANDOM_OTHER, INTERPOLATED, REPLICATE)
"""How floors are listed: from knowing nothing to knowing half of the cells; others come first."""


@dataclass(frozen=True)
class Standing:
    """What stands beside every model, as plain values.

    Attributes:
        gate: Verdict of every context, as in `metrics.json`.
        faint: Contexts without a safe denominator, and why.
        floors: Entries of every floor and of the predictors made of half the cells.
        halves: Their values per halving.
        dynamic_range: For every metric what share of its range lies between train mean and replicate.
        table: One row per floor, condition and metric.
    """

    gate: dict[str, dict[str, Any]]
    faint: dict[str, str]
    floors: dict[str, dict[str, Any]]
    halves: Halves
    dynamic_range: dict[str, dict[str, Any]]
    table: pd.DataFrame

    @property
    def verdicts(self) -> dict[str, str]:
        """Gate verdict of every context."""
        return {k: str(v["verdict"]) for k, v in self.gate.items()}

    def renamed(self, old: Panel, new: Panel) -> Standing:
        """The same under the identifiers of another panel of the same lines, and leading with what that one leads."""
        if old.identifiers == new.identifiers:
            return self
        name = dict(zip(old.identifiers, new.identifiers, strict=True))
        lead = {m.identifier: m.lead for m in new.metrics}
        floors = {
            f: {name[i]: ({**e, "lead": lead[name[i]]} if "lead" in e else e) for i, e in entries.items()}
            for f, entries in self.floors.items()
        }
        ranges = {name[i]: entry for i, entry in self.dynamic_range.items()}
        table = self.table.assign(metric=self.table["metric"].map(name))
        return replace(self, floors=floors, halves=self.halves.renamed(name), dynamic_range=ranges, table=table)

    def to_plain(self) -> dict[str, Any]:
        """All but the table, as JSON values."""
        return {
            "gate": self.gate,
            "faint": self.faint,
            "floors": self.floors,
            "halves": self.halves.to_plain(),
            "dynamic_range": self.dynamic_range,
        }

    @staticmethod
    def from_plain(plain: Mapping[str, Any], table: pd.DataFrame) -> Standing:
        """Back from JSON values and a table."""
        halves, floors = Halves.from_plain(plain["halves"]), in_order(plain["floors"])
        return Standing(**{**plain, "halves": halves, "floors": floors}, table=table)


def stand(
    panel: Panel,
    truth: Truth,
    floors: Mapping[str, Prediction],
    train: TrainCentroids,
    effort: Effort,
    kept: Mapping[str, Kept] | None = None,
) -> Standing:
    """Open the gate, score the floors and halve the cells.

    Args:
        panel: Which metrics.
        truth: What was measured on the judged fold; its `faint` contexts are set.
        floors: Predictions of the floors; `train_mean` must be among them.
        train: Centroids of train.
        effort: Resampling.
        kept: For each floor what was scored before; None keeps nothing.
    """
    gate = {k: gate_entry(v) for k, v in open_gate(truth, effort).items()}
    truth.faint = faint_contexts(truth, effort)
    verdicts = {k: str(v["verdict"]) for k, v in gate.items()}
    verdict_c = np.array([verdicts[c] for c in truth.context_c], dtype=object)
    refusal = refusals(panel, truth, verdicts)
    entries, tables, base = {}, [], None
    for name, prediction in floors.items():
        case = truth.case(*truth.predicted(prediction), train, verdict_c)
        stats = score(panel, case, kept[name] if kept is not None else None)
        entries[name] = entries_of(panel, case, stats, refusal)
        tables.append(table_of(panel, name, case, stats))
        base = case if name == BASE_FLOOR else base
    if base is None:
        raise KeyError(BASE_FLOOR)
    halves = halves_of(panel, truth, base, train, verdict_c, effort)
    entries |= halves.entries(panel, refusal)
    ranges = {m.identifier: range_entry(m, halves) for m in panel.metrics}
    return Standing(gate, truth.faint, in_order(entries), halves, ranges, pd.concat(tables, ignore_index=True))


def in_order(floors: Mapping[str, Any]) -> dict[str, Any]:
    """Floors as they are listed everywhere."""
    return {n: floors[n] for n in sorted(floors, key=lambda n: ORDER.index(n) if n in ORDER else -1)}


def entries_of(
    panel: Panel, case: Case, stats: Mapping[str, PerCondition], refusal: Mapping[str, str]
) -> dict[str, Any]:
    """Entries of one predictor."""
    return {m.identifier: summary(m, stats[m.identifier], case, refusal.get(m.identifier, "")) for m in panel.metrics}


def table_of(panel: Panel, name: str, case: Case, stats: Mapping[str, PerCondition]) -> pd.DataFrame:
    """One row per condition and metric of one predictor."""
    parts = []
    for i in panel.identifiers:
        s = stats[i]
        columns = {"predictor": name, "metric": i, "context": case.context_c, "intervention": case.intervention_c}
        bare = s.ok_c & ~np.isfinite(s.value_c)  # takes part in the sums of a ratio, has no value of its own
        status = np.where(bare, UNDEFINED, s.status_c)
        reason = np.where(bare, "no positive signal energy in this condition alone", s.reason_c)
        columns |= {"n_rows": case.n_c, "value": s.value_c, "status": status, "reason": reason}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def range_entry(metric: Metric, halves: Halves) -> dict[str, Any]:
    """Dynamic range of a metric on this data: train mean and replicate on the same halves; see `dynamic_range`."""
    b, r = halves.mean_value(BASE_FLOOR, metric.identifier), halves.mean_value(REPLICATE, metric.identifier)
    b = metric.worst if b is None else b
    if metric.best is None:
        return {"status": NOT_APPLICABLE, "value": None, "flagged": False, "reason": "the metric has no best value"}
    if halves.reason or b is None or r is None:
        reason = halves.reason or "train mean or replicate has no value"
        return {"status": NOT_APPLICABLE, "value": None, "flagged": False, "reason": reason}
    found = dynamic_range(np.array([r]), np.array([b]), perfect=metric.best, higher=metric.better == HIGHER)
    value = float(found[0])
    if not np.isfinite(value):
        reason = "the train mean is at the best value or beyond"
        return {"status": UNDEFINED, "value": None, "flagged": True, "reason": reason}
    flagged = value < FLAGGED_BELOW
    reason = f"dynamic range {value:.2f} is under {FLAGGED_BELOW}: a replicate scores like the train mean"
    return {"status": OK, "value": value, "flagged": flagged, "reason": reason if flagged else ""}
