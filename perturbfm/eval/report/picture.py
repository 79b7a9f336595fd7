"""Pictures of lead metrics: axes, lanes and marks, positions in per cent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from perturbfm.eval.report.entries import Facts, interval_of, model_entries, predictors, reason_of, status_of, value_of
from perturbfm.eval.report.words import (
    BETTER,
    COVERAGE_90,
    EV,
    MODEL,
    PCC,
    RANDOM_OTHER,
    REPLICATE,
    RETRIEVAL,
    Notes,
    number,
    title,
    word,
)

FARTHEST = 2.0
"""Pictures of EV end here; what lies beyond is drawn as an arrow at the edge."""
MARKS = {
    MODEL: "circle",
    "source_delta": "triangle",
    "train_mean": "diamond",
    "no_change": "square",
    RANDOM_OTHER: "cross",
    REPLICATE: "plus",
}
ANCHORS = ((EV, (0.0, 1.0)), (PCC, (0.0, 1.0)), (RETRIEVAL, (0.5, 1.0)), ("crps", (0.0,)), (COVERAGE_90, (0.9, 1.0)))


@dataclass(frozen=True)
class Axis:
    """A linear axis; positions are per cent of its length."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Position of a value, kept on the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def beyond(self, value: float) -> str:
        """Off which end a value lies."""
        return "left" if value < self.low else ("right" if value > self.high else "")


def axis_for(values: Iterable[float], anchors: Iterable[float] = (), limit: float | None = None) -> Axis:
    """An axis with round ticks that holds values and anchors, cut at `limit` on both sides."""
    known = [*values, *anchors] or [0.0, 1.0]
    if limit is not None:
        known = [min(max(v, -limit), limit) for v in known]
    low, high = min(known), max(known)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    base = 10 ** math.floor(math.log10(rough))
    step = base * next(m for m in (1, 2, 2.5, 5, 10) if m * base >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(round(k * step, 12)) for k in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def picture(metrics: Facts, identifier: str, notes: Notes) -> dict[str, Any]:
    """One metric as lanes: a marker per predictor on a common axis."""
    entry, interval = model_entries(metrics)[identifier], interval_of(metrics, identifier)
    known = {n: e.get(identifier) or {} for n, e in predictors(metrics).items()}
    values = [v for e in known.values() if (v := value_of(e)) is not None] + list(interval or ())
    anchors = next((a for start, a in ANCHORS if identifier.startswith(start)), ())
    axis = axis_for(values, anchors, FARTHEST if identifier.startswith(EV) else None)
    target = level_of(identifier) if entry.get("better") == "target" else None
    return {
        "identifier": identifier,
        "title": title(identifier),
        "meaning": entry.get("meaning") or "",
        "better": BETTER.get(str(entry.get("better")), ""),
        "lanes": [_lane(n, e, axis, interval if n == MODEL else None, notes) for n, e in known.items()],
        "ticks": [{"x": axis.at(t), "text": f"{t:g}".replace("-", "−")} for t in axis.ticks],
        "target": None if target is None else axis.at(target),
        "target_text": "" if target is None else f"{target:g}",
    }


def _lane(name: str, entry: Facts, axis: Axis, interval: tuple[float, float] | None, notes: Notes) -> dict[str, Any]:
    value = value_of(entry)
    lane = {"name": word(name), "mark": MARKS.get(name, "square"), "css": name if name in MARKS else "no_change"}
    if value is None:
        note = notes.of(reason_of(entry))
        return {**lane, "x": None, "bar": None, "beyond": "", "text": status_of(entry), "note": note}
    bar = None if interval is None else [axis.at(interval[0]), axis.at(interval[1])]
    return {**lane, "x": axis.at(value), "bar": bar, "beyond": axis.beyond(value), "text": number(value), "note": None}


def level_of(identifier: str) -> float | None:
    """The level in an identifier of coverage."""
    found = re.search(r"\[level=([0-9.]+)", identifier)
    return float(found.group(1)) if found else None
