"""A content hash of a data set: what splits are locked to.

The hash covers the matrix, cell ids, labels, gene names, their order, and what is declared of the scale. Where the
matrix is `log1p(counts / size)` the integers are hashed and not their logarithm, so that the hash does not depend on
the last bit of a machine's `log`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

_ROWS_PER_CHUNK = 4096
_SCHEMA = b"perturbfm.fingerprint/1"


def counts_from_log1p(x_ng: sparse.csr_matrix, size_n: np.ndarray) -> sparse.csr_matrix:
    """Recover integer counts from `log1p(counts / size)`.

    Args:
        x_ng: Log-normalised matrix, CSR, shape (n, g).
        size_n: Size factor of each row: counts were divided by it.

    Returns:
        CSR float64 matrix of rounded counts.
    """
    rows = np.repeat(np.arange(x_ng.shape[0]), np.diff(x_ng.indptr))
    counts = np.rint(np.expm1(x_ng.data.astype(np.float64)) * size_n[rows])
    return sparse.csr_matrix((counts, x_ng.indices, x_ng.indptr), shape=x_ng.shape)


def fingerprint(
    x_ng: Any,
    size_n: np.ndarray | None,
    obs: pd.DataFrame,
    genes: Iterable[str],
    declared: dict[str, object],
    variance_ng: Any = None,
) -> str:
    """SHA-256 over content in canonical order.

    Args:
        x_ng: Matrix, sparse or dense, shape (n, g).
        size_n: Size factors when the matrix is `log1p(counts / size)` of integers; None to hash float32 values.
        obs: Labels with the cell ids as index; every column is covered.
        genes: Gene names in order.
        declared: Scale, unit, delimiter and the like.
        variance_ng: Variance beside the matrix where a row is a distribution.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(_SCHEMA)
    _text(digest, "declared", [json.dumps(declared, sort_keys=True)])
    _text(digest, "genes", genes)
    _text(digest, "cells", obs.index)
    for column in sorted(obs.columns):
        _text(digest, f"obs:{column}", _plain(obs[column]))
    digest.update(b"float32" if size_n is None else b"counts" + size_n.astype("<f8").tobytes())
    for start in range(0, x_ng.shape[0], _ROWS_PER_CHUNK):
        rows = slice(start, start + _ROWS_PER_CHUNK)
        _rows(digest, x_ng[rows], None if size_n is None else size_n[rows])
    if variance_ng is not None:
        digest.update(b"variance")
        for start in range(0, variance_ng.shape[0], _ROWS_PER_CHUNK):
            _rows(digest, variance_ng[start : start + _ROWS_PER_CHUNK], None)
    return digest.hexdigest()


def _text(digest: Any, section: str, values: Iterable[object]) -> None:
    """Add values so that no two different lists give the same bytes: a string never reads as a number.

    The bytes are those of `json.dumps([section, values])`, made a block at a time.
    """
    digest.update(f"[{json.dumps(section)}, [".encode())
    left, sign = iter(values), ""
    while block := list(islice(left, _ROWS_PER_CHUNK)):
        text = json.dumps([v if isinstance(v, str) else [repr(v)] for v in block])
        digest.update(f"{sign}{text[1:-1]}".encode())
        sign = ", "
    digest.update(b"]]")


def _plain(column: pd.Series) -> Iterator[object]:
    """Values of a column as Python has them, without a list of all of them."""
    for start in range(0, len(column), _ROWS_PER_CHUNK):
        yield from column.iloc[start : start + _ROWS_PER_CHUNK].tolist()


def _rows(digest: Any, x_ng: Any, size_n: np.ndarray | None) -> None:
    """Add rows in one canonical sparse form: sorted genes, no stored zeros, little-endian."""
    csr = sparse.csr_matrix(x_ng, dtype=np.float32, copy=True)
    kind = "<f4"
    if size_n is not None:
        csr, kind = counts_from_log1p(csr, size_n), "<i8"
    csr.sum_duplicates()
    csr.eliminate_zeros()
    digest.update(np.diff(csr.indptr).astype("<i8").tobytes())
    digest.update(csr.indices.astype("<i4").tobytes())
    digest.update(csr.data.astype(kind).tobytes())
