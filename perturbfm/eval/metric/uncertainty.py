"""Whether the stated variance of a predicted delta fits its errors.

Throughout, D is the predicted delta, T the true one and W the predictive variance of T: the model's own variance of
the mean delta, plus the sampling variance V of the truth when `noise="added"`. Only genes with `scored_cg` count, and
a condition's value is the mean over them.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from perturbfm.errors import BadValue, PredictionMismatch, UnknownChoice
from perturbfm.eval.case import NOT_APPLICABLE, OK, Case, PerCondition, nowhere, plain

NOISES = ("added", "ignored")
NOISE_UNKNOWN = "noise of the truth is unknown"
NOTHING_SCORED = "no gene is detected in enough input controls to be scored"


def coverage(case: Case, *, level: float, noise: str) -> PerCondition:
    r"""Share of scored genes whose true delta lies in the central interval of a level.

    .. math:: mean_g\,[\,|T_{pg} - D_{pg}| \le z_L \sqrt{W_{pg}}\,], \quad z_L = \Phi^{-1}((1 + L)/2)

    Args:
        case: Predictions, variances and truths, shape (c, g).
        level: Nominal level L, above 0 and below 1; right when equal to the value.
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        One share per condition. *Not applicable* where no gene is scored, or V is needed and not known.

    Raises:
        BadValue: A level outside (0, 1).
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Protocol section 3.5; equal to uncertainty-toolbox `get_proportion_in_interval`.
    """
    z = _quantile(level)
    if (w_cg := _predictive(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    return _over_scored(case, np.abs(_error(case)) <= z * np.sqrt(w_cg))


def interval_width(case: Case, *, level: float, noise: str) -> PerCondition:
    r"""Mean width of the central interval of a level.

    .. math:: mean_g\,2 z_L \sqrt{W_{pg}}

    Args:
        case: Variances, shape (c, g), in squared units of the matrix.
        level: Nominal level, above 0 and below 1.
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        One width per condition, in units of the matrix. *Not applicable* as in `coverage`.

    Raises:
        BadValue: A level outside (0, 1).
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Protocol section 3.5: coverage is never read without width.
    """
    z = _quantile(level)
    if (w_cg := _predictive(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    return _over_scored(case, 2.0 * z * np.sqrt(w_cg))


def nll_gaussian(case: Case, *, noise: str) -> PerCondition:
    r"""Mean negative log density of the true delta under the predicted Gaussian, with its full constant.

    .. math:: mean_g\,\tfrac12 \ln(2\pi W_{pg}) + \frac{(T_{pg} - D_{pg})^2}{2 W_{pg}}

    Args:
        case: Predictions, variances and truths, shape (c, g).
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        One value per condition, in nats per gene; lower is better. *Not applicable* as in `coverage`.

    Raises:
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        torch `GaussianNLLLoss(full=True)`.
    """
    if (w_cg := _predictive(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    return _over_scored(case, 0.5 * np.log(2.0 * np.pi * w_cg) + _error(case) ** 2 / (2.0 * w_cg))


def crps_gaussian(case: Case, *, noise: str) -> PerCondition:
    r"""Mean continuous ranked probability score of the predicted Gaussian.

    .. math:: mean_g\,\sqrt{W}\left(z\,(2\Phi(z) - 1) + 2\varphi(z) - 1/\sqrt\pi\right), \quad z = (T - D)/\sqrt{W}

    Args:
        case: Predictions, variances and truths, shape (c, g).
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        One value per condition, in units of the matrix; lower is better. *Not applicable* as in `coverage`.

    Raises:
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Gneiting & Raftery (2007), doi:10.1198/016214506000001437, section 4.2.
    """
    if (w_cg := _predictive(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    sd_cg = np.sqrt(w_cg)
    z_cg = _error(case) / sd_cg
    return _over_scored(case, sd_cg * (z_cg * (2 * norm.cdf(z_cg) - 1) + 2 * norm.pdf(z_cg) - 1 / np.sqrt(np.pi)))


def observation_share(case: Case) -> PerCondition:
    r"""Share of the predictive variance that is sampling noise of the truth.

    .. math:: \sum_g V_{pg} / \sum_g W_{pg}

    Near 1 the coverage says nothing of the model: noise alone would be covered as well.

    Args:
        case: Variances and noise, shape (c, g).

    Returns:
        Both sums per condition over scored genes, so an aggregate is the ratio of sums. *Not applicable* as in
        `coverage`.

    Raises:
        PredictionMismatch: A variance that is not positive.

    Source:
        Protocol section 3.5; flagged uninformative above 0.5.
    """
    if (w_cg := _predictive(case, "added")) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    none_c = ~np.asarray(case.scored_cg, dtype=bool).any(axis=1)
    num_c = np.where(none_c, np.nan, np.sum(np.where(case.scored_cg, case.noise_cg, 0.0), axis=1))
    den_c = np.where(none_c, np.nan, np.sum(np.where(case.scored_cg, w_cg, 0.0), axis=1))
    status_c = np.where(none_c, NOT_APPLICABLE, OK).astype(object)
    return PerCondition(num_c, den_c, status_c, np.where(none_c, NOTHING_SCORED, "").astype(object))


def _error(case: Case) -> np.ndarray:
    return np.asarray(case.truth_cg, dtype=float) - np.asarray(case.predicted_cg, dtype=float)


def _quantile(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise BadValue(
            "A level is not a probability", given=level, expected="a number between 0 and 1", fix="Write 0.9 for 90 %."
        )
    return float(norm.ppf(0.5 + level / 2))


def _predictive(case: Case, noise: str) -> np.ndarray | None:
    """Predictive variance W, or None where it needs a noise that is not known."""
    if noise not in NOISES:
        raise UnknownChoice(
            "There is no such treatment of noise",
            given=repr(noise),
            expected="'added' or 'ignored'",
            fix="Say whether the sampling variance of the truth is added.",
        )
    if noise == "added" and not case.noise_known:
        return None
    w_cg = np.asarray(case.variance_cg, dtype=float) + (case.noise_cg if noise == "added" else 0.0)
    lowest = float(np.min(w_cg, where=np.asarray(case.scored_cg, dtype=bool), initial=np.inf))
    if not lowest > 0:
        raise PredictionMismatch(
            "A predictive variance is not positive",
            given=f"lowest {lowest:g}",
            expected="above 0 on every scored gene",
            fix="Floor the variance where the prediction is made.",
        )
    return np.where(case.scored_cg, w_cg, 1.0)


def _over_scored(case: Case, value_cg: np.ndarray) -> PerCondition:
    count_c = np.sum(np.asarray(case.scored_cg, dtype=bool), axis=1)
    mean_c = np.sum(np.where(case.scored_cg, value_cg, 0.0), axis=1) / np.maximum(count_c, 1)
    reason_c = np.where(count_c > 0, "", NOTHING_SCORED).astype(object)
    return plain(mean_c, reason_c, NOT_APPLICABLE)
