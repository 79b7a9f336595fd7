"""The one preprocessing step of this room: counts -> log1p(counts / size * target)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.csr_cache import cached_values, open_csr
from perturbfm.data.csr_source import BLOCK, spans
from perturbfm.data.declaration import Declaration
from perturbfm.data.fingerprint import counts_from_log1p
from perturbfm.errors import SizeNotPositive, SizeTooSmall

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset

_ROUNDING, _FEW = 1e-3, 0.01
"""How far below its row sum a size may be, and how many cells may have such a size."""


def normalise_log1p(
    counts_ng: Any,
    obs: pd.DataFrame,
    declared: Declaration,
    size_n: np.ndarray | None,
    target_sum: float,
    size_name: str | None = None,
    cached: Path | None = None,
) -> tuple[Any, Declaration]:
    r"""Normalise counts to a target and take the logarithm once.

    .. math:: x_{ng} = \log(1 + k_{ng} \cdot target / size_n)

    Args:
        counts_ng: Integer counts, CSR or dense, shape (n, g).
        obs: Labels; gets a column `size_factor = size / target`.
        declared: What was declared of the counts.
        size_n: Library sizes; None means each row's own sum.
        target_sum: What counts are scaled to.
        size_name: Name of the column of library sizes, for the record.
        cached: Folder of the cached counts; the logarithms are then cached beside them and not held in memory.

    Returns:
        float32 matrix of the same kind, and the declaration with scale `log1p`.

    Raises:
        SizeNotPositive: A cell has no counts or no size.

    Source:
        scanpy.pp.normalize_total(target_sum=...) followed by scanpy.pp.log1p.
    """
    csr = sparse.csr_matrix(counts_ng)
    size = _row_sums(csr) if size_n is None else np.asarray(size_n, np.float64)
    _assert_sized(size, obs.index)
    if size_n is not None:
        check_sizes(size, _row_sums(csr), size_name)
    factor = size / target_sum
    if cached is None:
        value = np.concatenate([np.zeros(0, np.float32), *_logarithms(csr, factor)])
        logged = sparse.csr_matrix((value, csr.indices, csr.indptr), shape=csr.shape)
    else:
        recipe = f"log1p(counts / size), size {hashlib.sha256(factor.astype('<f8').tobytes()).hexdigest()}"
        logged = open_csr(cached_values(cached, recipe, lambda: _logarithms(csr, factor)), verify=False)
    exact = _is_exact(logged, csr, factor)
    if exact:
        obs["size_factor"] = factor
    by = "row sum" if size_n is None else (size_name or "given sizes")
    note = f"counts / {by} * {target_sum:g}, log1p"
    source = f"{declared.source}; {note}" if declared.source else note
    x_ng = logged if sparse.issparse(counts_ng) else logged.toarray()
    return x_ng, replace(declared, scale="log1p", counts_hashed=exact, source=source)


class Logarithms:
    """`log1p(counts / size * target)` of the rows that are asked for, computed then; nothing is held.

    Args:
        counts_ng: Counts, CSR (in memory or mapped) or dense.
        size_n: Library size of each row, positive.
        target: What counts are scaled to.
    """

    def __init__(self, counts_ng: Any, size_n: np.ndarray, target: float) -> None:
        self.shape = counts_ng.shape
        self._counts_ng, self._factor_n = counts_ng, size_n / target

    def __getitem__(self, rows: np.ndarray | slice) -> sparse.csr_matrix:
        csr = sparse.csr_matrix(self._counts_ng[rows])
        value = np.concatenate([np.zeros(0, np.float32), *_logarithms(csr, self._factor_n[rows])])
        return sparse.csr_matrix((value, csr.indices, csr.indptr), shape=csr.shape)

    @classmethod
    def to_median(cls, dataset: PerturbDataset, rows: np.ndarray) -> Logarithms:
        """Of counts over library size (the column, where there is one), to the median of some rows.

        Raises:
            SizeNotPositive: A cell has no counts.
        """
        known = "library_size" in dataset.obs
        sizes = dataset.obs["library_size"].to_numpy(np.float64) if known else row_sums(dataset.adata.X)
        _assert_sized(sizes, dataset.obs.index)
        return cls(dataset.adata.X, sizes, float(np.median(sizes[rows])))


def row_sums(x_ng: Any) -> np.ndarray:
    """Sum of each row in float64, a block of rows at a time."""
    return _row_sums(x_ng) if sparse.issparse(x_ng) else np.asarray(x_ng.sum(axis=1, dtype=np.float64)).ravel()


def _assert_sized(size_n: np.ndarray, names: pd.Index) -> None:
    wrong = ~(np.isfinite(size_n) & (size_n > 0))
    if wrong.any():
        raise SizeNotPositive(
            "Cells have no library size",
            given=f"{int(wrong.sum())} cells, first {names[wrong][0]!r}",
            expected="a positive size for every cell",
            fix="Remove empty cells, or name the right column in data.size_column.",
        )


def check_sizes(size_n: np.ndarray, sum_n: np.ndarray, name: str | None) -> None:
    """Refuse library sizes below the counts that are there: another column was meant."""
    below = size_n < sum_n * (1 - _ROUNDING)
    if below.mean() > _FEW:
        raise SizeTooSmall(
            f"Library sizes are smaller than the counts of {below.mean():.0%} of the cells",
            given=f"{name or 'sizes'}: median {np.median(size_n):.6g}, row sums {np.median(sum_n):.6g}",
            expected="the number of all molecules of a cell, whatever genes are in the file",
            fix="Name the right column in data.size_column, or null for the row sums.",
        )


def _row_sums(csr: sparse.csr_matrix) -> np.ndarray:
    parts = [np.asarray(csr[a:b].sum(axis=1), dtype=np.float64).ravel() for a, b in spans(csr.indptr, BLOCK)]
    return np.concatenate(parts)


def _logarithms(csr: sparse.csr_matrix, factor: np.ndarray) -> Iterator[np.ndarray]:
    """Stored values after normalisation and logarithm, a block of rows at a time."""
    for start, stop in spans(csr.indptr, BLOCK):
        count = csr.data[csr.indptr[start] : csr.indptr[stop]].astype(np.float64)
        yield np.log1p(count / np.repeat(factor[start:stop], np.diff(csr.indptr[start : stop + 1]))).astype(np.float32)


def _is_exact(logged: sparse.csr_matrix, csr: sparse.csr_matrix, factor: np.ndarray) -> bool:
    """Whether the counts can be had back from the logarithms."""
    return all(
        np.array_equal(counts_from_log1p(logged[a:b], factor[a:b]).data, csr.data[csr.indptr[a] : csr.indptr[b]])
        for a, b in spans(csr.indptr, BLOCK)
    )
