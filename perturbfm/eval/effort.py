"""How much resampling a judgement takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effort:
    """How much resampling, and from which seed."""

    bootstrap_draws: int = 1000
    permutations: int = 500
    halvings: int = 10
    seed: int = 0


def number(value: float) -> float | None:
    """A finite number, or None for JSON."""
    return float(value) if np.isfinite(value) else None
