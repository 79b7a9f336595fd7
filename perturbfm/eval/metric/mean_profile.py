"""How far the mean of predicted cells is from the mean of true cells, on a suite's genes.

Unlike `error`, which compares deltas against two halves of the controls, these compare means, or deltas against one
and the same control.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.drawn import rounded
from perturbfm.eval.metric.ranked_gene import gene_sets

FLOAT32 = 1e-6
"""A delta shorter than this share of the means it is a difference of may be rounding of float32 sums."""


def mean_squared(comparison: Comparison, *, top: int | None, decimals: int | None) -> PerCondition:
    r"""Mean over genes of the squared difference of means.

    .. math:: \lVert \hat\mu_p - \mu_p \rVert_2^2 / G

    Args:
        comparison: Cells of both sides, in units of the matrix.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals to round to; None for none.

    Returns:
        One value per condition, in squared units of the matrix; 0 is best. Never undefined.

    Source:
        pertpy 0.7.0 `mse` (0.6.0 returned another number under this name).
    """
    return _of_means(comparison, top, decimals, lambda predicted_g, true_g: float(np.mean((predicted_g - true_g) ** 2)))


def mean_absolute(comparison: Comparison, *, top: int | None, decimals: int | None) -> PerCondition:
    r"""Mean over genes of the absolute difference of means.

    .. math:: \lVert \hat\mu_p - \mu_p \rVert_1 / G

    Args:
        comparison: Cells of both sides, in units of the matrix.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals to round to; None for none.

    Returns:
        One value per condition, in units of the matrix; 0 is best. Never undefined.

    Source:
        pertpy 0.7.0 `mean_absolute_error`.
    """
    return _of_means(
        comparison, top, decimals, lambda predicted_g, true_g: float(np.mean(np.abs(predicted_g - true_g)))
    )


def euclidean(comparison: Comparison, *, top: int | None, decimals: int | None, squared: bool) -> PerCondition:
    r"""Euclidean distance of means, or its square, which is the MMD with a linear kernel.

    .. math:: \lVert \hat\mu_p - \mu_p \rVert_2 \quad or \quad \lVert \hat\mu_p - \mu_p \rVert_2^2

    Args:
        comparison: Cells of both sides, in units of the matrix.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals to round to; None for none.
        squared: Leave the root out.

    Returns:
        One value per condition, in units of the matrix or their square; 0 is best. Never undefined. It grows with the
        number of genes.

    Source:
        pertpy 0.7.0 `euclidean` and `root_mean_squared_error`, which are the same number; `mmd` when squared.
    """
    power = 2 if squared else 1
    return _of_means(
        comparison, top, decimals, lambda predicted_g, true_g: float(np.linalg.norm(predicted_g - true_g)) ** power
    )


def cosine_distance(comparison: Comparison, *, top: int | None, decimals: int | None) -> PerCondition:
    r"""Cosine distance of means.

    .. math:: 1 - \frac{\hat\mu_p \cdot \mu_p}{\lVert\hat\mu_p\rVert\,\lVert\mu_p\rVert}

    Args:
        comparison: Cells of both sides.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals to round to; None for none.

    Returns:
        One value in [0, 2] per condition; 0 is best. *Undefined* where a mean is zero on all these genes.

    Source:
        pertpy 0.7.0 `cosine_distance`.
    """

    def distance(predicted_g: np.ndarray, true_g: np.ndarray) -> float:
        length = float(np.linalg.norm(predicted_g) * np.linalg.norm(true_g))
        return 1.0 - float(predicted_g @ true_g) / length if length > 0 else float("nan")

    return _of_means(comparison, top, decimals, distance, "a mean is zero on all genes")


def spearman_distance(comparison: Comparison, *, top: int | None, decimals: int | None) -> PerCondition:
    r"""One minus the Spearman correlation over genes of means, ties at their mean rank.

    .. math:: 1 - r(rank(\hat\mu_p), rank(\mu_p))

    Args:
        comparison: Cells of both sides.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals to round to; None for none.

    Returns:
        One value in [0, 2] per condition; 0 is best. *Undefined* where a mean is constant over genes.

    Source:
        pertpy 0.7.0 `spearman_distance`. Means are ranked as float32, the precision of the file, so that genes with
        the same mean tie.
    """
    from scipy.stats import rankdata

    def distance(predicted_g: np.ndarray, true_g: np.ndarray) -> float:
        rank_predicted_g = rankdata(predicted_g.astype(np.float32))
        return 1.0 - _pearson(rank_predicted_g, rankdata(true_g.astype(np.float32)), 0.0)

    return _of_means(comparison, top, decimals, distance, "a mean is constant over genes")


def r2_distance(comparison: Comparison, *, top: int | None, decimals: int | None) -> PerCondition:
    r"""One minus the coefficient of determination over genes of the predicted mean for the true one.

    .. math:: \frac{\sum_g (\hat\mu_{pg} - \mu_{pg})^2}{\sum_g (\mu_{pg} - \overline{\mu_p})^2}

    Args:
        comparison: Cells of both sides.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals to round to; None for none.

    Returns:
        One value per condition; 0 is best, 1 is what the truth's mean over genes would score. *Undefined* where the
        true mean is constant over genes.

    Source:
        pertpy 0.7.0 `r2_distance` as scPerturBench calls it, true cells first.
    """

    def distance(predicted_g: np.ndarray, true_g: np.ndarray) -> float:
        spread = float(np.sum((true_g - true_g.mean()) ** 2))
        return float(np.sum((predicted_g - true_g) ** 2)) / spread if spread > 0 else float("nan")

    return _of_means(comparison, top, decimals, distance, "the true mean is constant over genes")


def pearson_shared(comparison: Comparison, *, top: int | None, decimals: int | None) -> PerCondition:
    r"""Pearson correlation over genes of predicted and true deltas, both against the same true control cells.

    .. math:: r_g(\hat\mu_p - \mu_0, \mu_p - \mu_0)

    The noise of the shared control is in both deltas, so a random other profile scores above 0.

    Args:
        comparison: Cells of both sides.
        top: Genes, first by |t| of the truth against control; None for all.
        decimals: Decimals that `1 - r` is rounded to; None for none.

    Returns:
        One value in [-1, 1] per condition; 1 is best. *Undefined* where a delta is constant over genes, or shorter
        than 1e-6 of the control means: a copy of the controls has no direction.

    Source:
        bm2-lab/scPerturBench 6e24e7a, `calculateDelta`, and pertpy 0.7.0 `pearson_distance`; the published tables hold
        r.
    """
    control_kg = comparison.truth.control_moments.mean_rg
    predicted_cg, true_cg = comparison.predicted.moments.mean_rg, comparison.truth.moments.mean_rg
    value_c, reason_c = [], []
    for c, (genes, context) in enumerate(zip(gene_sets(comparison, top), comparison.context_of_c, strict=True)):
        control_g = control_kg[context, genes]
        least = FLOAT32 * float(np.sqrt(np.mean(control_g**2)))
        predicted_g, true_g = predicted_cg[c, genes] - control_g, true_cg[c, genes] - control_g
        value_c.append(_pearson(predicted_g, true_g, least))
        flat = [side for side, d_g in (("predicted", predicted_g), ("true", true_g)) if not np.std(d_g) > least]
        reason_c.append(f"{flat[0]} delta is constant over genes" if flat else "")
    return plain(1.0 - rounded(1.0 - np.array(value_c), decimals), np.array(reason_c, dtype=object))


def _pearson(x_g: np.ndarray, y_g: np.ndarray, least: float) -> float:
    """Pearson correlation; NaN where a side's standard deviation over genes is not above `least`."""
    x_sd, y_sd = float(np.std(x_g)), float(np.std(y_g))
    if not min(x_sd, y_sd) > least:
        return float("nan")
    return float(np.clip(np.mean((x_g - x_g.mean()) * (y_g - y_g.mean())) / (x_sd * y_sd), -1.0, 1.0))


def _of_means(
    comparison: Comparison,
    top: int | None,
    decimals: int | None,
    distance: Callable[[np.ndarray, np.ndarray], float],
    reason: str = "",
) -> PerCondition:
    """A function of predicted and true mean on each condition's genes; undefined for `reason` where it is NaN."""
    predicted_cg, true_cg = comparison.predicted.moments.mean_rg, comparison.truth.moments.mean_rg
    genes_c = gene_sets(comparison, top)
    value_c = np.array([distance(predicted_cg[c, genes], true_cg[c, genes]) for c, genes in enumerate(genes_c)])
    return plain(rounded(value_c, decimals), np.where(np.isnan(value_c), reason, "").astype(object))
