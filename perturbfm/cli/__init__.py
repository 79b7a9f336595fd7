"""Thin verbs that are not experiments.

Comes in: words on a command line. Goes out: text, files, an exit code. May import: everything below it, lazily.
To add a verb: one module with `add(subparsers)` and a function, one line in `perturbfm/cli/main.py`.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `perturbfm`."""
    from perturbfm.cli.main import main as run_main

    return run_main(argv)
