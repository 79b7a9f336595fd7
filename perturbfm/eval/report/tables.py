"""Rows of the tables: gate, headline, contexts, skill."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import (
    Facts,
    dynamic_range,
    identifiers,
    interval_of,
    leads,
    model_entries,
    named,
    predictors,
    reason_of,
    scored_words,
    status_of,
    value_of,
)
from perturbfm.eval.report.words import (
    COVERAGE_90,
    MODEL,
    SHARE,
    VERDICTS,
    WHAT,
    Notes,
    number,
    plain,
    real,
    title,
    word,
)

_SKILL = ("value", "model", "train_mean", "replicate", "reason")


def gate_rows(metrics: Facts) -> list[dict[str, Any]]:
    """The gate's table, a row per context."""
    rows = []
    for context, entry in sorted((metrics.get("gate") or {}).items()):
        e = dict(entry or {})
        rows.append({**e, "context": context, "words": VERDICTS.get(str(e.get("verdict")), plain(e.get("verdict")))})
    return rows


def headline(metrics: Facts, notes: Notes) -> dict[str, Any]:
    """The lead metrics and the share of observation noise as a table: value, interval, range, floors, replicate."""
    known = predictors(metrics)
    found = leads(metrics)
    share = named(metrics, SHARE)
    if share and share not in found:
        after = next((k + 1 for k, i in enumerate(found) if i.startswith(COVERAGE_90)), len(found))
        found = [*found[:after], share, *found[after:]]
    others = [n for n in known if n != MODEL]
    rows = [
        {
            "identifier": i,
            "title": title(i),
            "model": _cell(known[MODEL].get(i), notes),
            "interval": _interval_cell(metrics, i, notes),
            "range": dynamic_range(metrics, i),
            "scored": scored_words(model_entries(metrics).get(i)),
            "others": [_cell(known[n].get(i), notes) for n in others],
        }
        for i in found
    ]
    legend = [(word(n), WHAT[n]) for n in others if n in WHAT]
    return {"columns": [word(n) for n in others], "rows": rows, "legend": legend}


def _cell(entry: Facts | None, notes: Notes) -> dict[str, Any]:
    value = value_of(entry)
    if value is not None:
        return {"text": number(value), "note": None}
    return {"text": status_of(entry or {}), "note": notes.of(reason_of(entry))}


def _interval_cell(metrics: Facts, identifier: str, notes: Notes) -> dict[str, Any]:
    bounds, value = interval_of(metrics, identifier), value_of(model_entries(metrics).get(identifier))
    if bounds:
        outside = value is not None and not bounds[0] <= value <= bounds[1]
        why = "The interval does not hold the value: redrawn controls add noise, which moves this metric."
        return {"text": f"{number(bounds[0])} to {number(bounds[1])}", "note": notes.of(why) if outside else None}
    found = ((metrics.get("intervals") or {}).get("metrics") or {}).get(identifier) or {}
    p = real(found.get("sign_flip_p"))
    if p is not None:
        return {"text": f"p = {number(p)} against {word(str(found.get('against')))}", "note": None}
    why = found.get("reason") or (metrics.get("intervals") or {}).get("reason") or "this metric is given no interval"
    return {"text": "no interval", "note": notes.of(str(why))}


def interval_words(metrics: Facts) -> str:
    """How intervals were made, or why there are none."""
    known = metrics.get("intervals") or {}
    if known.get("rule") == "two_way_bootstrap":
        level = real(known.get("level")) or 0.95
        draws = {int(real(e.get("n_draws")) or 0) for e in (known.get("metrics") or {}).values() if e}
        n = f", {max(draws):,} draws" if draws else ""
        return f"Intervals: {level:.0%} two-way bootstrap over conditions and reference control cells{n}.".replace(
            "%", " %"
        )
    if known.get("rule") == "sign_flip":
        return "Too few conditions for an interval: an exact sign-flip p against the train mean stands instead."
    return f"No intervals: {reason_of(known)}."


def per_context(metrics: Facts) -> dict[str, Any] | None:
    """The model's lead metrics by context, where there is more than one."""
    names = sorted(str(c) for c in metrics.get("gate") or {})
    if len(names) < 2:
        return None
    found = leads(metrics)
    known = {i: ((model_entries(metrics).get(i) or {}).get("aggregates") or {}).get("per_context") or {} for i in found}
    rows = [{"context": c, "cells": [number(known[i].get(c)) for i in found]} for c in names]
    return {"columns": [title(i) for i in found], "rows": rows}


def skill_rows(metrics: Facts) -> list[dict[str, Any]]:
    """Skill between train mean and replicate."""
    known = metrics.get("skill") or {}
    order = [i for i in identifiers(metrics) if i in known]
    return [{"identifier": i, **{k: (known[i] or {}).get(k) for k in _SKILL}} for i in order]
