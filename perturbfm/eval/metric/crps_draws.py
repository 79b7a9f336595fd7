"""CRPS of a predictive distribution that is known by draws from it."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from perturbfm.errors import PredictionMismatch, UnknownChoice, ValuesNotFinite
from perturbfm.eval.case import NOT_APPLICABLE, UNDEFINED, Case, PerCondition, nowhere, plain
from perturbfm.eval.metric.uncertainty import NOISE_UNKNOWN, NOISES, NOTHING_SCORED

ESTIMATORS = ("fair", "V")
NO_DRAWS = "the model states mean and variance, no draws"
ONE_DRAW = "one draw: the fair estimator needs two"


def crps_draws(case: Case, *, estimator: str, noise: str) -> PerCondition:
    """Mean over scored genes of the CRPS of the drawn mean deltas; `crps_of_draws` is the formula.

    Args:
        case: Truths, shape (c, g), and `draws(c)`, shape (s, g), asked for one condition at a time.
        estimator: `fair` or `V`.
        noise: `added` (each draw is blurred by the truth's sampling variance V) or `ignored`.

    Returns:
        One value per condition, in units of the matrix; lower is better. *Not applicable* where there are no draws, no
        gene is scored, or V is needed and not known. Undefined for `fair` where a condition has one draw.

    Raises:
        UnknownChoice: Another word for `estimator` or `noise`.
        PredictionMismatch: Draws of another shape.
        ValuesNotFinite: A draw is not a number.

    Source:
        Gneiting & Raftery (2007), doi:10.1198/016214506000001437, section 4.2; fair: Ferro (2014), doi:10.1002/qj.2270.
    """
    _known("treatment of noise", noise, NOISES)
    _known("estimator of the CRPS of draws", estimator, ESTIMATORS)
    if case.draws is None:
        return nowhere(case.n_conditions, NO_DRAWS)
    if noise == "added" and not case.noise_known:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    scored_cg = np.asarray(case.scored_cg, dtype=bool)
    value_c, reason_c = np.full(case.n_conditions, np.nan), np.full(case.n_conditions, "", dtype=object)
    for c in range(case.n_conditions):
        if not scored_cg[c].any():
            reason_c[c] = NOTHING_SCORED
            continue
        draws_sg = _checked(case.draws(c), c, len(case.genes_g))[:, scored_cg[c]]
        if estimator == "fair" and len(draws_sg) < 2:
            reason_c[c] = ONE_DRAW
            continue
        noise_g = case.noise_cg[c, scored_cg[c]] if noise == "added" else None
        value_c[c] = crps_of_draws(case.truth_cg[c, scored_cg[c]], draws_sg, estimator, noise_g).mean()
    stats = plain(value_c, reason_c, NOT_APPLICABLE)
    stats.status_c[reason_c == ONE_DRAW] = UNDEFINED
    return stats


def crps_of_draws(
    truth_g: np.ndarray, draws_sg: np.ndarray, estimator: str, noise_g: np.ndarray | None = None
) -> np.ndarray:
    r"""CRPS per gene from m draws.

    .. math:: \frac1m \sum_i A(T - x_i, V) - \frac{1}{2 k} \sum_{i,j} A(x_i - x_j, 2V), \quad A(d, 0) = |d|

    with :math:`k = m^2` (`V`: the CRPS of the draws' own step function, too large for few draws) or :math:`k = m(m-1)`
    (`fair`: unbiased for the distribution they come from; may be negative). :math:`A(d, v)` is the mean absolute value
    of a normal variable of mean d and variance v, so V blurs every draw exactly and nothing is drawn again; with V the
    time grows with the square of m, without it only with m log m.

    Args:
        truth_g: True delta, shape (g,).
        draws_sg: Draws, shape (s, g), in any order.
        estimator: `fair` (two draws at least) or `V`.
        noise_g: Sampling variance V of the truth, not negative; None for none.

    Returns:
        One value per gene, in units of the matrix; NaN for `fair` with one draw.

    Raises:
        UnknownChoice: Another word for `estimator`.

    Source:
        Gneiting & Raftery (2007), section 4.2; Ferro (2014), doi:10.1002/qj.2270 (fair); Grimit et al. (2006),
        doi:10.1256/qj.05.235 (mixture of normals). Equal to properscoring `crps_ensemble` (`V`) and to scoringrules
        `crps_ensemble` with `nrg`, `qd` (`V`) and `fair`, `pwm` (`fair`).
    """
    _known("estimator of the CRPS of draws", estimator, ESTIMATORS)
    draws_sg = np.asarray(draws_sg, dtype=float)
    m = len(draws_sg)
    if noise_g is None:
        away_g = np.mean(np.abs(truth_g - draws_sg), axis=0)
        pairs_g = _sum_of_gaps(draws_sg)
    else:
        noise_g = np.asarray(noise_g, dtype=float)
        away_g = np.mean(_mean_absolute(truth_g - draws_sg, noise_g), axis=0)
        itself_g = m / 2.0 * _mean_absolute(np.zeros_like(noise_g), 2.0 * noise_g) if estimator == "V" else 0.0
        pairs_g = _sum_of_blurred_gaps(draws_sg, noise_g) + itself_g
    k = m * m if estimator == "V" else m * (m - 1)
    return away_g - pairs_g / k if k else np.full(len(away_g), np.nan)


def _sum_of_gaps(draws_sg: np.ndarray) -> np.ndarray:
    """Sum over pairs i < j of |x_i - x_j|, from sorted draws."""
    m = len(draws_sg)
    return np.tensordot(2.0 * np.arange(m) - m + 1.0, np.sort(draws_sg, axis=0), axes=1)


def _sum_of_blurred_gaps(draws_sg: np.ndarray, noise_g: np.ndarray) -> np.ndarray:
    """Sum over pairs i < j of the mean absolute gap of blurred draws; one row of pairs in memory at a time."""
    parts = (_mean_absolute(draws_sg[i + 1 :] - draws_sg[i], 2.0 * noise_g).sum(axis=0) for i in range(len(draws_sg)))
    return np.sum(list(parts), axis=0)


def _mean_absolute(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Mean of |N(mean, variance)|; |mean| where the variance is zero."""
    sd = np.sqrt(variance)
    z = mean / np.where(sd > 0, sd, 1.0)
    blurred = sd * (z * erf(z / np.sqrt(2.0)) + np.sqrt(2.0 / np.pi) * np.exp(-0.5 * z * z))
    return np.where(sd > 0, blurred, np.abs(mean))


def _checked(draws_sg: np.ndarray, condition: int, n_genes: int) -> np.ndarray:
    draws_sg = np.asarray(draws_sg, dtype=float)
    if draws_sg.ndim != 2 or draws_sg.shape[1] != n_genes or not len(draws_sg):
        raise PredictionMismatch(
            f"Draws of condition {condition} have the wrong shape",
            given=draws_sg.shape,
            expected=f"(draws, {n_genes}) with at least one draw",
            fix="Give one row per draw and one column per gene of the data.",
        )
    if not np.isfinite(draws_sg).all():
        raise ValuesNotFinite(
            f"Draws of condition {condition} are not all numbers",
            given=f"{int((~np.isfinite(draws_sg)).sum())} NaN or infinite",
            expected="finite draws",
            fix="Repair the model: a draw that is no number would be scored as none.",
        )
    return draws_sg


def _known(what: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise UnknownChoice(
            f"There is no such {what}",
            given=repr(word),
            expected=" or ".join(repr(w) for w in words),
            fix="Write one of these words.",
        )
