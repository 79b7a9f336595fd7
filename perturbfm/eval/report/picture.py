"""Pictures of metrics: a lane per predictor on the metric's own scale, positions in per cent."""

from __future__ import annotations

import re
from typing import Any

from perturbfm.eval.report.axis import Axis, axis_for
from perturbfm.eval.report.entries import (
    Facts,
    dynamic_range,
    interval_of,
    model_entries,
    named,
    predictors,
    reason_of,
    scored_words,
    value_of,
)
from perturbfm.eval.report.words import (
    BETTER,
    COVERAGE_90,
    EV,
    INTERPOLATED,
    MODEL,
    PCC,
    RANDOM_OTHER,
    REPLICATE,
    RETRIEVAL,
    SHARE,
    SHORT_STATUS,
    Notes,
    number,
    percent,
    title,
    word,
)

FARTHEST = 2.0
"""Pictures of EV end here; what lies beyond is drawn as an arrow at the edge."""
MARKS = {
    MODEL: "circle",
    "source_delta": "triangle",
    "additive": "down",
    "matching_mean": "hollow_diamond",
    "train_mean": "diamond",
    "no_change": "square",
    RANDOM_OTHER: "cross",
    INTERPOLATED: "ring",
    REPLICATE: "plus",
}
ANCHORS = (
    *((EV, (0.0, 1.0)), (PCC, (0.0, 1.0)), (RETRIEVAL, (0.5, 1.0)), ("pfm.de_", (0.0, 1.0))),
    *(("crps", (0.0,)), (COVERAGE_90, (0.9, 1.0)), ("pfm.tied_rows", (0.0, 1.0)), ("pfm.variance_ratio", (0.0, 1.0))),
)


def lead_picture(metrics: Facts, identifier: str, notes: Notes) -> dict[str, Any]:
    """A metric of the headline."""
    entry = model_entries(metrics)[identifier]
    target = level_of(identifier) if entry.get("better") == "target" else None
    found = picture(metrics, identifier, notes, target)
    share = value_of(model_entries(metrics).get(named(metrics, SHARE) or ""))
    if identifier.startswith(COVERAGE_90) and share is not None:
        found["meaning"] += f" Of the model's interval, {percent(share)} is the noise of the measurement."
    return found


def picture(
    metrics: Facts, identifier: str, notes: Notes, target: float | None = None, target_word: str = "target"
) -> dict[str, Any]:
    """One metric as lanes: a marker per predictor on a common axis, and a dashed line at a target."""
    entry, interval = model_entries(metrics).get(identifier) or {}, interval_of(metrics, identifier)
    known = {n: e.get(identifier) or {} for n, e in predictors(metrics).items()}
    values = [v for e in known.values() if (v := value_of(e)) is not None] + list(interval or ())
    anchors = next((a for start, a in ANCHORS if identifier.startswith(start)), ())
    aims = () if target is None else (target,)
    axis = axis_for(values, (*anchors, *aims), FARTHEST if identifier.startswith(EV) else None)
    return {
        "identifier": identifier,
        "title": title(identifier),
        "meaning": entry.get("meaning") or "",
        "better": BETTER.get(str(entry.get("better")), ""),
        "scored": scored_words(entry),
        "range": dynamic_range(metrics, identifier),
        "lanes": [_lane(n, e, axis, interval if n == MODEL else None, notes) for n, e in known.items()],
        "ticks": [{"x": axis.at(t), "text": f"{t:g}".replace("-", "−")} for t in axis.ticks],
        "target": None if target is None else axis.at(target),
        "target_text": "" if target is None else f"{target_word} {target:.3g}",
    }


def _lane(name: str, entry: Facts, axis: Axis, interval: tuple[float, float] | None, notes: Notes) -> dict[str, Any]:
    value = value_of(entry)
    lane = {"name": word(name), "mark": MARKS.get(name, "square"), "css": name if name in MARKS else "no_change"}
    if value is None:
        note = notes.of(reason_of(entry))
        return {
            **lane,
            "x": None,
            "bar": None,
            "beyond": "",
            "text": SHORT_STATUS.get(str(entry.get("status")), "–"),
            "note": note,
        }
    bar = None if interval is None else [axis.at(interval[0]), axis.at(interval[1])]
    return {**lane, "x": axis.at(value), "bar": bar, "beyond": axis.beyond(value), "text": number(value), "note": None}


def level_of(identifier: str) -> float | None:
    """The level in an identifier of coverage."""
    found = re.search(r"\[level=([0-9.]+)", identifier)
    return float(found.group(1)) if found else None
