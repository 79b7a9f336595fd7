"""Some rows of a matrix, read without the rest of it where the layout allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from anndata.io import sparse_dataset
from scipy import sparse

from perturbfm.data.reader.anndata_file import has_narrow_values
from perturbfm.data.reader.raw import Raw, ReadOptions, as_float32, refusing

MOST_ROWS, LEAST_ROWS, BLOCKS = 2000, 200, 8
MOST_DENSE = 20_000_000
"""Entries of a sample that would be dense; of wide matrices fewer rows are read."""


@dataclass(frozen=True)
class Sample:
    """Rows of a matrix in blocks spread over the file.

    Attributes:
        x_ng: The rows, canonical float32 CSR or dense.
        row_n: Which rows they are.
        n_stored: Stored values of the whole matrix; all of them where it is dense.
        is_sparse: Whether it is sparse.
        is_float: Whether the file stores floats.
        whole: Whether all of it had to be read for the sample.
        n_rows: Rows of the whole matrix.
    """

    x_ng: Any
    row_n: np.ndarray
    n_stored: int
    is_sparse: bool
    is_float: bool
    whole: bool
    n_rows: int


def sample_of(path: Path, raw: Raw, options: ReadOptions) -> Sample:
    """Sample a matrix; text, 10x files and matrices stored by column are read whole.

    Raises:
        UnreadableFile: The matrix is broken, or of another shape than its tables.
    """
    blocks = _blocks(len(raw.obs), len(raw.var))
    rows = np.concatenate([np.arange(a, b) for a, b in blocks]) if blocks else np.empty(0, dtype=np.int64)
    with refusing(path), _opened(path, options) as group:
        x = None if group is None else _element(group, options.layer)
        if x is not None and blocks and _shape(x) == (len(raw.obs), len(raw.var)):
            found = _dense(x, blocks) if hasattr(x, "dtype") else _by_row(x, blocks)
            if found is not None:
                picked, n_stored, kind = found
                is_sparse = bool(sparse.issparse(picked))
                return Sample(
                    as_float32(picked, path.name), rows, n_stored, is_sparse, kind == "f", False, len(raw.obs)
                )
    x_ng = raw.matrix()
    is_sparse = bool(sparse.issparse(x_ng))
    n_stored = int(x_ng.nnz if is_sparse else x_ng.size)
    return Sample(x_ng[rows], rows, n_stored, is_sparse, False, True, len(raw.obs))


def joined_samples(samples: list[Sample], columns: list[np.ndarray]) -> Sample:
    """Samples of several files as one, each thinned so that it stays small.

    Args:
        samples: One per file, in the order of the files.
        columns: Per file the columns of the common genes.
    """
    step = max(1, sum(len(s.row_n) for s in samples) // MOST_ROWS)
    blocks = [s.x_ng[::step][:, c] for s, c in zip(samples, columns, strict=True)]
    starts = np.cumsum([0, *(s.n_rows for s in samples)])
    rows = np.concatenate([start + s.row_n[::step] for start, s in zip(starts, samples, strict=False)])
    is_sparse = all(s.is_sparse for s in samples)
    x_ng = sparse.vstack(blocks, format="csr") if is_sparse else np.vstack([_filled(b) for b in blocks])
    n_stored = sum(s.n_stored for s in samples)
    floats, whole = any(s.is_float for s in samples), any(s.whole for s in samples)
    return Sample(x_ng, rows, n_stored, is_sparse, floats, whole, int(starts[-1]))


def _filled(x_ng: Any) -> Any:
    return x_ng.toarray() if sparse.issparse(x_ng) else x_ng


def names_in(path: Path, options: ReadOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layers and entries of `uns`, where the file has the layout of AnnData."""
    with refusing(path), _opened(path, options) as group:
        if group is None:
            return (), ()
        layers = sorted(group["layers"]) if "layers" in group else []
        raw = ["raw"] if "raw/X" in group or "raw.X" in group else []
        uns = group.get("uns", {})
        return (*layers, *raw), tuple(sorted(uns)) if hasattr(uns, "keys") else ()


def lacks_x(path: Path, options: ReadOptions) -> bool:
    """Whether a file has the layout of AnnData, and no matrix in `X`."""
    with refusing(path), _opened(path, options) as group:
        if group is None:
            return False
        return "X" not in group or group["X"].attrs.get("encoding-type") == "null"


@contextmanager
def _opened(path: Path, options: ReadOptions) -> Iterator[Any]:
    """The group of AnnData's layout; None where the file has another one."""
    if path.is_dir():
        if not any((path / name).exists() for name in (".zgroup", "zarr.json")):
            yield None
            return
        import zarr

        yield zarr.open_group(str(path), mode="r")
    elif h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            group = file["mod"].get(options.modality) if "mod" in file and options.modality else file
            yield group if group is not None and "obs" in group else None
    else:
        yield None


def _element(group: Any, layer: str | None) -> Any:
    names = ["X"] if layer is None else [f"layers/{layer}", *(["raw/X", "raw.X"] if layer == "raw" else [])]
    return next((group[name] for name in names if name in group), None)


def _shape(x: Any) -> tuple[int, ...]:
    shape = x.shape if hasattr(x, "dtype") else x.attrs.get("shape", x.attrs.get("h5sparse_shape", ()))
    return tuple(int(v) for v in shape)


def _dense(x: Any, blocks: list[tuple[int, int]]) -> tuple[Any, int, str] | None:
    if x.dtype.kind not in "biuf":
        return None  # the reader refuses it with its name
    return np.concatenate([x[a:b] for a, b in blocks]), int(x.shape[0]) * int(x.shape[1]), x.dtype.kind


def _by_row(x: Any, blocks: list[tuple[int, int]]) -> tuple[Any, int, str] | None:
    encoding = x.attrs.get("encoding-type", x.attrs.get("h5sparse_format", ""))
    if encoding != "csr_matrix" or has_narrow_values(x):
        return None
    _check_rows(x)
    backed = sparse_dataset(x)
    picked = sparse.vstack([backed[a:b] for a, b in blocks], format="csr")
    return picked, int(x["data"].shape[0]), x["data"].dtype.kind


def _check_rows(x: Any) -> None:
    """Row ends must not decrease or pass the end of the data, or slices of them mean nothing."""
    end_n = np.asarray(x["indptr"][:])
    n = int(x["data"].shape[0])
    if end_n[0] != 0 or int(end_n[-1]) != n or n != int(x["indices"].shape[0]) or bool((np.diff(end_n) < 0).any()):
        raise ValueError("row ends of the sparse matrix disagree with its data")


def _blocks(n: int, n_genes: int) -> list[tuple[int, int]]:
    most = int(np.clip(MOST_DENSE // max(1, n_genes), LEAST_ROWS, MOST_ROWS))
    if n <= most:
        return [(0, n)] if n else []
    length = most // BLOCKS
    return [(int(a), int(a) + length) for a in np.linspace(0, n - length, BLOCKS).astype(int)]
