"""Whether the model is less wrong where it says it is sure: the risk-coverage curve and its areas."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.axis import axis_for
from perturbfm.eval.report.entries import Facts, reason_of, status_of
from perturbfm.eval.report.words import number, real

WIDE, TALL = 300, 190
SCORES = {
    "mean_var": "mean variance",
    "mean_var_over_control_var": "mean variance over that of the controls",
}
VALUES = (
    ("aurc", "AURC"),
    ("aurc_oracle", "AURC, perfect order"),
    ("e_aurc", "E-AURC"),
    ("augrc", "AUGRC"),
    ("mean_risk", "Mean risk, any order"),
    ("spearman", "Spearman"),
)


def risk_view(metrics: Facts) -> dict[str, Any]:
    """Curves and values by two uncertainties, or why there are none."""
    known = metrics.get("risk") or {}
    scores = known.get("scores") or {}
    rows = [_row(scores[s], words) for s, words in SCORES.items() if scores.get(s)]
    curves = {s: (scores[s].get("pooled") or {}).get("curve") for s in SCORES if scores.get(s)}
    drawn = {s: c for s, c in curves.items() if c and c.get("risk")}
    reason = "" if rows else str(known.get("reason") or "no risk-coverage curve stands in the metrics")
    return {
        "reason": reason,
        "rows": rows,
        "columns": [words for _, words in VALUES],
        "picture": _picture(drawn) if drawn else None,
        "identifiers": [str(scores[s].get("identifier")) for s in SCORES if scores.get(s)],
    }


def _row(score: Facts, words: str) -> dict[str, Any]:
    pooled = score.get("pooled") or {}
    ok = pooled.get("status") == "ok"
    return {
        "name": words,
        "cells": [number(pooled.get(k), 4) for k, _ in VALUES],
        "scored": f"{number(pooled.get('n_scored'), 0)}/{number(pooled.get('n_total'), 0)}",
        "reason": "" if ok else f"{status_of(pooled)}: {reason_of(pooled)}",
    }


def _picture(drawn: dict[str, Facts]) -> dict[str, Any]:
    oracle = next(iter(drawn.values()))
    lines = [("oracle", "perfect order", oracle["coverage"], oracle["oracle"])]
    lines += [(s, SCORES[s], c["coverage"], c["risk"]) for s, c in drawn.items()]
    axis = axis_for([v for *_, risks in lines for r in risks if (v := real(r)) is not None], (0.0,))
    return {
        "wide": WIDE,
        "tall": TALL,
        "ticks": [{"y": _down(axis.at(t)), "text": f"{t:g}"} for t in axis.ticks],
        "lines": [
            {
                "css": css,
                "name": name,
                "path": " ".join(
                    f"{round(WIDE * float(c), 1)},{_down(axis.at(float(r)))}" for c, r in zip(at, risks, strict=True)
                ),
            }
            for css, name, at, risks in lines
        ],
    }


def _down(percent: float) -> float:
    return round(TALL * (1 - percent / 100), 1)
