"""Whether uncertainty rises out of distribution, axis by axis, beside scores that know nothing of the model."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import Facts, status_of, value_of
from perturbfm.eval.report.words import MODEL, number

BLIND = ("control_variance", "label_lookup")
"""The two scores that know nothing of the model."""
COLUMNS = (
    (MODEL, "Model"),
    ("raw_variance", "Model, raw variance"),
    ("control_variance", "Variance of the controls alone"),
    ("label_lookup", "Look-up: is the label new?"),
)


def separation_view(metrics: Facts) -> dict[str, Any] | None:
    """A row per axis, and one of all axes together."""
    known = metrics.get("separation")
    if not known or known.get("axis") == "none":
        return None
    union = {**known, "label_lookup": known.get("context_lookup") or {}, "inside": "calibration"}
    axes = {str(a): e or {} for a, e in (known.get("axes") or {}).items()}
    rows = [_row(axis, entry) for axis, entry in axes.items()]
    if len(axes) != 1:
        rows.append(_row("all axes together" if axes else str(known.get("axis")), union))
    first = next(iter(axes.values())) if len(axes) == 1 else union
    return {
        "rows": rows,
        "columns": [words for _, words in COLUMNS],
        "words": separation_words(first, str(known.get("axis") or "context")),
        "axis": str(known.get("axis") or "context").replace("+", " or "),
    }


def _row(axis: str, entry: Facts) -> dict[str, Any]:
    cells = [_cell(entry.get(key)) for key, _ in COLUMNS]
    return {
        "axis": axis,
        "identifier": str(entry.get("identifier") or "–"),
        "cells": cells,
        "n": f"{number(entry.get('n_out'), 0)} new against {number(entry.get('n_in'), 0)}",
        "inside": str(entry.get("inside") or ""),
        "reason": "; ".join(dict.fromkeys(c["why"] for c in cells if c["why"])),
    }


def _cell(entry: Facts | None) -> dict[str, str]:
    if not entry:
        return {"text": "–", "why": ""}
    value = value_of(entry)
    why = "" if value is not None else str(entry.get("reason") or "no reason is given")
    return {"text": status_of(entry) if value is None else number(value), "why": why}


def separation_words(entry: Facts, axis: str) -> str:
    """What the model's AUROC says, read beside those that know nothing of it."""
    model, *blind = (value_of(entry.get(k)) for k in (MODEL, *BLIND))
    axis = axis.replace("+", " or ")
    if model is None:
        return "The model's uncertainty cannot be read this way here."
    if model < 0.45:
        return f"The model is more certain where the {axis} is new than where it is known: a warning."
    if model <= 0.55:
        return f"The model's uncertainty does not tell a new {axis} from a known one."
    as_good = [
        name
        for name, v in zip(("the variance of the control cells", "a look-up of the label"), blind, strict=True)
        if v is not None and max(v, 1 - v) >= model
    ]
    first = f"The model is less certain where the {axis} is new."
    if as_good:
        know, separate = ("knows", "separates") if len(as_good) == 1 else ("know", "separate")
        first += f" But {' and '.join(as_good)}, which {know} nothing of the model, {separate} as well."
    return first
