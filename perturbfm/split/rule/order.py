"""Random orders that depend on names and a seed alone: not on rows, the platform or a generator's version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(seed: int, purpose: str, name: str) -> bytes:
    """SHA-256 of `seed`, `purpose` and name, joined by the unit separator."""
    return hashlib.sha256(f"{seed}\x1f{purpose}\x1f{name}".encode()).digest()


def hash_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Names in the order of their digests."""
    return sorted(names, key=lambda name: digest(seed, purpose, name))
