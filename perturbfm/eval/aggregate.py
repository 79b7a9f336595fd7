"""From values per condition to the numbers of a table: per context, macro, micro, cell-weighted, each by its name."""

from __future__ import annotations

from typing import Any

import numpy as np

from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case, PerCondition
from perturbfm.eval.gate import NO_SIGNAL
from perturbfm.eval.panel.metric import Metric

NO_EFFECT = "no measurable effect: the truth of {} does not differ from noise (gate)"
NO_ENERGY = "the truth holds no positive signal energy"


def audible(metric: Metric, stats: PerCondition, case: Case) -> PerCondition:
    """The statistics, undefined where truth alone forbids a number.

    An effect metric is undefined in a context whose truth holds no measurable effect; a ratio is undefined in a context
    whose signal energy, its denominator, is not clear of zero.
    """
    reason_c = np.full(case.n_conditions, "", dtype=object)
    if metric.ratio and case.faint_c is not None:
        reason_c = case.faint_c.copy()
    if metric.effect:
        silent_c = case.powered_c == NO_SIGNAL
        reason_c[silent_c] = [NO_EFFECT.format(k) for k in case.context_c[silent_c]]
    mute_c = reason_c != ""
    if not mute_c.any():
        return stats
    return PerCondition(
        np.where(mute_c, np.nan, stats.num_c),
        np.where(mute_c, np.nan, stats.den_c),
        np.where(mute_c, UNDEFINED, stats.status_c).astype(object),
        np.where(mute_c, reason_c, stats.reason_c).astype(object),
    )


def counted(stats: PerCondition, context_c: np.ndarray) -> np.ndarray:
    """Conditions behind a macro mean: those with a value, in contexts that have one."""
    valued = {k for k, v in grouped(stats, context_c).items() if v is not None}
    return stats.ok_c & np.array([str(k) in valued for k in context_c], dtype=bool)


def pooled(stats: PerCondition, weight_c: np.ndarray) -> float | None:
    """`sum(w num) / sum(w den)` over conditions that have a value; None where nothing weighs."""
    ok = stats.ok_c & (weight_c > 0)
    den = float((weight_c[ok] * stats.den_c[ok]).sum())
    return float((weight_c[ok] * stats.num_c[ok]).sum()) / den if ok.any() and den > 0 else None


def grouped(stats: PerCondition, name_c: np.ndarray) -> dict[str, float | None]:
    """Pooled value of each group of conditions."""
    return {str(n): pooled(stats, (name_c == n).astype(float)) for n in sorted(set(name_c.tolist()))}


def mean_of(values: dict[str, float | None]) -> float | None:
    """Unweighted mean over groups that have a value."""
    known = [v for v in values.values() if v is not None]
    return float(np.mean(known)) if known else None


def aggregates(stats: PerCondition, case: Case) -> dict[str, Any]:
    """All aggregates of one metric.

    Returns:
        `per_context`, `per_perturbation`; `macro_context` and `macro_perturbation` (unweighted means of those);
        `micro` (every condition counts once); `cell_weighted` (a condition counts as often as it has rows).
    """
    per_context, per_perturbation = grouped(stats, case.context_c), grouped(stats, case.intervention_c)
    return {
        "per_context": per_context,
        "per_perturbation": per_perturbation,
        "macro_context": mean_of(per_context),
        "macro_perturbation": mean_of(per_perturbation),
        "micro": pooled(stats, np.ones(case.n_conditions)),
        "cell_weighted": pooled(stats, case.n_c.astype(float)),
    }


def strict(metric: Metric, stats: PerCondition, case: Case) -> float | None:
    """Macro mean in which an undefined condition is charged the worst value; None where the metric names none.

    What the truth makes undefined, a context without a measurable effect, is charged to no model.
    """
    if metric.worst is None:
        return None
    owed_c = stats.status_c == UNDEFINED
    if metric.effect:
        owed_c = owed_c & (case.powered_c != NO_SIGNAL)
    charged = np.where(stats.ok_c, stats.value_c, np.where(owed_c, metric.worst, np.nan))
    known = np.isfinite(charged)
    means = [charged[known & (case.context_c == k)].mean() for k in sorted(set(case.context_c[known].tolist()))]
    return float(np.mean(means)) if means else None


def summary(metric: Metric, stats: PerCondition, case: Case, refusal: str = "") -> dict[str, Any]:
    """One metric's entry in `metrics.json`.

    Args:
        metric: The line of the panel.
        stats: Its statistics.
        case: What was judged.
        refusal: Why the value is undefined although conditions have one (no signal, a denominator near zero).

    Returns:
        Status, reason, value (macro over contexts), strict value, aggregates, n_scored, n_total.
    """
    stats = audible(metric, stats, case)
    known = aggregates(stats, case)
    value = known["macro_context"]
    status, reason = OK, ""
    if refusal:
        status, reason = UNDEFINED, refusal
    elif value is None:
        status = UNDEFINED if (stats.status_c == UNDEFINED).any() or stats.ok_c.any() else NOT_APPLICABLE
        reason = first_reason(stats) or NO_ENERGY
    ok = status == OK
    n_counted = int(counted(stats, case.context_c).sum())
    lost = int(stats.ok_c.sum()) - n_counted
    return {
        "better": metric.better,
        "title": metric.title or metric.identifier.partition("[")[0],
        "meaning": metric.meaning,
        "aliases": list(metric.aliases),
        "lead": metric.lead,
        "status": status,
        "reason": reason,
        "value": value if ok else None,
        "strict": strict(metric, stats, case) if not refusal else None,
        "n_scored": n_counted if ok else 0,
        "n_total": case.n_conditions,
        "aggregates": known if ok else None,
        "unscored": reasons(stats) | ({NO_ENERGY: lost} if lost else {}),
    }


def reasons(stats: PerCondition) -> dict[str, int]:
    """How many conditions have no value, by reason."""
    words, counts = np.unique(stats.reason_c[~stats.ok_c].astype(str), return_counts=True)
    return {str(w): int(c) for w, c in zip(words, counts, strict=True)}


def first_reason(stats: PerCondition) -> str:
    """The most frequent reason why conditions have no value."""
    found = reasons(stats)
    return max(found, key=lambda w: found[w]) if found else ""
