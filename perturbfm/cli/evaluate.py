"""`perturbfm eval RUN_DIR`: judge a stored prediction again and compare with what was reported."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser(
        "eval",
        help="judge a run's stored predictions again",
        description="Score predictions.npz of a run again, by the same code path, and compare with its metrics.json. "
        "A missing metrics.json is written; a different one is kept, and the new one written beside it.",
    )
    p.add_argument("run_dir", type=Path, help="folder of a run")
    p.set_defaults(call=evaluate)


def evaluate(arguments: argparse.Namespace) -> None:
    """Judge again, print, and say whether the numbers are those reported."""
    from perturbfm.cli.show import print_result
    from perturbfm.run import judge_again

    metrics, outcome = judge_again(arguments.run_dir)
    print_result(metrics, arguments.run_dir)
    print(outcome)
