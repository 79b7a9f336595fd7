"""Where in its predicted distribution the truth fell: uniform where the distribution is right."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from perturbfm.errors import BadValue
from perturbfm.eval.case import NOT_APPLICABLE, Case, PerCondition, nowhere, plain
from perturbfm.eval.metric.uncertainty import NOISE_UNKNOWN, NOTHING_SCORED, error_of, no_density, predictive_variance

BINS = 10


def pit_values(case: Case, *, noise: str) -> np.ndarray | None:
    r"""Probability integral transform of the true delta.

    .. math:: u_{pg} = \Phi\left((T_{pg} - D_{pg})/\sqrt{W_{pg}}\right)

    Args:
        case: Predictions, variances and truths, shape (c, g).
        noise: `added` (W = variance + V) or `ignored` (W = variance).

    Returns:
        Shape (c, g), between 0 and 1; NaN on genes that are not scored. None where V is needed and not known.

    Raises:
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Dawid (1984); Gneiting, Balabdaoui & Raftery (2007), doi:10.1111/j.1467-9868.2007.00587.x.
    """
    if (w_cg := predictive_variance(case, noise)) is None:
        return None
    return np.where(case.scored_cg, norm.cdf(error_of(case) / np.sqrt(w_cg)), np.nan)


def pit_counts(pit_cg: np.ndarray, n_bins: int = BINS) -> np.ndarray:
    """Scored genes per condition and bin of equal width, shape (c, b); the last bin holds its upper end.

    Raises:
        BadValue: Fewer than two bins.
    """
    if n_bins < 2:
        raise BadValue("A histogram needs bins", given=n_bins, expected="at least 2", fix="Use 10.")
    scored_cg = np.isfinite(pit_cg)
    bin_cg = np.minimum((np.where(scored_cg, pit_cg, 0.0) * n_bins).astype(int), n_bins - 1)
    cell_cg = np.arange(len(pit_cg))[:, None] * n_bins + bin_cg
    return np.bincount(cell_cg[scored_cg], minlength=len(pit_cg) * n_bins).reshape(len(pit_cg), n_bins)


def reliability_index(share_b: np.ndarray) -> np.ndarray:
    r"""Distance of a histogram from a flat one, :math:`\sum_b |f_b - 1/B|` over the last axis; 0 to 2 - 2/B."""
    return np.sum(np.abs(share_b - 1.0 / share_b.shape[-1]), axis=-1)


def pit_reliability_index(case: Case, *, noise: str, n_bins: int = BINS) -> PerCondition:
    r"""Reliability index of a condition's PIT histogram over scored genes.

    .. math:: \sum_{b=1}^{B} |f_b - 1/B|

    with :math:`f_b` the share of scored genes in bin b. 0 is flat, 2 - 2/B has all in one bin. A right distribution
    stays above 0 with finitely many genes: about :math:`\sqrt{2 (B - 1) / (\pi n)}` for n independent ones.

    Args:
        case: Predictions, variances and truths, shape (c, g).
        noise: `added` (W = variance + V) or `ignored` (W = variance).
        n_bins: Number of bins B of equal width.

    Returns:
        One value per condition; lower is better. *Not applicable* where fewer genes are scored than there are bins, V
        is needed and not known, or the prediction is an interval.

    Raises:
        BadValue: Fewer than two bins.
        UnknownChoice: Another word for `noise`.
        PredictionMismatch: A variance that is not positive.

    Source:
        Delle Monache et al. (2006), doi:10.1029/2005JD006917, there for rank histograms.
    """
    if reason := no_density(case):
        return nowhere(case.n_conditions, reason)
    if (pit_cg := pit_values(case, noise=noise)) is None:
        return nowhere(case.n_conditions, NOISE_UNKNOWN)
    count_cb = pit_counts(pit_cg, n_bins)
    n_c = count_cb.sum(axis=1)
    few = f"fewer than {n_bins} scored genes: a histogram of {n_bins} bins cannot be flat"
    reason_c = np.where(n_c >= n_bins, "", np.where(n_c > 0, few, NOTHING_SCORED)).astype(object)
    return plain(reliability_index(count_cb / np.maximum(n_c, 1)[:, None]), reason_c, NOT_APPLICABLE)
