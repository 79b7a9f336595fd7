"""How well a prediction's adjusted p finds the genes that are significant in truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.de_overlap import too_few
from perturbfm.eval.metric.differential import Calls, Recipe, calls

FLOOR = 1e-10


def de_curve_area(comparison: Comparison, *, recipe: Recipe, curve: str, floor: str, least: int = 1) -> PerCondition:
    """Area under a curve that finds the genes significant in truth by the prediction's -log10 adjusted p.

    Args:
        comparison: Cells of both sides.
        recipe: Test, correction and fold change.
        curve: `roc`, or `pr` (average precision).
        floor: What becomes of very small adjusted p: `clip` (never under 1e-10), `zero` (exact zeros are 1e-10, so
            that they rank behind smaller ones), `least` (zeros take the smallest other one).
        least: Significant genes that a truth must have.

    Returns:
        One value in [0, 1] per condition, 1 is best; chance is 0.5 for `roc` and the share of significant genes for
        `pr`. *Undefined* where truth has fewer than `least` significant genes, or nothing else.

    Raises:
        UnknownChoice: Another word for `curve` or `floor`.

    Source:
        cell-eval `pr_auc`, `roc_auc` (scikit-learn); floor `clip` in 0.8.2, `zero` in 0.6.8, `least` in cell-eval2.
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    score_cg = -np.log10(_floored(predicted, floor))
    n_genes = true.called_cg.shape[1]
    full_c = np.where(true.n_called_c == n_genes, "every gene is significant in truth", "")
    reason_c = np.where(full_c == "", too_few(true.n_called_c, least), full_c).astype(object)
    return plain(_area(curve)(true.called_cg, score_cg), reason_c)


def _area(curve: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    known = {"pr": average_precision, "roc": area_under_roc}
    if curve not in known:
        raise UnknownChoice("There is no such curve", given=repr(curve), expected="pr or roc", fix="Name one of them.")
    return known[curve]


def average_precision(positive_cg: np.ndarray, score_cg: np.ndarray) -> np.ndarray:
    r"""Average precision of each row.

    .. math:: \sum_i (R_i - R_{i-1}) P_i

    over the distinct scores from the highest on, R recall and P precision of all genes that score as high; 0 without a
    positive. scikit-learn's `average_precision_score`, on all rows at once.
    """
    hit_ci, last_ci = _descending(positive_cg, score_cg)
    found_ci = np.cumsum(hit_ci, axis=1)
    value_ci = found_ci / np.arange(1, hit_ci.shape[1] + 1)
    new_ci = _since_last(found_ci, last_ci)
    return np.where(last_ci, new_ci * value_ci, 0.0).sum(axis=1) / np.maximum(found_ci[:, -1], 1)


def area_under_roc(positive_cg: np.ndarray, score_cg: np.ndarray) -> np.ndarray:
    r"""Area under the receiver operating curve of each row, scikit-learn's `roc_auc_score` on all rows at once.

    .. math:: \frac{\#\{s_+ > s_-\} + \frac12 \#\{s_+ = s_-\}}{n_+ n_-}

    over pairs of a positive and a negative gene; 0 where there are none.
    """
    hit_ci, last_ci = _descending(positive_cg, score_cg)
    found_ci, missed_ci = np.cumsum(hit_ci, axis=1), np.cumsum(~hit_ci, axis=1)
    n_c, m_c = found_ci[:, -1], missed_ci[:, -1]
    new_ci, wrong_ci = _since_last(found_ci, last_ci), _since_last(missed_ci, last_ci)
    below_ci = m_c[:, None] - missed_ci + 0.5 * wrong_ci
    return np.where(last_ci, new_ci * below_ci, 0.0).sum(axis=1) / np.maximum(n_c * m_c, 1)


def _descending(positive_cg: np.ndarray, score_cg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which genes are positive, highest score first, and which stand last among those of their score."""
    order_ci = np.argsort(-score_cg, axis=1, kind="stable")
    score_ci = np.take_along_axis(score_cg, order_ci, axis=1)
    last_ci = np.ones(score_ci.shape, dtype=bool)
    last_ci[:, :-1] = score_ci[:, :-1] != score_ci[:, 1:]
    return np.take_along_axis(positive_cg, order_ci, axis=1), last_ci


def _since_last(total_ci: np.ndarray, last_ci: np.ndarray) -> np.ndarray:
    """What a running total has gained since the last end of a run of equal scores, at ends of runs."""
    before_ci = np.maximum.accumulate(np.where(last_ci, total_ci, 0), axis=1)
    return total_ci - np.pad(before_ci, ((0, 0), (1, 0)))[:, :-1]


def _floored(predicted: Calls, floor: str) -> np.ndarray:
    fdr_cg = predicted.fdr_cg
    if floor == "clip":
        return np.clip(fdr_cg, FLOOR, 1.0)
    positive = fdr_cg[fdr_cg > 0]
    if floor == "zero":
        return np.where(fdr_cg == 0, fdr_cg.dtype.type(FLOOR), fdr_cg)
    if floor == "least":
        return np.where(fdr_cg == 0, positive.min() if len(positive) else FLOOR, fdr_cg)
    raise UnknownChoice(
        "There is no such floor", given=repr(floor), expected="clip, zero or least", fix="Name one of them."
    )
