"""What Cell Ranger writes: an `.h5`, or a folder with `matrix.mtx`, `features.tsv` (or `genes.tsv`), `barcodes.tsv`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.io
from scipy import sparse

from perturbfm.data.reader.raw import Raw, missing_layer, refusing
from perturbfm.errors import UnreadableFile

_EXPRESSION = "Gene Expression"
_PARTS = {"matrix": r"matrix\.mtx", "features": r"(features|genes)\.tsv", "barcodes": r"(barcodes|cells)\.tsv"}


def read_10x_h5(path: Path) -> Raw:
    """Read a 10x `.h5` of either version by scanpy's reader; features that are no genes are left out."""
    import scanpy

    with refusing(path, "10x HDF5", "a complete filtered_feature_bc_matrix.h5"):
        _check_10x(path)
        adata = scanpy.read_10x_h5(path, gex_only=False)
    return _genes_only(path.name, adata.X, adata.obs_names.astype(str), adata.var)


def _check_10x(path: Path) -> None:
    """scanpy says nothing of what is missing, so it is looked for first."""
    with h5py.File(path, "r") as file:
        groups = [file["matrix"]] if "matrix" in file else [g for g in file.values() if isinstance(g, h5py.Group)]
        for group in groups:
            named = [f"features/{k}" for k in ("id", "name", "feature_type")]
            named = named if group.name == "/matrix" else ["genes", "gene_names"]
            lacking = [k for k in ("barcodes", "data", "indices", "indptr", "shape", *named) if k not in group]
            if lacking:
                raise KeyError(f"{group.name} lacks {', '.join(lacking)}")
            rows, cells = group["shape"][()].tolist()
            n = len(group["data"])
            if (
                len(group["barcodes"]) != cells
                or len(group["indptr"]) != cells + 1
                or len(group["indices"]) != n
                or int(group["indptr"][-1]) != n
                or (n and not 0 <= int(np.min(group["indices"][()])) <= int(np.max(group["indices"][()])) < rows)
            ):
                raise ValueError(f"parts of {group.name} have sizes that disagree")


def read_mtx_folder(folder: Path, matrix: Path | None = None) -> Raw:
    """Read a folder of 10x text files, packed or not; names may carry a prefix (GEO).

    Raises:
        UnreadableFile: A part is missing, there twice, or their sizes disagree.
    """
    parts = _parts(folder, matrix)
    with refusing(parts["matrix"], "a Matrix Market file", "genes x cells"):
        x = scipy.io.mmread(parts["matrix"])
        x_gn = sparse.csr_matrix(x)
    with refusing(parts["features"], "a table of features", "identifier, name and type without a header"):
        features = _lines(parts["features"])
    with refusing(parts["barcodes"], "a table of barcodes", "one barcode per line"):
        cells = pd.Index([str(v) for v in _lines(parts["barcodes"])[0]], dtype=object)
    if x_gn.shape != (len(features), len(cells)):
        fits = x_gn.shape == (len(cells), len(features))
        if not fits:
            raise UnreadableFile(
                "The parts of a 10x folder do not fit",
                given=f"{parts['matrix'].name} {x_gn.shape}, {len(features)} features, {len(cells)} barcodes",
                expected="features x barcodes",
                fix="Fetch the folder again; a header in a .tsv adds a line.",
            )
        x_gn = x_gn.T
    names = features[1] if 1 in features else features[0]
    var = pd.DataFrame(index=pd.Index(names.astype(str), dtype=object))
    var["gene_ids"] = features[0].astype(str).to_numpy()
    if 2 in features:
        var["feature_types"] = features[2].astype(str).to_numpy()
    return _genes_only(folder.name, sparse.csr_matrix(x_gn.T), cells, var)


def _parts(folder: Path, matrix: Path | None) -> dict[str, Path]:
    """The three files; with a prefix, those that share the prefix of the matrix."""
    prefix = "" if matrix is None else re.split(_PARTS["matrix"], matrix.name)[0]
    found = {}
    for part, pattern in _PARTS.items():
        match = [p for p in sorted(folder.iterdir()) if re.search(rf"{pattern}(\.gz)?$", p.name)]
        match = [p for p in match if p.name.startswith(prefix)] if prefix else match
        if len(match) != 1:
            raise UnreadableFile(
                f"A 10x folder has {'no' if not match else 'more than one'} {part}",
                given=f"{folder} with {', '.join(p.name for p in match or sorted(folder.iterdir()))[:200]}",
                expected="matrix.mtx, features.tsv or genes.tsv, and barcodes.tsv, each once, .gz or not",
                fix="Name the one matrix in data.path, or complete the folder.",
            )
        found[part] = match[0]
    return found


def _lines(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)


def _genes_only(name: str, x_ng: Any, cells: pd.Index, var: pd.DataFrame) -> Raw:
    """Leave out guides, antibodies and the like where the file tells types of features."""
    notes: tuple[str, ...] = ()
    if "feature_types" in var and (other := (var["feature_types"] != _EXPRESSION).to_numpy()).any():
        kinds = ", ".join(sorted(set(var["feature_types"][other].astype(str))))
        notes = (f"{int(other.sum())} features of type {kinds} left out",)
        x_ng, var = sparse.csr_matrix(x_ng)[:, np.flatnonzero(~other)], var[~other]

    def load(layer: str | None) -> Any:
        if layer is not None:
            raise missing_layer(layer, [])
        return x_ng

    return Raw(name, pd.DataFrame(index=pd.Index(cells, dtype=object)), var, load, notes)
