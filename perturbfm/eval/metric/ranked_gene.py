"""Genes that a suite scores a condition on: those whose expression differs most from control, in the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.welch import rows, single_control_moments, single_moments, welch


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
    control = rows(single_control_moments(side), context_of_c)
    t_cg = welch(single_moments(side), control).t_rg
    return Ranking(np.stack([_by_size(t_g)[:top] for t_g in t_cg]), np.count_nonzero(t_cg, axis=1))


def _by_size(t_g: np.ndarray) -> np.ndarray:
    """Columns by |t|, equal ones where scanpy and pandas leave them: by t descending, then by |t| as float32."""
    chosen = np.argpartition(t_g, -len(t_g))
    ascending = chosen[np.argsort(t_g[chosen])]
    return ascending[np.argsort(np.abs(t_g[ascending].astype(np.float32)))][::-1]
