"""The technical duplicate: half of the cells predicts the other half, beside a random other perturbation.

It is a replicate with fewer cells, not a ceiling; model and train mean are scored against the same half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perturbfm.eval.aggregate import pooled
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case, PerCondition, nowhere
from perturbfm.eval.effort import Effort
from perturbfm.eval.gate import POWERED, GateVerdict
from perturbfm.eval.panel import Metric, Panel, score
from perturbfm.eval.truth import RealCells, TrainCentroids, Truth, halve, with_cells
from perturbfm.types import VARIANCE_FLOOR

HALVABLE_FROM = 40
REPLICATE, RANDOM_OTHER, BASE_FLOOR = "replicate", "random_other", "train_mean"
CLEAR_BY_SE = 2.0


@dataclass(frozen=True)
class Halves:
    """Values of every predictor against the first half of the cells, one row per halving."""

    n_total: int
    reason: str
    values: dict[str, dict[str, list[float | None]]]
    why: dict[str, dict[str, str]]

    def entries(self, panel: Panel, refusal: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Entries of the replicate and of the random other perturbation."""
        return {n: {m.identifier: self._entry(m, n, refusal) for m in panel.metrics} for n in (REPLICATE, RANDOM_OTHER)}

    def _entry(self, metric: Metric, name: str, refusal: Mapping[str, str]) -> dict[str, Any]:
        i = metric.identifier
        known = [v for v in self.values.get(name, {}).get(i, []) if v is not None]
        reason = (
            self.reason
            or refusal.get(i, "")
            or ("" if known else self.why.get(name, {}).get(i, "") or "no value in any halving")
        )
        status = OK if not reason else (UNDEFINED if i in refusal else NOT_APPLICABLE)
        ok = status == OK
        return {
            "status": status,
            "reason": reason,
            "value": float(np.mean(known)) if ok else None,
            "sd_over_halvings": float(np.std(known, ddof=1)) if ok and len(known) > 1 else None,
            "n_halvings": len(known) if ok else 0,
            "n_scored": self.n_total if ok else 0,
            "n_total": self.n_total,
            "truth": "first half of the cells",
        }

    def skill(self, panel: Panel, refusal: Mapping[str, str], gate: Mapping[str, GateVerdict]) -> dict[str, Any]:
        """(u - b) / (r - b), only where the replicate beats the train mean by two standard errors."""
        weak = [k for k, v in gate.items() if v.verdict != POWERED]
        blocked = self.reason or (f"not powered: {', '.join(weak)}" if weak else "")
        return {
            m.identifier: self._skill(m, blocked or refusal.get(m.identifier, "")) for m in panel.metrics if m.skill
        }

    def _skill(self, metric: Metric, blocked: str) -> dict[str, Any]:
        if blocked:
            return {"value": None, "reason": blocked}
        u, b, r = (_mean(self.values[n][metric.identifier]) for n in ("model", BASE_FLOOR, REPLICATE))
        if b is None and metric.worst is not None:
            b = metric.worst
        if u is None or b is None or r is None:
            return {"value": None, "reason": "model, train mean or replicate has no value"}
        sign = 1.0 if metric.better == "higher" else -1.0
        spread = [x for x in self.values[REPLICATE][metric.identifier] if x is not None]
        se = float(np.std(spread, ddof=1)) if len(spread) > 1 else float("inf")
        if sign * (r - b) <= CLEAR_BY_SE * se:
            return {"value": None, "reason": "replicate does not beat the train mean by 2 standard errors"}
        return {"value": (u - b) / (r - b), "reason": "", "model": u, "train_mean": b, "replicate": r}


def halves_of(
    panel: Panel, truth: Truth, cases: Mapping[str, Case], train: TrainCentroids, verdict_c: np.ndarray, effort: Effort
) -> Halves:
    """Score replicate, random other, model and train mean against half of the cells, halving anew each time."""
    n = len(truth.n_c)
    if not truth.has_cells:
        return Halves(n, "the file has no cells to halve", {}, {})
    if (truth.n_c < HALVABLE_FROM).any():
        return Halves(
            n,
            f"{int((truth.n_c < HALVABLE_FROM).sum())} conditions with fewer than {HALVABLE_FROM} cells: halves would be too small",
            {},
            {},
        )
    values: dict[str, dict[str, list[float | None]]] = {}
    why: dict[str, dict[str, str]] = {}
    for h in range(effort.halvings):
        for name, stats in _half_stats(panel, truth, cases, train, verdict_c, effort.seed + h).items():
            for i, s in stats.items():
                values.setdefault(name, {}).setdefault(i, []).append(_macro(s, truth))
                why.setdefault(name, {})[i] = next((str(x) for x in s.reason_c if x), "")
    return Halves(n, "", values, why)


def _half_stats(
    panel: Panel, truth: Truth, cases: Mapping[str, Case], train: TrainCentroids, verdict_c: np.ndarray, seed: int
) -> dict[str, dict[str, PerCondition]]:
    a, b = halve(truth, seed)
    own = np.arange(len(truth.n_c))
    other = _another(truth, seed)
    variance = b.own_noise_cg + b.weight_ck**2 @ b.input.noise_kg
    delta = b.mean_cg - b.input_cg
    found = {
        n: score(panel, a.case(cases[n].predicted_cg, cases[n].variance_cg, train, verdict_c))
        for n in ("model", BASE_FLOOR)
    }
    for name, source in ((REPLICATE, own), (RANDOM_OTHER, other)):
        case = a.case(delta[source], np.maximum(variance[source], VARIANCE_FLOOR), train, verdict_c)
        stats = score(panel, with_cells(case, RealCells(a, b, source)))
        alone = source == own if name == RANDOM_OTHER else np.zeros(len(own), dtype=bool)
        found[name] = {
            i: nowhere(len(own), "one perturbation in its context") if alone.all() else s for i, s in stats.items()
        }
    return found


def _another(truth: Truth, seed: int) -> np.ndarray:
    """For each condition another one of its context, dealt in a circle; itself where it is alone."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    other = np.arange(len(truth.n_c))
    for context in sorted(set(truth.context_c.tolist())):
        members = rng.permutation(np.flatnonzero(truth.context_c == context))
        other[members] = np.roll(members, 1)
    return other


def _macro(stats: PerCondition, truth: Truth) -> float | None:
    found = [pooled(stats, (truth.context_c == k).astype(float)) for k in sorted(set(truth.context_c.tolist()))]
    return _mean(found)


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
