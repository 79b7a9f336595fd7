"""`perturbfm`: argparse verbs; heavy imports happen inside the verb that needs them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from perturbfm import __version__
from perturbfm.cli import compose, data, doctor, evaluate, export, external, metrics, splits, train

VERBS = (doctor, compose, data, splits, train, evaluate, export, metrics, external)

STOPPED = "Interrupted. What has its final name is whole; the same command can be given again."


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="perturbfm",
        description="Predict how cells answer a perturbation. Experiments run with `python -m perturbfm.run`; "
        "these verbs prepare, inspect and judge.",
    )
    top.add_argument("--version", action="version", version=f"perturbfm {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run the verb, return its exit code."""
    arguments = parser().parse_args(argv)
    from perturbfm.run import RUN_STOPPED, guarded

    stopped = RUN_STOPPED if arguments.verb == "train" else STOPPED
    return guarded(lambda: arguments.call(arguments), getattr(arguments, "set", None) or [], stopped)
