"""A judged run -> files that cell-eval and PerturbBench read unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.errors import NoCells, UnknownChoice, ValuesNegative, nearest
from perturbfm.eval.cells import ShiftedControls
from perturbfm.eval.truth import Truth
from perturbfm.types import without_dose

if TYPE_CHECKING:
    from anndata import AnnData

    from perturbfm.eval.case import Case


@dataclass(frozen=True)
class Layout:
    """How a tool wants its files.

    Attributes:
        pert: Column of perturbations.
        context: Column of contexts.
        control: Label of control rows.
        joint: What joins the parts of a combination; None leaves labels as they are.
        real: Name of the file with measured cells.
        predicted: Name of the file with predicted cells.
        command: What to type next, or to call.
        nonnegative: Whether the tool refuses values below zero.
    """

    pert: str
    context: str
    control: str
    joint: str | None
    real: str
    predicted: str
    command: str
    nonnegative: bool


@dataclass(frozen=True)
class Written:
    """The files of measured and of predicted cells, what to type or call next, and what a reader must know."""

    real: Path
    predicted: Path
    command: str
    note: str


LAYOUTS = {
    "cell-eval": Layout(
        "target_gene",
        "celltype",
        "non-targeting",
        None,
        "real.h5ad",
        "pred.h5ad",
        "cell-eval run -ap {predicted} -ar {real} --control-pert non-targeting --pert-col target_gene "
        "--celltype-col celltype",
        nonnegative=True,
    ),
    "perturbench": Layout(
        "condition",
        "cell_type",
        "control",
        "+",
        "truth.h5ad",
        "pred.h5ad",
        "Evaluation(model_adatas=[read({predicted})], model_names=[...], ref_adata=read({real}), "
        "pert_col='condition', cov_cols=['cell_type'], ctrl='control')",
        nonnegative=False,
    ),
}


def layout_of(name: str) -> Layout:
    """The layout of a tool.

    Raises:
        UnknownChoice: There is none of that name.
    """
    if name not in LAYOUTS:
        raise UnknownChoice(
            f"Unknown format {name!r}",
            given=name,
            expected=f"one of {', '.join(LAYOUTS)}",
            fix=f"Did you mean {nearest(name, LAYOUTS)}?",
        )
    return LAYOUTS[name]


def write_export(folder: Path, layout: Layout, truth: Truth, case: Case, delimiter: str | None) -> Written:
    """Write measured and predicted cells of the test fold, with the same control cells in both files.

    Predicted cells are those the model emits, or the input controls moved by what it predicts; controls are the input
    controls on both sides, as suites share them, so that the predicted change is what was predicted. Reference controls
    are in no file. For a tool that refuses negative values a gene of moved controls that would go below zero is scaled
    instead, see `kept_above_zero`.

    Args:
        folder: Where the two files go.
        layout: How the tool wants them.
        truth: The test fold.
        case: The prediction beside it.
        delimiter: What joins the parts of a combination in the data.

    Raises:
        NoCells: The file has no cells, or the prediction is a point.
        ValuesNegative: The model's own cells are negative, and the tool refuses that.
    """
    if case.cells is None:
        raise NoCells(
            "There are no cells to export",
            given=case.incomparable,
            expected="a data set of cells, and a prediction that is no point",
            fix="These tools compare cells; judge the means here.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    label_c = _labels(truth, layout, delimiter)
    for name, predicted in ((layout.real, False), (layout.predicted, True)):
        _as_anndata(truth, case, layout, label_c, predicted=predicted).write_h5ad(folder / name, compression="gzip")
    real, predicted_path = folder / layout.real, folder / layout.predicted
    command = layout.command.format(real=real, predicted=predicted_path)
    return Written(real, predicted_path, command, _moved_note(truth, case, layout))


def _moved_note(truth: Truth, case: Case, layout: Layout) -> str:
    """What a tool that refuses negative values does not see of the prediction; empty where it sees all of it."""
    if not layout.nonnegative or not isinstance(case.cells, ShiftedControls):
        return ""
    below = int((case.input_cg + case.predicted_cg < 0).sum())
    if not below:
        return ""
    return (
        f"{below} of {case.predicted_cg.size} predicted means are below zero, which this tool refuses: they are zero "
        "in the file, so its numbers are of a prediction cut off there and may look better than it is"
    )


def _as_anndata(truth: Truth, case: Case, layout: Layout, label_c: np.ndarray, *, predicted: bool) -> AnnData:
    """Cells of one side, condition by condition, and the input controls of its contexts."""
    from anndata import AnnData

    parts, tables = zip(*(*_cells(truth, case, layout, label_c, predicted), *_controls(truth, layout)), strict=True)
    obs = pd.concat(tables)
    for column in obs.columns:
        obs[column] = obs[column].astype("category")
    return AnnData(sparse.vstack(parts, format="csr"), obs=obs, var=pd.DataFrame(index=list(truth.observed.genes_g)))


def _cells(
    truth: Truth, case: Case, layout: Layout, label_c: np.ndarray, predicted: bool
) -> Iterator[tuple[Any, pd.DataFrame]]:
    o, cells = truth.observed, case.cells
    if cells is None:
        return
    for c, label in enumerate(label_c):
        true, mine = cells(c)
        rows = truth.condition_rows(c)
        batch = truth.observed.batch_n[truth.rows[rows]]
        names = [f"row{o.idx_n[truth.rows[r]]}" for r in rows]
        if predicted:
            names = [f"pred_{c}_{i}" for i in range(len(mine))]
            batch = _predicted_batches(truth, cells, c, len(mine))
        values = _predicted(cells, c, mine, layout) if predicted else true
        yield _csr(values), _table(names, label, truth.context_c[c], batch, layout, o.match_batch)


def _predicted(cells: Any, condition: int, mine: np.ndarray, layout: Layout) -> np.ndarray:
    """Predicted cells as the tool takes them."""
    if not layout.nonnegative or mine.min() >= 0:
        return mine
    if isinstance(cells, ShiftedControls):
        delta_g = cells.mean_cg[condition]
        return kept_above_zero(mine - delta_g, delta_g)
    raise ValuesNegative(
        "The tool takes no negative values, and the predicted cells have some",
        given=f"lowest {mine.min():.4g}",
        expected="expression of zero and more",
        fix="Decide in the tool that made them what a value below zero means; it is not clipped here.",
    )


def kept_above_zero(control_ng: np.ndarray, delta_g: np.ndarray) -> np.ndarray:
    r"""Control cells moved by a change of their mean, without a value below zero.

    A gene that the move would take below zero in a cell is scaled by :math:`\max(0, (m + D)/m)`, m its mean, so that
    its mean is still the predicted one (zero where that is below zero); all others are moved by D. Clipping single
    values would shrink the predicted change.

    Args:
        control_ng: Control cells, shape (n, g), none below zero but for rounding.
        delta_g: Predicted change of the mean.
    """
    moved_ng = control_ng + delta_g
    mean_g = np.maximum(control_ng, 0.0).mean(axis=0)
    factor_g = np.maximum(0.0, (mean_g + delta_g) / np.where(mean_g > 0, mean_g, 1.0))
    scaled_g = moved_ng.min(axis=0) < 0
    return np.where(scaled_g, np.maximum(control_ng, 0.0) * np.where(mean_g > 0, factor_g, 0.0), moved_ng)


def _predicted_batches(truth: Truth, cells: Any, condition: int, n: int) -> np.ndarray:
    """Batches of predicted cells: those of the controls that were moved; a model's own cells have none."""
    if not isinstance(cells, ShiftedControls):
        return np.full(n, "none", dtype=object)
    o = truth.observed
    used = {k for k, w in zip(truth.group_names, truth.weight_ck[condition], strict=True) if w > 0}
    batch_m = o.input_batch_m if o.match_batch else np.full(len(o.input_batch_m), "", dtype=object)
    mine = [g in used for g in zip(o.input_context_m.tolist(), batch_m.tolist(), strict=True)]
    return o.input_batch_m[np.flatnonzero(mine)]


def _controls(truth: Truth, layout: Layout) -> Iterator[tuple[Any, pd.DataFrame]]:
    o = truth.observed
    for k, context in enumerate(truth.context_k):
        mine = np.flatnonzero(o.input_context_m == context)
        names = [f"control_{k}_{i}" for i in range(len(mine))]
        table = _table(names, layout.control, context, o.input_batch_m[mine], layout, o.match_batch)
        yield _csr(truth.control_cells(k)), table


def _table(
    names: list[str], label: str, context: str, batch: np.ndarray, layout: Layout, by_batch: bool
) -> pd.DataFrame:
    columns = {layout.pert: label, layout.context: context, **({"batch_id": batch} if by_batch else {})}
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object), dtype=object)


def _labels(truth: Truth, layout: Layout, delimiter: str | None) -> np.ndarray:
    """Label of each condition: its perturbation where that names one condition of each context, else all of it."""
    pert_c = [str(v).rpartition("@")[0] for v in without_dose(truth.intervention_c)]
    if len(set(zip(truth.context_c, pert_c, strict=True))) < len(pert_c):
        pert_c = [str(v) for v in truth.intervention_c]
    if layout.joint and delimiter:
        pert_c = [layout.joint.join(p.split(delimiter)) for p in pert_c]
    return np.array(pert_c, dtype=object)


def _csr(x: Any) -> Any:
    return sparse.csr_matrix(x, dtype=np.float32)
