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
TALL, WIDE = 12.0, 6.6
"""Height of a name and width of one of its letters, in pixels."""
SHIFTS = (4.0, -3.0, 11.0, 18.0, -10.0)
"""Where a name may stand, in pixels below its dot; the first that is free is taken."""


def delta_view(metrics: Facts, deltas: Facts) -> dict[str, Any]:
    """The scatters, and by what the conditions were ranked."""
    identifier = str(deltas.get("metric") or "")
    return {
        "identifier": identifier,
        "meaning": (model_entries(metrics).get(identifier) or {}).get("meaning") or "",
        "which": _which(int(deltas.get("n_ranked") or 0), _ranked_by(identifier)),
        "reason": deltas.get("reason") or "the deltas were not handed to this page",
        "panels": [_scatter(c) for c in deltas.get("conditions") or []],
        "side": SIDE,
    }


def _which(n: int, by: str) -> str:
    if n == 1:
        return "The only condition that has a value."
    return (
        f"The two conditions, by {by}." if n == 2 else f"The best, the median and the worst of {n} conditions by {by}."
    )


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
    """Names of the genes with the largest change, each where it covers no other; without room it is left out."""
    found: list[dict[str, Any]] = []
    taken: list[tuple[float, float, float, float]] = []
    for dot in dots[:LABELLED]:
        for right, y in _places(dot):
            box = _box(dot, right, y)
            if box[0] >= 0 and box[1] <= SIDE and box[2] >= 0 and not any(_meet(box, other) for other in taken):
                taken.append(box)
                found.append({**dot, "right": right, "y": round(y, 1), "dot_y": dot["y"]})
                break
    return found


def _places(dot: dict[str, Any]) -> list[tuple[bool, float]]:
    """Beside the dot first, towards the middle of the field first; `right` is a name that ends at its dot."""
    first = dot["x"] > SIDE * 0.6
    return [(right, dot["y"] + shift) for shift in SHIFTS for right in (first, not first)]


def _box(dot: dict[str, Any], right: bool, y: float) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a name whose baseline is at `y`."""
    wide = WIDE * len(dot["gene"])
    left = dot["x"] - 6 - wide if right else dot["x"] + 6
    return left, left + wide, y - TALL + 2, y + 2


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
