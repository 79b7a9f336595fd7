"""How far the predicted profile of a condition is from the true one."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.correlation import ROUNDING, pearson_rows, unit_rows
from perturbfm.eval.metric.profile import Profiles, profiles

ERRORS = ("rmse", "mse", "mae")
SIMILARITIES = ("pearson", "cosine", "r2")


def profile_error(comparison: Comparison, *, space: str, error: str) -> PerCondition:
    r"""Error over genes of predicted and true profiles x and y.

    .. math:: \mathrm{mse} = \frac1G \sum_g (x_g - y_g)^2,\quad \mathrm{rmse} = \sqrt{\mathrm{mse}},\quad
        \mathrm{mae} = \frac1G \sum_g |x_g - y_g|

    Args:
        comparison: Cells of both sides.
        space: Which profile, see `profiles`.
        error: `rmse`, `mse` or `mae`.

    Returns:
        One value per condition, in (squared) units of the profile; 0 is best. *Undefined* where a side is not finite.

    Raises:
        UnknownChoice: Another word for `space` or `error`.

    Source:
        PerturBench `compute_metric`, d357dfa (2024-08) and c84038b (2026). Of means this is also cell-eval `mae`, `mse`
        (`mae` is scored in the Virtual Cell Challenge 2025), cell-eval2 `expr_*`, Systema `mse_all`, `rmse_all` and
        Shift Bioscience `mse`: a reference cancels.
    """
    _known(error, ERRORS)
    both = profiles(comparison, space)
    with np.errstate(invalid="ignore", over="ignore"):
        difference_cg = both.predicted_cg - both.true_cg
        if error == "mae":
            return plain(np.abs(difference_cg).mean(axis=1), both.reason_c)
        mse_c = (difference_cg**2).mean(axis=1)
    return plain(mse_c if error == "mse" else np.sqrt(mse_c), both.reason_c)


def profile_similarity(comparison: Comparison, *, space: str, similarity: str) -> PerCondition:
    r"""Agreement over genes of predicted and true profiles x and y.

    .. math:: r = \frac{(x - \bar x) \cdot (y - \bar y)}{|x - \bar x|\,|y - \bar y|},\quad
        \cos = \frac{x \cdot y}{|x|\,|y|},\quad r^2 = 1 - \frac{\sum_g (x_g - y_g)^2}{\sum_g (x_g - \bar x)^2}

    In :math:`r^2` the *prediction* stands where a truth usually does: that is the suite's order of arguments.

    Args:
        comparison: Cells of both sides.
        space: Which profile, see `profiles`.
        similarity: `pearson`, `cosine` or `r2`.

    Returns:
        One value per condition; 1 is best. *Undefined* where a side is constant over genes (`pearson`; the predicted
        one for `r2`) or zero (`cosine`), up to rounding, and where a side is not finite.

    Raises:
        UnknownChoice: Another word for `space` or `similarity`.

    Source:
        PerturBench `compute_metric`, d357dfa (2024-08) and c84038b (2026); it gives NaN where this is undefined, but
        0 for `r2_score` of a constant prediction (scikit-learn's `force_finite`).
    """
    _known(similarity, SIMILARITIES)
    both = profiles(comparison, space)
    if similarity == "cosine":
        return _cosine(both)
    least_x_c, least_y_c = centred_least(both)
    flat_x_c, flat_y_c = spread(both.predicted_cg) <= least_x_c, spread(both.true_cg) <= least_y_c
    reason_c = _first(both.reason_c, flat_x_c, f"predicted {both.word} is constant over genes")
    if similarity == "r2":
        return plain(_r2(both), reason_c)
    reason_c = _first(reason_c, flat_y_c, f"true {both.word} is constant over genes")
    return plain(pearson_rows(both.predicted_cg, both.true_cg, least_x_c, least_y_c), reason_c)


def centred_least(both: Profiles) -> tuple[np.ndarray, np.ndarray]:
    """Norms that profiles minus their mean over genes must exceed to be more than rounding."""
    norm_x_c, norm_y_c = (np.linalg.norm(x, axis=1) for x in (both.predicted_cg, both.true_cg))
    return np.maximum(both.least_predicted_c, ROUNDING * norm_x_c), np.maximum(both.least_true_c, ROUNDING * norm_y_c)


def spread(x_cg: np.ndarray) -> np.ndarray:
    """Norm of each row minus its own mean."""
    return np.linalg.norm(x_cg - x_cg.mean(axis=1, keepdims=True), axis=1)


def _cosine(both: Profiles) -> PerCondition:
    unit_x_cg = unit_rows(both.predicted_cg, both.least_predicted_c)
    unit_y_cg = unit_rows(both.true_cg, both.least_true_c)
    reason_c = _first(both.reason_c, np.isnan(unit_x_cg).any(axis=1), f"predicted {both.word} is zero on every gene")
    reason_c = _first(reason_c, np.isnan(unit_y_cg).any(axis=1), f"true {both.word} is zero on every gene")
    return plain(np.clip(np.sum(unit_x_cg * unit_y_cg, axis=1), -1.0, 1.0), reason_c)


def _r2(both: Profiles) -> np.ndarray:
    residual_c = ((both.predicted_cg - both.true_cg) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - residual_c / spread(both.predicted_cg) ** 2


def _first(reason_c: np.ndarray, where_c: np.ndarray, reason: str) -> np.ndarray:
    """Fill in a reason where there is none yet."""
    return np.where((reason_c == "") & where_c, reason, reason_c).astype(object)


def _known(given: str, words: tuple[str, ...]) -> None:
    if given not in words:
        raise UnknownChoice(
            "There is no such comparison of profiles",
            given=repr(given),
            expected=f"one of {', '.join(words)}",
            fix=f"Closest: {nearest(given, words, most=1)}.",
        )
