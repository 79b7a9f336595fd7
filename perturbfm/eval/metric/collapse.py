"""Whether a model says different things of different perturbations: diagnostics of collapse, ours.

Each describes a *context*, not a condition: every condition of a context carries the context's value, so that the mean
over conditions of one context is that value. A context needs 3 conditions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import UNDEFINED, Case, PerCondition, nowhere, plain
from perturbfm.eval.metric.correlation import ROUNDING, least_predicted, least_true, too_small, unit_rows

SIDES = ("predicted", "truth")
CONTEXT_AT_LEAST = 3

TIE = 1e-9
"""Two numbers closer than this share of them are equal. A gene seen in one cell of one condition varies between
conditions exactly as much as its noise."""


def variance_ratio(case: Case) -> PerCondition:
    r"""How much predictions differ between perturbations, as a share of how much truths do.

    .. math:: median_{g \in S} \frac{var_p(D_{pg})}{var_p(T_{pg})}, \quad S = \{g: var_p(T_{pg}) > mean_p\,V_{pg}\}

    over the conditions p of one context, with V the sampling variance of the truth. 0 is a model that says the same of
    every perturbation; noise of the truth is not taken out of the denominator, so a perfect mean stays below 1.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.

    Returns:
        The context's value on each of its conditions, 0 or more; right near 1. *Undefined* below 3 conditions and
        where no gene varies more between perturbations than noise. *Not applicable* where the noise is not known.

    Source:
        Ours (`pfm.`); Shift Bioscience's `VarianceAnalyzer` draws both variances and defines no scalar.
    """
    if not case.noise_known:
        return nowhere(case.n_conditions, "noise of the truth is unknown")

    def ratio_of(member_q: np.ndarray) -> tuple[float, str]:
        true_g = np.var(np.asarray(case.truth_cg[member_q], dtype=float), axis=0, ddof=1)
        noise_g = np.mean(np.asarray(case.noise_cg[member_q], dtype=float), axis=0)
        size_g = np.max(
            np.abs(np.asarray(case.mean_cg[member_q], dtype=float)) + np.abs(case.truth_cg[member_q]), axis=0
        )
        heard_g = true_g > np.maximum(noise_g * (1 + TIE), (ROUNDING * size_g) ** 2)
        if not heard_g.any():
            return np.nan, "no gene varies more between perturbations than noise"
        predicted_g = np.var(np.asarray(case.predicted_cg[member_q], dtype=float), axis=0, ddof=1)
        return float(np.median(predicted_g[heard_g] / true_g[heard_g])), ""

    return _per_context(case, ratio_of)


def effective_rank(case: Case, *, of: str) -> PerCondition:
    r"""How many directions the deltas of a context take: the exponential of the entropy of their singular values.

    .. math:: \exp\left(-\sum_i p_i \ln p_i\right), \quad p_i = \sigma_i / \sum_j \sigma_j

    with :math:`\sigma` the singular values (not their squares) of the matrix conditions x genes, *not* centred: a model
    that says the same of every perturbation has exactly 1, one whose deltas are orthogonal and equally long has the
    number of conditions.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.
        of: `predicted` or `truth`; noise of the truth raises its rank.

    Returns:
        The context's value on each of its conditions, from 1 to their number. *Undefined* below 3 conditions and where
        all deltas are zero.

    Raises:
        UnknownChoice: Another word for `of`.

    Source:
        Ours (`pfm.`); effective rank of Roy and Vetterli, EUSIPCO 2007.
    """
    delta_cg, least_c = _side(case, of)

    def rank_of(member_q: np.ndarray) -> tuple[float, str]:
        if (np.linalg.norm(delta_cg[member_q], axis=1) <= least_c[member_q]).all():
            return np.nan, f"all {_word(of)} deltas are zero"
        size_i = np.linalg.svd(delta_cg[member_q], compute_uv=False)
        share_i = size_i[size_i > 0] / size_i.sum()
        return float(np.exp(-np.sum(share_i * np.log(share_i)))), ""

    return _per_context(case, rank_of)


def pairwise_cosine(case: Case, *, of: str) -> PerCondition:
    r"""Mean cosine between the deltas of two conditions of a context, over all pairs.

    .. math:: mean_{p < q} \cos(D_p, D_q)

    1 is a model that says the same of every perturbation up to a factor. To be read beside the truth's own.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.
        of: `predicted` or `truth`.

    Returns:
        The context's value, over its deltas that are not zero, on each of its conditions, in [-1, 1]. *Undefined* where
        a condition's own delta is zero, and where the context has fewer than 3 that are not.

    Raises:
        UnknownChoice: Another word for `of`.

    Source:
        Ours (`pfm.`); metrics of collapse in Systema (`calculate_pairwise_cosine_similarities`) draw the same pairs.
    """
    delta_cg, least_c = _side(case, of)
    zero_c = np.linalg.norm(delta_cg, axis=1) <= least_c

    def cosine_of(member_q: np.ndarray) -> tuple[float, str]:
        moved_q = member_q[~zero_c[member_q]]
        n = len(moved_q)
        if n < CONTEXT_AT_LEAST:
            return np.nan, f"{n} {_word(of)} deltas are not zero, {CONTEXT_AT_LEAST} needed"
        total_g = unit_rows(delta_cg[moved_q], least_c[moved_q]).sum(axis=0)
        return float(np.clip((total_g @ total_g - n) / (n * (n - 1)), -1.0, 1.0)), ""

    stats = _per_context(case, cosine_of)
    own_c = np.where(stats.ok_c & zero_c, f"{_word(of)} delta is zero", stats.reason_c)
    return plain(stats.value_c, own_c)


def tied_rows(case: Case) -> PerCondition:
    r"""Share of a context's conditions whose own prediction is no nearer to their truth than a copy of it is.

    .. math:: mean_p\,[\,\exists q \ne p: |D_q - T_p| = |D_p - T_p|\,]

    Euclidean, with a tolerance of 1e-9 of the distance. Where rows tie, a rank is decided by the rule for ties (at
    random in PerturBench, by position in cell-eval) and not by the model.

    Args:
        case: Predictions and truths, shape (c, g), in units of the matrix.

    Returns:
        The context's value on each of its conditions, in [0, 1]; 0 is best, 1 what one prediction for all gives.
        *Undefined* below 3 conditions.

    Source:
        Ours (`pfm.`).
    """
    from scipy.spatial.distance import cdist

    def share_of(member_q: np.ndarray) -> tuple[float, str]:
        true_qg, predicted_qg = (np.asarray(x_cg[member_q], dtype=float) for x_cg in (case.truth_cg, case.predicted_cg))
        distance_pq = cdist(true_qg, predicted_qg)
        own_p = np.diag(distance_pq)[:, None]
        tied_pq = np.abs(distance_pq - own_p) <= TIE * np.maximum(own_p, distance_pq)
        return float(np.mean(tied_pq.sum(axis=1) > 1)), ""

    return _per_context(case, share_of)


def _per_context(case: Case, value_of: Callable[[np.ndarray], tuple[float, str]]) -> PerCondition:
    """One value per context, on each of its conditions; undefined where it has too few."""
    reason_c = too_small(case, CONTEXT_AT_LEAST, "{n} conditions in the context, {least} needed")
    value_c = np.full(case.n_conditions, np.nan)
    for member_q in case.members():
        if reason_c[member_q[0]] == "":
            value_c[member_q], reason_c[member_q] = value_of(member_q)
    return plain(value_c, reason_c, UNDEFINED)


def _side(case: Case, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Deltas of a side and the norm they must exceed to be more than rounding."""
    if of == "predicted":
        return np.asarray(case.predicted_cg, dtype=float), least_predicted(case)
    if of == "truth":
        return np.asarray(case.truth_cg, dtype=float), least_true(case)
    raise UnknownChoice(
        "A case has no such side",
        given=repr(of),
        expected=f"one of {', '.join(SIDES)}",
        fix=f"Closest: {nearest(of, SIDES, most=1)}.",
    )


def _word(of: str) -> str:
    return "predicted" if of == "predicted" else "true"
