"""One thing found in a file, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

NOTE, WARN, STOP = "note", "warn", "stop"
"""Good to know; would mislead if overlooked; nothing can be read before it is mended."""


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
