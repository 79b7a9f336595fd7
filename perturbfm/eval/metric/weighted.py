"""Errors and shares of variance of means, weighted by how much genes set a perturbation apart (Shift Bioscience)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perturbfm.eval.case import PerCondition, nowhere, plain
from perturbfm.eval.comparison import Comparison, GroupMoments, moments_of
from perturbfm.eval.metric.mean_correlation import CENTROID_UNKNOWN, centre
from perturbfm.eval.metric.rest_weight import CELLS_AT_LEAST, rest_test, squared_share, truth_test

NO_WEIGHT = "all weights are zero"
UNWEIGHTED = "weights are all zero: unweighted, as the suite falls back to"


def weighted_mse(comparison: Comparison) -> PerCondition:
    r"""Squared error of the mean, weighted by genes.

    .. math:: \frac{\sum_g w_{pg} (\hat\mu_{pg} - \mu_{pg})^2}{\sum_g w_{pg}}

    with w from `squared_share` of `rest_test` on the *same* cells that are the truth: it dips twice, and a condition
    without effect weighs the genes where its own noise is largest. `weighted_mse_disjoint` does not.

    Args:
        comparison: Cells of both sides.

    Returns:
        One value per condition, in squared units of the matrix; 0 is best. *Undefined* where all weights are zero:
        there the suite divides by zero.

    Source:
        Shift Bioscience 08db3c1 `wmse`.
    """
    test = truth_test(comparison)
    value_c, total_c = _weighted(_error(comparison, comparison.truth.moments.mean_rg), squared_share(test.t_cg))
    return plain(value_c, _unweighed(test.reason_c, total_c))


def weighted_mse_disjoint(comparison: Comparison, *, seed: int) -> PerCondition:
    r"""`weighted_mse` with weights from cells that are not the truth that scores.

    The cells of each condition are divided into two halves A and B. Weights come from the test of A halves against each
    other, truth is the mean of B; then the other way round; the value is the mean of the two.

    Args:
        comparison: Cells of both sides.
        seed: Of the halving. It depends on the cells' values and not on their order.

    Returns:
        One value per condition, in squared units of the matrix. It holds the sampling variance of half the cells, so 0
        is not reached. *Undefined* where a half has fewer than 4 cells, the context has one condition, or a half's
        weights are all zero.

    Source:
        Ours: `weighted_mse` without its double dipping.
    """
    halves = _halves(comparison, seed)
    value_c, reason_c = np.zeros(comparison.n_conditions), np.full(comparison.n_conditions, "", dtype=object)
    for learned, scored in (halves, halves[::-1]):
        test = rest_test(learned, comparison.members())
        one_c, total_c = _weighted(_error(comparison, scored.mean_rg), squared_share(test.t_cg))
        value_c += 0.5 * one_c
        few_c = np.minimum(learned.n_r, scored.n_r) < CELLS_AT_LEAST
        here_c = np.where(few_c, f"fewer than {CELLS_AT_LEAST} cells in a half", _unweighed(test.reason_c, total_c))
        reason_c = np.where(reason_c != "", reason_c, here_c)
    return plain(value_c, reason_c)


def r2_of_means(comparison: Comparison, *, reference: str, weighted: bool) -> PerCondition:
    r"""Coefficient of determination over genes of predicted and measured deltas.

    .. math:: 1 - \frac{\sum_g w_g (d_{pg} - \hat d_{pg})^2}{\sum_g w_g (d_{pg} - \bar d_p)^2}

    with :math:`\bar d_p` the weighted mean of d over genes, w from `rest_test` on the truth (or 1), and d the measured
    mean minus the mean of the context's measured control cells (`control`), or minus the unweighted mean of train
    conditions (`train_centroid`), the same for both sides.

    Args:
        comparison: Cells of both sides.
        reference: `control` or `train_centroid`.
        weighted: Weigh the genes.

    Returns:
        One value per condition; 1 is best, 0 what the mean over genes gives, without lower bound. Where all weights are
        zero the value is unweighted, as in the suite, and the reason says so beside it. *Undefined* where the truth is
        constant over the weighted genes; there scikit-learn gives 0 or 1. *Not applicable* where the train centroid is
        not known.

    Raises:
        UnknownChoice: Another word for `reference`.

    Source:
        Shift Bioscience 08db3c1 `r2_score_on_deltas` (scikit-learn `r2_score` with `sample_weight`): `r2_deltactrl`,
        `r2_deltapert`, `weighted_r2_deltactrl`, `weighted_r2_deltapert`.
    """
    if (centre_cg := centre(comparison, reference)) is None:
        return nowhere(comparison.n_conditions, CENTROID_UNKNOWN)
    true_cg = comparison.truth.moments.mean_rg - centre_cg
    error_cg = _error(comparison, comparison.truth.moments.mean_rg)
    weight_cg = np.ones(true_cg.shape)
    if weighted:
        weight_cg = squared_share(truth_test(comparison).t_cg)
    fallen_c = weight_cg.sum(axis=1) == 0
    weight_cg[fallen_c] = 1.0
    share_cg = weight_cg / weight_cg.sum(axis=1, keepdims=True)
    middle_c = np.sum(share_cg * true_cg, axis=1, keepdims=True)
    spread_c = np.sum(share_cg * (true_cg - middle_c) ** 2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value_c = 1.0 - np.sum(share_cg * error_cg, axis=1) / spread_c
    stats = plain(value_c, np.where(spread_c > 0, "", "true delta is constant over the weighted genes"))
    flagged_c = np.where(stats.ok_c & fallen_c, UNWEIGHTED, stats.reason_c)
    return replace(stats, reason_c=flagged_c.astype(object))


def _error(comparison: Comparison, true_cg: np.ndarray) -> np.ndarray:
    return np.asarray((comparison.predicted.moments.mean_rg.astype(float) - true_cg) ** 2)


def _weighted(error_cg: np.ndarray, weight_cg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total_c = weight_cg.sum(axis=1)
    return np.sum(weight_cg * error_cg, axis=1) / np.where(total_c > 0, total_c, np.nan), total_c


def _unweighed(reason_c: np.ndarray, total_c: np.ndarray) -> np.ndarray:
    return np.where((reason_c == "") & (total_c == 0), NO_WEIGHT, reason_c).astype(object)


def _halves(comparison: Comparison, seed: int) -> tuple[GroupMoments, GroupMoments]:
    """Moments of two halves of each condition's measured cells, one condition in memory at a time."""
    found = [_moments_of_halves(comparison.truth.cells(c), seed) for c in range(comparison.n_conditions)]
    n_ch, mean_chg, var_chg, nonzero_chg = (
        np.stack([getattr(two, part) for two in found]) for part in ("n_r", "mean_rg", "var_rg", "nonzero_rg")
    )
    first, second = (GroupMoments(n_ch[:, h], mean_chg[:, h], var_chg[:, h], nonzero_chg[:, h]) for h in (0, 1))
    return first, second


def _moments_of_halves(x_ng: np.ndarray, seed: int) -> GroupMoments:
    """Two halves in a seeded order that depends on what the cells hold, neither on their order nor on that of genes."""
    bits_ng = np.ascontiguousarray(x_ng + 0.0).view(np.uint64)  # whole numbers add up exactly in any order
    order_n = np.argsort(bits_ng.sum(axis=1), kind="stable")
    drawn_n = order_n[np.random.Generator(np.random.PCG64(seed)).permutation(len(order_n))]
    return moments_of(lambda h: x_ng[drawn_n[h::2]], 2)
