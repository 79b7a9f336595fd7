"""Facts of a file: sizes, columns, and a sample of its matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import sparse_dataset
from scipy import sparse

from perturbfm.data.reader.raw import Raw, ReadOptions, as_float32, refusing
from perturbfm.data.reader.read import read_raw

SMALL = 300e6
"""Bytes of a file whose matrix is simply read."""

SAMPLE_ROWS, BLOCK = 2000, 250


@dataclass(frozen=True)
class Survey:
    """What a file is, before any of it has a meaning.

    Attributes:
        path: Where it is.
        raw: Its tables.
        n_bytes: Its size on disk.
        layers: Names of its layers, `raw` among them where it has a raw matrix.
        sample_ng: Some rows of X, canonical float32 CSR or dense.
        sample_n: Which rows they are.
        n_stored: Stored values of X; all of them where it is dense.
        is_sparse: Whether X is sparse.
        uns: Names in `uns`.
    """

    path: Path
    raw: Raw
    n_bytes: int
    layers: tuple[str, ...]
    sample_ng: Any
    sample_n: np.ndarray
    n_stored: int
    is_sparse: bool
    uns: tuple[str, ...]

    @property
    def obs(self) -> pd.DataFrame:
        """Table of cells."""
        return self.raw.obs

    @property
    def genes(self) -> pd.Index:
        """Names of genes."""
        return self.raw.var.index

    @property
    def n_obs(self) -> int:
        """Rows."""
        return len(self.raw.obs)

    @cached_property
    def values(self) -> np.ndarray:
        """Stored values of the sample, float64."""
        x = self.sample_ng
        return np.asarray(x.data if sparse.issparse(x) else x, dtype=np.float64).ravel()

    @cached_property
    def text(self) -> dict[str, np.ndarray]:
        """Columns that hold labels, as text; missing values are the empty text."""
        return {c: words(self.obs[c]) for c in self.obs.columns if not is_number(self.obs[c])}

    def levels(self, column: str) -> pd.Series:
        """Rows per level of a column, the most frequent first."""
        values = self.text[column] if column in self.text else words(self.obs[column])
        return pd.Series(values, dtype=object).value_counts()


def survey(path: Path, options: ReadOptions | None = None) -> Survey:
    """Read tables and a sample of the matrix.

    Raises:
        UnreadableFile: Missing, truncated, or of no known format.
    """
    raw = read_raw(path, options or ReadOptions())
    n_bytes = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    layers, uns = _names(path)
    sample, rows, stored, is_sparse = _sample(path, raw, n_bytes)
    return Survey(path, raw, n_bytes, layers, sample, rows, stored, is_sparse, uns)


def words(column: pd.Series) -> np.ndarray:
    """A column as text; what is missing is empty."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        table = np.array([*(str(v) for v in column.cat.categories), ""], dtype=object)
        return table[column.cat.codes.to_numpy()]
    return np.array(["" if pd.isna(v) else str(v) for v in column.tolist()], dtype=object)


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers (truth values are labels)."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _names(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layers and entries of `uns`, where the file has the layout of AnnData."""
    if not (path.is_file() and h5py.is_hdf5(path)):
        if path.is_dir() and any((path / name).exists() for name in (".zgroup", "zarr.json")):
            import zarr

            group = zarr.open_group(str(path), mode="r")
            return _listed(group)
        return (), ()
    with h5py.File(path, "r") as file:
        return _listed(file)


def _listed(group: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    layers = sorted(group["layers"]) if "layers" in group else []
    raw = ["raw"] if "raw/X" in group or "raw.X" in group else []
    uns = group["uns"] if "uns" in group else []
    return (*layers, *raw), tuple(sorted(uns)) if hasattr(uns, "keys") else ()


def _sample(path: Path, raw: Raw, n_bytes: int) -> tuple[Any, np.ndarray, int, bool]:
    """Some rows of X in blocks spread over the file, their numbers, and the stored values of the whole."""
    n = len(raw.obs)
    blocks = _blocks(n)
    rows = np.concatenate([np.arange(a, b) for a, b in blocks]) if blocks else np.empty(0, dtype=np.int64)
    if n_bytes > SMALL and path.is_file() and h5py.is_hdf5(path):
        with refusing(path), h5py.File(path, "r") as file:
            x = file["X"]
            if isinstance(x, h5py.Dataset):
                return (
                    np.concatenate([x[a:b] for a, b in blocks]).astype(np.float32),
                    rows,
                    x.shape[0] * x.shape[1],
                    False,
                )
            if x.attrs.get("encoding-type", "csr_matrix") == "csr_matrix":
                backed = sparse_dataset(x)
                picked = sparse.vstack([backed[a:b] for a, b in blocks], format="csr")
                return as_float32(picked, path.name), rows, int(x["data"].shape[0]), True
    x_ng = raw.matrix()
    return x_ng[rows], rows, int(x_ng.nnz if sparse.issparse(x_ng) else x_ng.size), bool(sparse.issparse(x_ng))


def _blocks(n: int) -> list[tuple[int, int]]:
    if n <= SAMPLE_ROWS:
        return [(0, n)] if n else []
    starts = np.linspace(0, n - BLOCK, SAMPLE_ROWS // BLOCK).astype(int)
    return [(int(a), int(a) + BLOCK) for a in starts]
