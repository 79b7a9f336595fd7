"""What crosses rooms, and the letters that name axes.

Axis letters, used as suffixes of array names everywhere::

    n cells (rows)   g genes   c conditions   k contexts   p perturbations   q queries   d latent   b bootstrap draws

A *condition* is context x intervention; an *intervention* is perturbation + mode; a *query* is what a model is asked
once: context, batch, intervention and the input controls. A type that crosses a room checks itself on arrival.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbfm.errors import PredictionMismatch, ShapeMismatch

if TYPE_CHECKING:
    import torch

VARIANCE_FLOOR = 1e-6
"""Smallest predictive variance of a mean delta, in squared units of the matrix."""

SCALES = ("counts", "log1p", "log2", "delta")
UNITS = ("cells", "pseudobulk")
CONTROLS = ("cells", "baked_in")
GENE_MODES = ("activation", "knockdown", "knockout")
"""Kinds of intervention whose label names the gene that is acted on."""

MODES = ("activation", "knockdown", "knockout", "drug", "ligand", "other")


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of every row without its expression; all a split rule may look at.

    Columns are not to be written to: what is derived of them is kept. Two are equal where they are the same.

    Attributes:
        cell_n: Row ids, unique.
        pert_n: Perturbation label, combinations joined by `delimiter`.
        context_n: Cell line, cell type, donor...
        batch_n: Batch within or across contexts.
        mode_n: Kind of intervention (activation, knockdown, drug...), one per row.
        is_control_n: Whether the row is an unperturbed control.
        fingerprint: Content hash of the data set these labels come from.
        data_name: Short name, used in file names only.
        unit: `cells`, or `pseudobulk` where a row is a condition.
        controls: `cells`, or `baked_in` where values are already differences.
        delimiter: What joins the parts of a combination, or None.
        match: Within what a row finds its control: `context`, or `context_batch` (drawn controls too).
        dose_n: Dose of each row as canonical text, "" for none; None where no dose is declared. Doses of a
            combination are joined by `delimiter` in the order of its sorted parts.
        time_n: Time after the intervention as canonical text, likewise.
        covariates: Further columns by name (donor, data set, guide...), one value per row.
    """

    cell_n: np.ndarray
    pert_n: np.ndarray
    context_n: np.ndarray
    batch_n: np.ndarray
    mode_n: np.ndarray
    is_control_n: np.ndarray
    fingerprint: str
    data_name: str
    unit: str = "cells"
    controls: str = "cells"
    delimiter: str | None = None
    match: str = "context"
    dose_n: np.ndarray | None = None
    time_n: np.ndarray | None = None
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {len(getattr(self, f)) for f in ("cell_n", "pert_n", "context_n", "batch_n", "mode_n", "is_control_n")}
        sizes |= {len(c) for c in (self.dose_n, self.time_n, *self.covariates.values()) if c is not None}
        if len(sizes) != 1:
            raise ShapeMismatch(
                "Label columns have different lengths",
                given=sorted(sizes),
                expected="one length",
                fix="Pass one per row.",
            )

    @property
    def n_obs(self) -> int:
        """Number of rows."""
        return len(self.cell_n)

    @cached_property
    def intervention_n(self) -> np.ndarray:
        """`perturbation@mode` per row, with `;dose=` and `;time=` where declared.

        Activation and knock-down of one gene, or two doses of one compound, are never the same label.
        """
        label_n = join_labels(self.pert_n, self.mode_n, "@")
        for name, value_n in (("dose", self.dose_n), ("time", self.time_n)):
            if value_n is not None:
                label_n = _joined_once(label_n, value_n, partial(_with, name))
        return label_n

    @cached_property
    def condition_n(self) -> np.ndarray:
        """`context|perturbation@mode` per row."""
        return join_labels(self.context_n, self.intervention_n, "|")


@dataclass(frozen=True)
class Learned:
    """Something that was learned from rows: a vocabulary, a gene selection, a scaler, a median.

    Attributes:
        what: Name of what was learned, for people.
        rows: Row numbers of the data set that it looked at.
    """

    what: str
    rows: np.ndarray


def join_labels(left_n: np.ndarray, right_n: np.ndarray, sign: str) -> np.ndarray:
    """Join two label columns element by element; rows of equal labels share one string."""
    return _joined_once(left_n, right_n, lambda a, b: f"{a}{sign}{b}")


def _with(name: str, label: str, value: str) -> str:
    return f"{label};{name}={value}" if value else label


def _joined_once(left_n: np.ndarray, right_n: np.ndarray, join: Callable[[Any, Any], str]) -> np.ndarray:
    """`join` of two columns, asked once per pair of labels that occurs: a string per row would cost more than a row."""
    if len(left_n) != len(right_n):
        raise ShapeMismatch(
            "Label columns have different lengths",
            given=[len(left_n), len(right_n)],
            expected="one length",
            fix="Pass one per row.",
        )
    (left_of_n, lefts), (right_of_n, rights) = _coded(left_n), _coded(right_n)
    pair_k, pair_of_n = np.unique(left_of_n * max(1, len(rights)) + right_of_n, return_inverse=True)
    joined_k = np.empty(len(pair_k), dtype=object)
    for k, pair in enumerate(pair_k.tolist()):
        joined_k[k] = join(lefts[pair // len(rights)], rights[pair % len(rights)])
    return joined_k[pair_of_n]


def _coded(label_n: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Number of each row's label, and the labels in the order of their first row."""
    known: dict[Any, int] = {}
    code_n = np.fromiter((known.setdefault(label, len(known)) for label in label_n), np.int64, len(label_n))
    return code_n, list(known)


def parts_of(intervention: str, delimiter: str | None) -> tuple[tuple[str, ...], str]:
    """Parts and mode of an intervention: `A+B@knockout;dose=1` is (A, B) and knockout."""
    head, _, tail = intervention.rpartition("@")
    return tuple(head.split(delimiter) if delimiter else [head]), tail.split(";")[0]


class RowView:
    """Some rows of a matrix, cut out only where and when they are asked for.

    Args:
        x_ng: Matrix, CSR (in memory or mapped), dense, or itself a view.
        rows_m: Row numbers.
    """

    def __init__(self, x_ng: Any, rows_m: np.ndarray) -> None:
        inner = isinstance(x_ng, RowView)
        self._x_ng = x_ng._x_ng if inner else x_ng
        self._rows_m = x_ng._rows_m[rows_m] if inner else rows_m
        self.shape = (len(self._rows_m), int(self._x_ng.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> Any:
        """Rows in memory, CSR or dense as the matrix is."""
        return self._x_ng[self._rows_m[rows]]

    def of(self, x_ng: Any) -> RowView:
        """The same rows of another matrix."""
        return RowView(x_ng, self._rows_m)

    def stored(self) -> int:
        """Number of values that are stored for these rows."""
        if not hasattr(self._x_ng, "indptr"):
            return self.shape[0] * self.shape[1]
        pointer = self._x_ng.indptr
        return int((pointer[self._rows_m + 1].astype(np.int64) - pointer[self._rows_m]).sum())


def without_dose(intervention_n: np.ndarray) -> np.ndarray:
    """`perturbation@mode` of interventions that may carry a dose and a time: doses of one compound share a name."""
    parts = (str(label).rpartition("@") for label in intervention_n)
    return np.array([f"{head}{at}{tail.split(';')[0]}" for head, at, tail in parts], dtype=object)


@dataclass(frozen=True)
class Dims:
    """Sizes that the data decides and a model is built from."""

    n_genes: int
    n_interventions: int
    n_parts: int
    n_contexts: int
    n_batches: int


@dataclass
class Batch:
    """What a model sees of a set of rows or queries; `-1` is the index of an unknown label.

    Attributes:
        x_ng: Mean expression of the row's matched input controls, scaled where a `Scale` stage says so.
        x_var_ng: Variance of single input-control cells of the row's context (zeros where there are no cells).
        x_count_n: Number of input-control cells behind `x_ng`.
        intervention_n: Index of the intervention in the train vocabulary.
        parts_np: Multi-hot of the parts (genes or compounds) of the intervention, unknown parts absent.
        context_n: Index of the context in the train vocabulary.
        batch_n: Index of the batch in the train vocabulary.
        delta_ng: Observed change from the matched input control; absent when a model is asked to predict.
        row_n: Row numbers in the data set (of one representative row for a query).
    """

    x_ng: torch.Tensor
    x_var_ng: torch.Tensor
    x_count_n: torch.Tensor
    intervention_n: torch.Tensor
    parts_np: torch.Tensor
    context_n: torch.Tensor
    batch_n: torch.Tensor
    row_n: torch.Tensor
    delta_ng: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and genes."""
        return len(self.row_n), int(self.x_ng.shape[1])

    def controls_of(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and single-cell variance of the controls of one row, each [g]."""
        return self.x_ng[row], self.x_var_ng[row]

    def to(self, device: Any) -> Batch:
        """Return the batch on another device (Lightning calls this)."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if value is not None:
                setattr(moved, name, value.to(device))
        return moved


@dataclass
class Gaussian:
    """Mean and variance of a mean delta, per row and gene, in units of the matrix (squared for the variance)."""

    mean_ng: torch.Tensor
    var_ng: torch.Tensor


@dataclass(frozen=True, eq=False)
class PredictedCells:
    """Cells that a model emits, any number per condition; each is used once.

    Attributes:
        x_mg: Expression on the data's scale, CSR or dense.
        context_m: Context of each cell.
        intervention_m: Intervention of each cell.
    """

    x_mg: Any
    context_m: np.ndarray
    intervention_m: np.ndarray

    @cached_property
    def _rows(self) -> dict[tuple[str, str], np.ndarray]:
        code_m, names = _coded(np.fromiter(zip(self.context_m, self.intervention_m, strict=True), object))
        order = np.argsort(code_m, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(code_m[order])) + 1)
        return dict(zip(names, parts, strict=True))

    def of(self, context: str, intervention: str) -> Any:
        """Cells of one condition, CSR or dense."""
        return self.x_mg[self._rows.get((context, intervention), np.empty(0, dtype=np.int64))]


@dataclass(frozen=True)
class Prediction:
    """The seam: what any model, ours or foreign, says about the rows of one fold.

    Rows of one query share one answer, so the matrices hold queries and `query_n` maps rows to them.

    Attributes:
        mean_qg: Predicted change from the input controls.
        var_qg: Predictive variance of the condition's mean delta, floored at `VARIANCE_FLOOR`; NaN throughout where
            none is stated.
        query_n: For every judged row, its row of `mean_qg`.
        idx_n: For every judged row, its row in the data set.
        genes_g: Gene names, in the data's order.
        scale: Scale of the matrix the delta lives on.
        fold: Fold the rows belong to.
        model: Name of the model.
        split_hash: Hash of the frozen split.
        fingerprint: Content hash of the data.
        has_variance: Whether a variance is stated. None is ever made up for a prediction that states none.
        cells: Cells that the model emits; None where it predicts means, which then move the input controls.
        no_cells: Why there are no cells to compare although the model is said to emit them; empty otherwise.
    """

    mean_qg: np.ndarray
    var_qg: np.ndarray
    query_n: np.ndarray
    idx_n: np.ndarray
    genes_g: tuple[str, ...]
    scale: str
    fold: str
    model: str
    split_hash: str
    fingerprint: str
    has_variance: bool = True
    cells: PredictedCells | None = None
    no_cells: str = ""

    def __post_init__(self) -> None:
        n_query, n_genes = self.mean_qg.shape
        if self.var_qg.shape != (n_query, n_genes) or len(self.genes_g) != n_genes:
            raise PredictionMismatch(
                "Mean, variance and gene names disagree",
                given=f"mean {self.mean_qg.shape}, var {self.var_qg.shape}, {len(self.genes_g)} genes",
                expected="one shape [queries, genes]",
                fix="Write mean and var for the same rows and genes.",
            )
        if len(self.query_n) != len(self.idx_n) or (len(self.query_n) and int(self.query_n.max()) >= n_query):
            raise PredictionMismatch(
                "Row numbers do not fit the predictions",
                given=f"{len(self.idx_n)} rows for {n_query} queries",
                expected="one query per row",
                fix="Give every judged row one prediction.",
            )
        stated = np.isfinite(self.var_qg).all() and (self.var_qg > 0).all()
        if not np.isfinite(self.mean_qg).all() or not (stated if self.has_variance else np.isnan(self.var_qg).all()):
            raise PredictionMismatch(
                "A prediction is not a distribution",
                given="NaN, infinite or non-positive entries",
                expected="finite means and variances above zero, or NaN for every variance where none is stated",
                fix="Look at the model's training log.",
            )
        if self.cells is not None and self.cells.x_mg.shape[1] != n_genes:
            raise PredictionMismatch(
                "Predicted cells have other genes than the predicted means",
                given=f"{self.cells.x_mg.shape[1]} genes",
                expected=f"{n_genes}",
                fix="Give cells with the data's genes.",
            )

    def mean_ng(self) -> np.ndarray:
        """Predicted mean delta of every judged row, [N, G]."""
        return self.mean_qg[self.query_n]

    def var_ng(self) -> np.ndarray:
        """Predictive variance of every judged row, [N, G]."""
        return self.var_qg[self.query_n]


@dataclass(frozen=True)
class Observed:
    """All that a judge may see of one fold: judged rows, input controls (shown to models), reference controls (truth).

    Matrices are CSR, dense or a `RowView`, on `scale`, with genes in the order of `genes_g`: what is cut from them with
    `[rows]` is in memory, they themselves need not be. Input and reference are empty where
    controls are baked in. `match_batch` says whether deltas compare within context x batch or within context;
    `delimiter` what joins the parts of a combination.
    """

    idx_n: np.ndarray
    x_ng: Any
    intervention_n: np.ndarray
    context_n: np.ndarray
    batch_n: np.ndarray
    input_mg: Any
    input_context_m: np.ndarray
    input_batch_m: np.ndarray
    reference_rg: Any
    reference_context_r: np.ndarray
    reference_batch_r: np.ndarray
    genes_g: tuple[str, ...]
    scale: str
    unit: str
    controls: str
    match_batch: bool
    fold: str
    delimiter: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
