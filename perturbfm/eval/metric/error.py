"""How far the predicted mean delta is from the true one."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import Case, PerCondition, plain


def mean_squared_error(case: Case) -> PerCondition:
    r"""Mean over genes of the squared error of the delta.

    .. math:: \frac{1}{G} \sum_g (D_{pg} - T_{pg})^2

    This is the error of the *delta*: D is taken against input controls, T against reference controls. The error of
    means, `(mu_I + D) - mu`, differs from it by the difference of the two control halves, which is no model's doing.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.

    Returns:
        One value per condition, in squared units of the matrix; 0 is best. Never undefined.

    Source:
        Protocol section 3.3. Sampling noise of the truth is not subtracted; `explained_variance` does that.
    """
    return plain(_squared_error(case))


def root_mean_squared_error(case: Case) -> PerCondition:
    r"""Square root of `mean_squared_error`, taken per condition.

    .. math:: \sqrt{\frac{1}{G} \sum_g (D_{pg} - T_{pg})^2}

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.

    Returns:
        One value per condition, in units of the matrix; 0 is best. Never undefined.

    Source:
        PerturBench `rmse` of mean profiles, where prediction and truth share one control.
    """
    return plain(np.sqrt(_squared_error(case)))


def _squared_error(case: Case) -> np.ndarray:
    error_cg = np.asarray(case.predicted_cg, dtype=float) - np.asarray(case.truth_cg, dtype=float)
    return np.mean(error_cg**2, axis=1)
