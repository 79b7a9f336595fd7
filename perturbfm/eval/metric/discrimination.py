"""Whether a predicted change is nearer to its own true change than to those of other perturbations (PDS)."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import NOT_APPLICABLE, PerCondition, plain
from perturbfm.eval.comparison import Comparison, GroupMoments

DISTANCES = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}
TIED = "predicted change is as far from another true change: the order of perturbations would decide"
ALONE = "one perturbation to rank"


def discrimination(comparison: Comparison, *, distance: str) -> PerCondition:
    r"""Position of the own true change among a context's true changes, nearest to the predicted change first.

    .. math:: 1 - pos_p / N, \qquad pos_p \in \{0, \dots, N - 1\}

    The gene that is named as the perturbation is left out on both sides, query by query, so `A+B` leaves out nothing.
    Each side's change is against its own controls.

    Args:
        comparison: Cells of both sides; only means are used.
        distance: `l1`, `l2` or `cosine`.

    Returns:
        One value in (0, 1] per condition, 1 is best, chance is (N + 1) / 2N. *Undefined* where another true change is
        exactly as far, as all are by `cosine` from a change of zero: the suite goes by the place that `numpy.argsort`
        gives. *Not applicable* with one perturbation.

    Raises:
        UnknownChoice: Another word for `distance`.

    Source:
        cell-eval 0.6.0 to 0.8.2 `discrimination_score_*`; `l1` is the PDS of the Virtual Cell Challenge 2025.
    """
    kind = _kind(distance)
    true_cg, predicted_cg = changes(comparison, "own")
    number = {gene: g for g, gene in enumerate(comparison.genes_g)}
    value_c = np.ones(comparison.n_conditions)
    tied_c = np.zeros(comparison.n_conditions, dtype=bool)
    for member_q in comparison.members():
        true_qg = true_cg[member_q]
        for position, c in enumerate(member_q):
            own = [number[name] for name in (str(comparison.perturbation_c[c]),) if name in number]
            guess_g, kept_q = predicted_cg[c], true_qg[:, own].copy()
            guess_g[own] = true_qg[:, own] = 0.0  # at zero on both sides a gene adds to no distance
            far_q = _far(guess_g[None], true_qg, kind)[0]
            true_qg[:, own] = kept_q
            tied_c[c] = np.sum(far_q == far_q[position]) > 1
            value_c[c] = 1.0 - np.sum(far_q < far_q[position]) / len(member_q)
    return _told(comparison, value_c, np.where(tied_c, TIED, ""))


def discrimination_midrank(comparison: Comparison, *, distance: str) -> PerCondition:
    r"""Mid-rank of the own true change among a context's true changes, nearest to the predicted change first.

    .. math:: 1 - \frac{\#\{q: d_{pq} < d_{pp}\} + \frac12 (\#\{q: d_{pq} = d_{pp}\} - 1)}{N - 1}

    Genes that any of the context's perturbations acts on directly are left out everywhere; both changes are against
    the true controls; a change of length zero has cosine distance 1 to everything.

    Args:
        comparison: Cells of both sides, of which only means are used; `targets_cg` says which genes a perturbation acts
            on directly.
        distance: `l1`, `l2` or `cosine`.

    Returns:
        One value in [0, 1] per condition, 1 is best, 0.5 is chance, and exactly that for a prediction of no change by
        `cosine`. *Not applicable* with one perturbation.

    Raises:
        UnknownChoice: Another word for `distance`.

    Source:
        cell-eval2 0.20.0 `pds_cosine` (scored in vcc2026, there on group sums), `pds_l1`, `pds_l2`.
    """
    kind = _kind(distance)
    true_cg, predicted_cg = changes(comparison, "true")
    value_c = np.ones(comparison.n_conditions)
    for member_q in comparison.members():
        kept_g = np.ones(len(comparison.genes_g), dtype=bool)
        if comparison.targets_cg is not None:
            kept_g = ~comparison.targets_cg[member_q].any(axis=0)
        far_pq = _far(predicted_cg[np.ix_(member_q, kept_g)], true_cg[np.ix_(member_q, kept_g)], kind)
        own_p = np.diag(far_pq)[:, None]
        rank_p = (far_pq < own_p).sum(axis=1) + 0.5 * ((far_pq == own_p).sum(axis=1) - 1)
        value_c[member_q] = 1.0 - rank_p / max(len(member_q) - 1, 1)
    return _told(comparison, value_c, np.full(comparison.n_conditions, "", dtype=object))


def changes(comparison: Comparison, control: str) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted change of every condition's mean, shape (c, g).

    Args:
        comparison: Cells of both sides.
        control: The predicted mean is taken against its `own` controls or the `true` ones.
    """
    true, predicted = comparison.truth, comparison.predicted
    origin = predicted.control_moments if control == "own" else true.control_moments
    return _change(true.moments, true.control_moments, comparison), _change(predicted.moments, origin, comparison)


def _change(group: GroupMoments, control: GroupMoments, comparison: Comparison) -> np.ndarray:
    return group.mean_rg - control.mean_rg[comparison.context_of_c]


def _far(query_pg: np.ndarray, target_qg: np.ndarray, kind: str) -> np.ndarray:
    if kind != "cosine":
        return cdist(query_pg, target_qg, kind)
    length_p, length_q = np.linalg.norm(query_pg, axis=1), np.linalg.norm(target_qg, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine_pq = (query_pg / length_p[:, None]) @ (target_qg / length_q[:, None]).T
    return 1.0 - np.nan_to_num(cosine_pq, nan=0.0)


def _told(comparison: Comparison, value_c: np.ndarray, reason_c: np.ndarray) -> PerCondition:
    alone_c = np.zeros(comparison.n_conditions, dtype=bool)
    for member_q in comparison.members():
        alone_c[member_q] = len(member_q) == 1
    stats = plain(value_c, np.where(alone_c, ALONE, reason_c))
    stats.status_c[alone_c] = NOT_APPLICABLE
    return stats


def _kind(distance: str) -> str:
    if distance not in DISTANCES:
        raise UnknownChoice(
            "There is no such distance",
            given=repr(distance),
            expected=f"one of {', '.join(DISTANCES)}",
            fix=f"Closest: {nearest(distance, DISTANCES, most=1)}.",
        )
    return DISTANCES[distance]
