"""`model=external`: a prediction file of any tool, judged by the same panel as a model that was trained here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbfm.errors import BadValue, ConditionsDiffer, ScaleMismatch, UnreadableFile, nearest
from perturbfm.eval.truth import Truth
from perturbfm.external import audit
from perturbfm.external.convert import Answer, by_condition, by_row, check_row_numbers
from perturbfm.external.labels import Columns, Rows, read_rows
from perturbfm.external.table import CELLS, MEANS, Foreign, read_anndata, read_npz
from perturbfm.types import UNITS, Observed, PredictedCells, Prediction, join_labels

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.split import Split


OF_ROWS = "in the shares of the judged rows"
"""How predicted rows are matched to controls of batches where the file names none."""


@dataclass(frozen=True)
class Judgeable:
    """What a file gives: predictions by fold (the calibration fold may be missing) and the verdict of its audit."""

    predictions: dict[str, Prediction]
    verdict: dict[str, Any]


@dataclass(frozen=True)
class Values:
    """Values and variances of a file's rows, genes in the data's order."""

    x_mg: Any
    var_mg: Any


@dataclass(frozen=True)
class Told:
    """What a file says of the folds, what was found of it, and its cells or why it has none."""

    answers: dict[str, Answer]
    findings: tuple[audit.Finding, ...] = ()
    no_cells: str = ""
    cells: PredictedCells | None = None
    batches: str = OF_ROWS


class PredictionFile:
    """Options of an external model.

    Args:
        name: Name of the tool, as runs are called.
        path: An AnnData (`.h5ad`, `.zarr`) or an `.npz`.
        unit: `cells` (any number of predicted cells per condition) or `pseudobulk` (one mean row per condition).
        scale: What the values are: null for expression on the data's scale (an npz: `delta`), or `delta` for mean
            changes from control. Another scale than the data's is refused.
        layer: Layer instead of `X`.
        var_layer: Layer or `obsm` matrix with the predictive variance of the mean change, equal on all rows of a
            condition; where it is not there the prediction states no variance.
        gene_column: Column of `var` with gene names; null means its index.
        pert_column: Column of perturbations; null means the data set's own name for it, or `pert_id`.
        context_column: Column of contexts; null means the data set's own, or `context_id`.
        batch_column: Column of batches; null means the data set's own, or `batch_id`, or none.
        control_label: A further label of control rows in this file.
        extra_conditions: `refuse` conditions that are not judged, or `drop` them.
        extra_genes: `refuse` genes that the data do not have, or `drop` them.
    """

    def __init__(
        self,
        name: str,
        path: str,
        unit: str = "cells",
        scale: str | None = None,
        layer: str | None = None,
        var_layer: str | None = "var",
        gene_column: str | None = None,
        pert_column: str | None = None,
        context_column: str | None = None,
        batch_column: str | None = None,
        control_label: str | None = None,
        extra_conditions: str = "refuse",
        extra_genes: str = "refuse",
    ) -> None:
        for key, value, known in (
            ("unit", unit, UNITS),
            ("extra_conditions", extra_conditions, ("refuse", "drop")),
            ("extra_genes", extra_genes, ("refuse", "drop")),
        ):
            if value not in known:
                raise BadValue(
                    f"Unknown model.{key}",
                    given=repr(value),
                    expected=" | ".join(known),
                    fix=f"Did you mean {nearest(str(value), known)}?",
                )
        self.name, self.path, self.unit, self.scale = name, Path(path), unit, scale
        self.layer, self.var_layer, self.gene_column = layer, var_layer, gene_column
        self.columns = Columns(pert_column, context_column, batch_column, control_label)
        self.extra_conditions, self.extra_genes = extra_conditions, extra_genes

    def read(self, unit: str) -> Foreign:
        """Read the file; `unit` is that of its rows."""
        if not self.path.exists():
            raise UnreadableFile(
                "There is no such prediction file",
                given=self.path.absolute(),
                expected="an .h5ad, a .zarr folder or an .npz",
                fix="Check model.path (or --predictions).",
            )
        if self.path.suffix == ".npz":
            return read_npz(self.path)
        form = CELLS if unit == "cells" else MEANS
        return read_anndata(self.path, form, self.layer, self.var_layer, self.gene_column)

    def judgeable(
        self, dataset: PerturbDataset, split: Split, observed: Mapping[str, Observed], own: Mapping[str, Any]
    ) -> Judgeable:
        """Read the file, audit it, and turn it into predictions of the judged folds.

        Args:
            dataset: The data, preprocessed already: the file is on that scale and has those genes.
            split: The frozen split.
            observed: The calibration and the test fold.
            own: The configuration of the data set, for its column names and label conventions.

        Raises:
            InputError: The file does not fit, with what to do.
            IntegrityError: It was made for another split, or is the truth itself.
        """
        foreign = self.read("pseudobulk" if dataset.declared.unit == "pseudobulk" else self.unit)
        found = [audit.check_lock(foreign, split, split.fingerprint)]
        order, finding = audit.gene_order(foreign, dataset.genes, self.extra_genes)
        found.append(finding)
        values = Values(foreign.x_mg[:, order], None if foreign.var_mg is None else _dense(foreign.var_mg[:, order]))
        for what, matrix in (("value", values.x_mg), ("variance", values.var_mg)):
            if matrix is not None:
                audit.check_finite(matrix, what, foreign.obs.index, dataset.genes)
        truths = {fold: Truth(o) for fold, o in observed.items()}
        changes = self._changes(foreign, dataset)
        if foreign.idx_m is not None:
            check_row_numbers(foreign.idx_m, split.indices())
            told = Told(_rows_answered(truths, _dense(values.x_mg), values.var_mg, foreign.idx_m))
        else:
            told = self._by_condition(foreign, values, dataset, split, truths, own, changes)
        found += told.findings
        answers = told.answers
        found.append(audit.check_copied_means(truths["test"], _per_condition(truths["test"], answers["test"])))
        predictions = {fold: self._prediction(a, truths[fold], split, told) for fold, a in answers.items()}
        return Judgeable(predictions, {**_facts(foreign, told), **audit.to_plain(found)})

    def _by_condition(
        self,
        foreign: Foreign,
        values: Values,
        dataset: PerturbDataset,
        split: Split,
        truths: Mapping[str, Truth],
        own: Mapping[str, Any],
        changes: bool,
    ) -> Told:
        """Rows that name their condition: cells, or means."""
        judged = np.concatenate([split.test_idx, split.calib_idx])
        rows = read_rows(foreign.obs, own, self.columns, dataset.labels(), judged)
        found = self._row_findings(foreign, values.x_mg, rows, dataset, split, truths["test"], changes)
        single = foreign.form == MEANS
        answers = _answered(truths, values.x_mg, values.var_mg, rows, changes=changes, single=single)
        no_cells, cells = "", None
        if foreign.form == CELLS:
            no_cells, cells, finding = _cells(values.x_mg, rows, truths["test"])
            found.append(finding)
        batched = rows.batch_m is not None and truths["test"].observed.match_batch
        return Told(answers, tuple(found), no_cells, cells, "as the file names them" if batched else OF_ROWS)

    def _changes(self, foreign: Foreign, dataset: PerturbDataset) -> bool:
        """Whether values are changes from control already."""
        data_scale = dataset.declared.scale
        scale = self.scale or ("delta" if self.path.suffix == ".npz" else data_scale)
        told = foreign.words.get("scale", data_scale)
        for given in (scale, told):
            if given not in (data_scale, "delta"):
                raise ScaleMismatch(
                    "The predictions are declared to be on another scale than the data",
                    given=f"{given}, {foreign.name}",
                    expected=f"{data_scale}, or delta for changes from control",
                    fix="Bring them to the data's scale; nothing is transformed here.",
                )
        if scale == "delta" != data_scale and foreign.form == CELLS:
            raise BadValue(
                "Changes from control have no cells",
                given="model.scale=delta with model.unit=cells",
                expected="one mean change per condition",
                fix="Set model.unit=pseudobulk and write one row per condition, or write predicted expression.",
            )
        return scale == "delta" != data_scale

    def _row_findings(
        self,
        foreign: Foreign,
        x_mg: Any,
        rows: Rows,
        dataset: PerturbDataset,
        split: Split,
        truth: Truth,
        changes: bool,
    ) -> list[audit.Finding]:
        """All checks of rows that name a condition."""
        labels = dataset.labels()
        known = set(join_labels(labels.context_n, labels.pert_n, "|").tolist())
        cells = foreign.form == CELLS
        found = [audit.check_conditions(rows, known, self.extra_conditions)]
        judged = np.concatenate([split.test_idx, split.calib_idx])
        found.append(audit.check_row_names(foreign, rows, dataset, judged))
        if not changes:
            mine = np.flatnonzero(rows.code_m >= 0)
            part = Rows(rows.code_m[mine], rows.name_m[mine], rows.context_m[mine], None, rows.table)
            scale = dataset.declared.scale
            found.append(audit.check_scale(x_mg[mine], scale, part, truth, lambda m: str(part.name_m[m])))
        if dataset.declared.controls == "cells":
            found.append(audit.check_controls(x_mg, rows, dataset, split, cells=cells, changes=changes))
        if cells:
            found += audit.check_copies(x_mg, rows, truth)
        return found

    def _prediction(self, answer: Answer, truth: Truth, split: Split, told: Told) -> Prediction:
        o = truth.observed
        return Prediction(
            mean_qg=answer.mean_qg,
            var_qg=answer.var_qg,
            query_n=answer.query_n,
            idx_n=o.idx_n,
            genes_g=o.genes_g,
            scale=o.scale,
            fold=o.fold,
            model=self.name,
            split_hash=str(split.frozen_hash),
            fingerprint=split.fingerprint,
            has_variance=answer.has_variance,
            cells=told.cells if o.fold == "test" else None,
            no_cells=told.no_cells if o.fold == "test" else "",
        )


def _rows_answered(truths: Mapping[str, Truth], x_mg: np.ndarray, var_mg: Any, idx_m: np.ndarray) -> dict[str, Answer]:
    """The test fold, and the calibration fold where any of its rows is there."""
    asked = ["test", *(["calib"] if np.isin(idx_m, truths["calib"].observed.idx_n).any() else [])]
    return {fold: by_row(truths[fold], x_mg, var_mg, idx_m) for fold in asked}


def _answered(
    truths: Mapping[str, Truth], x_mg: Any, var_mg: Any, rows: Rows, *, changes: bool, single: bool
) -> dict[str, Answer]:
    """The test fold, and the calibration fold where all of its conditions are there; a part of it is refused."""
    spoken = set(rows.code_m[rows.code_m >= 0].tolist())
    asked = {fold: set(codes_of(rows, truth)) for fold, truth in truths.items()}
    partly = asked["calib"] & spoken - asked["test"]
    if partly and not asked["calib"] <= spoken:
        raise ConditionsDiffer(
            "Only a part of the calibration fold is predicted",
            given=f"{len(asked['calib'] & spoken)} of {len(asked['calib'])} conditions",
            expected="all of them, or none",
            fix="Predict the others too, or leave the calibration fold out: then nothing is calibrated.",
        )
    folds = ["test", *(["calib"] if asked["calib"] <= spoken else [])]
    return {f: by_condition(truths[f], x_mg, var_mg, rows, changes=changes, single=single) for f in folds}


def codes_of(rows: Rows, truth: Truth) -> list[int]:
    """Rows of the table of conditions that are conditions of a fold."""
    mine = set(zip(truth.context_c.tolist(), truth.intervention_c.tolist(), strict=True))
    pairs = zip(rows.table["context"], rows.table["intervention"], strict=True)
    return [i for i, pair in enumerate(pairs) if pair in mine]


def _cells(x_mg: Any, rows: Rows, truth: Truth) -> tuple[str, PredictedCells | None, audit.Finding]:
    """Cells of the test fold where they are a sample of cells, and why not where they are none."""
    codes = codes_of(rows, truth)
    no_cells, finding = audit.cell_sample(x_mg, rows, codes)
    if no_cells or not truth.has_cells:
        return no_cells, None, finding
    mine = np.flatnonzero(np.isin(rows.code_m, codes))
    code = rows.code_m[mine]
    context, intervention = (rows.table[k].to_numpy(dtype=object)[code] for k in ("context", "intervention"))
    return "", PredictedCells(x_mg[mine], context, intervention), finding


def _per_condition(truth: Truth, answer: Answer) -> np.ndarray:
    """Predicted mean change of each condition, averaged over its judged rows."""
    pair, n = np.unique(np.stack([truth.condition_n, answer.query_n]), axis=1, return_counts=True)
    found = np.zeros_like(truth.mean_cg)
    np.add.at(found, pair[0], answer.mean_qg[pair[1]].astype(np.float64) * n[:, None])
    return found / truth.n_c[:, None]


def _facts(foreign: Foreign, told: Told) -> dict[str, Any]:
    stated = told.answers["test"].has_variance
    return {
        "file": foreign.name,
        "sha256": foreign.sha256,
        "form": foreign.form,
        "n_rows": int(foreign.x_mg.shape[0]),
        "batches": told.batches,
        "variance": "stated" if stated else "not stated, so uncertainty is not applicable",
        "calibration_fold": "predicted" if "calib" in told.answers else "not predicted, so nothing is calibrated",
    }


def _dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)
