"""Whether genes change in the predicted direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import Case, PerCondition, nowhere, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.correlation import least_predicted
from perturbfm.eval.metric.de_overlap import NEITHER, NO_TRUE, off_target, too_few
from perturbfm.eval.metric.differential import Recipe, calls

PURITY = 0.9
"""Share of right signs that a prefix of the prediction's ranking must keep."""

NO_CHANGE = "the predicted delta is zero"
NONE_CALLED = "the prediction calls no gene that changes in truth"


def de_direction_match(comparison: Comparison, *, recipe: Recipe, least: int = 1, targets: bool = True) -> PerCondition:
    """Share of the genes significant in truth whose predicted fold change has the true sign.

    Args:
        comparison: Cells of both sides; `targets_cg` says which genes a perturbation acts on directly.
        recipe: Test, correction and fold change; the prediction's own significance plays no part.
        least: Significant genes that a truth must have.
        targets: Count the perturbation's own genes too.

    Returns:
        One value in [0, 1] per condition, 1 is best, 0.5 is chance. A prediction of no change is a miss. *Undefined*
        where truth has fewer than `least` significant genes.

    Source:
        cell-eval `de_direction_match`; with `least=10` cell-eval2 `de_wilcoxon_direction_match`.
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    judged_cg = true.called_cg if targets else true.called_cg & off_target(comparison)
    right_cg = judged_cg & (np.sign(true.lfc_cg) == np.sign(predicted.lfc_cg))
    n_c = judged_cg.sum(axis=1)
    return plain(right_cg.sum(axis=1) / np.maximum(n_c, 1), too_few(n_c, least))


def de_direction_of_delta(case: Case, *, recipe: Recipe, least: int) -> PerCondition:
    r"""Share of the genes significant in truth whose predicted delta has the sign of the true one.

    .. math:: mean_{g \in S_p}\,[\operatorname{sign} D_{pg} = \operatorname{sign} T_{pg}]

    with S the genes called in truth, the perturbation's own left out, and D and T the deltas against matched controls
    of either side: no batch and no noise of a control stands on both sides.

    Args:
        case: A case with a comparison.
        recipe: Test and correction by which genes are called in truth.
        least: Significant genes that a truth must have.

    Returns:
        One value in [0, 1] per condition, 1 is best, 0.5 is chance; a gene that is predicted not to move is a miss.
        *Undefined* where truth has fewer than `least` significant genes, or the predicted delta is zero throughout.

    Source:
        Protocol section 3.3 (DE from 10 significant genes on); the sign rule is cell-eval's `de_direction_match`.
    """
    comparison = case.comparison
    if comparison is None:
        return nowhere(case.n_conditions, case.incomparable)
    judged_cg = calls(comparison, "truth", recipe).called_cg & off_target(comparison)
    predicted_cg = np.asarray(case.predicted_cg, dtype=float)
    still_c = np.linalg.norm(predicted_cg, axis=1) <= least_predicted(case)
    right_cg = judged_cg & (np.sign(predicted_cg) == np.sign(case.truth_cg))
    n_c = judged_cg.sum(axis=1)
    few_c = too_few(n_c, least)
    reason_c = np.where(few_c != "", few_c, np.where(still_c, NO_CHANGE, "")).astype(object)
    return plain(right_cg.sum(axis=1) / np.maximum(n_c, 1), reason_c)


def de_direction_share(comparison: Comparison, *, recipe: Recipe, of: str) -> PerCondition:
    r"""Genes that the prediction calls with the true sign, as a share of one of four numbers.

    k = called by the prediction, changing in truth (significantly or not) and of the same sign; n_true = significant
    in truth; n_predicted = called by the prediction and changing in truth. The perturbation's own genes are left out.

    * `called`: k / n_predicted (fidelity).
    * `true`: k / n_true (yield; may exceed 1).
    * `larger`: k / max(n_predicted, n_true), the smaller of precision and recall.
    * `coverage`: n_predicted / n_true, whatever the signs.

    Args:
        comparison: Cells of both sides; `targets_cg` says which genes a perturbation acts on directly.
        recipe: Test, correction and fold change.
        of: The denominator.

    Returns:
        One value per condition; 1 is best for `called` and `larger`. *Undefined* where the denominator is zero.

    Raises:
        UnknownChoice: Another word for `of`.

    Source:
        cell-eval2 0.20.0 `direction_fidelity_raw`, `direction_yield_raw`, `direction_fidelity_yield_raw` (scored in
        vcc2026), `direction_coverage`.
    """
    n = _counts(comparison, recipe)
    known = {
        "called": (n.right_c, n.predicted_c, NONE_CALLED),
        "true": (n.right_c, n.true_c, NO_TRUE),
        "larger": (n.right_c, np.maximum(n.predicted_c, n.true_c), NEITHER),
        "coverage": (n.predicted_c, n.true_c, NO_TRUE),
    }
    if of not in known:
        raise UnknownChoice(
            "There is no such share of genes called with the right sign",
            given=repr(of),
            expected=f"one of {', '.join(known)}",
            fix=f"Closest: {nearest(of, known, most=1)}.",
        )
    top_c, bottom_c, why = known[of]
    return plain(top_c / np.maximum(bottom_c, 1), np.where(bottom_c > 0, "", why))


def de_direction_reach(comparison: Comparison, *, recipe: Recipe) -> PerCondition:
    r"""How deep the prediction's ranking of the truth's significant genes keeps 90 % of signs right.

    .. math:: k^* / n_{true}, \qquad k^* = \max\{k : \text{right signs among the first } k \ge 0.9\, k\}

    Genes significant in truth are ranked by the prediction: called ones first, then adjusted p, p, larger absolute fold
    change, name. The perturbation's own genes are left out.

    Args:
        comparison: Cells of both sides; `targets_cg` says which genes a perturbation acts on directly.
        recipe: Test, correction and fold change.

    Returns:
        One value in [0, 1] per condition, 1 is best. *Undefined* where no gene is significant in truth.

    Source:
        cell-eval2 0.20.0 `direction_reach_raw` (scored in vcc2026).
    """
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    judged_cg, right_cg = _adjudicable(true.lfc_cg), _right(true.lfc_cg, predicted.lfc_cg)
    pool_cg = true.called_cg & off_target(comparison)
    name_g = np.argsort(np.argsort(np.array(comparison.genes_g), kind="stable"))
    n_c = pool_cg.sum(axis=1)
    value_c = np.zeros(comparison.n_conditions)
    for c in np.flatnonzero(n_c > 0):
        gene_q = np.flatnonzero(pool_cg[c])
        size_q = np.nan_to_num(np.abs(predicted.lfc_cg[c, gene_q]), nan=-np.inf, posinf=np.inf)
        keys = (name_g[gene_q], -size_q, predicted.p_cg[c, gene_q], predicted.fdr_cg[c, gene_q])
        gene_q = gene_q[np.lexsort((*keys, ~predicted.called_cg[c, gene_q]))]
        depth_q, right_q = np.cumsum(judged_cg[c, gene_q]), np.cumsum(right_cg[c, gene_q])
        pure_q = (depth_q > 0) & (right_q / np.maximum(depth_q, 1) >= PURITY)
        value_c[c] = depth_q[pure_q].max(initial=0) / n_c[c]
    return plain(value_c, too_few(n_c, 1))


@dataclass(frozen=True)
class _Counts:
    true_c: np.ndarray
    predicted_c: np.ndarray
    right_c: np.ndarray


def _counts(comparison: Comparison, recipe: Recipe) -> _Counts:
    true, predicted = calls(comparison, "truth", recipe), calls(comparison, "predicted", recipe)
    others_cg = off_target(comparison)
    called_cg = predicted.called_cg & others_cg & _adjudicable(true.lfc_cg)
    right_cg = called_cg & _right(true.lfc_cg, predicted.lfc_cg)
    true_c = (true.called_cg & others_cg).sum(axis=1)
    return _Counts(true_c, called_cg.sum(axis=1), right_cg.sum(axis=1))


def _adjudicable(lfc_cg: np.ndarray) -> np.ndarray:
    return ~np.isnan(lfc_cg) & (lfc_cg != 0)


def _right(true_cg: np.ndarray, predicted_cg: np.ndarray) -> np.ndarray:
    return _adjudicable(true_cg) & (np.sign(true_cg) == np.sign(predicted_cg))
