"""One thing found in a file, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOTE, WARN, STOP = "note", "warn", "stop"
"""Good to know; would mislead if overlooked; nothing can be read before it is mended."""

SHOWN, LONGEST = 6, 60


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        name: Stable name of the kind of finding.
        level: `note`, `warn` or `stop`.
        message: What there is, with numbers.
        fix: What to do.
    """

    name: str
    level: str
    message: str
    fix: str


def listed(words: Iterable[object], most: int = SHOWN) -> str:
    """The first few of some words, each cut where it is long."""
    every: Sequence[object] = list(words)
    shown = [text if len(text) <= LONGEST else f"{text[:LONGEST]}..." for text in map(str, every[:most])]
    return ", ".join(shown) + (f" and {len(every) - most} more" if len(every) > most else "")
