"""The technical duplicate: half of the cells predicts the other half, beside a random other perturbation.

It is a replicate with fewer cells, not a ceiling; train mean and model are scored against the same halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from perturbfm.eval.aggregate import audible, counted, first_reason, pooled
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case, PerCondition
from perturbfm.eval.cells import RealCells, stated_alike, with_cells
from perturbfm.eval.effort import Effort
from perturbfm.eval.gate import POWERED
from perturbfm.eval.interpolated import interpolated
from perturbfm.eval.panel import Metric, Panel, on_cells, score
from perturbfm.eval.panel.metric import HIGHER
from perturbfm.eval.redraw import redrawn_cases
from perturbfm.eval.resample import paired_two_way, two_way_interval
from perturbfm.eval.truth import TrainCentroids, Truth, halve
from perturbfm.types import VARIANCE_FLOOR

T = TypeVar("T")

HALVABLE_FROM = 40
REPLICATE, RANDOM_OTHER, INTERPOLATED, BASE_FLOOR = "replicate", "random_other", "interpolated", "train_mean"
HALVED = (REPLICATE, INTERPOLATED, RANDOM_OTHER)
"""Predictors that are made of the other half of the cells."""

CLEAR_BY_SE = 2.0
MOST_DRAWS = 300
CELL_HALVINGS = 5
"""Halvings for metrics that compare cells: five seeds, one in a panel that is not comparable; each costs a panel."""


@dataclass(frozen=True)
class Halves:
    """Values of every fixed predictor against the first half of the cells, one per halving, and on how many conditions.

    What a model does on the same halves is `model_on_halves`: it is asked only where a skill can be given.
    """

    n_total: int
    n_halved: int
    reason: str
    values: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    why: dict[str, dict[str, str]] = field(default_factory=dict)
    se: dict[str, float] = field(default_factory=dict)
    scored: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        plain = asdict(self)
        plain["se"] = {k: v if np.isfinite(v) else None for k, v in self.se.items()}
        return plain

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Halves:
        """Back from JSON values."""
        se = {k: float("nan") if v is None else v for k, v in plain["se"].items()}
        return Halves(**{**plain, "se": se})

    def renamed(self, name: Mapping[str, str]) -> Halves:
        """The same under other identifiers."""
        values, why, scored = _named(self.values, name), _named(self.why, name), _named(self.scored, name)
        se = {name[i]: v for i, v in self.se.items()}
        return Halves(self.n_total, self.n_halved, self.reason, values, why, se, scored)

    def entries(self, panel: Panel, refusal: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Entries of the predictors that are made of the other half."""
        return {n: {m.identifier: self._entry(m, n, refusal) for m in panel.metrics} for n in HALVED}

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

    def mean_value(self, name: str, identifier: str) -> float | None:
        """Mean over halvings of a predictor's value; None where it never had one."""
        return _mean(self.values.get(name, {}).get(identifier, []))

    def blocked(self, verdicts: Mapping[str, str]) -> str:
        """Why no skill is given at all; empty where one may be."""
        weak = [k for k, v in verdicts.items() if v != POWERED]
        return self.reason or (f"not powered: {', '.join(weak)}" if weak else "")

    def skill(
        self,
        panel: Panel,
        refusal: Mapping[str, str],
        verdicts: Mapping[str, str],
        model: Mapping[str, list[float | None]],
    ) -> dict[str, Any]:
        """(u - b) / (r - b), only where the replicate beats the train mean by two standard errors."""
        blocked = self.blocked(verdicts)
        return {
            m.identifier: self._skill(m, blocked or refusal.get(m.identifier, ""), model)
            for m in panel.metrics
            if m.skill
        }

    def _skill(self, metric: Metric, blocked: str, model: Mapping[str, list[float | None]]) -> dict[str, Any]:
        if blocked:
            return {"value": None, "reason": blocked}
        i = metric.identifier
        u, b, r = _mean(model[i]), self.mean_value(BASE_FLOOR, i), self.mean_value(REPLICATE, i)
        if b is None and metric.worst is not None:
            b = metric.worst
        if u is None or b is None or r is None:
            return {"value": None, "reason": "model, train mean or replicate has no value"}
        sign = 1.0 if metric.better == HIGHER else -1.0
        if not sign * (r - b) > CLEAR_BY_SE * self.se.get(i, float("nan")):
            return {"value": None, "reason": "replicate does not beat the train mean by 2 standard errors"}
        return {"value": (u - b) / (r - b), "reason": "", "model": u, "train_mean": b, "replicate": r}


def halves_of(
    panel: Panel, truth: Truth, base: Case, train: TrainCentroids, verdict_c: np.ndarray, effort: Effort
) -> Halves:
    """Score train mean, replicate, interpolated duplicate and random other against half of the cells, halving anew.

    Args:
        panel: Which metrics; those that compare cells are scored on the first five halvings only.
        truth: What was measured.
        base: The train mean beside the whole truth.
        train: Centroids of train.
        verdict_c: Gate verdict of each condition's context.
        effort: Number of halvings and seed.
    """
    n = len(truth.n_c)
    if not truth.has_cells:
        return Halves(n, 0, "the file has no cells to halve")
    keep = truth.n_c >= HALVABLE_FROM
    if not keep.any():
        return Halves(n, 0, f"no condition has {HALVABLE_FROM} cells, so halves would be too small")
    truth, verdict_c = truth.only(keep), verdict_c[keep]
    known = (base.predicted_cg[keep], base.variance_cg[keep])
    found = Halves(n, int(keep.sum()), "")
    alone = _alone(truth)
    for h in range(effort.halvings):
        a, b = halve(truth, effort.seed + h)
        judged = _half_cases(a, b, known, train, verdict_c, effort.seed + h)
        if not found.se:
            found.se.update(_standard_errors(panel, a, judged, effort))
        part = panel if h < (CELL_HALVINGS if panel.comparable else 1) else on_cells(panel, False)
        for name, case in judged.items():
            _add(found, part, name, case, truth, alone if name == RANDOM_OTHER else None)
    return found


def model_on_halves(panel: Panel, truth: Truth, case: Case, train: TrainCentroids, effort: Effort) -> dict[str, Any]:
    """Values of a model against the same halves, for the metrics that have a skill."""
    keep = truth.n_c >= HALVABLE_FROM
    truth, verdict_c = truth.only(keep), case.powered_c[keep]
    found: dict[str, list[float | None]] = {m.identifier: [] for m in panel.metrics if m.skill}
    for h in range(effort.halvings):
        a, _ = halve(truth, effort.seed + h)
        half = stated_alike(a.case(case.predicted_cg[keep], case.variance_cg[keep], train, verdict_c), case, a)
        for m in panel.metrics:
            if m.skill:
                found[m.identifier].append(_macro(audible(m, m.function(half), half), truth))
    return found


def _named(part: Mapping[str, Mapping[str, T]], name: Mapping[str, str]) -> dict[str, dict[str, T]]:
    return {predictor: {name[i]: v for i, v in entries.items()} for predictor, entries in part.items()}


def _add(found: Halves, panel: Panel, name: str, case: Case, truth: Truth, alone: np.ndarray | None) -> None:
    """Score one predictor of one halving and add its values."""
    stats_of = score(panel, case)
    for metric in panel.metrics:
        i, stats = metric.identifier, audible(metric, stats_of[metric.identifier], case)
        if alone is not None:
            stats = _without(stats, alone, "one perturbation in its context")
        found.values.setdefault(name, {}).setdefault(i, []).append(_macro(stats, truth))
        found.scored.setdefault(name, {}).setdefault(i, []).append(int(counted(stats, truth.context_c).sum()))
        found.why.setdefault(name, {})[i] = first_reason(stats)


def _half_cases(
    a: Truth,
    b: Truth,
    base: tuple[np.ndarray, np.ndarray],
    train: TrainCentroids,
    verdict_c: np.ndarray,
    seed: int,
) -> dict[str, Case]:
    """Train mean, replicate, interpolated duplicate and random other beside the first half."""
    variance = np.maximum(b.own_noise_cg + b.weight_ck**2 @ b.input.noise_kg, VARIANCE_FLOOR)
    delta = b.mean_cg - b.input_cg
    found = {BASE_FLOOR: a.case(*base, train, verdict_c)}
    for name, source in ((REPLICATE, np.arange(len(a.n_c))), (RANDOM_OTHER, _another(a, seed))):
        case = a.case(delta[source], variance[source], train, verdict_c)
        found[name] = with_cells(case, RealCells(a, b, source))
    found[INTERPOLATED] = a.case(interpolated(b, delta, base[0]), variance, train, verdict_c)
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
