"""How many of the genes that answer most are also predicted to answer most."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.profile import profiles

TIES = ("argsort", "expected")


def topk_recall(comparison: Comparison, *, k: int, ties: str) -> PerCondition:
    r"""Share of the k genes of largest absolute t-score that both sides name.

    .. math:: |A_k \cap B_k| / k

    Args:
        comparison: Cells of both sides; t by `profiles(comparison, "t")`, rounded to float32 as scanpy stores it.
        k: Genes named by each side.
        ties: `argsort`: genes in alphabetical order go through numpy's default, unstable sort, and the last k count, as
            the suite does it; `expected`: mean over all orders of tied genes, independently on both sides.

    Returns:
        One value in [0, 1] per condition; 1 is best. *Undefined* where a side has fewer than k genes with a score
        other than 0, or too few cells for a test.

    Raises:
        UnknownChoice: Another word for `ties`.

    Source:
        PerturBench c84038b (2026) `top_k_recall`; `expected` is ours. The suite also names genes without a score.
    """
    predicted_cg, true_cg = membership(comparison, k, ties)
    return plain((predicted_cg * true_cg).sum(axis=1) / k, lacking(comparison, k))


def membership(comparison: Comparison, k: int, ties: str) -> tuple[np.ndarray, np.ndarray]:
    """How much each gene belongs to the top k of the predicted and of the true side, shape (c, g), rows sum to k."""
    if ties not in TIES:
        raise UnknownChoice(
            "There is no such rule for tied genes",
            given=repr(ties),
            expected=f"one of {', '.join(TIES)}",
            fix="Name one of the two.",
        )
    predicted_cg, true_cg = _sizes(comparison)
    if ties == "expected":
        return _expected(predicted_cg, k), _expected(true_cg, k)
    by_name_g = np.argsort(np.array(comparison.genes_g, dtype=object), kind="stable")
    return _last(predicted_cg, by_name_g, k), _last(true_cg, by_name_g, k)


def lacking(comparison: Comparison, k: int) -> np.ndarray:
    """Why a condition has no top k; empty where both sides have one."""
    both = profiles(comparison, "t")
    reason_c = both.reason_c.copy()
    for word, n_c in zip(("predicted", "true"), scored_genes(comparison), strict=True):
        few_c = (n_c < k) & (reason_c == "")
        reason_c[few_c] = [f"{n} genes have a {word} t-score other than 0, {k} needed" for n in n_c[few_c]]
    return reason_c


def scored_genes(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Number of genes whose t is not 0, predicted and true, per condition."""
    predicted_cg, true_cg = _sizes(comparison)
    return (predicted_cg > 0).sum(axis=1), (true_cg > 0).sum(axis=1)


def _sizes(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    both = profiles(comparison, "t")
    return np.abs(both.predicted_cg.astype(np.float32)), np.abs(both.true_cg.astype(np.float32))


def _last(size_cg: np.ndarray, by_name_g: np.ndarray, k: int) -> np.ndarray:
    named_ck = by_name_g[np.argsort(size_cg[:, by_name_g], axis=1)[:, -k:]]
    member_cg = np.zeros(size_cg.shape)
    np.put_along_axis(member_cg, named_ck, 1.0, axis=1)
    return member_cg


def _expected(size_cg: np.ndarray, k: int) -> np.ndarray:
    """1 above the k-th largest size, 0 below, and the share of places left among those of its size."""
    size_cg = size_cg.astype(float)
    k = min(k, size_cg.shape[1])
    edge_c1 = -np.partition(-size_cg, k - 1, axis=1)[:, k - 1 : k]
    above_cg, at_cg = size_cg > edge_c1, size_cg == edge_c1
    left_c1 = k - above_cg.sum(axis=1, keepdims=True)
    return above_cg + at_cg * (left_c1 / at_cg.sum(axis=1, keepdims=True))
