"""Fixtures of this folder; pytest runs with `--import-mode=importlib`, so helpers are made importable by name."""

import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from anndata import AnnData

sys.path.insert(0, str(Path(__file__).parent))

from foreign import World, build, dealt, predicted_cells


@pytest.fixture(scope="session")
def make_world():
    def make(**options):
        dataset = build(**options)
        return World(dataset, dealt(dataset))

    return make


@pytest.fixture(scope="session")
def world(make_world):
    return make_world()


@pytest.fixture(scope="session")
def unbatched(make_world):
    return make_world(match="context")


@pytest.fixture
def cells(world):
    return predicted_cells(world)


@pytest.fixture
def write(tmp_path):
    """Write an AnnData of rows, or arrays as npz."""

    def written(table, name="pred.h5ad"):
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = AnnData(X=table.x, obs=table.obs, var=pd.DataFrame(index=table.genes), layers=table.layers)
        adata.uns.update(getattr(table, "uns", {}))
        adata.obsm.update(getattr(table, "obsm", {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # repeated gene names, and formats of zarr to come
            getattr(adata, "write_zarr" if name.endswith(".zarr") else "write_h5ad")(path)
        return path

    return written
