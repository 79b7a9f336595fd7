"""One of our numbers against an official one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        alias: The suite's name with its version, for example `scperturbench.mse.top100`.
        where: Which number of it, for example `noisy_truth/KLF1`.
        official: What the official code gave; None for NaN or infinity.
        ours: What we give; None where we call it undefined or not applicable.
        relative: Largest relative difference that is agreement.
        absolute: Largest absolute difference that is agreement.
    """

    alias: str
    where: str
    official: float | None
    ours: float | None
    relative: float = 1e-6
    absolute: float = 1e-12

    @property
    def difference(self) -> float | None:
        """Absolute difference; None where a side has no number."""
        return None if self.official is None or self.ours is None else abs(self.official - self.ours)

    @property
    def agrees(self) -> bool:
        """Both undefined, or both numbers within the tolerance."""
        if self.official is None or self.ours is None:
            return self.official is None and self.ours is None
        return math.isclose(self.official, self.ours, rel_tol=self.relative, abs_tol=self.absolute)


def per_condition(
    alias: str,
    prediction: str,
    official: Mapping[str, float | None],
    comparison: Comparison,
    stats: PerCondition,
    *,
    by_context: bool = False,
    relative: float = 1e-6,
    absolute: float = 1e-12,
) -> list[Check]:
    """A check for every official number of one metric and one prediction.

    Args:
        alias: The suite's name of the metric.
        prediction: Name of the prediction, the first part of `where`.
        official: Official numbers by perturbation, or by `context_perturbation` where `by_context`.
        comparison: What `stats` were computed on.
        stats: Ours.
        by_context: How the official file names a condition.
        relative: Tolerance.
        absolute: Tolerance.
    """
    names = [str(p) for p in comparison.perturbation_c]
    if by_context:
        names = [f"{k}_{p}" for k, p in zip(comparison.context_c, names, strict=True)]
    ours = dict(zip(names, stats.value_c.tolist(), strict=True))
    return [
        Check(alias, f"{prediction}/{key}", value, _known(ours.get(key)), relative, absolute)
        for key, value in official.items()
    ]


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
