"""Errors and correlation of changes of mean expression, each side with its own control cells."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.correlation import ROUNDING, pearson_rows
from perturbfm.eval.metric.discrimination import changes


def change_error(comparison: Comparison, *, power: int, control: str) -> PerCondition:
    r"""Mean over genes of the absolute or squared error of a condition's change of means.

    .. math:: \frac{1}{G} \sum_g |\hat d_g - d_g|^{power}

    Where both sides have the same controls they cancel, and this is the error of means (`profile_error`).

    Args:
        comparison: Cells of both sides; only means are used.
        power: 1 for the absolute error, 2 for the squared one.
        control: The predicted mean is taken against its `own` controls or the `true` ones.

    Returns:
        One value from 0 (best) per condition, in units of log1p or their square. Never undefined.

    Source:
        cell-eval `mae_delta`, `mse_delta`; cell-eval2 `delta_*`.
    """
    true_cg, predicted_cg = changes(comparison, control)
    return plain(np.mean(np.abs(predicted_cg - true_cg) ** power, axis=1))


def pearson_change(comparison: Comparison, *, control: str = "own") -> PerCondition:
    """Pearson correlation over all genes of the true and the predicted change of means.

    Args:
        comparison: Cells of both sides; only means are used.
        control: The predicted mean is taken against its `own` controls or the `true` ones.

    Returns:
        One value in [-1, 1] per condition, 1 is best. *Undefined* where a change is constant over genes up to rounding.

    Source:
        cell-eval `pearson_delta`; cell-eval2 `delta_pearson`.
    """
    true_cg, predicted_cg = changes(comparison, control)
    sides = (comparison.truth, comparison.predicted)
    least = [ROUNDING * np.linalg.norm(side.moments.mean_rg, axis=1) for side in sides]
    value_c = pearson_rows(true_cg, predicted_cg, least[0], least[1])
    return plain(value_c, np.where(np.isnan(value_c), "a change is zero or the same for all genes", ""))
