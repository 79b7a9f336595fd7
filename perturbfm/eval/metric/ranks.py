"""Correlation of two short vectors, undefined where one does not vary."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def correlated(x: np.ndarray, y: np.ndarray, least: float = 0.0) -> float:
    """Pearson correlation.

    Args:
        x: One vector.
        y: The other, as long.
        least: Largest deviation from the mean that is still none.

    Returns:
        A value in [-1, 1]; NaN with fewer than 2 entries, or where a side does not vary.
    """
    if len(x) < 2:
        return float("nan")
    dx, dy = x - x.mean(), y - y.mean()
    if np.abs(dx).max() <= least or np.abs(dy).max() <= least:
        return float("nan")
    return float(np.clip(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)), -1.0, 1.0))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman correlation with mid-ranks; infinite values have their place. NaN as in `correlated`."""
    return correlated(rankdata(x), rankdata(y))
