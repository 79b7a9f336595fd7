"""Whether predicted and true deltas point the same way over genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import NOT_APPLICABLE, Case, PerCondition, nowhere, plain

REFERENCES = ("control", "train_centroid", "control_plus_train_mean", "panel")
PANEL_AT_LEAST = 5

ROUNDING = 1e-12
"""A vector shorter than this share of the numbers it is a difference of is rounding, and has no direction."""


SAME_AS_TRAIN_MEAN = 1e-5
"""A prediction nearer to the train mean delta than this share of its norm is that mean, in float32 sums."""


def pearson_delta(case: Case, *, reference: str) -> PerCondition:
    r"""Pearson correlation over genes of predicted and true deltas, against one of four references.

    * `control`: :math:`r_g(D_p, T_p)`.
    * `train_centroid`: :math:`r_g(\mu_I + D_p - O, \mu_p - O)`, O the mean of train conditions (Systema, literal).
    * `control_plus_train_mean`: :math:`r_g(D_p - \bar D, T_p - \bar D)`, :math:`\bar D` the mean train delta.
    * `panel`: :math:`r_g(D_p - mean_q D_q, T_p - mean_q T_q)` over the conditions q of one context, unweighted.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.
        reference: `control`, `train_centroid`, `control_plus_train_mean` or `panel`.

    Returns:
        One value in [-1, 1] per condition; 1 is best. *Undefined* where one side is constant over genes up to
        rounding; for `control_plus_train_mean` also where the prediction is the train mean to 1e-5 of its norm: what is
        left is the rounding of two float32 sums of the same numbers. *Not applicable* where the train mean is not
        known, or, for `panel`, where a context has fewer than 5 conditions.

    Raises:
        UnknownChoice: Another word for `reference`.

    Source:
        Protocol section 3.3; `train_centroid` is mlbio-epfl/systema fe087c9, `corr_all_allpert`.
    """
    if reference == "control":
        return _pearson_against(case, np.zeros(len(case.genes_g)), 0.0)
    if reference == "train_centroid":
        return _pearson_centroid(case)
    if reference == "control_plus_train_mean":
        if case.train_delta_g is None:
            return nowhere(case.n_conditions, "the mean delta of train conditions is not known")
        return _pearson_against(case, case.train_delta_g, SAME_AS_TRAIN_MEAN)
    if reference == "panel":
        return _pearson_panel(case)
    raise UnknownChoice(
        "There is no such reference of a delta",
        given=repr(reference),
        expected=f"one of {', '.join(REFERENCES)}",
        fix=f"Closest: {nearest(reference, REFERENCES, most=1)}.",
    )


def pearson_rows(x_cg: np.ndarray, y_cg: np.ndarray, least_x_c: np.ndarray, least_y_c: np.ndarray) -> np.ndarray:
    r"""Pearson correlation of two matrices, row by row.

    .. math:: \frac{\sum_g (x_g - \bar x)(y_g - \bar y)}{|x - \bar x|\,|y - \bar y|}

    Args:
        x_cg: One vector per row, shape (c, g).
        y_cg: The other vectors, same shape.
        least_x_c: Norm that `x - mean` must exceed to be more than rounding.
        least_y_c: The same for y.

    Returns:
        One value per row, clipped to [-1, 1]; NaN where a side is constant over genes.
    """
    unit_x_cg = unit_rows(x_cg - x_cg.mean(axis=1, keepdims=True), least_x_c)
    unit_y_cg = unit_rows(y_cg - y_cg.mean(axis=1, keepdims=True), least_y_c)
    return np.clip(np.sum(unit_x_cg * unit_y_cg, axis=1), -1.0, 1.0)


def unit_rows(x_cg: np.ndarray, least_c: np.ndarray) -> np.ndarray:
    """Divide each row by its Euclidean norm; rows not longer than `least_c` have no direction and become NaN."""
    norm_c = np.linalg.norm(x_cg, axis=1)
    return x_cg / np.where(norm_c > least_c, norm_c, np.nan)[:, None]


def centre_panel(x_cg: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    """Subtract from each row the unweighted mean over the rows of its context."""
    centred_cg = np.array(x_cg, dtype=float)
    for member_q in members:
        centred_cg[member_q] -= centred_cg[member_q].mean(axis=0)
    return centred_cg


def least_predicted(case: Case) -> np.ndarray:
    """Norm a difference of predicted deltas must exceed: rounding of the controls and of the prediction's own dtype."""
    kind = np.asarray(case.predicted_cg).dtype
    own = max(ROUNDING, 16 * float(np.finfo(kind).eps)) if kind.kind == "f" else ROUNDING
    return ROUNDING * _norm(case.input_cg) + own * _norm(case.predicted_cg)


def least_true(case: Case) -> np.ndarray:
    """Norm a difference of true deltas must exceed to be more than rounding."""
    return ROUNDING * (_norm(case.mean_cg) + _norm(case.truth_cg))


def with_reasons(value_c: np.ndarray, undefined_c: np.ndarray, inapplicable_c: np.ndarray) -> PerCondition:
    """Statistics of a mean of values, some undefined and some not applicable; the latter reason goes first."""
    stats = plain(value_c, np.where(inapplicable_c != "", inapplicable_c, undefined_c))
    return replace(stats, status_c=np.where(inapplicable_c != "", NOT_APPLICABLE, stats.status_c).astype(object))


def too_small(case: Case, at_least: int, reason: str) -> np.ndarray:
    """Reason for each condition whose context has fewer than `at_least` conditions, else empty; `{n}` is filled in."""
    reason_c = np.full(case.n_conditions, "", dtype=object)
    for member_q in case.members():
        if len(member_q) < at_least:
            reason_c[member_q] = reason.format(n=len(member_q), least=at_least)
    return reason_c


def _norm(x_cg: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(x_cg, dtype=float), axis=1)


def _flat_reasons(
    predicted_cg: np.ndarray, true_cg: np.ndarray, least: tuple[np.ndarray, np.ndarray], predicted: str, true: str
) -> np.ndarray:
    flat_d = _norm(predicted_cg - predicted_cg.mean(axis=1, keepdims=True)) <= least[0]
    flat_t = _norm(true_cg - true_cg.mean(axis=1, keepdims=True)) <= least[1]
    return np.where(flat_d, predicted, np.where(flat_t, true, "")).astype(object)


def _pearson_against(case: Case, mean_g: np.ndarray, same: float) -> PerCondition:
    """Correlation of what both have beside a mean; `same` is the share of the mean's norm that is none of it."""
    predicted_cg = np.asarray(case.predicted_cg, dtype=float) - mean_g
    true_cg = np.asarray(case.truth_cg, dtype=float) - mean_g
    norm = float(np.linalg.norm(mean_g))
    least = (np.maximum(least_predicted(case) + ROUNDING * norm, same * norm), least_true(case) + ROUNDING * norm)
    beside = " beside the mean train delta" if norm else ""
    reason_c = _flat_reasons(
        predicted_cg,
        true_cg,
        least,
        f"predicted delta is constant over genes{beside}",
        f"true delta is constant over genes{beside}",
    )
    return plain(pearson_rows(predicted_cg, true_cg, *least), reason_c)


def _pearson_centroid(case: Case) -> PerCondition:
    if case.train_centroid_g is None:
        return nowhere(case.n_conditions, "the mean of train conditions is not known")
    predicted_cg = np.asarray(case.input_cg, dtype=float) + case.predicted_cg - case.train_centroid_g
    true_cg = np.asarray(case.mean_cg, dtype=float) - case.train_centroid_g
    extra = ROUNDING * float(np.linalg.norm(case.train_centroid_g))
    least = (least_predicted(case) + extra, least_true(case) + extra)
    reason_c = _flat_reasons(
        predicted_cg,
        true_cg,
        least,
        "prediction is constant over genes beside the train centroid",
        "truth is constant over genes beside the train centroid",
    )
    return plain(pearson_rows(predicted_cg, true_cg, *least), reason_c)


def _pearson_panel(case: Case) -> PerCondition:
    predicted_cg = centre_panel(case.predicted_cg, case.members())
    true_cg = centre_panel(case.truth_cg, case.members())
    least = (least_predicted(case), least_true(case))
    reason_c = _flat_reasons(
        predicted_cg,
        true_cg,
        least,
        "prediction is the same for all perturbations",
        "truth is the same for all perturbations",
    )
    small_c = too_small(case, PANEL_AT_LEAST, "panel of {n} conditions, {least} needed")
    return with_reasons(pearson_rows(predicted_cg, true_cg, *least), reason_c, small_c)
