"""Data sets by name: a name is a yaml with `_target_`, in `conf/data/` or in a folder of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perturbfm import config
from perturbfm.data.dataset import PerturbDataset


def load(name_or_path: str, **overrides: Any) -> PerturbDataset:
    """Load a data set by the name of its yaml, or by the path of a file or an artifact.

    Args:
        name_or_path: A name in `conf/data/`, a file of a known format, or a folder with `data.npz` and `meta.json`.
        **overrides: Values of the yaml to change, as on the command line after `data.`.

    Raises:
        UnknownChoice: No yaml of that name, with the nearest ones.
        UnknownKey: An override that the loader does not take.
    """
    choice = config.data_overrides(name_or_path)
    dataset = config.build(config.compose_group("data", choice, overrides))
    if not isinstance(dataset, PerturbDataset):
        raise TypeError(f"{name_or_path} builds {type(dataset).__name__}, not PerturbDataset")
    return dataset


def load_composed(cfg: Any) -> PerturbDataset:
    """The data set of a composed configuration: `data`, then the row filters of `preprocess.cells`.

    Runs, and every verb that loads data, come through here, so that a split is made of the rows that a run uses.

    Args:
        cfg: A checked configuration; one without `preprocess` filters nothing.
    """
    from perturbfm.data.cells import keep_cells

    cells = config.plain(cfg).get("preprocess", {}).get("cells", {})
    return keep_cells(config.build(cfg.data), **cells)


def register(name: str, target: str | Callable[..., PerturbDataset]) -> None:
    """Add a data set at run time, as if `conf/data/<name>.yaml` held that `_target_`.

    Args:
        name: Name to load it by.
        target: A function that returns a `PerturbDataset`, or its dotted path.
    """
    config.add_choice("data", name, target)
