"""Rows of a CSR matrix added to a dense array, without a matrix in between."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse._sparsetools import csr_row_index, csr_todense  # what `x[rows]` and `toarray` call


class Scatter:
    """Adds rows to dense arrays and keeps its working memory, which would otherwise be asked for anew each time.

    One object serves one thread.
    """

    def __init__(self) -> None:
        self._index, self._value = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)

    def add(self, x_ng: Any, rows: np.ndarray, out_ng: np.ndarray) -> None:
        """Add `x_ng[rows]` to `out_ng` in place.

        Args:
            x_ng: CSR of float32 (in memory or mapped); whatever else has `[rows]` is cut first.
            rows: Row numbers within the matrix, from 0.
            out_ng: float32, C-contiguous, shape (len(rows), g).
        """
        if not (isinstance(x_ng, sparse.csr_matrix) and x_ng.dtype == np.float32):
            block = x_ng[rows]
            out_ng += block.toarray() if sparse.issparse(block) else block
            return
        rows = rows.astype(x_ng.indices.dtype, copy=False)
        pointer = np.zeros(len(rows) + 1, dtype=rows.dtype)
        np.cumsum(x_ng.indptr[rows + 1] - x_ng.indptr[rows], out=pointer[1:])
        self._grow(int(pointer[-1]), rows.dtype)
        csr_row_index(len(rows), rows, x_ng.indptr, x_ng.indices, x_ng.data, self._index, self._value)
        csr_todense(len(rows), x_ng.shape[1], pointer, self._index, self._value, out_ng)

    def _grow(self, size: int, dtype: np.dtype[Any]) -> None:
        if len(self._index) < size or self._index.dtype != dtype:
            self._index, self._value = np.empty(size + size // 4, dtype), np.empty(size + size // 4, np.float32)

    def __getstate__(self) -> dict[str, object]:
        return {"_index": np.empty(0, dtype=np.int32), "_value": np.empty(0, dtype=np.float32)}
