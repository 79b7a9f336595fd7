"""`perturbfm config`: print the resolved configuration."""

from __future__ import annotations

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser("config", help="print the resolved configuration", description="Print what a run would use.")
    p.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for python -m perturbfm.run")
    p.set_defaults(call=show)


def show(arguments: argparse.Namespace) -> None:
    """Print the configuration and its hash."""
    from omegaconf import OmegaConf

    from perturbfm import config

    cfg = config.compose_config(arguments.overrides)
    print(OmegaConf.to_yaml(OmegaConf.create(config.plain(cfg))), end="")
    print(f"# config hash {config.config_hash(cfg)}")
