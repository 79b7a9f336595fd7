"""`perturbfm train baseline`: the same experiment as `python -m perturbfm.run`, by plain options."""

from __future__ import annotations

import argparse
import json
from typing import Any

from perturbfm.cli.options import add_data


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser("train", help="train and judge a model", description="Train and judge a model.")
    inner = p.add_subparsers(dest="train_verb", required=True, metavar="VERB")
    baseline = inner.add_parser("baseline", help="train a baseline on a frozen split, calibrate and judge it")
    add_data(baseline)
    baseline.add_argument("--split", required=True, metavar="HASH", help="hash of a frozen split")
    baseline.add_argument("--baseline", required=True, metavar="NAME", help="a name in conf/model, for example ridge")
    baseline.add_argument("--seed", type=int, default=0)
    baseline.set_defaults(call=train_baseline)


def train_baseline(arguments: argparse.Namespace) -> None:
    """Compose the experiment and run it."""
    from perturbfm import config
    from perturbfm.cli.show import print_result
    from perturbfm.run import run_experiment

    choices = [*config.data_overrides(arguments.data), "split=frozen", f"split.hash={json.dumps(arguments.split)}"]
    result = run_experiment([*choices, f"model={arguments.baseline}", f"seed={arguments.seed}", *arguments.set])
    print_result(result.metrics, result.folder)
