"""The technical duplicate: half of the cells predicts the other half, beside a random other perturbation.

It is a replicate with fewer cells, not a ceiling; model and train mean are scored against the same half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perturbfm.eval.aggregate import audible, counted, first_reason, pooled
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case, PerCondition
from perturbfm.eval.effort import Effort
from perturbfm.eval.gate import POWERED, GateVerdict
from perturbfm.eval.panel import Metric, Panel, score
from perturbfm.eval.panel.metric import HIGHER
from perturbfm.eval.redraw import redrawn_cases
from perturbfm.eval.resample import paired_two_way, two_way_interval
from perturbfm.eval.truth import RealCells, TrainCentroids, Truth, halve, stated_alike, with_cells
from perturbfm.types import VARIANCE_FLOOR

HALVABLE_FROM = 40
REPLICATE, RANDOM_OTHER, BASE_FLOOR = "replicate", "random_other", "train_mean"
CLEAR_BY_SE = 2.0
MOST_DRAWS = 300


@dataclass(frozen=True)
class Halves:
    """Values of every predictor against the first half of the cells, one per halving, and on how many conditions."""

    n_total: int
    n_halved: int
    reason: str
    values: dict[str, dict[str, list[float | None]]]
    why: dict[str, dict[str, str]]
    se: dict[str, float]
    scored: dict[str, dict[str, list[int]]] = field(default_factory=dict)

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
            "n_scored": min(n for n in self.scored[name][i] if n) if ok else 0,
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
        sign = 1.0 if metric.better == HIGHER else -1.0
        if not sign * (r - b) > CLEAR_BY_SE * self.se.get(metric.identifier, float("nan")):
            return {"value": None, "reason": "replicate does not beat the train mean by 2 standard errors"}
        return {"value": (u - b) / (r - b), "reason": "", "model": u, "train_mean": b, "replicate": r}


def halves_of(
    panel: Panel, truth: Truth, cases: Mapping[str, Case], train: TrainCentroids, verdict_c: np.ndarray, effort: Effort
) -> Halves:
    """Score replicate, random other, model and train mean against half of the cells, halving anew each time."""
    n = len(truth.n_c)
    if not truth.has_cells:
        return Halves(n, 0, "the file has no cells to halve", {}, {}, {})
    keep = truth.n_c >= HALVABLE_FROM
    if not keep.any():
        return Halves(n, 0, f"no condition has {HALVABLE_FROM} cells, so halves would be too small", {}, {}, {})
    truth, verdict_c = truth.only(keep), verdict_c[keep]
    known = {k: (cases[k].predicted_cg[keep], cases[k].variance_cg[keep], cases[k]) for k in ("model", BASE_FLOOR)}
    values: dict[str, dict[str, list[float | None]]] = {}
    why: dict[str, dict[str, str]] = {}
    se: dict[str, float] = {}
    scored: dict[str, dict[str, list[int]]] = {}
    for h in range(effort.halvings):
        a, b = halve(truth, effort.seed + h)
        judged = _half_cases(a, b, known, train, verdict_c, effort.seed + h)
        se = se or _standard_errors(panel, a, judged, effort)
        alone = _alone(truth)
        for name, case in judged.items():
            found = score(panel, case)
            for metric in panel.metrics:
                i, stats = metric.identifier, audible(metric, found[metric.identifier], case)
                if name == RANDOM_OTHER:
                    stats = _without(stats, alone, "one perturbation in its context")
                values.setdefault(name, {}).setdefault(i, []).append(_macro(stats, truth))
                scored.setdefault(name, {}).setdefault(i, []).append(int(counted(stats, truth.context_c).sum()))
                why.setdefault(name, {})[i] = first_reason(stats)
    return Halves(n, int(keep.sum()), "", values, why, se, scored)


def _half_cases(
    a: Truth,
    b: Truth,
    known: Mapping[str, tuple[np.ndarray, np.ndarray, Case]],
    train: TrainCentroids,
    verdict_c: np.ndarray,
    seed: int,
) -> dict[str, Case]:
    """Model, train mean, replicate and random other beside the first half."""
    found = {n: stated_alike(a.case(mean, var, train, verdict_c), whole, a) for n, (mean, var, whole) in known.items()}
    variance = np.maximum(b.own_noise_cg + b.weight_ck**2 @ b.input.noise_kg, VARIANCE_FLOOR)
    delta = b.mean_cg - b.input_cg
    for name, source in ((REPLICATE, np.arange(len(a.n_c))), (RANDOM_OTHER, _another(a, seed))):
        case = a.case(delta[source], variance[source], train, verdict_c)
        found[name] = with_cells(case, RealCells(a, b, source))
    return found


def _standard_errors(panel: Panel, a: Truth, judged: Mapping[str, Case], effort: Effort) -> dict[str, float]:
    """Two-way standard error of replicate minus train mean, or of the replicate where the train mean is undefined."""
    few = replace(effort, bootstrap_draws=min(MOST_DRAWS, effort.bootstrap_draws))
    r, b = judged[REPLICATE], judged[BASE_FLOOR]
    found = {}
    for metric in panel.metrics:
        if not metric.skill:
            continue
        if metric.function(b).ok_c.any():
            draws, weight_bc = redrawn_cases(a, [r, b], few)
            pairs = ((d[0], d[1]) for d in draws)
            found[metric.identifier] = paired_two_way(metric.function, pairs, weight_bc).se
        else:
            draws, weight_bc = redrawn_cases(a, [r], few)
            found[metric.identifier] = two_way_interval(metric.function, (d[0] for d in draws), weight_bc).se
    return found


def _alone(truth: Truth) -> np.ndarray:
    """Conditions that are the only one of their context."""
    return np.array([np.sum(truth.context_c == k) == 1 for k in truth.context_c])


def _without(stats: PerCondition, drop_c: np.ndarray, reason: str) -> PerCondition:
    """The statistics with some conditions not applicable."""
    return PerCondition(
        np.where(drop_c, np.nan, stats.num_c),
        np.where(drop_c, np.nan, stats.den_c),
        np.where(drop_c, NOT_APPLICABLE, stats.status_c).astype(object),
        np.where(drop_c, reason, stats.reason_c).astype(object),
    )


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
