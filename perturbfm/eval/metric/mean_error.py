"""How far predicted means are from measured ones, as papers compare them."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.gene_set import gene_set


def mse_of_means(comparison: Comparison, *, genes: str) -> PerCondition:
    r"""Mean over some genes of the squared error of the mean.

    .. math:: \frac{1}{|S|} \sum_{g \in S} (\hat\mu_{pg} - \mu_{pg})^2

    Args:
        comparison: Cells of both sides; only their means are looked at.
        genes: A name known to `gene_set`.

    Returns:
        One value per condition, in squared units of the matrix; 0 is best. *Undefined* where the gene set is tied.

    Source:
        mlbio-epfl/systema fe087c9 `mse_all`, `mse_20de`; Shift Bioscience 08db3c1 `mse`. No reference: it cancels.
    """
    square_c, n_c, reason_c = _squares(comparison, genes)
    return plain(square_c / n_c, reason_c)


def rmse_of_means(comparison: Comparison, *, genes: str) -> PerCondition:
    r"""Square root of `mse_of_means`, taken per condition.

    .. math:: \sqrt{\frac{1}{|S|} \sum_{g \in S} (\hat\mu_{pg} - \mu_{pg})^2}

    Args:
        comparison: Cells of both sides; only their means are looked at.
        genes: A name known to `gene_set`.

    Returns:
        One value per condition, in units of the matrix; 0 is best. *Undefined* where the gene set is tied.

    Source:
        mlbio-epfl/systema fe087c9 `rmse_all`, `rmse_20de`.
    """
    square_c, n_c, reason_c = _squares(comparison, genes)
    return plain(np.sqrt(square_c / n_c), reason_c)


def distance_of_means(comparison: Comparison, *, genes: str) -> PerCondition:
    r"""Euclidean distance of the means over some genes: a sum, not a mean, so it grows with the number of genes.

    .. math:: \sqrt{\sum_{g \in S} (\hat\mu_{pg} - \mu_{pg})^2}

    Args:
        comparison: Cells of both sides; only their means are looked at.
        genes: A name known to `gene_set`.

    Returns:
        One value per condition, in units of the matrix; 0 is best. *Undefined* where the gene set is tied.

    Source:
        Ahlmann-Eltze et al. 092743c `l2`, on the 1,000 genes of highest mean in control.
    """
    square_c, _, reason_c = _squares(comparison, genes)
    return plain(np.sqrt(square_c), reason_c)


def _squares(comparison: Comparison, genes: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chosen = gene_set(comparison, genes)
    error_cg = comparison.predicted.moments.mean_rg.astype(float) - comparison.truth.moments.mean_rg
    square_c = np.sum(np.where(chosen.kept_cg, error_cg, 0.0) ** 2, axis=1)
    n_c = chosen.kept_cg.sum(axis=1)
    return square_c, np.maximum(n_c, 1), np.where(n_c == 0, "no gene is left", chosen.reason_c).astype(object)
