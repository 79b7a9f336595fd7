"""The cells behind a prediction: those a model emits, input controls that it moves, or real cells that stand in.

Everything here puts predicted cells beside the cells of a `Truth`; what was measured is the truth's own business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbfm.eval.case import Case
from perturbfm.eval.comparison import GroupMoments, Side, dense
from perturbfm.types import PredictedCells

if TYPE_CHECKING:
    from perturbfm.eval.truth import Truth


def groups_of(context_n: np.ndarray, batch_n: np.ndarray, by_batch: bool) -> list[tuple[str, str]]:
    """Matched group of each row: (context, batch), or (context, nothing) where deltas compare within contexts."""
    batch = batch_n.tolist() if by_batch else [""] * len(context_n)
    return list(zip(context_n.tolist(), batch, strict=True))


def shifted(truth: Truth, mean_cg: np.ndarray) -> Side:
    """Cells of a model that predicts means: input-control cells of the condition's batches plus the prediction."""
    cells = ShiftedControls(truth, mean_cg)

    def known() -> GroupMoments:
        return moved(pooled_controls(truth), mean_cg)

    return truth.side(cells.predicted, known)


def pooled_controls(truth: Truth) -> GroupMoments:
    """Moments of the input controls of each condition's batches, every cell counting once."""
    used_ck = (truth.weight_ck > 0).astype(float)
    n_k, mean_kg = truth.input.n_k, truth.input.mean_kg
    n_c = used_ck @ n_k
    mean_cg = (used_ck * n_k) @ mean_kg / n_c[:, None]
    square_cg = used_ck @ (truth.input.scatter_kg + n_k[:, None] * mean_kg**2) / n_c[:, None]
    nonzero_cg = (used_ck * n_k) @ truth.input_detected_kg / n_c[:, None]
    var_cg = np.maximum(square_cg - mean_cg**2, 0.0)
    whole = truth.control_moments  # the very same sums, so that no change is exactly none where all batches are used
    k_c = np.array([truth.context_k.index(str(k)) for k in truth.context_c])
    all_c = np.isclose(n_c, whole.n_r[k_c])
    mean_cg[all_c], var_cg[all_c] = whole.mean_rg[k_c][all_c], whole.var_rg[k_c][all_c]
    return GroupMoments(n_c, mean_cg, var_cg, nonzero_cg)


def moved(group: GroupMoments, delta_cg: np.ndarray) -> GroupMoments:
    """Moments of cells that are all moved by one vector per group; a gene that moves is nowhere exactly zero."""
    nonzero_cg = np.where(delta_cg == 0, group.nonzero_rg, 1.0)
    return GroupMoments(group.n_r, group.mean_rg + delta_cg, group.var_rg, nonzero_cg)


@dataclass(frozen=True, eq=False)
class ShiftedControls:
    """Cells of a model that predicts means: the condition's input-control cells, each once, plus the prediction."""

    truth: Truth
    mean_cg: np.ndarray

    def __call__(self, condition: int) -> tuple[np.ndarray, np.ndarray]:
        """True cells [n, g] and predicted cells [m, g] of one condition, dense."""
        t = self.truth
        return dense(t.x_ng[t.condition_rows(condition)]), self.predicted(condition)

    def predicted(self, condition: int) -> np.ndarray:
        """Predicted cells [m, g] of one condition, dense."""
        o, t = self.truth.observed, self.truth
        used = {name for name, w in zip(t.group_names, t.weight_ck[condition], strict=True) if w > 0}
        mine = np.array([g in used for g in groups_of(o.input_context_m, o.input_batch_m, o.match_batch)], dtype=bool)
        return dense(o.input_mg[np.flatnonzero(mine)]) + self.mean_cg[condition]


@dataclass(frozen=True, eq=False)
class RealCells:
    """Cells of a predictor that is made of real cells, one matrix per condition."""

    true: Truth
    predicted: Truth
    source_c: np.ndarray

    def __call__(self, condition: int) -> tuple[np.ndarray, np.ndarray]:
        """True cells and the cells of the condition that stands in for it."""
        true = dense(self.true.x_ng[self.true.condition_rows(condition)])
        return true, dense(self.predicted_cells(condition))

    def predicted_cells(self, condition: int) -> Any:
        """Cells [m, g] of the condition that stands in for one."""
        return self.predicted.x_ng[self.predicted.condition_rows(int(self.source_c[condition]))]


@dataclass(frozen=True, eq=False)
class EmittedCells:
    """Cells that a model emits, each once."""

    true: Truth
    emitted: PredictedCells

    def __call__(self, condition: int) -> tuple[np.ndarray, np.ndarray]:
        """True cells [n, g] and predicted cells [m, g] of one condition, dense."""
        return dense(self.true.x_ng[self.true.condition_rows(condition)]), dense(self.predicted_cells(condition))

    def predicted_cells(self, condition: int) -> Any:
        """Cells [m, g] that were emitted for one condition."""
        return self.emitted.of(self.true.context_c[condition], self.true.intervention_c[condition])


def stating(case: Case, truth: Truth, has_variance: bool, emitted: PredictedCells | None, no_cells: str) -> Case:
    """The case of a prediction that emits cells of its own, states no variance, or is a point without cells."""
    case = replace(case, has_variance=has_variance)
    if no_cells and case.cells is not None:
        return replace(case, cells=None, comparison=None, incomparable=no_cells)
    return case if emitted is None or case.cells is None else with_cells(case, EmittedCells(truth, emitted))


def stated_alike(case: Case, other: Case, truth: Truth) -> Case:
    """A case of the same model beside another truth: what the model states and emits goes along."""
    emitted = other.cells.emitted if isinstance(other.cells, EmittedCells) else None
    no_cells = "" if other.cells is not None or case.cells is None else other.incomparable
    return stating(case, truth, other.has_variance, emitted, no_cells)


def with_cells(case: Case, cells: RealCells | EmittedCells) -> Case:
    """The same case, with cells that a predictor really has."""
    comparison = case.comparison
    if comparison is not None:
        true = cells.true
        comparison = replace(comparison, truth=true.measured, predicted=true.side(cells.predicted_cells), _made={})
    return replace(case, cells=cells, comparison=comparison)
