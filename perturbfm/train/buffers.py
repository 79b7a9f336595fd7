"""Dense arrays that are used again as soon as nobody holds them.

Fresh memory of this size comes from the system page by page, each page zeroed first: at 18,000 genes that takes as long
as filling the batch. A buffer is free when this pool holds the only reference to it; a tensor, view or batch made from
it, wherever it is kept, is a reference, so nothing that somebody can still see is ever written over. That holds for
several threads as well: one that looks at a buffer is itself a reference to it, so no two find it free at once.
"""

from __future__ import annotations

import sys

import numpy as np

MOST = 8
"""Buffers kept; whoever holds more at once gets fresh memory."""


def _references_of_a_free_buffer() -> int:
    """Counted in a loop like that of `take`, because versions of Python differ in what they count."""
    held = [np.empty(0, dtype=np.float32)]
    for buffer in held:
        found = sys.getrefcount(buffer)
    return found


_OURS = _references_of_a_free_buffer()


class Buffers:
    """Buffers for float32 matrices of one number of columns.

    Args:
        n_genes: Number of columns.
    """

    def __init__(self, n_genes: int) -> None:
        self.n_genes = n_genes
        self._held: list[np.ndarray] = []

    def take(self, n_rows: int) -> np.ndarray:
        """An array [n_rows, n_genes] with any content, nobody else's until it is let go."""
        size = n_rows * self.n_genes
        for buffer in self._held:
            if sys.getrefcount(buffer) == _OURS and len(buffer) >= size:
                return buffer[:size].reshape(n_rows, self.n_genes)
        fresh = np.empty(size, dtype=np.float32)
        self._held = [b for b in self._held if len(b) >= size] if len(self._held) >= MOST else self._held
        if len(self._held) < MOST:
            self._held.append(fresh)
        return fresh.reshape(n_rows, self.n_genes)

    def __getstate__(self) -> dict[str, object]:
        return {"n_genes": self.n_genes, "_held": []}
