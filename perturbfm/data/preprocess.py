"""The one preprocessing step of this room: counts -> log1p(counts / size * target)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.declaration import Declaration
from perturbfm.data.fingerprint import counts_from_log1p
from perturbfm.errors import SizeNotPositive


def normalise_log1p(
    counts_ng: Any,
    obs: pd.DataFrame,
    declared: Declaration,
    size_n: np.ndarray | None,
    target_sum: float,
    size_name: str | None = None,
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

    Returns:
        float32 matrix of the same kind, and the declaration with scale `log1p`.

    Raises:
        SizeNotPositive: A cell has no counts or no size.

    Source:
        scanpy.pp.normalize_total(target_sum=...) followed by scanpy.pp.log1p.
    """
    csr = sparse.csr_matrix(counts_ng)
    size = np.asarray(csr.sum(axis=1), dtype=np.float64).ravel() if size_n is None else np.asarray(size_n, np.float64)
    wrong = ~(np.isfinite(size) & (size > 0))
    if wrong.any():
        raise SizeNotPositive(
            "Cells have no library size",
            given=f"{int(wrong.sum())} cells, first {obs.index[wrong][0]!r}",
            expected="a positive size for every cell",
            fix="Remove empty cells, or name the right column in data.size_column.",
        )
    factor = size / target_sum
    rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    value = np.log1p(csr.data.astype(np.float64) / factor[rows]).astype(np.float32)
    logged = sparse.csr_matrix((value, csr.indices, csr.indptr), shape=csr.shape)
    exact = bool(np.array_equal(counts_from_log1p(logged, factor).data, csr.data))
    if exact:
        obs["size_factor"] = factor
    by = "row sum" if size_n is None else (size_name or "given sizes")
    note = f"counts / {by} * {target_sum:g}, log1p"
    source = f"{declared.source}; {note}" if declared.source else note
    x_ng = logged if sparse.issparse(counts_ng) else logged.toarray()
    return x_ng, replace(declared, scale="log1p", counts_hashed=exact, source=source)
