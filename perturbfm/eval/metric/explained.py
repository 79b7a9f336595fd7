"""How much of the measurable effect a prediction explains."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import Case, PerCondition, ratio


def explained_variance(case: Case) -> PerCondition:
    r"""Share of the noise-free squared effect that the prediction explains.

    .. math:: EV = 1 - \frac{\sum_p (|D_p - T_p|^2 - V_p)}{\sum_p (|T_p|^2 - V_p)}

    with :math:`V_p = \sum_g V_{pg}` the sampling variance of the truth. As statistics, the numerator is
    :math:`(|T|^2 - V) - (|D - T|^2 - V)`, in which V cancels, and the denominator :math:`|T|^2 - V`; so an aggregate
    `sum(num) / sum(den)` is EV exactly. No change gives exactly 0, a perfect prediction 1 in expectation. Unclipped:
    worse than no change is negative.

    Where the noise is not known (files without cells) V is 0 and the number is not comparable with the others.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.

    Returns:
        Numerator and denominator per condition, in squared units of the matrix. Every condition takes part in the
        sums, also one whose own denominator is not positive and which therefore has no value of its own.

    Source:
        Protocol section 3.3. Whether the denominator is above 2 standard errors is asked by the panel.
    """
    truth_cg = np.asarray(case.truth_cg, dtype=float)
    predicted_cg = np.asarray(case.predicted_cg, dtype=float)
    effect_c = np.sum(truth_cg**2, axis=1)
    error_c = np.sum((predicted_cg - truth_cg) ** 2, axis=1)
    noise_c = np.sum(np.asarray(case.noise_cg, dtype=float), axis=1) if case.noise_known else np.zeros(len(effect_c))
    return ratio(effect_c - error_c, effect_c - noise_c)
