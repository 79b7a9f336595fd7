"""What has no value, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from perturbfm.eval.report.entries import Facts, identifiers, interval_of, predictors, reason_of, status_of, value_of
from perturbfm.eval.report.undefined_conditions import undefined_conditions
from perturbfm.eval.report.words import real, word

Line = tuple[str, dict[str, Any]]


def undefined_groups(metrics: Facts, per_condition: pd.DataFrame) -> list[dict[str, Any]]:
    """Every value that is undefined or not applicable, by reason."""
    found: dict[str, list[dict[str, Any]]] = {}
    for reason, line in [
        *_entries(metrics),
        *_skill(metrics),
        *_ranges(metrics),
        *_uncertainty(metrics),
        *_intervals(metrics),
        *undefined_conditions(per_condition),
    ]:
        found.setdefault(reason, []).append(line)
    return [{"reason": r, "lines": found[r]} for r in sorted(found)]


def _entries(metrics: Facts) -> list[Line]:
    known: dict[tuple[str, str, str], list[str]] = {}
    for name, entries in predictors(metrics).items():
        for i in identifiers(metrics):
            e = entries.get(i) or {}
            if value_of(e) is None:
                known.setdefault((reason_of(e), status_of(e), name), []).append(i)
    merged: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (reason, status, name), ids in known.items():
        merged.setdefault((reason, status, tuple(ids)), []).append(word(name))
    return [
        (reason, {"status": status, "where": f"value of {', '.join(names)}", "ids": which})
        for (reason, status, which), names in merged.items()
    ]


def _skill(metrics: Facts) -> list[Line]:
    lines: dict[str, list[str]] = {}
    for i, e in sorted((metrics.get("skill") or {}).items()):
        if real((e or {}).get("value")) is None:
            lines.setdefault(reason_of(e), []).append(i)
    return [(r, {"status": "undefined", "where": "skill", "ids": tuple(ids)}) for r, ids in lines.items()]


def _ranges(metrics: Facts) -> list[Line]:
    lines: dict[tuple[str, str], list[str]] = {}
    for i, e in sorted((metrics.get("dynamic_range") or {}).items()):
        if e and value_of(e) is None:
            lines.setdefault((reason_of(e), status_of(e)), []).append(i)
    return [(r, {"status": s, "where": "dynamic range", "ids": tuple(ids)}) for (r, s), ids in lines.items()]


def _uncertainty(metrics: Facts) -> Iterator[Line]:
    """Separation, risk-coverage and reliability: whatever in them states that it has no value."""
    for part, where in (
        ("separation", "separation"),
        ("risk", "risk-coverage curve"),
        ("reliability", "reliability diagram"),
    ):
        yield from _stated(metrics.get(part) or {}, where)


def _stated(entry: Facts, where: str) -> Iterator[Line]:
    """Lines for an object that states a status other than ok, and for all such objects in it."""
    if entry.get("status", "ok") not in ("ok", None):
        ids = (str(entry["identifier"]),) if entry.get("identifier") else ()
        yield reason_of(entry), {"status": status_of(entry), "where": where, "ids": ids}
    for key, inner in entry.items():
        if isinstance(inner, dict):
            yield from _stated(inner, where if key in ("scores", "axes") else f"{where}, {word(str(key))}")


def _intervals(metrics: Facts) -> Iterator[Line]:
    intervals = metrics.get("intervals") or {}
    if intervals.get("reason"):
        yield reason_of(intervals), {"status": "not given", "where": "intervals of all metrics", "ids": ()}
    for i, e in sorted((intervals.get("metrics") or {}).items()):
        if e and interval_of(metrics, i) is None and real(e.get("sign_flip_p")) is None:
            yield reason_of(e), {"status": "not given", "where": "interval", "ids": (i,)}
