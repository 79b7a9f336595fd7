"""Any of the field's files as a data set, by naming its columns: nothing about a file is guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from perturbfm.data import column
from perturbfm.data.check import check_labels, check_matrix, check_names, check_shape
from perturbfm.data.controls import subtract_controls
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.dose import check_control_times
from perturbfm.data.gene import check_duplicate_option, merge_genes
from perturbfm.data.label import LabelRules
from perturbfm.data.mapped import mapped_matrix
from perturbfm.data.obs_map import ObsMap, label_rows
from perturbfm.data.preprocess import normalise_log1p
from perturbfm.data.reader.raw import BESIDE, Raw, ReadOptions
from perturbfm.data.several import FILE_NAME, paths_of, read_files, stem_of
from perturbfm.errors import BadValue

SUBTRACT = "subtract"


def load_file(
    name: str | None,
    path: str | Sequence[str],
    scale: str,
    pert_column: str = "pert_id",
    context_column: str | Sequence[str] | None = "context_id",
    batch_column: str | Sequence[str] | None = "batch_id",
    control_labels: Sequence[Any] = ("control",),
    delimiter: str | None = None,
    mode: str | None = None,
    mode_column: str | None = None,
    mode_values: Mapping[str, str] | None = None,
    covariates: Sequence[str] = (),
    layer: str | None = None,
    size_column: str | None = None,
    target_sum: float | None = None,
    unit: str = "cells",
    controls: str = "cells",
    match: str | None = None,
    match_seed: int = 0,
    source: str = "",
    context: str | None = None,
    drop_control_parts: bool = False,
    guide_pattern: str | None = None,
    guide_column: str | None = None,
    aliases: Mapping[str, str] | None = None,
    drop_missing: bool = False,
    missing_labels: Sequence[Any] = (),
    keep: Mapping[str, Any] | None = None,
    drop: Mapping[str, Any] | None = None,
    dose_column: str | None = None,
    dose_unit: str = "",
    dose_factor: float = 1.0,
    dose_delimiter: str | None = None,
    missing_doses: Sequence[Any] = (),
    dose_pattern: str | None = None,
    dose_label_column: str | None = None,
    time_column: str | None = None,
    time_unit: str = "",
    time_pattern: str | None = None,
    gene_column: str | None = None,
    gene_map: str | None = None,
    duplicate_genes: str = "refuse",
    genes: str = "same",
    file_column: str | None = None,
    file_values: Mapping[str, str] | None = None,
    file_context: bool = False,
    prefix_cells: bool = False,
    var_layer: str | None = None,
    var_kind: str = "cells",
    n_column: str | None = None,
    modality: str | None = None,
    obs: str | None = None,
    orientation: str = "cells_by_genes",
    cache: bool = False,
) -> PerturbDataset:
    """Read a file, or several, and look at it through the declared columns.

    Args:
        name: Short name of the data set, used in file names; null means the name of its (first) file without suffix.
        path: A file or folder, a pattern with `*`, or a list of either; several are one data set.
        scale: What the matrix holds: `counts`, `log1p`, `log2` or `delta`.
        pert_column: Column of perturbation labels.
        context_column: Column of contexts (cell line, cell type, donor), or several, joined by `::`; null means one
            context, which `context` names, or the file name (`file_context`), or else the data set.
        batch_column: Column of batches, or several; null means one batch.
        control_labels: Perturbation labels that mean "not perturbed"; they are all read as `control`. Labels are
            compared as text, so 0 is the label "0".
        delimiter: What joins the parts of a combination; null when there are none. Parts are sorted and spaces around
            them dropped: `B+A` and `A + B` are read as `A+B`.
        mode: Kind of intervention of the whole file, or
        mode_column: the column that tells it per row, with
        mode_values: its values translated to activation, knockdown, knockout, drug, ligand or other.
        covariates: Further columns to keep, under names of their own.
        layer: Layer to read instead of `X`; `raw` is the raw matrix of the file, with its own genes.
        size_column: Library size to normalise counts by; null means the row's own sum.
        target_sum: What counts are normalised to, before one logarithm; null leaves counts as they are, for a run's
            own preprocessing.
        unit: `cells`, or `pseudobulk` where a row is a condition.
        controls: `cells`, or `baked_in` where the values are differences from control already, or `subtract`: of
            pseudobulk means with a control row or few per context, their mean is subtracted, and they are left out.
        match: How a row finds its control: `context`, `context_batch` or `draw`; null means within batches where a
            batch column is named, and within the context otherwise.
        match_seed: Seed of `draw`.
        source: Where the file comes from, for people; what is done while reading is added.
        context: Name of the one context where `context_column` is null; null means the name of the data set.
        drop_control_parts: Read `GENE+ctrl` as `GENE`, as GEARS writes singles.
        guide_pattern: Regular expression on each part of a label whose first group is the target of the guide, for
            example `^(.+?)(?:g|_)\\d+$`; the label as written is kept as covariate `guide`.
        guide_column: Column of guides, kept as covariate `guide`.
        aliases: Other names of whole labels or of their parts (an old gene symbol, a compound with the delimiter).
        drop_missing: Leave out rows without a perturbation label instead of refusing them.
        missing_labels: Labels that mean "no label" (`unassigned`), beside empty ones and `nan`.
        keep: Column -> values; only rows with one of them are kept.
        drop: Column -> values; rows with one of them are left out.
        dose_column: Column of doses; controls have none. Text such as `1+1` is split as the label is.
        dose_unit: Unit of the doses after `dose_factor`.
        dose_factor: What doses are multiplied by, 0.001 from nM to uM.
        dose_delimiter: What joins the doses of a combination; null means `delimiter`.
        missing_doses: Values that mean "no dose" (-666).
        dose_pattern: Regular expression on each dose whose first group is its number, where doses are written with
            words: `^([0-9.]+) ?uM$`.
        dose_label_column: Second column that says the dose as text; refused where the two disagree.
        time_column: Column of times after the intervention; controls have none.
        time_unit: Unit of the times.
        time_pattern: Regular expression on each time whose first group is its number: `^([0-9.]+)h$`.
        gene_column: Column of `var` with gene names; null means its index.
        gene_map: Two-column TSV from gene identifier to name.
        duplicate_genes: `refuse`, or `sum` for counts.
        genes: `same` genes in all files, or `intersect`.
        file_column: Name for a column that holds each file's name without suffix, or its value in
        file_values: file name without suffix -> value.
        file_context: The context is the file's name, or its value in `file_values`.
        prefix_cells: Put the file's name before each cell id.
        var_layer: Layer of variances beside pseudobulk means, kept as `layers["variance"]`.
        var_kind: What they are: `cells` (of single cells) or `sampling` (of the mean).
        n_column: Number of cells behind each pseudobulk row, kept as covariate `n_cells`.
        modality: Modality of an `.h5mu`.
        obs: CSV or TSV of cell columns beside the matrix, first column the cell ids.
        orientation: Of a text matrix: `cells_by_genes` or `genes_by_cells`.
        cache: Read the matrix from a memory-mapped copy in the cache folder, made once per content: for files of the
            layout of AnnData that are larger than memory. The data set and its fingerprint are the same.

    Raises:
        UnreadableFile: Missing, truncated, or of no known format.
        MissingColumn, MissingLabel, ControlLabelAbsent, ...: What does not fit what is declared.
    """
    _check_target(scale, target_sum)
    _check_subtract(controls, unit, scale, target_sum, cache)
    check_duplicate_option(duplicate_genes, scale)
    if file_context:
        file_column = file_column or FILE_NAME
    name = name_of(path) if name is None else name
    match = match_of(match, batch_column)
    context, said = _one_context(name, context_column, context, file_context)
    columns = ObsMap(
        pert_column,
        _context_columns(context_column, context, file_column if file_context else None),
        batch_column,
        LabelRules(
            [str(v) for v in control_labels], delimiter, drop_control_parts, guide_pattern, _words(aliases or {})
        ),
        context=context,
        mode=mode,
        mode_column=mode_column,
        mode_values=mode_values,
        covariates=covariates,
        guide_column=guide_column,
        drop_missing=drop_missing,
        missing_labels=[str(v) for v in missing_labels],
        keep=keep or {},
        drop=drop or {},
        dose_column=dose_column,
        dose_factor=dose_factor,
        dose_delimiter=dose_delimiter,
        missing_doses=missing_doses,
        dose_pattern=dose_pattern,
        dose_label_column=dose_label_column,
        time_column=time_column,
        time_pattern=time_pattern,
        n_column=n_column,
        size_column=size_column,
    )
    paths = paths_of(path)
    raw = read_files(
        paths,
        ReadOptions(layer, modality, obs, orientation),
        gene_column=gene_column,
        gene_map=gene_map,
        genes=genes,
        file_column=file_column,
        file_values=_words(file_values or {}),
        prefix_cells=prefix_cells,
    )
    check_shape((len(raw.obs), len(raw.var)))
    check_names(raw.obs.index, raw.var.index if duplicate_genes == "refuse" else raw.var.index.unique())
    labels, row_n, notes = label_rows(raw.obs, columns)
    declared = Declaration(
        name,
        scale,
        unit,
        "cells" if controls == SUBTRACT else controls,
        delimiter,
        match,
        match_seed,
        dose_unit=dose_unit if dose_column else "",
        time_unit=time_unit if time_column else "",
        variance=var_kind if var_layer else "",
        source="; ".join(filter(None, (source, said, *raw.notes, *notes))),
    )
    check_labels(labels, declared, needs_controls=True)
    if time_column is not None and controls == "cells":
        check_control_times(labels, column.text(raw.obs[time_column])[row_n], match != "context")
    size_n = column.sizes(raw.obs[size_column])[row_n] if size_column else None
    mapped = mapped_matrix(paths, layer, raw, row_n) if cache else None
    matrix = _with_matrix(raw, row_n, labels, declared, size_n, size_column, target_sum, var_layer, mapped)
    return _subtracted(*matrix) if controls == SUBTRACT else PerturbDataset(*matrix)


def _with_matrix(
    raw: Raw,
    row_n: np.ndarray,
    labels: pd.DataFrame,
    declared: Declaration,
    size_n: np.ndarray | None,
    size_name: str | None,
    target_sum: float | None,
    var_layer: str | None,
    mapped: tuple[sparse.csr_matrix, Path] | None,
) -> tuple[AnnData, Declaration]:
    """Read the matrix of the labelled rows; counts with a target are normalised and logged once."""
    x_ng, folder = mapped if mapped is not None else (_rows(raw.matrix(), row_n), None)
    check_matrix(x_ng, declared.scale)
    layers = {} if var_layer is None else {"variance": _rows(raw.matrix(var_layer), row_n)}
    if not raw.var.index.is_unique and layers:
        raise BadValue(
            "Variances of repeated genes cannot be summed",
            given=f"data.var_layer={var_layer} with repeated gene names",
            expected="unique gene names",
            fix="Name genes by another column in data.gene_column.",
        )
    x_ng, genes, notes = merge_genes(x_ng, raw.var.index)
    declared = replace(declared, source="; ".join(filter(None, (declared.source, *notes))))
    if target_sum is not None:
        x_ng, declared = normalise_log1p(x_ng, labels, declared, size_n, float(target_sum), size_name, folder)
    elif size_n is not None:
        labels["library_size"] = size_n
    beside = raw.stored()
    one_each = len(genes) == len(raw.var)
    varm, var = (beside.get("varm", {}), beside.get("var", {})) if one_each else ({}, {})
    uns = {**beside.get("uns", {}), BESIDE: {"names": beside.get("names", {}), "var": var}}
    return AnnData(X=x_ng, obs=labels, var=pd.DataFrame(index=genes), layers=layers, uns=uns, varm=varm), declared


def _subtracted(adata: AnnData, declared: Declaration) -> PerturbDataset:
    x_ng, variance_ng, labels, said = subtract_controls(adata.X, adata.layers.get("variance"), adata.obs, declared)
    layers = {} if variance_ng is None else {"variance": variance_ng}
    return PerturbDataset(
        AnnData(X=x_ng, obs=labels, var=adata.var, layers=layers, uns=adata.uns, varm=adata.varm), said
    )


def name_of(path: str | Sequence[str]) -> str:
    """Name of a data set after its file, or after the first of several."""
    stem = stem_of(paths_of(path)[0].absolute())
    return re.sub(r"[^A-Za-z0-9_.]+", "_", stem).strip("_.") or "data"


def match_of(match: str | None, batch_column: str | Sequence[str] | None) -> str:
    """How rows find their controls where nothing is said: within batches where there are any."""
    return match or ("context" if batch_column is None else "context_batch")


def _one_context(
    name: str, column: str | Sequence[str] | None, context: str | None, file_context: bool
) -> tuple[str | None, str]:
    """Name of the one context, and what to record where it is the name of the data set."""
    if column is not None or context is not None or file_context:
        return context, ""
    return name, f"one context, named after the data set ({name})"


def _rows(x_ng: Any, row_n: np.ndarray) -> Any:
    return x_ng if row_n.all() else x_ng[np.flatnonzero(row_n)]


def _words(table: Mapping[Any, Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in table.items()}


def _context_columns(
    columns: str | Sequence[str] | None, context: str | None, file_column: str | None
) -> str | Sequence[str] | None:
    """Columns of the context: those named, the file's name, or none where one context is named."""
    given = [columns is not None, context is not None, file_column is not None]
    if sum(given) != 1:
        raise BadValue(
            "The context is not declared once",
            given=f"context_column={columns}, context={context}, file_context={str(file_column is not None).lower()}",
            expected="a column, or the name of the one context, or the file names",
            fix="Set data.context_column, or set it to null with data.context or data.file_context.",
        )
    return file_column if columns is None else columns


def _check_subtract(controls: str, unit: str, scale: str, target_sum: float | None, cache: bool) -> None:
    logged = scale in ("log1p", "log2") or (scale == "counts" and target_sum is not None)
    if controls == SUBTRACT and (unit != "pseudobulk" or not logged or cache):
        raise BadValue(
            "data.controls=subtract does not fit",
            given=f"unit={unit}, scale={scale}, target_sum={target_sum}, cache={str(cache).lower()}",
            expected="pseudobulk rows of logarithms, or of counts with a target_sum, without a cache",
            fix="Cells keep their controls: data.controls=cells. Differences are there already: baked_in.",
        )


def _check_target(scale: str, target_sum: float | None) -> None:
    if target_sum is not None and (scale != "counts" or target_sum <= 0):
        raise BadValue(
            "data.target_sum does not fit the scale",
            given=f"target_sum={target_sum:g} with scale={scale}",
            expected="a positive target, for counts only",
            fix="Values that are logarithms already are not normalised again: remove data.target_sum.",
        )
