"""Axes: linear, with round ticks; positions in per cent of their length."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


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
