"""Cells of a condition up to a cap, so that the cost of all pairs stays linear in the number of conditions."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.comparison import Comparison

SEED = 42


def drawn(comparison: Comparison, condition: int, cap: int | None) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted cells of one condition, at most `cap` of each, drawn without replacement.

    A group above the cap is drawn with numpy's legacy generator at seed 42, set anew for every condition: predicted
    cells first, then true cells from the same stream. Which cells are drawn depends on their order.

    Args:
        comparison: Cells of both sides.
        condition: Number of the condition.
        cap: Most cells of a group; None for all.

    Returns:
        True cells, shape (n, g), and predicted cells, shape (m, g).

    Source:
        bm2-lab/scPerturBench 6e24e7a, `f_subSample`.
    """
    generator = np.random.RandomState(SEED)
    predicted_mg = _at_most(comparison.predicted.cells(condition), cap, generator)
    return _at_most(comparison.truth.cells(condition), cap, generator), predicted_mg


def _at_most(x_ng: np.ndarray, cap: int | None, generator: np.random.RandomState) -> np.ndarray:
    if cap is None or len(x_ng) <= cap:
        return x_ng
    return x_ng[generator.choice(len(x_ng), cap, replace=False)]


def rounded(value_c: np.ndarray, decimals: int | None) -> np.ndarray:
    """Values to so many decimals, half to even; as they are where `decimals` is None."""
    return value_c if decimals is None else np.round(value_c, decimals)
