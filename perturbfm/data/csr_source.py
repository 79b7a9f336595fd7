"""A matrix in an `.h5ad` file or a `.zarr` folder, read in blocks of rows: memory is bounded by a block, not the file.

Read directly from here a shuffled batch would cost a seek per row; it is the source that `csr_cache.py` builds from.
What is on disk may be CSR, CSC or dense. CSC is turned round in two passes through a scratch file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import zarr
from anndata._io.specs.registry import IORegistryError
from anndata.io import sparse_dataset
from scipy import sparse

from perturbfm.errors import MissingColumn, UnreadableFile

BLOCK = 4_000_000
"""Stored values (or entries of a dense matrix) held at once."""

_BROKEN = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, IORegistryError)
"""What h5py, zarr and anndata raise for files that are cut short or are something else."""


@dataclass(frozen=True)
class MatrixSource:
    """One matrix of one file.

    Attributes:
        path: An `.h5ad` file or a `.zarr` folder.
        layer: Layer to read instead of `X`.
    """

    path: Path
    layer: str | None = None

    def shape(self) -> tuple[int, int]:
        """Rows and genes.

        Raises:
            UnreadableFile: Missing, truncated, or no AnnData.
            MissingColumn: No such layer.
        """
        with self._element() as element:
            return _shape(element)

    def blocks(self, scratch: Path) -> Iterator[sparse.csr_matrix]:
        """Rows in order, float32 CSR, columns of each row sorted and unique; explicit zeros stay.

        Args:
            scratch: Folder for temporary files (only CSC needs one).

        Raises:
            UnreadableFile: Missing, truncated, no AnnData, or indices that point outside of the matrix.
            MissingColumn: No such layer.
        """
        with self._element() as element:
            if not _is_group(element):
                yield from _dense_blocks(element)
            elif sparse_dataset(element).format == "csr":
                yield from self._csr_blocks(element)
            else:
                yield from self._csc_blocks(element, scratch)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The file, as h5py or zarr opens it.

        Raises:
            UnreadableFile: Missing, truncated, or something else.
        """
        if not self.path.exists():
            raise UnreadableFile(
                "There is no such file",
                given=self.path,
                expected="an .h5ad file or a .zarr folder",
                fix="Check data.path.",
            )
        try:
            with _opened(self.path) as store:
                yield store
        except _BROKEN as e:
            raise UnreadableFile(
                "A file cannot be read as AnnData",
                given=f"{self.path}: {(str(e) or type(e).__name__).splitlines()[0][:200]}",
                expected="a complete .h5ad or .zarr",
                fix="Fetch it again and compare its checksum.",
            ) from e

    @contextmanager
    def _element(self) -> Iterator[Any]:
        with self.opened() as store:
            yield self._find(store)

    def _find(self, store: Any) -> Any:
        if self.layer is not None:
            layers = sorted(store["layers"]) if "layers" in store else []
            if self.layer not in layers:
                raise MissingColumn(
                    f"Missing layer {self.layer!r}",
                    given=f"layers {', '.join(layers) or 'none'}",
                    expected=f"{self.layer!r}",
                    fix="Set data.layer to one of them, or to null for X.",
                )
            return store["layers"][self.layer]
        if "X" not in store:
            raise UnreadableFile(
                "The file has no matrix", given="X is empty", expected="X, or data.layer", fix="Name a layer."
            )
        return store["X"]

    def _csr_blocks(self, group: Any) -> Iterator[sparse.csr_matrix]:
        (n_rows, n_genes), pointer = _shape(group), np.asarray(group["indptr"][:], dtype=np.int64)
        self._check_pointer(pointer, n_rows, group)
        for start, stop in spans(pointer, BLOCK):
            low, high = int(pointer[start]), int(pointer[stop])
            parts = group["data"][low:high], group["indices"][low:high]
            yield self._canonical(parts, pointer[start : stop + 1] - low, (stop - start, n_genes), sparse.csr_matrix)

    def _csc_blocks(self, group: Any, scratch: Path) -> Iterator[sparse.csr_matrix]:
        """Pass one counts the values of each row; pass two puts each value at its row's next free place."""
        n_rows, n_genes = _shape(group)
        pointer = np.zeros(n_rows + 1, dtype=np.int64)
        for _, part in self._columns(group):
            pointer[1:] += np.diff(part.indptr)
        np.cumsum(pointer, out=pointer)
        if pointer[-1] == 0:
            yield sparse.csr_matrix((n_rows, n_genes), dtype=np.float32)
            return
        with TemporaryDirectory(dir=scratch) as folder:
            gene = _scratch(Path(folder) / "gene", np.int32, int(pointer[-1]))
            value = _scratch(Path(folder) / "value", np.float32, int(pointer[-1]))
            free = pointer[:-1].copy()
            for first, part in self._columns(group):
                count = np.diff(part.indptr)
                at = np.repeat(free - part.indptr[:-1], count) + np.arange(part.nnz)
                gene[at], value[at] = part.indices + first, part.data
                free += count
            for start, stop in spans(pointer, BLOCK):
                low, high = int(pointer[start]), int(pointer[stop])
                local = pointer[start : stop + 1] - low
                shape = (stop - start, n_genes)
                yield sparse.csr_matrix((np.array(value[low:high]), np.array(gene[low:high]), local), shape=shape)

    def _columns(self, group: Any) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """Blocks of columns as CSR, with the number of their first column."""
        (n_rows, n_genes), pointer = _shape(group), np.asarray(group["indptr"][:], dtype=np.int64)
        self._check_pointer(pointer, n_genes, group)
        for start, stop in spans(pointer, BLOCK):
            low, high = int(pointer[start]), int(pointer[stop])
            parts = group["data"][low:high], group["indices"][low:high]
            shape = (n_rows, stop - start)
            yield start, self._canonical(parts, pointer[start : stop + 1] - low, shape, sparse.csc_matrix).tocsr()

    def _check_pointer(self, pointer: np.ndarray, n_major: int, group: Any) -> None:
        stored = min(group["data"].shape[0], group["indices"].shape[0])
        good = len(pointer) == n_major + 1 and pointer[0] == 0 and pointer[-1] == stored
        if not (good and (np.diff(pointer) >= 0).all()):
            raise self._broken(f"{len(pointer)} row or column pointers for {n_major} and {stored} values")

    def _canonical(
        self, parts: tuple[Any, Any], pointer: np.ndarray, shape: tuple[int, int], kind: type
    ) -> sparse.csr_matrix:
        """A block with sorted, unique indices; an index outside of the matrix is refused."""
        value, index = np.asarray(parts[0], dtype=np.float32), np.asarray(parts[1])
        most = shape[1] if kind is sparse.csr_matrix else shape[0]
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < most:
            raise self._broken(f"indices from {index.min()} to {index.max()} for {most}")
        block = kind((value, index.astype(np.int32 if most < 2**31 else np.int64, copy=False), pointer), shape=shape)
        block.sum_duplicates()
        return block

    def _broken(self, found: str) -> UnreadableFile:
        return UnreadableFile(
            "The sparse matrix of the file is broken",
            given=f"{self.path}: {found}",
            expected="row and column indices within the matrix",
            fix="Fetch it again and compare its checksum.",
        )


def spans(pointer: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Runs of rows `[start, stop)` that hold at most so many stored values, or one row that holds more."""
    start, n = 0, len(pointer) - 1
    while start < n:
        stop = int(np.searchsorted(pointer, pointer[start] + most, side="right")) - 1
        stop = min(max(stop, start + 1), n)
        yield start, stop
        start = stop


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        yield zarr.open_group(path, mode="r")
        return
    with h5py.File(path, "r") as store:
        yield store


def _scratch(path: Path, dtype: type, length: int) -> np.ndarray:
    """A mapped file that has its room on disk already: a full disk is an error here, and a crash later."""
    with path.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, length * np.dtype(dtype).itemsize)
        else:
            stream.truncate(length * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype=dtype, mode="r+", shape=(length,))


def _is_group(element: Any) -> bool:
    return isinstance(element, h5py.Group | zarr.Group)


def _shape(element: Any) -> tuple[int, int]:
    n_rows, n_genes = (sparse_dataset(element) if _is_group(element) else element).shape
    return int(n_rows), int(n_genes)


def _dense_blocks(element: Any) -> Iterator[sparse.csr_matrix]:
    n_rows, n_genes = _shape(element)
    step = max(1, BLOCK // max(n_genes, 1))
    for start in range(0, n_rows, step):
        yield sparse.csr_matrix(np.asarray(element[start : start + step], dtype=np.float32))
