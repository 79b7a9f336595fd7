"""What has no value, by reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from perturbfm.eval.report.entries import Facts, identifiers, interval_of, predictors, reason_of, status_of, value_of
from perturbfm.eval.report.words import MODEL, NO_ENERGY, STATUS, plural, real, shortened, word


def undefined_groups(metrics: Facts, per_condition: pd.DataFrame) -> list[dict[str, Any]]:
    """Every value that is undefined or not applicable, by reason."""
    found: dict[str, list[dict[str, Any]]] = {}
    for reason, line in [
        *_undefined_entries(metrics),
        *_undefined_others(metrics),
        *_undefined_conditions(per_condition),
    ]:
        found.setdefault(reason, []).append(line)
    return [{"reason": r, "lines": found[r]} for r in sorted(found)]


def _undefined_entries(metrics: Facts) -> list[tuple[str, dict[str, Any]]]:
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


def _undefined_others(metrics: Facts) -> list[tuple[str, dict[str, Any]]]:
    lines: dict[str, list[str]] = {}
    for i, e in sorted((metrics.get("skill") or {}).items()):
        if real((e or {}).get("value")) is None:
            lines.setdefault(reason_of(e), []).append(i)
    found = [(r, {"status": "undefined", "where": "skill", "ids": tuple(ids)}) for r, ids in lines.items()]
    known = metrics.get("separation") or {}
    for key in (MODEL, "control_variance", "context_lookup"):
        e = known.get(key)
        if e and value_of(e) is None:
            line = {"status": status_of(e), "where": f"separation, {word(key)}", "ids": (str(known.get("identifier")),)}
            found.append((reason_of(e), line))
    intervals = metrics.get("intervals") or {}
    if intervals.get("reason"):
        found.append((reason_of(intervals), {"status": "not given", "where": "intervals of all metrics", "ids": ()}))
    for i, e in sorted((intervals.get("metrics") or {}).items()):
        if e and interval_of(metrics, i) is None and real(e.get("sign_flip_p")) is None:
            found.append((reason_of(e), {"status": "not given", "where": "interval", "ids": (i,)}))
    return found


def _undefined_conditions(per_condition: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
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
    known: dict[tuple[str, str, tuple[str, ...], str], list[str]] = {}
    for (why, status, name, metric), group in rows.groupby(["reason", "status", "predictor", "metric"], sort=True):
        status_words = "undefined" if status == "ok" else STATUS.get(str(status), str(status))
        key = (str(why), status_words, tuple(sorted(group["label"])), str(name))
        known.setdefault(key, []).append(str(metric))
    merged: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (why, status, conditions, name), ids in known.items():
        merged.setdefault((why, status, conditions, tuple(ids)), []).append(word(name))
    found = []
    for (why, status, conditions, which), names in merged.items():
        where = f"{plural(len(conditions), 'condition')} of {', '.join(names)}: {shortened(conditions)}"
        found.append((why, {"status": status, "where": where, "ids": which}))
    return found
