"""Every metric of the panel, under the benchmark suite that publishes it."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import (
    Facts,
    dynamic_range,
    identifiers,
    model_entries,
    predictors,
    reason_of,
    status_of,
    value_of,
)
from perturbfm.eval.report.words import MODEL, SHORT_STATUS, number, real, word

OWN, UNCERTAINTY = "PerturbFM", "Uncertainty"
SUITES = (
    ("scperturbench", "scPerturBench"),
    ("perturbench", "PerturBench"),
    ("cell_eval", "cell-eval and the Virtual Cell Challenge"),
    ("systema", "Systema"),
    ("ahlmann_eltze", "Ahlmann-Eltze"),
    ("shift", "Shift"),
)
"""How the alias of a suite starts, and what the suite is called."""
LIBRARIES, PUBLISHED_BY_LIBRARIES = (
    "Distances between groups of cells, by libraries",
    ("pertpy", "geomloss", "scperturb_", "scipy"),
)
UNCERTAIN = ("coverage[", "width[", "nll_", "crps", "interval_score[", "pfm.pit_", "pfm.obs_share[")
ORDER = (OWN, *(title for _, title in SUITES), LIBRARIES, UNCERTAINTY)


def suite_groups(metrics: Facts) -> list[dict[str, Any]]:
    """Suites in order, each with its metrics; a metric that several publish stands in each of them."""
    known = predictors(metrics)
    found: dict[str, list[dict[str, Any]]] = {}
    for i in identifiers(metrics):
        entry = model_entries(metrics).get(i) or {}
        aliases = [str(a) for a in entry.get("aliases") or []]
        for suite in suites_of(i, aliases):
            found.setdefault(suite, []).append(_row(metrics, i, entry, aliases, known))
    columns = [word(n) for n in known if n != MODEL]
    rest = sorted(s for s in found if s not in ORDER)
    return [_group(s, found[s], columns) for s in (*ORDER, *rest) if s in found]


def suites_of(identifier: str, aliases: list[str]) -> list[str]:
    """The suites that a metric belongs to: those that its aliases name, else what it speaks of."""
    named = [title for start, title in SUITES if any(a.startswith(start) for a in aliases)]
    if named:
        return named
    if identifier.startswith(UNCERTAIN):
        return [UNCERTAINTY]
    return [LIBRARIES] if any(a.startswith(PUBLISHED_BY_LIBRARIES) for a in aliases) else [OWN]


def _group(name: str, rows: list[dict[str, Any]], columns: list[str]) -> dict[str, Any]:
    without = sum(r["value"] is None for r in rows)
    return {"name": name, "rows": rows, "columns": columns, "without": without}


def _row(metrics: Facts, identifier: str, entry: Facts, aliases: list[str], known: dict[str, Facts]) -> dict[str, Any]:
    aggregates = entry.get("aggregates") or {}
    return {
        "identifier": identifier,
        "aliases": aliases,
        "meaning": entry.get("meaning") or "",
        "status": status_of(entry),
        "short": SHORT_STATUS.get(str(entry.get("status")), "–"),
        "value": value_of(entry),
        "reason": "" if value_of(entry) is not None else reason_of(entry),
        "range": dynamic_range(metrics, identifier),
        "scored": f"{number(entry.get('n_scored'), 0)}/{number(entry.get('n_total'), 0)}",
        "strict": real(entry.get("strict")),
        "micro": real(aggregates.get("micro")),
        "cell_weighted": real(aggregates.get("cell_weighted")),
        "cells": [_cell(entries.get(identifier) or {}) for name, entries in known.items() if name != MODEL],
    }


def _cell(entry: Facts) -> dict[str, str]:
    value = value_of(entry)
    if value is not None:
        return {"text": number(value), "why": ""}
    short = SHORT_STATUS.get(str(entry.get("status")), "–")
    return {"text": short, "why": reason_of(entry)}
