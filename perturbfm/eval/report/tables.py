"""Rows of the tables: gate, headline, contexts, skill, the whole panel, floors."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import (
    Facts,
    identifiers,
    interval_of,
    leads,
    model_entries,
    predictors,
    reason_of,
    status_of,
    value_of,
)
from perturbfm.eval.report.words import MODEL, VERDICTS, Notes, number, plain, real, title, word

_SKILL = ("value", "model", "train_mean", "replicate", "reason")


def gate_rows(metrics: Facts) -> list[dict[str, Any]]:
    """The gate's table, a row per context."""
    rows = []
    for context, entry in sorted((metrics.get("gate") or {}).items()):
        e = dict(entry or {})
        rows.append({**e, "context": context, "words": VERDICTS.get(str(e.get("verdict")), plain(e.get("verdict")))})
    return rows


def headline(metrics: Facts, notes: Notes) -> dict[str, Any]:
    """The lead metrics as a table: value, interval, floors, replicate."""
    known = predictors(metrics)
    others = [n for n in known if n != MODEL]
    rows = [
        {
            "identifier": i,
            "title": title(i),
            "model": _cell(known[MODEL].get(i), notes),
            "interval": _interval_cell(metrics, i, notes),
            "others": [_cell(known[n].get(i), notes) for n in others],
        }
        for i in leads(metrics)
    ]
    return {"columns": [word(n) for n in others], "rows": rows}


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
    return {"text": "none", "note": notes.of(str(why))}


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


def full_rows(metrics: Facts) -> list[dict[str, Any]]:
    """Every metric of the panel for the model."""
    rows = []
    for i in identifiers(metrics):
        e = model_entries(metrics).get(i) or {}
        known = e.get("aggregates") or {}
        numbers = {k: known.get(k) for k in ("macro_context", "micro", "cell_weighted")}
        rows.append({**e, **numbers, "identifier": i, "status": status_of(e), "reason": e.get("reason") or ""})
    return rows


def floor_rows(metrics: Facts) -> dict[str, Any]:
    """Every metric of the panel for model, floors and replicate."""
    known = predictors(metrics)
    rows = []
    for i in identifiers(metrics):
        cells = []
        for entries in known.values():
            e = entries.get(i) or {}
            value = value_of(e)
            cell = {"text": status_of(e), "why": reason_of(e)} if value is None else {"text": number(value), "why": ""}
            cells.append(cell)
        rows.append({"identifier": i, "cells": cells})
    return {"columns": [word(n) for n in known], "rows": rows}
