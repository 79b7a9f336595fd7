"""The planted world as a data set like any other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.synthetic import World, make_world
from perturbfm.data.world_settings import preset as world_settings


def load_synthetic(
    name: str = "synthetic", preset: str = "default", seed: int = 0, match: str = "context_batch", match_seed: int = 0
) -> PerturbDataset:
    """Make a planted world.

    Args:
        name: Short name, used in file names.
        preset: One of `perturbfm.data.world_settings.PRESETS`.
        seed: Seed of the world.
        match: How a row finds its control.
        match_seed: Seed of `draw`.
    """
    return as_dataset(make_world(world_settings(preset, seed)), name, preset, match, match_seed)


def as_dataset(
    world: World, name: str, preset: str, match: str = "context_batch", match_seed: int = 0
) -> PerturbDataset:
    """Look at a world's cells through the view that models see; the planted truth stays with the world."""
    counts = world.counts_ng is not None
    obs = world.obs.copy()
    if counts:
        obs = obs.rename(columns={"depth": "size_factor"})
    source = f"planted world {preset!r}, seed {world.settings.seed}"
    declared = Declaration(
        name,
        "log1p" if counts else "log2",
        delimiter="+",
        match=match,
        match_seed=match_seed,
        counts_hashed=counts,
        source=source,
    )
    x_ng = sparse.csr_matrix(world.x_ng, dtype=np.float32) if counts else np.asarray(world.x_ng, dtype=np.float32)
    return PerturbDataset(AnnData(X=x_ng, obs=obs, var=pd.DataFrame(index=world.var.index.astype(str))), declared)
