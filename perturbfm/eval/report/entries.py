"""Finding things in the metrics object: entries, values, intervals, verdicts of the gate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from perturbfm.eval.report.words import MODEL, ORDER, SHORT_STATUS, STATUS, TITLES, number, real

Facts = Mapping[str, Any]

ROUNDING = 1e-4
"""Relative difference up to which two values are called the same."""


def model_entries(metrics: Facts) -> Facts:
    """Entries of the judged model by identifier."""
    return metrics.get("metrics") or {}


def predictors(metrics: Facts) -> dict[str, Facts]:
    """Entries of model, floors and replicate, in the order of the page."""
    known = {MODEL: model_entries(metrics), **(metrics.get("floors") or {})}
    rank = {n: k for k, n in enumerate(ORDER)}
    return {n: known[n] or {} for n in sorted(known, key=lambda n: (rank.get(n, 3.5), n))}


def identifiers(metrics: Facts) -> list[str]:
    """Identifiers in the panel's order, then any that it does not list."""
    listed = [str(i) for i in (metrics.get("panel") or {}).get("metrics") or []]
    return listed + sorted(i for i in model_entries(metrics) if i not in set(listed))


def leads(metrics: Facts) -> list[str]:
    """Identifiers of the headline, in the order of `TITLES`."""
    rank = [start for start, _ in TITLES]
    found = [i for i in identifiers(metrics) if (model_entries(metrics).get(i) or {}).get("lead")]
    return sorted(found, key=lambda i: next((k for k, s in enumerate(rank) if i.startswith(s)), len(rank)))


def dynamic_range(metrics: Facts, identifier: str) -> dict[str, Any]:
    """How much of a metric's range lies between train mean and replicate here: `text`, `flagged` and why."""
    found = (metrics.get("dynamic_range") or {}).get(identifier) or {}
    value = value_of(found)
    text = number(value, 2) if value is not None else SHORT_STATUS.get(str(found.get("status")), "–")
    return {"text": text, "flagged": bool(found.get("flagged")), "why": str(found.get("reason") or "")}


def named(metrics: Facts, start: str, inside: str = "") -> str | None:
    """The first identifier that starts and continues in a certain way."""
    return next((i for i in identifiers(metrics) if i.startswith(start) and inside in i), None)


def value_of(entry: Facts | None) -> float | None:
    """An entry's value where its status is ok."""
    return real(entry.get("value")) if entry and entry.get("status") == "ok" else None


def interval_of(metrics: Facts, identifier: str) -> tuple[float, float] | None:
    """The model's interval of a metric."""
    found = ((metrics.get("intervals") or {}).get("metrics") or {}).get(identifier) or {}
    low, high = real(found.get("low")), real(found.get("high"))
    return (low, high) if low is not None and high is not None else None


def status_of(entry: Facts) -> str:
    """An entry's status in words."""
    return STATUS.get(str(entry.get("status")), "without a status")


def scored_words(entry: Facts | None) -> str:
    """On how many conditions a value rests, where it is not all of them."""
    n, total = (real((entry or {}).get(k)) for k in ("n_scored", "n_total"))
    return f"{n:.0f} of {total:.0f} conditions" if n and total and n < total else ""


def reason_of(entry: Facts | None) -> str:
    """Why an entry has no value, without its full stop."""
    return str((entry or {}).get("reason") or "no reason is given").rstrip(".")


def by_verdict(metrics: Facts) -> dict[str, list[str]]:
    """Contexts by the gate's verdict."""
    found: dict[str, list[str]] = {}
    for context, entry in sorted((metrics.get("gate") or {}).items()):
        found.setdefault(str((entry or {}).get("verdict")), []).append(str(context))
    return found


def twin_floor(metrics: Facts) -> str | None:
    """A floor that has the model's value in every metric: the model is then that floor."""
    mine = {i: value_of(e) for i, e in model_entries(metrics).items()}
    known = {i: v for i, v in mine.items() if v is not None}
    for name, entries in predictors(metrics).items():
        theirs = {i: value_of(entries.get(i)) for i in known}
        if name != MODEL and len(known) > 2 and all(same(v, theirs[i]) for i, v in known.items()):
            return name
    return None


def same(a: float, b: float | None) -> bool:
    """Whether two values are one, up to what rounding of a stored prediction to float32 can do to a ratio."""
    return b is not None and math.isclose(a, b, rel_tol=ROUNDING, abs_tol=1e-9)
