"""Genes that a suite scores a condition on: those whose expression differs most from control, in the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbfm.eval.comparison import Comparison, GroupMoments, Side
from perturbfm.eval.metric.welch import rows, welch


@dataclass(frozen=True)
class Ranking:
    """Genes of each condition by |t| against the control cells of its context, largest first.

    Attributes:
        first_ck: Columns of the first k genes, shape (c, k).
        moved_c: Number of genes whose t is not zero.
    """

    first_ck: np.ndarray
    moved_c: np.ndarray


def gene_sets(comparison: Comparison, top: int | None) -> list[np.ndarray]:
    """Columns that each condition is scored on, ascending.

    Args:
        comparison: Cells of both sides; genes are chosen by the truth alone.
        top: Number of genes by |t| of the truth against control; None, or as many as there are, for all.

    Returns:
        One array of columns per condition.
    """
    n_genes = len(comparison.genes_g)
    if (top := fewer(comparison, top)) is None:
        return [np.arange(n_genes)] * comparison.n_conditions
    return list(np.sort(ranking(comparison, predicted=False, top=top).first_ck, axis=1))


def fewer(comparison: Comparison, top: int | None) -> int | None:
    """`top`, or None where that is every gene."""
    return None if top is None or top >= len(comparison.genes_g) else top


def ranking(comparison: Comparison, *, predicted: bool, top: int) -> Ranking:
    r"""First genes of each condition by |t| of a Welch test of its cells against control cells, both of one side.

    .. math:: t = \frac{\bar x - \bar y}{\sqrt{s_x^2/n_x + s_y^2/n_y}}, \quad
        s^2 = \frac{n}{n-1}\left(\overline{fl_{32}(x^2)} - \bar x^2\right)

    Squares are rounded to float32 before they are summed, as scanpy does, which decides where genes without variance
    go: their s^2 is rounding, and a negative one makes t zero. Equal t stand in the order that scanpy and pandas give
    them by the same calls of numpy, so at a tie the choice depends on the order of genes.

    Args:
        comparison: Cells of both sides.
        predicted: Rank the predicted cells against the predicted side's control, otherwise the truth.
        top: Number of genes kept.

    Returns:
        Their columns, in order.

    Source:
        bm2-lab/scPerturBench 6e24e7a, `calDEG`: scanpy `rank_genes_groups(method="t-test")`, then by |score|.
    """
    side = comparison.predicted if predicted else comparison.truth
    return comparison.once(("ranking", predicted, top), lambda: _ranking(side, comparison.context_of_c, top))


def _ranking(side: Side, context_of_c: np.ndarray, top: int) -> Ranking:
    control = _stacked([_moments(side.control(k)) for k in range(side.n_contexts)])
    first, moved = [], []
    for condition, context in enumerate(context_of_c):
        t_g = welch(_moments(side.cells(condition)), rows(control, np.array([context]))).t_rg[0]
        first.append(_by_size(t_g)[:top])
        moved.append(np.count_nonzero(t_g))
    return Ranking(np.stack(first), np.array(moved))


def _by_size(t_g: np.ndarray) -> np.ndarray:
    """Columns by |t|, equal ones where scanpy and pandas leave them: by t descending, then by |t| as float32."""
    chosen = np.argpartition(t_g, -len(t_g))
    ascending = chosen[np.argsort(t_g[chosen])]
    return ascending[np.argsort(np.abs(t_g[ascending].astype(np.float32)))][::-1]


def _moments(x_ng: np.ndarray) -> GroupMoments:
    """Moments of one group, its squares rounded to float32."""
    x_ng = x_ng.astype(np.float32)
    mean_g = x_ng.sum(axis=0, dtype=np.float64) / len(x_ng)
    var_g = (x_ng * x_ng).sum(axis=0, dtype=np.float64) / len(x_ng) - mean_g**2
    return GroupMoments(np.array([len(x_ng)]), mean_g[None], var_g[None], (x_ng != 0).mean(axis=0)[None])


def _stacked(moments: list[GroupMoments]) -> GroupMoments:
    return GroupMoments(
        np.concatenate([m.n_r for m in moments]),
        np.concatenate([m.mean_rg for m in moments]),
        np.concatenate([m.var_rg for m in moments]),
        np.concatenate([m.nonzero_rg for m in moments]),
    )
