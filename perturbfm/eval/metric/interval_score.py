"""How good a central interval is: its width, and what it pays for each truth outside."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import Case, PerCondition, nowhere
from perturbfm.eval.metric.uncertainty import NOISE_UNKNOWN, central_z, error_of, over_scored, predictive_variance


def interval_score(case: Case, *, level: float, noise: str, pooled: bool = False) -> PerCondition:
    r"""Winkler's interval score of the central interval of a level: width plus a fine for what lies outside.

    .. math:: mean_g\; 2 h_{pg} + \frac{2}{1 - L}\,\max(|T_{pg} - D_{pg}| - h_{pg},\, 0), \quad h = z_L \sqrt{W}

    Least in expectation where the ends are the true quantiles, so neither a wide nor a narrow interval can win.

    Args:
        case: Predictions, variances and truths, shape (c, g).
        level: Nominal level L, above 0 and below 1.
        noise: `added` (W = variance + V) or `ignored` (W = variance).
        pooled: Whether an aggregate weighs scored genes equally instead of conditions.

    Returns:
        One score per condition, in units of the matrix; lower is better. *Not applicable* as in `coverage`.

    Raises:
        BadValue: A level outside (0, 1).
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Gneiting & Raftery (2007), doi:10.1198/016214506000001437, equation 43; its mean over the levels 0.01 to 0.99
        is uncertainty-toolbox `interval_score`.
    """
    z = central_z(level)
    if (w_cg := predictive_variance(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    half_cg = z * np.sqrt(w_cg)
    outside_cg = np.maximum(np.abs(error_of(case)) - half_cg, 0.0)
    return over_scored(case, 2.0 * half_cg + 2.0 / (1.0 - level) * outside_cg, pooled=pooled)
