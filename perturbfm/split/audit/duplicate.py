"""Rows with one and the same expression, as it is or normalised otherwise: found by hashes, then compared, in blocks.

Whatever multiplies a cell or takes its logarithm keeps which genes are zero and which value is larger than which. Rows
that agree in that are looked at in full.
"""

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

MANY_GENES, MANY_VALUES = 100, 10
"""Nonzero genes, or distinct values of at least `FEW_GENES` of them, whose order no two cells share by chance."""

_DENSE_ROWS = 65_536
_ROWS_IN_BLOCK = 1024


@dataclass(frozen=True)
class Duplicates:
    """Groups of rows with the same expression that stand in more than one place.

    Attributes:
        rows: Row numbers, group by group.
        group: Number of the group of each of them.
        few: Whether the rows of the group may be equal by chance, per entry of `rows`: fewer than `FEW_GENES` nonzero
            genes, or for rescaled ones fewer than `MANY_GENES` and fewer than `MANY_VALUES` distinct values.
        rescaled: Whether the rows of the group are equal only but for a normalisation, per entry of `rows`.
    """

    rows: np.ndarray
    group: np.ndarray
    few: np.ndarray
    rescaled: np.ndarray

    def groups(self, few: bool, rescaled: bool = False) -> Iterator[np.ndarray]:
        """Row numbers of each group: equal ones or rescaled ones, those that may be chance or the others."""
        keep = (self.few == few) & (self.rescaled == rescaled)
        rows, group = self.rows[keep], self.group[keep]
        if rows.size:
            yield from np.split(rows, np.flatnonzero(np.diff(group)) + 1)


def duplicates(x_ng: Any, place_n: np.ndarray) -> Duplicates:
    """Find rows of different places that have the same expression, exactly or but for a normalisation.

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
    """A 64-bit hash per row, equal for rows of the same expression however they are stored and normalised.

    The sum modulo 2^64 of a[gene] over the nonzero genes, and of sign * b[gene] over neighbours among them, the sign
    that of the step from one value to the next; `a` and `b` are drawn once.
    """
    n, g = x_ng.shape
    drawn = np.random.PCG64(20_24).random_raw(2 * g).astype(np.uint64) | np.uint64(1)
    a_g, b_g = drawn[:g], drawn[g:]
    found = np.empty(n, dtype=np.uint64)
    for low, high, block in _blocks(x_ng):
        csr = _canonical(block)
        step = np.sign(np.diff(csr.data, append=csr.data[-1:])).astype(np.int64).view(np.uint64)
        last = csr.indptr[1:][np.diff(csr.indptr) > 0] - 1
        step[last] = 0
        found[low:high] = _row_sums(a_g[csr.indices] + step * b_g[csr.indices], csr.indptr)
    return found


def _canonical(block: Any) -> sparse.csr_matrix:
    """Rows as CSR of their own memory, genes in order, no stored zeros."""
    csr = sparse.csr_matrix(block, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


def _row_sums(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Sums of uint64 modulo 2^64 per row."""
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
    return total[indptr[1:]] - total[indptr[:-1]]


def _blocks(x_ng: Any) -> Iterator[tuple[int, int, Any]]:
    n, g = x_ng.shape
    stored = getattr(x_ng, "nnz", None)
    step = int(max(1, min(_DENSE_ROWS, ENTRIES_IN_BLOCK // max(1, g if stored is None else stored // max(1, n)))))
    for low in range(0, n, step):
        high = min(n, low + step)
        block = x_ng[low:high]
        yield low, high, sparse.csr_matrix(block) if sparse.issparse(block) else np.asarray(block)


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
    equal: dict[tuple[int, bytes], list[int]] = {}
    alike: dict[tuple[int, bytes], list[int]] = {}
    about: dict[tuple[int, bytes], tuple[bool, bool]] = {}
    order = np.argsort(rows, kind="stable")  # files give blocks of rows in ascending order only
    for low in range(0, len(rows), _ROWS_IN_BLOCK):
        part = order[low : low + _ROWS_IN_BLOCK]
        for place, seen in zip(part.tolist(), _contents(x_ng[rows[part]]), strict=True):
            for parted, digest, few in ((equal, seen.values, seen.few), (alike, seen.order, seen.plain)):
                parted.setdefault((int(group[place]), digest), []).append(int(rows[place]))
                about[int(group[place]), digest] = (few, seen.few)
    kept = [(rows, about[key][0], False) for key, rows in equal.items()]
    same = {tuple(rows) for rows in equal.values()}
    kept += [
        (rows, about[key][0], True) for key, rows in alike.items() if tuple(rows) not in same and not about[key][1]
    ]
    kept = [group for group in kept if len({int(place_n[r]) for r in group[0]}) > 1]
    sizes = [len(members) for members, _, _ in kept]
    return Duplicates(
        np.array([r for members, _, _ in kept for r in members], dtype=np.int64),
        np.repeat(np.arange(len(kept)), sizes),
        np.repeat(np.array([few for _, few, _ in kept], dtype=bool), sizes),
        np.repeat(np.array([rescaled for _, _, rescaled in kept], dtype=bool), sizes),
    )


@dataclass(frozen=True)
class _Content:
    """Digest of genes and values of a row, digest of genes and the order of values, and how telling they are."""

    values: bytes
    order: bytes
    few: bool
    plain: bool


def _contents(block: Any) -> Iterator[_Content]:
    csr = _canonical(block)
    for low, high in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
        genes, values = csr.indices[low:high].astype("<i8"), csr.data[low:high].astype("<f8")
        distinct, rank = np.unique(values, return_inverse=True)
        n = int(high - low)
        yield _Content(
            hashlib.sha256(genes.tobytes() + values.tobytes()).digest(),
            hashlib.sha256(b"order" + genes.tobytes() + rank.astype("<i8").tobytes()).digest(),
            n < FEW_GENES,
            n < MANY_GENES and len(distinct) < MANY_VALUES,
        )
