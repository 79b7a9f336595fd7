"""Whether a prediction finds its own perturbation among those of its context."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.metric.correlation import (
    centre_panel,
    least_predicted,
    least_true,
    too_small,
    unit_rows,
    with_reasons,
)

TIE = 1e-9
"""Two cosine distances closer than this are a tie."""


def retrieval(case: Case, *, centred: bool, without_targets: bool = False) -> PerCondition:
    r"""Mid-rank of the own truth among the context's truths, by cosine distance from the prediction.

    .. math:: 1 - \frac{\#\{q \ne p: d(D_p, T_q) < d(D_p, T_p)\} + \frac12 \#\{q \ne p: tie\}}{n - 1}

    1 is best, 0.5 chance. Ties count half, with a tolerance of 1e-9, so a prediction that is the same for all
    perturbations scores exactly 0.5 on average.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix; ranked within each context.
        centred: Subtract the context's mean delta from predictions and truths first.
        without_targets: Leave out, for all conditions of a context alike, every gene that one of its interventions acts
            on itself: the drop of a knocked-out gene names its perturbation without any biology.

    Returns:
        One value in [0, 1] per condition. *Undefined* where a side has no direction (zero up to rounding), so for
        every condition of a prediction that is constant, when centred. *Not applicable* where the context has fewer
        than 2 conditions (8 when centred). A truth without direction has distance 1 to every prediction.

    Source:
        Protocol section 3.3; query = prediction, norm n - 1 and mid-ranks as `pds_cosine` of cell-eval2 0.20.0.
    """
    members = case.members()
    kept_cg = _kept(case, members) if without_targets else np.ones(1, dtype=bool)
    predicted_cg = centre_panel(case.predicted_cg, members) if centred else np.asarray(case.predicted_cg, dtype=float)
    true_cg = centre_panel(case.truth_cg, members) if centred else np.asarray(case.truth_cg, dtype=float)
    predicted_cg, true_cg = predicted_cg * kept_cg, true_cg * kept_cg
    query_cg, target_cg = unit_rows(predicted_cg, least_predicted(case)), unit_rows(true_cg, least_true(case))
    score_c = np.full(case.n_conditions, np.nan)
    for member_q in members:
        if len(member_q) > 1:
            score_c[member_q] = rank_score(query_cg[member_q], target_cg[member_q])
    few = "panel of {n} conditions, {least} needed" if centred else "one perturbation to rank"
    return with_reasons(score_c, _reasons(query_cg, target_cg, centred), too_small(case, 8 if centred else 2, few))


def _kept(case: Case, members: list[np.ndarray]) -> np.ndarray:
    """Genes that no intervention of a condition's context acts on, as a mask (c, g)."""
    kept_cg = np.ones(np.shape(case.truth_cg), dtype=bool)
    if case.targets_cg is not None:
        for member_q in members:
            kept_cg[member_q] = ~case.targets_cg[member_q].any(axis=0)
    return kept_cg


def rank_score(query_pg: np.ndarray, target_pg: np.ndarray) -> np.ndarray:
    """Score of each query against its own target, 1 - (closer + ties / 2) / (n - 1).

    Args:
        query_pg: Unit vectors of the predictions of one panel, shape (p, g); NaN rows have no direction.
        target_pg: Unit vectors of the truths, same shape and order.

    Returns:
        One score in [0, 1] per row; NaN where the query or its own target has no direction.
    """
    n = len(query_pg)
    cosine_pq = np.nan_to_num(query_pg) @ np.nan_to_num(target_pg).T
    ahead_pq = cosine_pq - np.diag(cosine_pq)[:, None]
    closer_p = np.sum(ahead_pq > TIE, axis=1)
    tied_p = np.sum(np.abs(ahead_pq) <= TIE, axis=1) - 1
    lost_p = np.isnan(query_pg).any(axis=1) | np.isnan(target_pg).any(axis=1)
    return np.where(lost_p, np.nan, 1.0 - (closer_p + 0.5 * tied_p) / (n - 1))


def _reasons(query_cg: np.ndarray, target_cg: np.ndarray, centred: bool) -> np.ndarray:
    predicted = "prediction is the same for all perturbations" if centred else "predicted delta is zero"
    true = "truth is the same for all perturbations" if centred else "true delta is zero"
    lost_c, blank_c = np.isnan(query_cg).any(axis=1), np.isnan(target_cg).any(axis=1)
    return np.where(lost_c, predicted, np.where(blank_c, true, "")).astype(object)
