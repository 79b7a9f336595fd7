"""What truth alone refuses, and how far a number can be trusted: two-way intervals, sign-flip, or values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perturbfm.eval.aggregate import NO_EFFECT, audible, mean_of, pooled
from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.effort import Effort, number
from perturbfm.eval.gate import NO_SIGNAL, POWERED, WEAK
from perturbfm.eval.metric.explained import explained_variance
from perturbfm.eval.panel import Metric, Panel
from perturbfm.eval.redraw import redrawn_cases
from perturbfm.eval.resample import (
    BOOTSTRAP,
    SIGN_FLIP,
    interval_rule,
    percentiles,
    rescaled,
    sign_flip_p,
    small_sample,
)
from perturbfm.eval.truth import Truth
from perturbfm.types import without_dose

LEVEL = 0.95
DENOMINATOR_SE = 2.0
FEW_DRAWS = 200
ONE_CLUSTER = "all conditions are of one perturbation: the spread between perturbations is not known"
FAINT = "the signal energy {:.3g} is not more than {:g} standard errors ({:.3g}) above zero"
FLIP_REASON = "5 to 9 conditions: no interval; sign-flip p of panel-centred metrics, in which control noise cancels"


def refusals(panel: Panel, truth: Truth, verdicts: Mapping[str, str]) -> dict[str, str]:
    """For each metric that truth alone makes undefined in every context, why."""
    silent = [k for k, v in verdicts.items() if v == NO_SIGNAL]
    if len(silent) == len(verdicts):
        return {m.identifier: NO_EFFECT.format(", ".join(silent)) for m in panel.metrics if m.effect}
    if set(silent) | truth.faint.keys() == verdicts.keys():
        return {m.identifier: next(iter(truth.faint.values())) for m in panel.metrics if m.ratio}
    return {}


def faint_contexts(truth: Truth, effort: Effort) -> dict[str, str]:
    """Contexts whose signal energy |T|^2 - V is not clear of zero by two standard errors, two-way, and why.

    The energy is the denominator of EV in that context; where it could as well be zero, a ratio is a random number.
    """
    if not truth.has_cells:
        return {}
    nothing = np.zeros_like(truth.mean_cg)
    case = truth.case(nothing, np.ones_like(nothing), None, np.full(len(nothing), POWERED, dtype=object))
    few = replace(effort, bootstrap_draws=min(FEW_DRAWS, effort.bootstrap_draws))
    draws, weight_bc = redrawn_cases(truth, [case], few)
    energy_bc = np.array([explained_variance(d[0]).den_c for d in draws]) * weight_bc
    measured_c, found = explained_variance(case).den_c, {}
    for context in sorted(set(truth.context_c.tolist())):
        mine = truth.context_c == context
        energy, se = float(measured_c[mine].sum()), float(np.std(energy_bc[:, mine].sum(1), ddof=1))
        if not energy > DENOMINATOR_SE * se:
            found[context] = FAINT.format(energy, DENOMINATOR_SE, se)
    return found


def intervals(
    panel: Panel,
    truth: Truth,
    case: Case,
    base: Case,
    refusal: Mapping[str, str],
    verdicts: Mapping[str, str],
    effort: Effort,
) -> dict[str, Any]:
    """Two-way intervals from 10 conditions on, sign-flip p against the train mean from 5, else values only."""
    rule = interval_rule(case.n_conditions)
    chosen = [m for m in panel.metrics if m.interval and m.identifier not in refusal]
    weak = [k for k, v in verdicts.items() if v != POWERED]
    silent = [k for k, v in verdicts.items() if v not in (POWERED, WEAK)]
    if truth.has_cells and rule == BOOTSTRAP and not weak:
        return {
            "rule": "two_way_bootstrap",
            "level": LEVEL,
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
    """Percentiles of the draws, moved and rescaled to what chance does to the value.

    Redrawn controls add their own noise to errors and correlations with a control, which moves the whole distribution
    of the draws; there the percentiles are moved back by the bias of the median. EV takes the noise out and
    panel-centred metrics never see it, so their percentiles stand where they are. Distances from the median are
    rescaled by `small_sample` and, but for those two, by `_once` (`width_factor` is the product). A ratio whose
    denominator a few conditions carry has long tails that are no matter of the controls: EV keeps its whole interval,
    which is rather too wide.
    """
    found = {}
    widen = small_sample(len(set(without_dose(case.intervention_c).tolist())), LEVEL)
    for metric in chosen:
        draws, weight_bc = redrawn_cases(truth, [case], effort)
        drawn = [_macro(metric, metric.function(d[0]), d[0], w) for d, w in zip(draws, weight_bc, strict=True)]
        value = _macro(metric, metric.function(case), case, np.ones(case.n_conditions))
        known = np.array([v for v in drawn if v is not None])
        got = percentiles(known, LEVEL)
        moves = value is not None and len(known) > 0 and not (metric.ratio or metric.centred)
        bias = float(np.median(known)) - value if moves and value is not None else 0.0
        once = 1.0 if metric.centred or metric.ratio else _once(metric, truth, case, effort, got.se)
        near = rescaled(got, float(np.median(known)) if len(known) else np.nan, once * widen)
        entry = {"low": number(near.low - bias), "high": number(near.high - bias), "se": number(once * got.se)}
        found[metric.identifier] = {
            **entry,
            "n_draws": got.n_draws,
            "bias_removed": number(bias),
            "width_factor": number(once * widen),
        } | ({} if np.isfinite(widen) else {"reason": ONE_CLUSTER})
    return found


def _once(metric: Metric, truth: Truth, case: Case, effort: Effort, se: float) -> float:
    r"""What the spread of the draws is to be multiplied by, so that the noise of the controls is in it once; at most 1.

    The measured T already holds the noise r of its controls, and a draw adds its own, d. Where a metric is quadratic,
    the product of r and d widens the draws although nothing like it stands in the value: on average over r, the
    variance of the part odd in d is too large by twice that of the even part. So the variance is

    .. math:: V_{conditions} + \max(V_{odd} - V_{even}, V_{even})

    with the odd and even part of a draw from it and its mirror image, and :math:`V_{conditions}` from conditions
    redrawn beside the truth as measured. Nothing is subtracted where a metric is linear in d.
    """
    few = replace(effort, bootstrap_draws=min(FEW_DRAWS, effort.bootstrap_draws))
    draws, weight_bc = redrawn_cases(truth, [case], few)
    stats, flat_c = metric.function(case), np.ones(case.n_conditions)
    conditions = _variance([_macro(metric, stats, case, w) for w in weight_bc])
    pairs = ((d, replace(d, truth_cg=2.0 * case.truth_cg - d.truth_cg)) for (d,) in draws)
    sides = [[_macro(metric, metric.function(c), c, flat_c) for c in pair] for pair in pairs]
    whole = np.array([side for side in sides if None not in side], dtype=float).reshape(-1, 2)
    odd, even = _variance((whole[:, 0] - whole[:, 1]) / 2.0), _variance(whole.mean(axis=1))
    right = conditions + max(odd - even, even)
    return min(1.0, float(np.sqrt(right)) / se) if se > 0 and np.isfinite(right) else 1.0


def _variance(values: Any) -> float:
    known = np.array([v for v in values if v is not None], dtype=float)
    return float(known.var(ddof=1)) if len(known) > 1 else float("nan")


def _macro(metric: Metric, stats: PerCondition, case: Case, weight_c: np.ndarray) -> float | None:
    """The reported value, an unweighted mean over contexts, under weights of conditions.

    None where a context that takes part has no positive denominator under these weights: leaving it out would average
    over whichever contexts happen to look well.
    """
    stats = audible(metric, stats, case)
    contexts = sorted(set(case.context_c[stats.ok_c].tolist()))
    values = {k: pooled(stats, weight_c * (case.context_c == k)) for k in contexts}
    drawn = [k for k in contexts if weight_c[stats.ok_c & (case.context_c == k)].sum() > 0]
    return mean_of(values) if drawn and all(values[k] is not None for k in drawn) else None


def _flip(metric: Metric, case: Case, base: Case) -> dict[str, Any]:
    """Exact sign-flip p of the difference to the train mean, over conditions on which both have a value."""
    base_c = metric.function(base).value_c
    if metric.worst is not None:
        base_c = np.where(np.isfinite(base_c), base_c, metric.worst)  # a constant prediction ranks nothing
    difference = metric.function(case).value_c - base_c
    difference = difference[np.isfinite(difference)]
    if interval_rule(len(difference)) != SIGN_FLIP:
        return {"sign_flip_p": None, "reason": f"{len(difference)} conditions on which both have a value"}
    return {"sign_flip_p": sign_flip_p(difference), "reason": "", "against": "train_mean"}
