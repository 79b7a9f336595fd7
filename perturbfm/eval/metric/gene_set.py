"""Which genes a suite looks at, condition by condition, chosen on measured cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.welch import against_control

TIE = 1e-9
"""Two values that differ by less than this share of them are equal: sparse genes tie exactly but for rounding."""

GENE_SETS = ("all", "top20_ttest_abs", "top20_gears", "top1000_ctrl_expr")


@dataclass(frozen=True)
class GeneSet:
    """Genes of each condition.

    Attributes:
        kept_cg: Which genes are in.
        reason_c: Why a condition has no such set, empty where it has one.
    """

    kept_cg: np.ndarray
    reason_c: np.ndarray


def gene_set(comparison: Comparison, name: str) -> GeneSet:
    r"""Genes of every condition, chosen on truth.

    * `all`: every gene.
    * `top20_ttest_abs`: the 20 genes of largest :math:`|t|`, Welch against the context's control cells.
    * `top20_gears`: the same without genes that the condition's cells have lost, :math:`\mu_{pg} = 0` where
      :math:`\mu_{0g} \ne 0` ("non-dropout").
    * `top1000_ctrl_expr`: the 1,000 genes of largest mean in the context's control cells; of equal ones the first.

    Args:
        comparison: Cells of both sides; only measured ones are looked at.
        name: One of the names above.

    Returns:
        A mask of shape (c, g); all genes where there are fewer than asked for. By t, a condition has *no* set where
        the last place is tied, because its genes are then a matter of their order.

    Raises:
        UnknownChoice: Another name.

    Source:
        scanpy `rank_genes_groups(method='t-test', rankby_abs=True)`; GEARS f374e43 `get_dropout_non_zero_genes`
        (`top_non_dropout_de_20`); Ahlmann-Eltze et al. 092743c (`expr_rank <= 1000`).
    """
    if name not in GENE_SETS:
        raise UnknownChoice(
            f"No gene set {name!r}",
            given=repr(name),
            expected=f"one of {', '.join(GENE_SETS)}",
            fix=f"Closest: {nearest(name, GENE_SETS, most=1)}.",
        )
    return comparison.once(("gene_set", name), lambda: _make(comparison, name))


def largest(x_cg: np.ndarray, allowed_cg: np.ndarray, k: int) -> GeneSet:
    """The k allowed genes of largest value in each row; no set where value k and value k + 1 are equal up to rounding.

    Args:
        x_cg: Values, shape (c, g).
        allowed_cg: Genes to choose from.
        k: How many.

    Returns:
        All allowed genes where they are no more than k.
    """
    value_cg = np.where(allowed_cg, x_cg, -np.inf)
    order_cg = np.argsort(-value_cg, axis=1, kind="stable")
    kept_cg = np.zeros(value_cg.shape, dtype=bool)
    np.put_along_axis(kept_cg, order_cg[:, :k], True, axis=1)
    reason_c = np.full(len(value_cg), "", dtype=object)
    if value_cg.shape[1] > k:
        last_c, next_c = (np.take_along_axis(value_cg, order_cg[:, i, None], axis=1)[:, 0] for i in (k - 1, k))
        more_c = allowed_cg.sum(axis=1) > k
        with np.errstate(invalid="ignore"):
            tied_c = (last_c == next_c) | (last_c - next_c <= TIE * np.abs(last_c))
        reason_c[more_c & tied_c] = f"place {k} of the genes is tied, so they are no set"
    return GeneSet(kept_cg & allowed_cg, reason_c)


def _make(comparison: Comparison, name: str) -> GeneSet:
    shape = (comparison.n_conditions, len(comparison.genes_g))
    everything = np.ones(shape, dtype=bool)
    if name == "all":
        return GeneSet(everything, np.full(shape[0], "", dtype=object))
    control_cg = comparison.truth.control_moments.mean_rg[comparison.context_of_c]
    if name == "top1000_ctrl_expr":
        return GeneSet(_first_largest(control_cg, 1000), np.full(shape[0], "", dtype=object))
    size_cg = np.abs(against_control(comparison.truth, comparison.context_of_c).t_rg)
    lost_cg = (comparison.truth.moments.mean_rg == 0) & (control_cg != 0)
    return largest(size_cg, ~lost_cg if name == "top20_gears" else everything, 20)


def _first_largest(x_cg: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each row, of equal ones the first."""
    kept_cg = np.zeros(x_cg.shape, dtype=bool)
    np.put_along_axis(kept_cg, np.argsort(-x_cg, axis=1, kind="stable")[:, :k], True, axis=1)
    return kept_cg
