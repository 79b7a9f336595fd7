"""Where the right partner of a profile stands among the other conditions of its context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.correlation import unit_rows, with_reasons
from perturbfm.eval.metric.profile import Profiles, profiles
from perturbfm.eval.metric.profile_distance import centred_least
from perturbfm.eval.metric.topk_recall import membership, scored_genes

DISTANCES = ("rmse", "pearson", "cosine", "top50")
QUERIES = ("reference", "prediction")
NORMS = ("n", "n-1")

TIE = 1e-9
"""Distances closer than this share of the own one (this much, where they are 1 - similarity) are a tie."""


@dataclass(frozen=True)
class Places:
    """How many others of the context are closer than the own partner, and how many as close.

    Attributes:
        closer_c: Others at a smaller distance.
        tied_c: Others at the same distance.
        n_c: Conditions of the context.
        reason_c: Why the truth has no distance to anything; empty where it has.
    """

    closer_c: np.ndarray
    tied_c: np.ndarray
    n_c: np.ndarray
    reason_c: np.ndarray


def profile_rank(comparison: Comparison, *, space: str, distance: str, query: str, norm: str) -> PerCondition:
    r"""Rank of the right partner, from 0.

    .. math:: \frac{\#\{q \ne p: d_{qp} < d_{pp}\} + \frac12 \#\{q \ne p: d_{qp} = d_{pp}\}}{n \text{ or } n - 1}

    with :math:`d_{qp}` the distance of prediction q to truth p when the query is the reference, of prediction p to
    truth q when it is the prediction. The suite orders ties at random; this is the mean over its draws: a prediction
    that is the same for all perturbations has (n - 1) / (2 n) or 1/2 everywhere.

    Args:
        comparison: Cells of both sides; ranked within each context.
        space: Which profile, see `profiles`.
        distance: `rmse`; 1 - `pearson` or `cosine`; 1 - recall of the `top50` genes by absolute t.
        query: `reference` ranks predictions for a truth, `prediction` ranks truths for a prediction.
        norm: Divide by `n` or by `n-1`.

    Returns:
        One value in [0, 1] per condition; 0 is best, about one half chance. A prediction without a distance (zero or
        constant profile) stands last, among its like. *Undefined* where the truth has none or a side is not finite.
        *Not applicable* where the context has one condition.

    Raises:
        UnknownChoice: Another word for one of the choices.

    Source:
        PerturBench `rank_helper`, d357dfa (n) and c84038b (n - 1, both queries; `rank_transpose` is the second).
    """
    for given, words in ((distance, DISTANCES), (query, QUERIES), (norm, NORMS)):
        _known(given, words)
    places = both_places(comparison, space, distance)[QUERIES.index(query)]
    with np.errstate(invalid="ignore", divide="ignore"):
        rank_c = (places.closer_c + 0.5 * places.tied_c) / (places.n_c - (norm == "n-1"))
    alone_c = np.where(places.n_c < 2, "one perturbation to rank", "").astype(object)
    return with_reasons(rank_c, places.reason_c, alone_c)


def both_places(comparison: Comparison, space: str, distance: str) -> tuple[Places, Places]:
    """Places for both queries, reference and prediction, from one matrix of distances per context, made once."""
    return comparison.once(("places", space, distance), lambda: _places(comparison, space, distance))


def _places(comparison: Comparison, space: str, distance: str) -> tuple[Places, Places]:
    n = comparison.n_conditions
    closer, tied, n_c = np.zeros((2, n)), np.zeros((2, n)), np.zeros(n)
    x_cg, y_cg, reason_c = _vectors(comparison, space, distance)
    for member_q in comparison.members():
        d_pq = _distances(x_cg[member_q], y_cg[member_q], distance)
        n_c[member_q] = len(member_q)
        for direction, d in enumerate((d_pq.T, d_pq)):
            closer[direction, member_q], tied[direction, member_q] = _count(d, distance == "rmse")
    return Places(closer[0], tied[0], n_c, reason_c), Places(closer[1], tied[1], n_c, reason_c)


def _vectors(comparison: Comparison, space: str, distance: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors whose products or differences are the distance (NaN rows have none), and what makes a truth undefined."""
    both = profiles(comparison, space)
    reason_c = both.reason_c
    if distance == "rmse":
        scale = np.sqrt(both.true_cg.shape[1])
        return both.predicted_cg / scale, both.true_cg / scale, reason_c
    x_cg, y_cg = _top(comparison) if distance == "top50" else _units(both, distance)
    none_c = np.isnan(y_cg).any(axis=1) & (reason_c == "")
    lost = "fewer than 50 genes have a true t-score" if distance == "top50" else f"true {both.word} has no direction"
    return x_cg, y_cg, np.where(none_c, lost, reason_c).astype(object)


def _units(both: Profiles, distance: str) -> tuple[np.ndarray, np.ndarray]:
    if distance == "cosine":
        x_cg, y_cg = both.predicted_cg, both.true_cg
        return unit_rows(x_cg, both.least_predicted_c), unit_rows(y_cg, both.least_true_c)
    x_cg, y_cg = (v - v.mean(axis=1, keepdims=True) for v in (both.predicted_cg, both.true_cg))
    least_x_c, least_y_c = centred_least(both)
    return unit_rows(x_cg, least_x_c), unit_rows(y_cg, least_y_c)


def _top(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Membership in the top 50 of each side over the root of 50, so that products are recalls; NaN without a top 50."""
    sides = zip(membership(comparison, 50, "argsort"), scored_genes(comparison), strict=True)
    x_cg, y_cg = (np.where((n_c < 50)[:, None], np.nan, m_cg / np.sqrt(50.0)) for m_cg, n_c in sides)
    return x_cg, y_cg


def _distances(x_pg: np.ndarray, y_qg: np.ndarray, distance: str) -> np.ndarray:
    """Distance of each prediction (rows) to each truth (columns); infinite where a side has none."""
    d_pq = cdist(x_pg, y_qg) if distance == "rmse" else 1.0 - x_pg @ y_qg.T
    return np.where(np.isnan(d_pq), np.inf, d_pq)


def _count(d_qa: np.ndarray, relative: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each query (row), answers closer than the own one (diagonal), and others as close."""
    own_q1 = np.diag(d_qa)[:, None]
    last_qa = np.isinf(d_qa) & np.isinf(own_q1)
    within_q1 = TIE * np.where(np.isinf(own_q1), 0.0, own_q1) if relative else TIE
    with np.errstate(invalid="ignore"):
        ahead_qa = np.where(last_qa, 0.0, own_q1 - d_qa)
    closer_q = (ahead_qa > within_q1).sum(axis=1)
    return closer_q, (np.abs(ahead_qa) <= within_q1).sum(axis=1) - 1


def _known(given: str, words: tuple[str, ...]) -> None:
    if given not in words:
        raise UnknownChoice(
            "There is no such way to rank profiles",
            given=repr(given),
            expected=f"one of {', '.join(words)}",
            fix=f"Closest: {nearest(given, words, most=1)}.",
        )
