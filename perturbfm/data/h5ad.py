"""Any `.h5ad`, by naming its columns: nothing about a file is guessed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata._io.specs.registry import IORegistryError
from anndata.io import read_elem
from scipy import sparse

from perturbfm.data.check import LABELS, check_columns, check_labels, check_matrix, check_names
from perturbfm.data.csr_cache import cached_csr, open_csr
from perturbfm.data.csr_source import MatrixSource
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.preprocess import normalise_log1p
from perturbfm.errors import BadValue, ControlLabelAbsent, MissingColumn, MissingLabel, MissingValue, UnreadableFile

_BROKEN = (OSError, KeyError, ValueError, TypeError, AttributeError, IORegistryError)
"""What anndata raises for: no HDF5 or cut short, parts absent, parts that disagree, foreign HDF5, a newer format."""

_TAKEN = (*LABELS, "is_control", "size_factor")
"""Columns that are made here; a covariate of that name would overwrite one."""


def load_h5ad(
    name: str,
    path: str,
    scale: str,
    pert_column: str = "pert_id",
    context_column: str = "context_id",
    batch_column: str | None = "batch_id",
    control_labels: Sequence[str] = ("control",),
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
    match: str = "context",
    match_seed: int = 0,
    source: str = "",
    cache: bool = False,
) -> PerturbDataset:
    """Read a file and look at it through the declared columns.

    Args:
        name: Short name of the data set, used in file names.
        path: The `.h5ad` file.
        scale: What the matrix holds: `counts`, `log1p`, `log2` or `delta`.
        pert_column: Column of perturbation labels.
        context_column: Column of contexts (cell line, cell type, donor).
        batch_column: Column of batches; null means one batch.
        control_labels: Perturbation labels that mean "not perturbed"; they are all read as `control`. Labels are
            compared as text, so 0 is the label "0".
        delimiter: What joins the parts of a combination; null when there are none. Parts are sorted and spaces around
            them dropped: `B+A` and `A + B` are read as `A+B`.
        mode: Kind of intervention of the whole file, or
        mode_column: the column that tells it per row, with
        mode_values: its values translated to activation, knockdown, knockout, drug, ligand or other.
        covariates: Further columns to keep, under names of their own.
        layer: Layer to read instead of `X`.
        size_column: Library size to normalise counts by; null means the row's own sum.
        target_sum: What normalised counts sum to. Obligatory for counts, refused for anything else.
        unit: `cells`, or `pseudobulk` where a row is a condition.
        controls: `cells`, or `baked_in` where the values are differences from control already.
        match: How a row finds its control: `context`, `context_batch` or `draw`.
        match_seed: Seed of `draw`.
        source: Where the file comes from, for people.
        cache: Read the matrix from a memory-mapped copy in the cache folder (PERTURBFM_CACHE), made on first use. For
            files larger than memory, and for many runs on one file; the data set and its fingerprint are the same.

    Raises:
        UnreadableFile: Missing, truncated, or no AnnData.
        MissingColumn, MissingLabel, ControlLabelAbsent, ...: What `perturbfm.data.check` refuses.
    """
    _check_target(scale, target_sum)
    _check_covariates(covariates)
    raw = read_tables(Path(path)) if cache else read_file(Path(path))
    check_names(raw.obs_names, raw.var_names)
    wanted = [pert_column, context_column, batch_column, mode_column, size_column, *covariates]
    check_columns(list(raw.obs.columns), [c for c in wanted if c is not None])
    cached = cached_csr([Path(path)], layer) if cache else None
    x_ng = _matrix(raw, layer) if cached is None else _mapped(cached, raw)
    check_matrix(x_ng, scale)
    declared = Declaration(name, scale, unit, controls, delimiter, match, match_seed, source=source)
    obs = pd.DataFrame(index=raw.obs_names.astype(str))
    pert = _controls_renamed(raw.obs[pert_column], [str(label) for label in control_labels])
    obs["pert_id"] = _parts_sorted(pert, delimiter) if delimiter else pert
    obs["context_id"] = _text(raw.obs[context_column])
    obs["batch_id"] = _text(raw.obs[batch_column]) if batch_column else "all"
    obs["is_control"] = (obs["pert_id"] == "control").to_numpy()
    obs["mode"] = _modes(raw.obs, mode, mode_column, mode_values, obs["is_control"].to_numpy())
    for column in covariates:
        obs[column] = _plain(raw.obs[column])
    check_labels(obs, declared, needs_controls=True)
    if scale == "counts":
        size = _sizes(raw.obs[size_column]) if size_column else None
        x_ng, declared = normalise_log1p(x_ng, obs, declared, size, float(target_sum or 0), size_column, cached)
    return PerturbDataset(AnnData(X=x_ng, obs=obs, var=pd.DataFrame(index=raw.var_names.astype(str))), declared)


def read_file(path: Path) -> AnnData:
    """Read an `.h5ad`; what cannot be read is refused with its name and size."""
    if not path.is_file():
        raise UnreadableFile(
            "There is no such file",
            given=path,
            expected="a readable .h5ad",
            fix="Check data.path, or set PERTURBFM_DATA.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # repeated names are refused by check_names, with a remedy
            return anndata.read_h5ad(path)
    except _BROKEN as e:
        raise UnreadableFile(
            "A file cannot be read as AnnData",
            given=f"{path} ({path.stat().st_size} bytes): {(str(e) or type(e).__name__).splitlines()[0][:200]}",
            expected="a complete .h5ad",
            fix="Fetch it again and compare its checksum.",
        ) from e


def read_tables(path: Path) -> AnnData:
    """Read `obs` and `var` of an `.h5ad` or `.zarr`, and nothing of its size: matrices stay on disk.

    Raises:
        UnreadableFile: Missing, truncated, or no AnnData.
    """
    with MatrixSource(path).opened() as store, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # repeated names are refused by check_names, with a remedy
        return AnnData(obs=read_elem(store["obs"]), var=read_elem(store["var"]))


def _mapped(cached: Path, raw: AnnData) -> sparse.csr_matrix:
    """The cached matrix, if it fits the tables."""
    x_ng = open_csr(cached, verify=False)  # `cached_csr` has verified it
    if x_ng.shape != raw.shape:
        raise UnreadableFile(
            "The matrix of the file does not fit its tables",
            given=f"matrix {x_ng.shape}, obs and var {raw.shape}",
            expected="one row per cell and one column per gene",
            fix="Fetch it again and compare its checksum.",
        )
    return x_ng


def _check_target(scale: str, target_sum: float | None) -> None:
    if scale == "counts" and target_sum is None:
        raise MissingValue(
            "Counts need a target to be normalised to",
            given="data.target_sum=null",
            expected="a positive number",
            fix="Set data.target_sum, for example 10000, and data.size_column when X holds a subset of the genes.",
        )
    if target_sum is not None and (scale != "counts" or target_sum <= 0):
        raise BadValue(
            "data.target_sum does not fit the scale",
            given=f"target_sum={target_sum:g} with scale={scale}",
            expected="a positive target, for counts only",
            fix="Values that are logarithms already are not normalised again: remove data.target_sum.",
        )


def _check_covariates(covariates: Sequence[str]) -> None:
    taken = [column for column in covariates if column in _TAKEN]
    if taken:
        raise BadValue(
            "A covariate would overwrite a label",
            given=f"data.covariates with {', '.join(taken)}",
            expected=f"names other than {', '.join(_TAKEN)}",
            fix="Remove it from data.covariates, or rename the column in the file.",
        )


def _text(column: pd.Series) -> np.ndarray:
    """Labels as strings; missing ones stay missing."""
    return np.array([None if pd.isna(v) else str(v) for v in column.tolist()], dtype=object)


def _plain(column: pd.Series) -> np.ndarray:
    """A covariate as numbers if it is numeric, as strings otherwise."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(np.float64)
    return np.array([str(v) for v in column.tolist()], dtype=object)


def _sizes(column: pd.Series) -> np.ndarray:
    """Library sizes as numbers; what is no number becomes NaN and is refused as a size."""
    return pd.to_numeric(column.astype(object), errors="coerce").to_numpy(np.float64)


def _controls_renamed(column: pd.Series, control_labels: Sequence[str]) -> np.ndarray:
    pert = _text(column)
    known = {p for p in pert if p is not None}
    absent = [label for label in control_labels if label not in known]
    if absent and len(absent) == len(control_labels):
        raise ControlLabelAbsent(
            "No row carries a control label",
            given=f"labels {', '.join(sorted(known)[:8])}{' ...' if len(known) > 8 else ''}",
            expected=f"one of {list(control_labels)}",
            fix="Set data.control_labels to the label that controls carry in this file.",
        )
    clash = "control" in known and "control" not in control_labels
    if clash:
        raise BadValue(
            "The label 'control' is taken",
            given="rows labelled 'control' that are not declared as controls",
            expected="'control' among data.control_labels",
            fix="Add it to data.control_labels, or rename it in the file.",
        )
    return np.array(["control" if p in control_labels else p for p in pert], dtype=object)


def _parts_sorted(pert: np.ndarray, delimiter: str) -> np.ndarray:
    """Labels with the parts of combinations in one order, so that a combination has one name."""
    table = {p: sorted(part.strip() for part in p.split(delimiter)) for p in pert if p is not None and delimiter in p}
    broken = sorted(label for label, parts in table.items() if "" in parts)
    if broken:
        raise MissingLabel(
            "A combination has an empty part",
            given=f"{', '.join(map(repr, broken[:8]))} with delimiter {delimiter!r}",
            expected="a label on each side of every delimiter",
            fix="Correct the labels in the file, or set data.delimiter to what joins parts in it.",
        )
    return np.array([delimiter.join(table[p]) if p in table else p for p in pert], dtype=object)


def _modes(
    obs: pd.DataFrame, mode: str | None, column: str | None, values: Mapping[str, str] | None, is_control: np.ndarray
) -> np.ndarray:
    """Mode of each row; a control has the mode of its study, which no rule looks at."""
    if (mode is None) == (column is None):
        raise MissingValue(
            "The intervention mode is not declared once",
            given=f"mode={mode}, mode_column={column}",
            expected="either a mode or the column that tells it",
            fix="Set data.mode (activation, knockdown, knockout, drug, ligand, other), "
            "or data.mode_column with data.mode_values.",
        )
    if column is None:
        return np.full(len(obs), mode, dtype=object)
    text, table = _text(obs[column]), dict(values or {})
    unknown = sorted({str(t) for t, c in zip(text, is_control, strict=True) if t not in table and not c})
    if unknown:
        raise MissingColumn(
            f"Values of {column!r} have no declared mode",
            given=", ".join(unknown[:8]),
            expected=f"values among {sorted(table)}",
            fix="Add them to data.mode_values.",
        )
    return np.array([table.get(t, "other") for t in text], dtype=object)


def _matrix(raw: AnnData, layer: str | None) -> Any:
    """The declared matrix as float32 CSR or dense, columns of each row sorted."""
    if layer is not None and layer not in raw.layers:
        raise MissingColumn(
            f"Missing layer {layer!r}",
            given=f"layers {', '.join(raw.layers) or 'none'}",
            expected=f"{layer!r}",
            fix="Set data.layer to one of them, or to null for X.",
        )
    x_ng = raw.X if layer is None else raw.layers[layer]
    if x_ng is None:
        raise UnreadableFile(
            "The file has no matrix", given="X is empty", expected="X, or data.layer", fix="Name a layer."
        )
    if not sparse.issparse(x_ng):
        return np.asarray(x_ng, dtype=np.float32)
    csr = sparse.csr_matrix(x_ng, dtype=np.float32)
    try:
        csr.check_format(full_check=True)  # an index beyond the genes would be read outside of memory
    except ValueError as e:
        raise UnreadableFile(
            "The sparse matrix of the file is broken",
            given=str(e),
            expected="row and column indices within the matrix",
            fix="Fetch it again and compare its checksum.",
        ) from e
    csr.sum_duplicates()
    return csr
