"""Whether a stated variance tells seen conditions from unseen ones."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def auroc(score_in: np.ndarray, score_out: np.ndarray) -> tuple[float | None, str]:
    r"""Probability that an out-of-distribution condition scores above one inside, ties counting half.

    .. math:: P(s_{out} > s_{in}) + \tfrac12 P(s_{out} = s_{in})

    Args:
        score_in: Scores of conditions inside the training distribution.
        score_out: Scores of conditions outside it.

    Returns:
        The value and an empty reason; or None and why there is none: a class is absent, or a score is not a number.

    Source:
        Mann & Whitney (1947) by mid-ranks, equal to scikit-learn `roc_auc_score`.
    """
    score_in, score_out = np.asarray(score_in, dtype=float), np.asarray(score_out, dtype=float)
    n, m = len(score_in), len(score_out)
    if n == 0 or m == 0:
        return None, f"{n} conditions inside and {m} outside, at least one of each needed"
    score_n = np.concatenate([score_in, score_out])
    if (lost := int(np.isnan(score_n).sum())) > 0:
        return None, f"{lost} of {n + m} conditions have no score"
    rank_sum = float(rankdata(score_n)[n:].sum())
    return (rank_sum - m * (m + 1) / 2) / (n * m), ""


def separation_score(variance_cg: np.ndarray, input_var_cg: np.ndarray, scored_cg: np.ndarray) -> np.ndarray:
    r"""Variance of the mean delta in units of the context's own cell variance, averaged over scored genes.

    .. math:: mean_g\,\sigma^2_{pg} / s^2_{I,g}

    Free of the context's scale: plain variances tell cell lines apart by their depth, not by what a model knows.

    Args:
        variance_cg: Predictive variance of the mean delta, shape (c, g).
        input_var_cg: Variance of single input-control cells, same shape and units; genes with 0 are left out.
        scored_cg: Genes that count.

    Returns:
        One score per condition, without unit; NaN where no gene is left.

    Source:
        Protocol section 3.5.
    """
    input_var_cg = np.asarray(input_var_cg, dtype=float)
    used_cg = np.asarray(scored_cg, dtype=bool) & (input_var_cg > 0)
    share_cg = np.where(used_cg, variance_cg, 0.0) / np.where(used_cg, input_var_cg, 1.0)
    count_c = used_cg.sum(axis=1)
    return np.where(count_c > 0, share_cg.sum(axis=1) / np.maximum(count_c, 1), np.nan)
