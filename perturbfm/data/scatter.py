"""Rows of a CSR matrix less rows of a table, written dense, without a matrix in between.

Compiled, because a row is then filled and added to while it is in the processor's first cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from scipy import sparse


def subtract_into(x_ng: Any, rows: np.ndarray, table_kg: np.ndarray, group_n: np.ndarray, out_ng: np.ndarray) -> None:
    """Write `x_ng[rows] - table_kg[group_n]` into `out_ng`.

    Args:
        x_ng: CSR of float32 (in memory or mapped); whatever else has `[rows]` is cut first.
        rows: Row numbers within the matrix, from 0.
        table_kg: float32, shape (k, g).
        group_n: Row of the table for each row, from 0.
        out_ng: float32, C-contiguous, shape (len(rows), g).
    """
    if not (isinstance(x_ng, sparse.csr_matrix) and x_ng.dtype == np.float32):
        block = x_ng[rows]
        np.subtract(0.0, table_kg[group_n], out=out_ng)
        out_ng += block.toarray() if sparse.issparse(block) else block
        return
    _fill(x_ng.indptr, x_ng.indices, x_ng.data, rows, table_kg, group_n, out_ng)


@njit(nogil=True)
def _fill(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    rows: np.ndarray,
    table_kg: np.ndarray,
    group_n: np.ndarray,
    out_ng: np.ndarray,
) -> None:
    for n in range(rows.shape[0]):
        out_g, table_g = out_ng[n], table_kg[group_n[n]]
        for g in range(out_g.shape[0]):
            out_g[g] = np.float32(0.0) - table_g[g]
        for at in range(indptr[rows[n]], indptr[rows[n] + 1]):
            out_g[indices[at]] += data[at]
