"""What truth alone refuses, and how far a number can be trusted: two-way intervals, sign-flip, or values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perturbfm.eval.aggregate import NO_EFFECT, audible, mean_of, pooled
from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.effort import Effort, number
from perturbfm.eval.gate import NO_SIGNAL, POWERED, WEAK, GateVerdict
from perturbfm.eval.panel import Metric, Panel
from perturbfm.eval.redraw import redrawn_cases
from perturbfm.eval.replicate import BASE_FLOOR
from perturbfm.eval.resample import (
    BOOTSTRAP,
    SIGN_FLIP,
    aggregate_draws,
    interval_rule,
    percentiles,
    sign_flip_p,
)
from perturbfm.eval.truth import Truth

DENOMINATOR_SE = 2.0
FLIP_REASON = "5 to 9 conditions: no interval; sign-flip p of panel-centred metrics, in which control noise cancels"


def refusals(panel: Panel, truth: Truth, case: Case, gate: Mapping[str, GateVerdict], effort: Effort) -> dict[str, str]:
    """For each metric that truth alone makes undefined, why."""
    silent = [k for k, v in gate.items() if v.verdict == NO_SIGNAL]
    found = {}
    if len(silent) == len(gate):
        found = {m.identifier: NO_EFFECT.format(", ".join(silent)) for m in panel.metrics if m.effect}
    for metric in panel.metrics:
        if metric.ratio and metric.identifier not in found and truth.has_cells:
            why = _denominator_near_zero(metric, truth, case, effort)
            if why:
                found[metric.identifier] = why
    return found


def _denominator_near_zero(metric: Metric, truth: Truth, case: Case, effort: Effort) -> str:
    """Whether a ratio's denominator is not clear of zero by two standard errors, two-way."""

    def heard(c: Case) -> PerCondition:
        return audible(metric, metric.function(c), c)

    stats = heard(case)
    total = float(stats.den_c[stats.ok_c].sum())
    draws, weight_bc = redrawn_cases(truth, [case], replace(effort, bootstrap_draws=min(200, effort.bootstrap_draws)))
    _, den_b = aggregate_draws(heard, (d[0] for d in draws), weight_bc)
    se = float(np.std(den_b, ddof=1))
    if total > DENOMINATOR_SE * se:
        return ""
    return f"the signal energy {total:.3g} is not more than {DENOMINATOR_SE:g} standard errors ({se:.3g}) above zero"


def intervals(
    panel: Panel,
    truth: Truth,
    cases: Mapping[str, Case],
    refusal: Mapping[str, str],
    gate: Mapping[str, GateVerdict],
    effort: Effort,
) -> dict[str, Any]:
    """Two-way intervals from 10 conditions on, sign-flip p against the train mean from 5, else values only."""
    case, base = cases["model"], cases[BASE_FLOOR]
    rule = interval_rule(case.n_conditions)
    chosen = [m for m in panel.metrics if m.interval and m.identifier not in refusal]
    weak = [k for k, v in gate.items() if v.verdict != POWERED]
    silent = [k for k, v in gate.items() if v.verdict not in (POWERED, WEAK)]
    if truth.has_cells and rule == BOOTSTRAP and not weak:
        return {
            "rule": "two_way_bootstrap",
            "level": 0.95,
            "reason": "",
            "metrics": _bootstrap(chosen, truth, case, effort),
        }
    if truth.has_cells and rule == SIGN_FLIP and not silent:
        flips = {m.identifier: _flip(m, case, base) for m in chosen if m.centred}
        return {"rule": rule, "level": None, "reason": FLIP_REASON, "metrics": flips}
    reason = f"{case.n_conditions} conditions: values only"
    if not truth.has_cells:
        reason = "the file has no cells, so reference controls cannot be resampled"
    elif weak:
        reason = f"not powered: {', '.join(weak)}"
    return {"rule": "values_only", "level": None, "reason": reason, "metrics": {}}


def _bootstrap(chosen: list[Metric], truth: Truth, case: Case, effort: Effort) -> dict[str, Any]:
    """Percentiles of the draws, moved by the bias of the draws: drawn controls add their own noise to errors."""
    found = {}
    for metric in chosen:
        draws, weight_bc = redrawn_cases(truth, [case], effort)
        drawn = [_macro(metric, d[0], w) for d, w in zip(draws, weight_bc, strict=True)]
        got = percentiles(np.array([v for v in drawn if v is not None]), 0.95)
        value = _macro(metric, case, np.ones(case.n_conditions))
        bias = got.mean - value if value is not None else float("nan")
        entry = {"low": number(got.low - bias), "high": number(got.high - bias), "se": number(got.se)}
        found[metric.identifier] = {**entry, "n_draws": got.n_draws, "bias_removed": number(bias)}
    return found


def _macro(metric: Metric, case: Case, weight_c: np.ndarray) -> float | None:
    """The reported value, an unweighted mean over contexts, under weights of conditions."""
    stats = audible(metric, metric.function(case), case)
    contexts = sorted(set(case.context_c.tolist()))
    return mean_of({k: pooled(stats, weight_c * (case.context_c == k)) for k in contexts})


def _flip(metric: Metric, case: Case, base: Case) -> dict[str, Any]:
    """Exact sign-flip p of the difference to the train mean, over conditions on which both have a value."""
    base_c = metric.function(base).value_c
    if metric.worst is not None:
        base_c = np.where(np.isfinite(base_c), base_c, metric.worst)  # a constant prediction ranks nothing
    difference = metric.function(case).value_c - base_c
    difference = difference[np.isfinite(difference)]
    if interval_rule(len(difference)) != SIGN_FLIP:
        return {"sign_flip_p": None, "reason": f"{len(difference)} conditions on which both have a value"}
    return {"sign_flip_p": sign_flip_p(difference), "reason": "", "against": BASE_FLOOR}
