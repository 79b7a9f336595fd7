"""Predicted against true deltas of the best, the median and the worst condition, gene by gene."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.axis import axis_for
from perturbfm.eval.report.entries import Facts, model_entries
from perturbfm.eval.report.words import number, real, title

SIDE = 260
"""Side of the square field of a scatter."""
LABELLED = 6
"""How many genes with the largest change carry their name in the picture."""
APART = 13
"""Least distance between two names in the picture."""


def delta_view(metrics: Facts, deltas: Facts) -> dict[str, Any]:
    """The scatters, and by what the conditions were ranked."""
    identifier = str(deltas.get("metric") or "")
    return {
        "identifier": identifier,
        "by": _ranked_by(identifier),
        "meaning": (model_entries(metrics).get(identifier) or {}).get("meaning") or "",
        "n_ranked": deltas.get("n_ranked") or 0,
        "reason": deltas.get("reason") or "the deltas were not handed to this page",
        "panels": [_scatter(c) for c in deltas.get("conditions") or []],
        "side": SIDE,
    }


def _ranked_by(identifier: str) -> str:
    if identifier.startswith("pcc_delta["):
        return "the correlation of predicted and true change from control"
    return "the mean squared error of the change" if identifier.startswith("mse[") else title(identifier)


def _scatter(condition: Facts) -> dict[str, Any]:
    """Dots in pixels of one square field; both axes are one scale, so that the diagonal is a perfect prediction."""
    truth, predicted = ([float(v) for v in condition[k]] for k in ("truth", "predicted"))
    axis = axis_for([*truth, *predicted], (0.0,))
    noise = condition.get("noise_sd") or [None] * len(truth)
    dots = [
        {
            "gene": str(gene),
            "x": _px(axis.at(t)),
            "y": round(SIDE - _px(axis.at(p)), 1),
            "truth": number(t),
            "predicted": number(p),
            "bar": None if sd is None else [_px(axis.at(t - sd)), _px(axis.at(t + sd))],
        }
        for gene, t, p, sd in zip(condition["genes"], truth, predicted, noise, strict=True)
    ]
    return {
        **{k: condition[k] for k in ("rank", "context", "intervention", "n_rows", "n_genes")},
        "value": number(real(condition["value"])),
        "dots": dots,
        "named": _labels(dots),
        "zero": _px(axis.at(0.0)),
        "ticks": [{"at": _px(axis.at(t)), "text": f"{t:g}".replace("-", "−")} for t in axis.ticks],
    }


def _px(percent: float) -> float:
    return round(percent * SIDE / 100, 1)


def _labels(dots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names of the genes with the largest change, one above the other where dots are near."""
    found: list[dict[str, Any]] = []
    for dot in sorted(dots[:LABELLED], key=lambda d: d["y"]):
        right = dot["x"] > SIDE * 0.6
        y = dot["y"] + 4
        near = [f["y"] for f in found if f["right"] == right and abs(f["x"] - dot["x"]) < SIDE * 0.45]
        if near and y < near[-1] + APART:
            y = near[-1] + APART
        found.append({**dot, "right": right, "y": round(y, 1), "dot_y": dot["y"]})
    return found
