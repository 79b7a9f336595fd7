"""Which conditions have no value, by reason; what is alike is said once, and very much of it is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from perturbfm.eval.report.words import NAMED, NO_ENERGY, STATUS, plural, shortened, word

Line = tuple[str, dict[str, Any]]
LINES = 8
"""Of one reason, so many groups of conditions are spelled out; the rest is counted. All stand in the table on disk."""


def undefined_conditions(per_condition: pd.DataFrame) -> list[Line]:
    """Conditions without a value; predictors and metrics that fail in the same conditions share a line."""
    if per_condition.empty:
        return []
    bad = per_condition[~np.isfinite(pd.to_numeric(per_condition["value"], errors="coerce"))]
    if bad.empty:
        return []
    many = per_condition["context"].nunique() > 1
    labels = bad["intervention"].astype(str) + (" in " + bad["context"].astype(str) if many else "")
    reason = bad["reason"].where(bad["reason"].map(lambda r: isinstance(r, str) and r != ""), NO_ENERGY)
    rows = bad.assign(label=labels, reason=reason.astype(str).str.rstrip("."))
    n_all = len(per_condition[["context", "intervention"]].drop_duplicates())
    found: list[Line] = []
    for why, group in rows.groupby("reason", sort=True):
        lines = _merged(group, n_all)
        found += [(str(why), line) for line in lines[:LINES]]
        if left := lines[LINES:]:
            n = sum(line["n"] for line in left)
            where = f"{n:,} more values in {plural(len(left), 'further group')} of conditions: per_condition.csv.gz"
            found.append((str(why), {"status": "and", "where": where, "ids": ()}))
    return found


def _merged(rows: pd.DataFrame, n_all: int) -> list[dict[str, Any]]:
    """Lines of one reason, those that speak of most values first."""
    known: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for (status, name, metric), group in rows.groupby(["status", "predictor", "metric"], sort=True):
        words = "undefined" if status == "ok" else STATUS.get(str(status), str(status))
        known.setdefault((words, tuple(sorted(group["label"])), str(name)), []).append(str(metric))
    merged: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (words, conditions, name), ids in known.items():
        merged.setdefault((words, conditions, tuple(ids)), []).append(word(name))
    lines = [_line(*key, names, n_all) for key, names in merged.items()]
    return sorted(lines, key=lambda line: (-line["n"], line["where"], line["ids"]))


def _line(
    status: str, conditions: tuple[str, ...], ids: tuple[str, ...], names: list[str], n_all: int
) -> dict[str, Any]:
    every = len(conditions) == n_all > 1
    where = f"{'all ' if every else ''}{plural(len(conditions), 'condition')} of {', '.join(names)}"
    where += "" if every else f": {shortened(conditions)}"
    more = f"; {plural(len(ids) - NAMED, 'further metric')}" if len(ids) > NAMED else ""
    n = len(conditions) * len(ids) * len(names)
    return {"status": status, "where": where + more, "ids": ids[:NAMED], "n": n}
