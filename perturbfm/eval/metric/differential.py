"""Differential expression of every condition against its controls: one test per side, shared by all metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.mann_whitney import mann_whitney_p

SIDES = ("truth", "predicted")
LEVEL = 0.05
PSEUDOCOUNT = 1e-9
CLIPPED = 20.0


@dataclass(frozen=True)
class Recipe:
    """What a suite's version makes of the tests of a side.

    Attributes:
        fdr: Benjamini-Hochberg over the genes of one `perturbation`, or over all tests of one `context`.
        fold_change: log2 ratio of means in units of counts. `geometric`: of expm1(mean log1p), infinite where one side
            is zero, 0 where both are or where a mean is negative. `geometric_clip20`: the same with 20 and 1/20 for
            infinity and zero. `arithmetic`: of mean expm1, 1e-9 added to both; a gene without a ratio is never called.
            `mean_log1p`: the difference of mean log1p in units of log2, which is always there.
        control: The predicted side is tested against its `own` controls, or against the `true` ones.
        single: Adjusted p and fold change are rounded to single precision before anything is compared.
    """

    fdr: str = "perturbation"
    fold_change: str = "geometric"
    control: str = "own"
    single: bool = True


PDEX_03 = Recipe()
"""cell-eval 0.8.2 with pdex 0.3.0."""

PDEX_01 = Recipe(fdr="context", fold_change="geometric_clip20")
"""cell-eval 0.6.8 with pdex 0.1.28: the Virtual Cell Challenge of 2025."""

CELL_EVAL2 = Recipe(fold_change="arithmetic", control="true", single=False)
"""cell-eval2 0.20.0, v2 conventions on log1p input."""

PANEL = Recipe(fold_change="mean_log1p", single=False)
"""Ours: no pseudocount, no infinity, and a direction wherever means differ, also for predictions below zero."""


@dataclass(frozen=True)
class Calls:
    """What a side says of every gene of every condition.

    Attributes:
        p_cg: p of the Mann-Whitney test.
        fdr_cg: Adjusted p.
        lfc_cg: log2 fold change against controls.
        called_cg: Adjusted p under 0.05.
    """

    p_cg: np.ndarray
    fdr_cg: np.ndarray
    lfc_cg: np.ndarray
    called_cg: np.ndarray

    @property
    def n_called_c(self) -> np.ndarray:
        """Genes called per condition."""
        return self.called_cg.sum(axis=1)

    def ranked(self, condition: int) -> np.ndarray:
        """Called genes of a condition, largest absolute fold change first, ties in the order of the genes."""
        called_q = np.flatnonzero(self.called_cg[condition])
        return called_q[np.argsort(-np.abs(self.lfc_cg[condition, called_q]), kind="stable")]


def calls(comparison: Comparison, side: str, recipe: Recipe) -> Calls:
    """Tests, adjusted p and fold changes of one side, made once.

    Args:
        comparison: Cells of both sides, log1p values.
        side: `truth` or `predicted`.
        recipe: A suite's choices.

    Returns:
        Matrices of conditions x genes.

    Raises:
        UnknownChoice: A choice that no suite makes.

    Source:
        pdex 0.3.0 `mode="ref"`, pdex 0.1.28 `parallel_differential_expression`, cell-eval2 0.20.0 `compute_de`.
    """
    _check(side, SIDES)
    _check(recipe.fdr, ("perturbation", "context"))
    _check(recipe.fold_change, ("geometric", "geometric_clip20", "arithmetic", "mean_log1p"))
    _check(recipe.control, ("own", "true"))
    return comparison.once(("calls", side, recipe), lambda: _calls(comparison, side, recipe))


def _calls(comparison: Comparison, side: str, recipe: Recipe) -> Calls:
    one, other = _sides(comparison, side, recipe.control)
    shared = one if other is one else comparison
    p_cg = shared.once(("mann_whitney", side), lambda: mann_whitney_p(comparison, one, other))
    lfc_cg = _fold_change(comparison, side, recipe)
    fdr_cg = shared.once(("adjusted", side, recipe.fdr), lambda: _adjusted(comparison, p_cg, recipe.fdr))
    untold_cg = np.isnan(lfc_cg)
    if untold_cg.any():
        fdr_cg = np.where(untold_cg, 1.0, fdr_cg)
    kind = np.float32 if recipe.single else np.float64
    fdr_cg, lfc_cg = fdr_cg.astype(kind, copy=False), lfc_cg.astype(kind, copy=False)
    return Calls(p_cg, fdr_cg, lfc_cg, fdr_cg < kind(LEVEL))


def _adjusted(comparison: Comparison, p_cg: np.ndarray, over: str) -> np.ndarray:
    """Benjamini-Hochberg over the genes of a `perturbation`, or over all tests of a `context`."""
    fdr_cg, axis = np.empty_like(p_cg), 1 if over == "perturbation" else None
    for member_q in comparison.members():
        fdr_cg[member_q] = false_discovery_control(p_cg[member_q], axis=axis).reshape(len(member_q), -1)
    return fdr_cg


def _fold_change(comparison: Comparison, side: str, recipe: Recipe) -> np.ndarray:
    one, other = _sides(comparison, side, recipe.control)
    context_of_c = comparison.context_of_c
    if recipe.fold_change == "arithmetic":
        mean_cg = one.once("linear_mean", lambda: _linear(one.cells, one.n_conditions))
        base_kg = other.once("linear_mean_of_controls", lambda: _linear(other.control, other.n_contexts))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log2((mean_cg + PSEUDOCOUNT) / (base_kg[context_of_c] + PSEUDOCOUNT))
    mean_cg, base_cg = one.moments.mean_rg, other.control_moments.mean_rg[context_of_c]
    if recipe.fold_change == "mean_log1p":
        return (mean_cg - base_cg) / np.log(2.0)
    return _geometric(np.expm1(mean_cg), np.expm1(base_cg), clip=recipe.fold_change == "geometric_clip20")


def _geometric(mean_cg: np.ndarray, base_cg: np.ndarray, clip: bool) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio_cg = mean_cg / base_cg
        if clip:
            ratio_cg = np.where(base_cg == 0, CLIPPED, np.where(mean_cg == 0, 1.0 / CLIPPED, ratio_cg))
            ratio_cg = np.where((base_cg == 0) & (mean_cg == 0), 1.0, ratio_cg)
        return np.nan_to_num(np.log2(ratio_cg), nan=0.0, posinf=np.inf, neginf=-np.inf)


def _linear(cells_of: Callable[[int], np.ndarray], n_groups: int) -> np.ndarray:
    return np.stack([np.expm1(cells_of(r)).mean(axis=0) for r in range(n_groups)])


def _sides(comparison: Comparison, side: str, control: str) -> tuple[Side, Side]:
    one = comparison.truth if side == "truth" else comparison.predicted
    shared = one.control_moments is comparison.truth.control_moments
    return one, comparison.truth if control == "true" and not shared else one


def _check(given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UnknownChoice(
            "There is no such choice of differential expression",
            given=repr(given),
            expected=f"one of {', '.join(known)}",
            fix=f"Closest: {nearest(given, known, most=1)}.",
        )
