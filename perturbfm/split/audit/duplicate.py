"""Rows with one and the same expression, found by hashes and then compared exactly, in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

ENTRIES_IN_BLOCK = 4_000_000
"""Entries of the matrix that are looked at in one go."""

FEW_GENES = 20
"""Rows with fewer nonzero genes can be equal by chance."""

_DENSE_ROWS = 65_536
_ROWS_IN_BLOCK = 1024


@dataclass(frozen=True)
class Duplicates:
    """Groups of rows with the same expression that stand in more than one place.

    Attributes:
        rows: Row numbers, group by group.
        group: Number of the group of each of them.
        few: Whether the rows of the group have fewer than `FEW_GENES` nonzero genes, per entry of `rows`.
    """

    rows: np.ndarray
    group: np.ndarray
    few: np.ndarray

    def groups(self, few: bool) -> Iterator[np.ndarray]:
        """Row numbers of each group, of rows with few nonzero genes or of the others."""
        rows, group = self.rows[self.few == few], self.group[self.few == few]
        if rows.size:
            yield from np.split(rows, np.flatnonzero(np.diff(group)) + 1)


def duplicates(x_ng: Any, place_n: np.ndarray) -> Duplicates:
    """Find rows of different places that have exactly the same expression.

    Args:
        x_ng: Matrix [n, g], CSR or dense; blocks of rows are taken by slice.
        place_n: Place of each row, -1 for rows to leave alone.
    """
    used = np.flatnonzero(place_n >= 0)
    hash_n = row_hashes(x_ng)[used]
    order = np.argsort(hash_n, kind="stable")
    rows, start = used[order], _starts(hash_n[order])
    rows, group = _in_several_places(rows, start, place_n)
    return _exact(x_ng, rows, group, place_n)


def row_hashes(x_ng: Any) -> np.ndarray:
    """A 64-bit hash per row, equal for rows of equal expression however they are stored.

    The hash is the sum over nonzero entries of bits(value) * a[gene] modulo 2^64, `a` drawn once: a multilinear hash,
    so order and explicit zeros do not matter.
    """
    n, g = x_ng.shape
    a_g = np.random.PCG64(20_24).random_raw(g).astype(np.uint64) | np.uint64(1)
    found = np.empty(n, dtype=np.uint64)
    for low, high, block in _blocks(x_ng):
        if sparse.issparse(block):
            bits = sparse.csr_matrix((_bits(block.data), block.indices, block.indptr), shape=block.shape)
            found[low:high] = bits @ a_g
        else:
            found[low:high] = _bits(block) @ a_g
    return found


def _blocks(x_ng: Any) -> Iterator[tuple[int, int, Any]]:
    n, g = x_ng.shape
    stored = getattr(x_ng, "nnz", None)
    step = int(max(1, min(_DENSE_ROWS, ENTRIES_IN_BLOCK // max(1, g if stored is None else stored // max(1, n)))))
    for low in range(0, n, step):
        high = min(n, low + step)
        block = x_ng[low:high]
        yield low, high, sparse.csr_matrix(block) if sparse.issparse(block) else np.asarray(block)


def _bits(values: np.ndarray) -> np.ndarray:
    """The bits of numbers as uint64; both zeros give 0, and equal numbers of one matrix equal bits."""
    real = np.asarray(values)
    real = real if real.dtype in (np.float32, np.float64) else real.astype(np.float64)
    real = np.where(real == 0, real.dtype.type(0), real)
    return real.view(np.uint32 if real.dtype == np.float32 else np.uint64).astype(np.uint64, copy=False)


def _starts(sorted_hash: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin, with the end of the last."""
    edges = np.flatnonzero(sorted_hash[1:] != sorted_hash[:-1]) + 1
    return np.concatenate([[0], edges, [len(sorted_hash)]]).astype(np.int64)


def _in_several_places(rows: np.ndarray, start: np.ndarray, place_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and run numbers of the runs whose rows are in more than one place."""
    if not rows.size:
        return rows, rows
    place = place_n[rows]
    low, high = np.minimum.reduceat(place, start[:-1]), np.maximum.reduceat(place, start[:-1])
    run = np.repeat(np.arange(len(low)), np.diff(start))
    keep = (low != high)[run]
    return rows[keep], run[keep]


def _exact(x_ng: Any, rows: np.ndarray, group: np.ndarray, place_n: np.ndarray) -> Duplicates:
    """Part candidate groups by what their rows really hold."""
    parted: dict[tuple[int, bytes], list[int]] = {}
    few: dict[tuple[int, bytes], bool] = {}
    order = np.argsort(rows, kind="stable")  # files give blocks of rows in ascending order only
    for low in range(0, len(rows), _ROWS_IN_BLOCK):
        part = order[low : low + _ROWS_IN_BLOCK]
        for place, (digest, n_genes) in zip(part.tolist(), _contents(x_ng[rows[part]]), strict=True):
            key = (int(group[place]), digest)
            parted.setdefault(key, []).append(int(rows[place]))
            few[key] = n_genes < FEW_GENES
    kept = [(key, members) for key, members in parted.items() if len({int(place_n[r]) for r in members}) > 1]
    sizes = [len(members) for _, members in kept]
    return Duplicates(
        np.array([r for _, members in kept for r in members], dtype=np.int64),
        np.repeat(np.arange(len(kept)), sizes),
        np.repeat(np.array([few[key] for key, _ in kept], dtype=bool), sizes),
    )


def _contents(block: Any) -> Iterator[tuple[bytes, int]]:
    """Per row a digest of genes and values, and how many genes are not zero."""
    csr = sparse.csr_matrix(block)
    csr.eliminate_zeros()
    csr.sort_indices()
    genes, values = csr.indices.astype("<i8"), csr.data.astype("<f8")
    for low, high in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
        content = genes[low:high].tobytes() + values[low:high].tobytes()
        yield hashlib.sha256(content).digest(), int(high - low)
