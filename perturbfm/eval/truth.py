"""What was measured: mean deltas of judged rows against reference controls, and how noisy they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from perturbfm.errors import CellUsedTwice, PredictionMismatch, TooFewControls
from perturbfm.eval.case import Case
from perturbfm.eval.comparison import Comparison, GroupMoments, Side, dense, moments_of
from perturbfm.eval.moments import detected, moments
from perturbfm.types import (
    GENE_MODES,
    Observed,
    PredictedCells,
    Prediction,
    RowView,
    parts_of,
    without_dose,
)

SCALE = "suites compare log1p values, and this matrix is {}"

DETECTED_FROM = 0.1
"""A gene is scored for variance where at least this share of the context's input controls detect it."""


@dataclass(frozen=True)
class TrainCentroids:
    """What the panel may know of train: unweighted means over train conditions.

    Attributes:
        mean_g: Mean expression of perturbed train conditions.
        delta_g: Mean delta of train conditions against input controls.
    """

    mean_g: np.ndarray
    delta_g: np.ndarray


@dataclass(frozen=True)
class Controls:
    """One half of the controls, per matched group (context, or context and batch)."""

    n_k: np.ndarray
    mean_kg: np.ndarray
    scatter_kg: np.ndarray

    @property
    def noise_kg(self) -> np.ndarray:
        """Sampling variance of each group's mean."""
        return self.scatter_kg / (np.maximum(self.n_k - 1.0, 1.0) * np.maximum(self.n_k, 1.0))[:, None]


class Truth:
    """Statistics of one fold, rows = conditions in sorted order of (context, intervention).

    Args:
        observed: Judged rows, input and reference controls.
        rows: Which judged rows to use (a half of the cells); all of them by default.
    """

    def __init__(self, observed: Observed, rows: np.ndarray | None = None) -> None:
        self.observed = observed
        self.faint: dict[str, str] = {}
        self.rows = np.arange(len(observed.idx_n)) if rows is None else rows
        o, r = observed, self.rows
        self.group_names = tuple(sorted({*_groups(o.context_n, o.batch_n, o.match_batch)}))
        pair = list(zip(o.context_n.tolist(), o.intervention_n.tolist(), strict=True))
        names = sorted(set(pair))
        number = {name: i for i, name in enumerate(names)}
        self.context_c = np.array([n[0] for n in names], dtype=object)
        self.intervention_c = np.array([n[1] for n in names], dtype=object)
        self.condition_n = np.array([number[p] for p in pair])[r]
        group = {name: k for k, name in enumerate(self.group_names)}
        self.group_n = np.array([group[g] for g in _groups(o.context_n, o.batch_n, o.match_batch)])[r]
        self.n_c = np.bincount(self.condition_n, minlength=len(names))
        self._measure()

    def _measure(self) -> None:
        n_k, n_c = len(self.group_names), len(self.n_c)
        pair_r, of_n = np.unique(self.condition_n * n_k + self.group_n, return_inverse=True)  # most pairs have no row
        c_r, k_r = pair_r // n_k, pair_r % n_k
        n_r, mean_rg, scatter_rg = moments(self.x_ng, of_n, len(pair_r))
        n_ck = np.zeros((n_c, n_k))
        n_ck[c_r, k_r] = n_r
        self.weight_ck = n_ck / np.maximum(n_ck.sum(1, keepdims=True), 1.0)
        self.mean_cg, scatter_cg = np.zeros((2, n_c, mean_rg.shape[1]))
        np.add.at(self.mean_cg, c_r, self.weight_ck[c_r, k_r][:, None] * mean_rg)
        np.add.at(scatter_cg, c_r, scatter_rg)
        self.own_noise_cg = self._own_noise(scatter_cg, self.n_c - (n_ck > 0).sum(1))

    def _own_noise(self, scatter_cg: np.ndarray, free_c: np.ndarray) -> np.ndarray:
        """Sampling variance of the mean of a condition's rows, from their spread within batches.

        A condition without two rows in one batch knows nothing of its spread and takes that of its context; zero
        noise would make a single row a perfect measurement.
        """
        lone = free_c < 1
        same_cc = (self.context_c[:, None] == self.context_c[None, :]) & ~lone[None, :]
        shared = (same_cc @ scatter_cg) / np.maximum(same_cc @ free_c, 1)[:, None]
        own = scatter_cg / np.maximum(free_c, 1)[:, None]
        return np.where(lone[:, None], shared, own) / np.maximum(self.n_c, 1)[:, None]

    @property
    def x_ng(self) -> RowView:
        """Expression of the rows in use, cut out where it is asked for."""
        return RowView(self.observed.x_ng, self.rows)

    @property
    def has_cells(self) -> bool:
        """Whether rows are cells and controls are there, so that noise is known."""
        return self.observed.unit == "cells" and self.observed.controls == "cells"

    @cached_property
    def input(self) -> Controls:
        """Input controls per matched group."""
        o = self.observed
        return self._controls("input", o.input_mg, o.input_context_m, o.input_batch_m)

    @cached_property
    def reference(self) -> Controls:
        """Reference controls per matched group."""
        o = self.observed
        return self._controls("reference", o.reference_rg, o.reference_context_r, o.reference_batch_r)

    def _controls(self, side: str, x: Any, context: np.ndarray, batch: np.ndarray) -> Controls:
        n_k, n_g = len(self.group_names), len(self.observed.genes_g)
        if self.observed.controls == "baked_in":
            return Controls(np.zeros(n_k), np.zeros((n_k, n_g)), np.zeros((n_k, n_g)))
        number = {name: k for k, name in enumerate(self.group_names)}
        group = np.array([number.get(g, -1) for g in _groups(context, batch, self.observed.match_batch)])
        used = np.flatnonzero(group >= 0)
        found = Controls(*moments(RowView(x, used), group[used], n_k))
        alone = np.flatnonzero(self.weight_ck.any(axis=0) & (found.n_k == 0))
        if len(alone):
            raise TooFewControls(
                f"Judged rows have no {side} controls to be compared with",
                given=f"none in (context, batch) {', '.join(str(self.group_names[k]) for k in alone[:10])}",
                expected="at least one control per context and batch of judged rows",
                fix="Make the split with the rules of perturbfm.split, or compare within the context.",
            )
        return found

    @property
    def delta_cg(self) -> np.ndarray:
        """T: mean of the condition's rows minus the batch-matched mean of reference controls."""
        return self.mean_cg - self.weight_ck @ self.reference.mean_kg

    @property
    def noise_cg(self) -> np.ndarray:
        """V: sampling variance of T; zeros where the file has no cells."""
        if not self.has_cells:
            return np.zeros_like(self.mean_cg)
        return self.own_noise_cg + self.weight_ck**2 @ self.reference.noise_kg

    @property
    def input_cg(self) -> np.ndarray:
        """Batch-matched mean of input controls."""
        return self.weight_ck @ self.input.mean_kg

    @cached_property
    def input_detected_kg(self) -> np.ndarray:
        """Share of input-control cells of each matched group in which a gene is not zero."""
        o = self.observed
        group_m = np.array([f"{a}\0{b}" for a, b in _groups(o.input_context_m, o.input_batch_m, o.match_batch)])
        names = [f"{a}\0{b}" for a, b in self.group_names]
        rows = [np.flatnonzero(group_m == name) for name in names]
        nothing = np.zeros(len(o.genes_g))
        return np.stack([detected(RowView(o.input_mg, r)) if len(r) else nothing for r in rows])

    @cached_property
    def input_var_cg(self) -> np.ndarray:
        """Variance of single input-control cells of the context, within batches."""
        context_k = np.array([g[0] for g in self.group_names], dtype=object)
        same_ck = self.context_c[:, None] == context_k[None, :]
        free_c = np.maximum(same_ck @ np.maximum(self.input.n_k - 1.0, 0.0), 1.0)
        return (same_ck @ self.input.scatter_kg) / free_c[:, None]

    @cached_property
    def scored_cg(self) -> np.ndarray:
        """Genes detected in enough input controls of the context; all genes where there are no control cells."""
        o = self.observed
        if not len(o.input_context_m):
            return np.ones_like(self.mean_cg, dtype=bool)
        share = {}
        for context in set(self.context_c.tolist()):
            cells = RowView(o.input_mg, np.flatnonzero(o.input_context_m == context))
            share[context] = detected(cells) >= DETECTED_FROM
        return np.stack([share[c] for c in self.context_c])

    @cached_property
    def targets_cg(self) -> np.ndarray:
        """Measured genes that each condition's intervention acts on itself; none for drugs and ligands."""
        column = {str(g): i for i, g in enumerate(self.observed.genes_g)}
        found_cg = np.zeros((len(self.n_c), len(column)), dtype=bool)
        for c, label in enumerate(self.intervention_c):
            parts, mode = parts_of(str(label), self.observed.delimiter)
            if mode in GENE_MODES:
                found_cg[c, [column[p] for p in parts if p in column]] = True
        return found_cg

    def condition_rows(self, condition: int) -> np.ndarray:
        """Positions among the rows in use of one condition's rows."""
        return np.flatnonzero(self.condition_n == condition)

    def half(self, rows: np.ndarray) -> Truth:
        """The truth that some of the rows give; what rests on controls alone is the same and is not computed again.

        Raises:
            CellUsedTwice: A row is asked for more than once; drawing with replacement adds ties and moves distances.
        """
        if len(np.unique(rows)) != len(rows):
            raise CellUsedTwice(
                "A cell is used more than once",
                given=f"{len(rows)} rows, {len(np.unique(rows))} of them different",
                expected="every cell at most once",
                fix="Draw without replacement: repeated cells shrink distances within a group.",
            )
        part = Truth(self.observed, self.rows[rows])
        kept = ("input", "reference", "input_var_cg", "scored_cg", "faint", "context_k")
        part.__dict__.update({k: getattr(self, k) for k in kept})
        if self.comparable:
            part.__dict__.update(input_detected_kg=self.input_detected_kg, control_moments=self.control_moments)
        return part

    def only(self, keep_c: np.ndarray) -> Truth:
        """The truth of some of the conditions, in the same order."""
        o = self.observed
        row = np.sort(self.rows[np.flatnonzero(keep_c[self.condition_n])])
        columns = ("idx_n", "intervention_n", "context_n", "batch_n")
        part = Truth(replace(o, x_ng=RowView(o.x_ng, row), **{k: getattr(o, k)[row] for k in columns}))
        part.faint = self.faint
        return part

    def predicted(self, prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance per condition: the average of the predictions of its rows.

        Raises:
            PredictionMismatch: Other rows, genes, scale or fold than the truth's.
        """
        self._check(prediction)
        query = prediction.query_n[self.rows]
        shape = (len(self.n_c), len(prediction.mean_qg))
        weight = sparse.csr_matrix((1.0 / self.n_c[self.condition_n], (self.condition_n, query)), shape=shape)
        return weight @ prediction.mean_qg.astype(np.float64), weight @ prediction.var_qg.astype(np.float64)

    def _check(self, prediction: Prediction) -> None:
        o = self.observed
        pairs = (
            ("rows", len(prediction.idx_n), len(o.idx_n), np.array_equal(prediction.idx_n, o.idx_n)),
            ("genes", len(prediction.genes_g), len(o.genes_g), prediction.genes_g == o.genes_g),
            ("scale", prediction.scale, o.scale, prediction.scale == o.scale),
            ("fold", prediction.fold, o.fold, prediction.fold == o.fold),
        )
        for what, given, expected, same in pairs:
            if not same:
                raise PredictionMismatch(
                    f"The prediction has other {what} than the truth",
                    given=given,
                    expected=f"{expected}, the same in the same order",
                    fix="Predict exactly the rows of the judged fold, with the data's genes and scale.",
                )

    def case(
        self, mean_cg: np.ndarray, var_cg: np.ndarray, train: TrainCentroids | None, verdict_c: np.ndarray
    ) -> Case:
        """Put a prediction beside the truth."""
        return Case(
            context_c=self.context_c,
            intervention_c=self.intervention_c,
            n_c=self.n_c,
            genes_g=self.observed.genes_g,
            truth_cg=self.delta_cg,
            noise_cg=self.noise_cg,
            noise_known=self.has_cells,
            predicted_cg=mean_cg,
            variance_cg=var_cg,
            mean_cg=self.mean_cg,
            input_cg=self.input_cg,
            input_var_cg=self.input_var_cg,
            scored_cg=self.scored_cg,
            train_centroid_g=None if train is None else train.mean_g,
            train_delta_g=None if train is None else train.delta_g,
            cells=ShiftedControls(self, mean_cg) if self.has_cells else None,
            powered_c=verdict_c,
            faint_c=np.array([self.faint.get(k, "") for k in self.context_c], dtype=object),
            targets_cg=self.targets_cg,
            comparison=self.beside(shifted(self, mean_cg), train) if self.comparable else None,
            incomparable="the file has no cells" if not self.has_cells else SCALE.format(self.observed.scale),
        )

    def judged(self, prediction: Prediction, train: TrainCentroids | None, verdict_c: np.ndarray) -> Case:
        """Put a prediction beside the truth, with what it states and emits.

        Raises:
            PredictionMismatch: As `predicted`.
        """
        p = prediction
        return stating(self.case(*self.predicted(p), train, verdict_c), self, p.has_variance, p.cells, p.no_cells)

    @property
    def comparable(self) -> bool:
        """Whether benchmark suites could compare these cells: they take log1p values."""
        return self.has_cells and self.observed.scale == "log1p"

    @cached_property
    def context_k(self) -> tuple[str, ...]:
        """Names of the contexts, sorted."""
        return tuple(sorted({str(k) for k in self.context_c}))

    def control_cells(self, context: int) -> Any:
        """Input-control cells of one context: the controls that suites' metrics share between truth and prediction."""
        return self.observed.input_mg[np.flatnonzero(self.observed.input_context_m == self.context_k[context])]

    @cached_property
    def measured(self) -> Side:
        """The true cells; one object for every prediction, so that what rests on truth alone is made once."""

        def cells_of(condition: int) -> Any:
            return self.x_ng[self.condition_rows(condition)]

        return self.side(cells_of)

    def side(self, cells_of: Callable[[int], Any], known: Callable[[], GroupMoments] | None = None) -> Side:
        """Cells of the same conditions, with the input controls as controls."""
        return Side(
            cells_of, self.control_cells, len(self.n_c), len(self.context_k), known, lambda: self.control_moments
        )

    @cached_property
    def control_moments(self) -> GroupMoments:
        """Moments of the input controls of every context."""
        return moments_of(self.control_cells, len(self.context_k))

    def beside(self, predicted: Side, train: TrainCentroids | None) -> Comparison:
        """The true cells beside predicted ones, as suites compare them: one set of controls on both sides."""
        number = {k: i for i, k in enumerate(self.context_k)}
        part_c = without_dose(self.intervention_c)
        return Comparison(
            context_k=self.context_k,
            context_of_c=np.array([number[str(k)] for k in self.context_c]),
            perturbation_c=np.array([str(p).rpartition("@")[0] for p in part_c], dtype=object),
            genes_g=self.observed.genes_g,
            truth=self.measured,
            predicted=predicted,
            train_centroid_g=None if train is None else train.mean_g,
            targets_cg=self.targets_cg,
        )


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
    return GroupMoments(n_c, mean_cg, np.maximum(square_cg - mean_cg**2, 0.0), nonzero_cg)


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
        mine = np.array([g in used for g in _groups(o.input_context_m, o.input_batch_m, o.match_batch)], dtype=bool)
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


def halve(truth: Truth, seed: int) -> tuple[Truth, Truth]:
    """Two disjoint halves of every condition's rows, stratified by batch; the first gets the odd row."""
    rng = np.random.Generator(np.random.PCG64(seed))
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    cell = truth.condition_n * len(truth.group_names) + truth.group_n
    turn = np.zeros(len(truth.n_c), dtype=int)
    for key in np.unique(cell):
        rows = rng.permutation(np.flatnonzero(cell == key))
        condition = int(truth.condition_n[rows[0]])
        middle = (len(rows) + 1 - turn[condition] % 2) // 2 if len(rows) % 2 else len(rows) // 2
        turn[condition] += len(rows) % 2
        first.append(rows[:middle])
        second.append(rows[middle:])
    return truth.half(np.sort(np.concatenate(first))), truth.half(np.sort(np.concatenate(second)))


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


def _groups(context_n: np.ndarray, batch_n: np.ndarray, by_batch: bool) -> list[tuple[str, str]]:
    batch = batch_n.tolist() if by_batch else [""] * len(context_n)
    return list(zip(context_n.tolist(), batch, strict=True))
