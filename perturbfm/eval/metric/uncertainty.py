"""Whether the stated variance of a predicted delta fits its errors.

Throughout, D is the predicted delta, T the true one and W the predictive variance of T: the model's own variance of
the mean delta, plus the sampling variance V of the truth when `noise="added"`. Only genes with `scored_cg` count, and
a condition's value is the mean over them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from perturbfm.errors import BadValue, PredictionMismatch, UnknownChoice
from perturbfm.eval.case import INTERVAL, NOT_APPLICABLE, OK, Case, PerCondition, nowhere, plain

NOISES = ("added", "ignored")
NOISE_UNKNOWN = "noise of the truth is unknown"
NOTHING_SCORED = "no gene is detected in enough input controls to be scored"
NO_DENSITY = "the prediction is an interval: it states no distribution"


def coverage(case: Case, *, level: float, noise: str, pooled: bool = False) -> PerCondition:
    r"""Share of scored genes whose true delta lies in the central interval of a level.

    .. math:: mean_g\,[\,|T_{pg} - D_{pg}| \le z_L \sqrt{W_{pg}}\,], \quad z_L = \Phi^{-1}((1 + L)/2)

    Args:
        case: Predictions, variances and truths, shape (c, g).
        level: Nominal level L, above 0 and below 1; right when equal to the value.
        noise: `added` (W = variance + V) or `ignored` (W = variance).
        pooled: Whether an aggregate weighs scored genes equally (number inside over number scored) instead of
            conditions; a condition's own value is the same.

    Returns:
        One share per condition. *Not applicable* where no gene is scored, or V is needed and not known.

    Raises:
        BadValue: A level outside (0, 1).
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Protocol section 3.5; equal to uncertainty-toolbox `get_proportion_in_interval`.
    """
    z = central_z(level)
    if (w_cg := predictive_variance(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    return over_scored(case, np.abs(error_of(case)) <= z * np.sqrt(w_cg), pooled=pooled)


def interval_width(case: Case, *, level: float, noise: str, pooled: bool = False) -> PerCondition:
    r"""Mean width of the central interval of a level.

    .. math:: mean_g\,2 z_L \sqrt{W_{pg}}

    Args:
        case: Variances, shape (c, g), in squared units of the matrix.
        level: Nominal level, above 0 and below 1.
        noise: `added` (W = variance + V) or `ignored` (W = variance).
        pooled: Whether an aggregate weighs scored genes equally instead of
            conditions; a condition's own value is the same.

    Returns:
        One width per condition, in units of the matrix. *Not applicable* as in `coverage`.

    Raises:
        BadValue: A level outside (0, 1).
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Protocol section 3.5: coverage is never read without width.
    """
    z = central_z(level)
    if (w_cg := predictive_variance(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    return over_scored(case, 2.0 * z * np.sqrt(w_cg), pooled=pooled)


def nll_gaussian(case: Case, *, noise: str) -> PerCondition:
    r"""Mean negative log density of the true delta under the predicted Gaussian, with its full constant.

    .. math:: mean_g\,\tfrac12 \ln(2\pi W_{pg}) + \frac{(T_{pg} - D_{pg})^2}{2 W_{pg}}

    Args:
        case: Predictions, variances and truths, shape (c, g).
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        One value per condition, in nats per gene; lower is better. *Not applicable* as in `coverage`, and where the
        prediction is an interval.

    Raises:
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        torch `GaussianNLLLoss(full=True)`.
    """
    if reason := no_density(case):
        return nowhere(case.n_conditions, reason)
    if (w_cg := predictive_variance(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    return over_scored(case, 0.5 * np.log(2.0 * np.pi * w_cg) + error_of(case) ** 2 / (2.0 * w_cg))


def crps_gaussian(case: Case, *, noise: str) -> PerCondition:
    r"""Mean continuous ranked probability score of the predicted Gaussian.

    .. math:: mean_g\,\sqrt{W}\left(z\,(2\Phi(z) - 1) + 2\varphi(z) - 1/\sqrt\pi\right), \quad z = (T - D)/\sqrt{W}

    Args:
        case: Predictions, variances and truths, shape (c, g).
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        One value per condition, in units of the matrix; lower is better. *Not applicable* as in `coverage`, and where
        the prediction is an interval.

    Raises:
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Gneiting & Raftery (2007), doi:10.1198/016214506000001437, section 4.2.
    """
    if reason := no_density(case):
        return nowhere(case.n_conditions, reason)
    if (w_cg := predictive_variance(case, noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    sd_cg = np.sqrt(w_cg)
    z_cg = error_of(case) / sd_cg
    return over_scored(case, sd_cg * (z_cg * (2 * norm.cdf(z_cg) - 1) + 2 * norm.pdf(z_cg) - 1 / np.sqrt(np.pi)))


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
    if (w_cg := predictive_variance(case, "added")) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    none_c = ~np.asarray(case.scored_cg, dtype=bool).any(axis=1)
    num_c = np.where(none_c, np.nan, np.sum(np.where(case.scored_cg, case.noise_cg, 0.0), axis=1))
    den_c = np.where(none_c, np.nan, np.sum(np.where(case.scored_cg, w_cg, 0.0), axis=1))
    status_c = np.where(none_c, NOT_APPLICABLE, OK).astype(object)
    return PerCondition(num_c, den_c, status_c, np.where(none_c, NOTHING_SCORED, "").astype(object))


def no_density(case: Case) -> str:
    """Why a score of distributions does not apply, empty where it does: a conformal interval has no density."""
    return NO_DENSITY if case.distribution == INTERVAL else ""


def error_of(case: Case) -> np.ndarray:
    """T - D, shape (c, g)."""
    return np.asarray(case.truth_cg, dtype=float) - np.asarray(case.predicted_cg, dtype=float)


def central_z(level: float) -> float:
    """Half-width, in standard deviations, of the central Gaussian interval of a level.

    Raises:
        BadValue: A level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise BadValue(
            "A level is not a probability", given=level, expected="a number between 0 and 1", fix="Write 0.9 for 90 %."
        )
    return float(norm.ppf(0.5 + level / 2))


def predictive_variance(case: Case, noise: str) -> np.ndarray | None:
    """Predictive variance W, 1 on genes that are not scored; None where it needs a noise that is not known.

    Raises:
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.
    """
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


def over_scored(case: Case, value_cg: np.ndarray, *, pooled: bool = False) -> PerCondition:
    """Mean over scored genes per condition; `pooled` keeps sum and number apart, so that aggregates weigh genes."""
    count_c = np.sum(np.asarray(case.scored_cg, dtype=bool), axis=1)
    sum_c = np.sum(np.where(case.scored_cg, value_cg, 0.0), axis=1)
    reason_c = np.where(count_c > 0, "", NOTHING_SCORED).astype(object)
    means = plain(sum_c / np.maximum(count_c, 1), reason_c, NOT_APPLICABLE)
    if not pooled:
        return means
    num_c, den_c = (np.where(count_c > 0, x, np.nan) for x in (sum_c, count_c))
    return replace(means, num_c=num_c, den_c=den_c)
