"""Options that several verbs share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset


def add_data(parser: argparse.ArgumentParser, positional: bool = False) -> None:
    """Add `--data`, or the data set as the first word, and `--set`."""
    about = "a name in conf/data, a data file, or an artifact folder"
    if positional:
        parser.add_argument("data", metavar="DATA", help=about)
    else:
        parser.add_argument("--data", required=True, help=about)
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any further override, for example data.scale=log1p",
    )


def load_data(arguments: argparse.Namespace) -> PerturbDataset:
    """The data set that `--data` and `--set` name."""
    from perturbfm import config

    cfg = config.compose_config([*config.data_overrides(arguments.data), *arguments.set])
    from perturbfm.data import load_composed  # after the configuration is known to be right: it loads pandas

    return load_composed(cfg)
