"""Whether a stated variance tells seen conditions from unseen ones."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

TIE = 1e-5
"""Scores closer than this share of their size are a tie: variances are averaged over rows and stored as float32."""


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


def mean_variance(variance_cg: np.ndarray, scored_cg: np.ndarray) -> np.ndarray:
    """Mean over scored genes of a variance as it is, shape (c,); NaN where no gene is scored."""
    count_c = np.sum(scored_cg, axis=1)
    sum_c = np.sum(np.where(scored_cg, variance_cg, 0.0), axis=1)
    return np.where(count_c > 0, sum_c / np.maximum(count_c, 1), np.nan)


def control_spread(input_var_cg: np.ndarray) -> np.ndarray:
    """Variance of single input-control cells, or one throughout a row where the file has none."""
    return np.where(input_var_cg.sum(1, keepdims=True) > 0, input_var_cg, 1.0)


def places(score_n: np.ndarray) -> np.ndarray:
    """Place of every score in the order of all of them, from 0; scores that differ by rounding share one.

    A group of equal scores reaches from its lowest by `TIE`, so many close scores are not chained into one.
    """
    score_n = np.asarray(score_n, dtype=float)
    order = np.argsort(score_n, kind="stable")
    place_n, place, lowest = np.zeros(len(score_n)), -1, -np.inf
    for i in order:
        if place < 0 or score_n[i] > lowest + TIE * abs(lowest):
            place, lowest = place + 1, score_n[i]
        place_n[i] = place
    return place_n
