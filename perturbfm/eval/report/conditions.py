"""The table of conditions: which of them are shown, and what stands in each cell."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from perturbfm.eval.report.entries import Facts, dynamic_range, named
from perturbfm.eval.report.words import (
    COVERAGE_90,
    EDIST,
    EV,
    MODEL,
    NO_ENERGY,
    PCC,
    RETRIEVAL,
    SHORT_STATUS,
    number,
    real,
)

SHOWN_CONDITIONS = 500
"""From more conditions than this, the table holds the worst and the best half of this number."""
COLUMNS = (
    ("EV", EV, ""),
    ("PCC panel", PCC, ""),
    ("Retrieval", RETRIEVAL, ""),
    ("DE direction", "pfm.de_direction[", ""),
    ("DE agreement", "pfm.de_significance[", ""),
    ("CRPS", "crps_gaussian[", "obs_noise=added"),
    ("Coverage 90", COVERAGE_90, "obs_noise=added"),
    ("E-distance", EDIST, "cells=predicted"),
    ("PCC control", "pcc_delta[ref=control_split", ""),
    ("MSE", "mse[space=mean_delta", ""),
)
_NOTHING: tuple[Any, str, str] = (None, "", "not in the table of conditions")


def condition_table(metrics: Facts, per_condition: pd.DataFrame) -> dict[str, Any]:
    """The model's values condition by condition; of very many, the worst and the best by EV."""
    columns = [(text, i) for text, start, inside in COLUMNS if (i := named(metrics, start, inside))]
    known = _by_condition(per_condition, [i for _, i in columns])
    ev = named(metrics, EV) or ""
    ranked = sorted(known, key=lambda k: (-math.inf if (v := real(known[k].get(ev, _NOTHING)[0])) is None else -v, k))
    with_ev = [k for k in ranked if real(known[k].get(ev, _NOTHING)[0]) is not None][::-1]
    without = sorted(k for k in known if k not in set(with_ev))
    shown, words = _chosen(with_ev, without)
    rows = [
        {
            "context": k[0],
            "intervention": k[1],
            "n_rows": real(known[k]["n_rows"][0]),
            "cells": [_condition_cell(known[k].get(i, _NOTHING)) for _, i in columns],
        }
        for k in shown
    ]
    heads = [
        {
            "text": text,
            "identifier": i,
            "flagged": dynamic_range(metrics, i)["flagged"],
            "sorted": "ascending" if i == ev and len(with_ev) > 1 else "none",
        }
        for text, i in columns
    ]
    return {"columns": heads, "rows": rows, "words": words, "n": len(known)}


def _chosen(with_ev: list[tuple[str, str]], without: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    n, half = len(with_ev) + len(without), SHOWN_CONDITIONS // 2
    if n <= SHOWN_CONDITIONS:
        return with_ev + without, _all_words(n)
    if len(with_ev) >= SHOWN_CONDITIONS:
        said = f"Of {n:,} conditions the {half} with the lowest and the {half} with the highest EV are shown"
        said += f" ({len(without):,} have no EV)" if without else ""
        return with_ev[:half] + with_ev[-half:], f"{said}. All stand in per_condition.csv.gz."
    shown = (with_ev + without)[:SHOWN_CONDITIONS]
    said = f"Of {n:,} conditions {SHOWN_CONDITIONS} are shown: {len(with_ev):,} with an EV, then others by name."
    return shown, f"{said} All stand in per_condition.csv.gz."


def _all_words(n: int) -> str:
    return f"All {n} conditions, lowest EV first." if n > 1 else ("One condition." if n else "No conditions.")


def _by_condition(
    per_condition: pd.DataFrame, wanted: list[str]
) -> dict[tuple[str, str], dict[str, tuple[Any, str, str]]]:
    found: dict[tuple[str, str], dict[str, tuple[Any, str, str]]] = {}
    if per_condition.empty:
        return found
    mine = per_condition[(per_condition["predictor"] == MODEL) & per_condition["metric"].isin(wanted)]
    names = ["context", "intervention", "metric", "n_rows", "value", "status", "reason"]
    for context, intervention, metric, n_rows, value, status, reason in mine[names].itertuples(index=False, name=None):
        row = found.setdefault((str(context), str(intervention)), {"n_rows": (n_rows, "", "")})
        row[str(metric)] = (value, str(status), reason if isinstance(reason, str) else "")
    return found


def _condition_cell(known: tuple[Any, str, str]) -> dict[str, Any]:
    value, status, reason = known
    x = real(value)
    if x is not None and status == "ok":
        return {"text": number(x), "sort": f"{x:.6g}", "why": ""}
    short = SHORT_STATUS.get(status, "–")
    return {"text": short, "sort": "", "why": reason or NO_ENERGY}
