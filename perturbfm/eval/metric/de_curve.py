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
    area = _area(curve)
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    score_cg = -np.log10(_floored(predicted, floor))
    n_genes = true.called_cg.shape[1]
    full_c = np.where(true.n_called_c == n_genes, "every gene is significant in truth", "")
    reason_c = np.where(full_c == "", too_few(true.n_called_c, least), full_c).astype(object)
    value_c = np.zeros(comparison.n_conditions)
    for c in np.flatnonzero(reason_c == ""):
        value_c[c] = area(true.called_cg[c], score_cg[c])
    return plain(value_c, reason_c)


def _area(curve: str) -> Callable[[np.ndarray, np.ndarray], float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    known = {"pr": average_precision_score, "roc": roc_auc_score}
    if curve not in known:
        raise UnknownChoice("There is no such curve", given=repr(curve), expected="pr or roc", fix="Name one of them.")
    found: Callable[[np.ndarray, np.ndarray], float] = known[curve]
    return found


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
