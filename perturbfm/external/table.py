"""The forms of prediction files -> `Foreign`: rows of numbers and what each row is about."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from perturbfm.data.gene import gene_names
from perturbfm.data.reader.raw import ReadOptions, refusing
from perturbfm.data.reader.read import read_raw
from perturbfm.errors import MissingColumn, ShapeMismatch, UnreadableFile

CELLS, MEANS, ROWS = "cells", "means", "rows"
"""What a row is: a predicted cell, the mean of a condition, or the mean change of one row of the data set."""

CARRIED = ("split_hash", "fingerprint", "scale", "fold")
"""Words that a file may carry of where it belongs."""

_COLUMNS = ("conditions", "pert_id", "context_id", "batch_id", "mode", "dose", "time")
"""Arrays of an npz that say what each row is about."""

_BROKEN = (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Foreign:
    """What a prediction file holds, genes and labels as it writes them.

    Attributes:
        name: File name, for messages.
        form: `cells`, `means` or `rows`.
        x_mg: Values, CSR or dense.
        genes_g: Gene names, in the file's order.
        obs: What each row is about, row names as index; empty of columns for the form `rows`.
        var_mg: Predictive variance of the mean change, one row per row; None where none is stated.
        idx_m: For the form `rows`, the row of the data set that each row speaks of.
        words: What the file says of where it belongs, of `CARRIED`.
        sha256: Digest of its bytes.
    """

    name: str
    form: str
    x_mg: Any
    genes_g: tuple[str, ...]
    obs: pd.DataFrame
    var_mg: Any = None
    idx_m: np.ndarray | None = None
    words: dict[str, str] = field(default_factory=dict)
    sha256: str = ""


def read_anndata(path: Path, form: str, layer: str | None, var_layer: str | None, gene_column: str | None) -> Foreign:
    """An AnnData file: `X` (or a layer) is predicted expression, `layers` or `obsm` may hold the variance.

    Args:
        path: An `.h5ad` file or `.zarr` folder, or another file that data sets are read from.
        form: `cells` or `means`.
        layer: Layer instead of `X`.
        var_layer: Layer, or matrix of `obsm`, with the variance; where it is not there none is stated.
        gene_column: Column of `var` with gene names; None means its index.

    Raises:
        UnreadableFile: Missing, truncated, or of no known format.
        MissingColumn: There is no such layer or column.
    """
    raw = read_raw(path, ReadOptions(layer=layer))
    genes, _ = gene_names(raw.var, gene_column, None)
    x_mg = raw.matrix()
    uns = raw.stored().get("uns", {})
    words = {k: _word(uns[k]) for k in CARRIED if k in uns}
    return Foreign(
        path.name,
        form,
        x_mg,
        tuple(map(str, genes)),
        raw.obs,
        _variance(path, raw, var_layer),
        words=words,
        sha256=digest(path),
    )


def _variance(path: Path, raw: Any, name: str | None) -> Any:
    """The layer of variances, or the matrix of that name in obsm."""
    if name is None:
        return None
    try:
        return raw.matrix(name)
    except MissingColumn:
        pass
    with refusing(path):
        return _from_obsm(path, name)


def _from_obsm(path: Path, name: str) -> np.ndarray | None:
    from anndata import read_h5ad, read_zarr

    if path.is_dir():
        found = read_zarr(path).obsm.get(name)
    elif path.suffix == ".h5ad":
        adata = read_h5ad(path, backed="r")
        found = adata.obsm.get(name)
        adata.file.close()
    else:
        found = None
    return None if found is None else np.asarray(found, dtype=np.float32)


def read_npz(path: Path) -> Foreign:
    """Arrays: `mean` with `idx` as in predictions.npz, or with a name per row; `genes`; `var` where it is stated.

    Raises:
        UnreadableFile: Missing, truncated, pickled, or without `mean`, `genes` and what each row is about.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            a = {k: npz[k] for k in npz.files}
        mean, genes = np.asarray(a["mean"], dtype=np.float32), tuple(map(str, a["genes"].tolist()))
        columns = {c: a[c].astype(str) for c in _COLUMNS if c in a}
        if "idx" not in a and not columns:
            raise KeyError("idx, or conditions")
        obs = pd.DataFrame({c: v.astype(object) for c, v in columns.items()} if "idx" not in a else {})
        obs.index = pd.RangeIndex(len(next(iter(columns.values())) if "idx" not in a else a["idx"])).astype(str)
        idx = a["idx"].astype(np.int64) if "idx" in a else None
        stated = "var" in a and bool(a.get("has_variance", True))
        var = np.asarray(a["var"], dtype=np.float32) if stated else None
        words = {k: str(a[k]) for k in CARRIED if k in a}
    except _BROKEN as e:
        raise UnreadableFile(
            "A prediction file cannot be read",
            given=f"{path}: {type(e).__name__} {str(e)[:160]}",
            expected="an npz with mean [rows, genes], genes, and idx or conditions; no pickled objects",
            fix="Write text arrays with dtype=str, and one row of `mean` per condition or judged row.",
        ) from e
    _check_shapes(path, mean, genes, var, len(obs))
    return Foreign(path.name, MEANS if idx is None else ROWS, mean, genes, obs, var, idx, words, digest(path))


def _check_shapes(path: Path, mean: np.ndarray, genes: tuple[str, ...], var: np.ndarray | None, n: int) -> None:
    if mean.ndim != 2 or mean.shape != (n, len(genes)) or (var is not None and var.shape != mean.shape):
        raise ShapeMismatch(
            "The arrays of a prediction file do not fit each other",
            given=f"{path.name}: mean {mean.shape}, var {None if var is None else var.shape}, {len(genes)} genes, "
            f"{n} names or row numbers",
            expected="mean and var [rows, genes], one name or row number per row",
            fix="Write them for the same rows and genes.",
        )


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, or of all files of a folder with their names."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{part.relative_to(path).as_posix()}\n{digest(part)}\n".encode())
    return total.hexdigest()


def _word(value: Any) -> str:
    found = np.asarray(value).reshape(-1)
    first = found[0] if len(found) else ""
    return first.decode() if isinstance(first, bytes) else str(first)
