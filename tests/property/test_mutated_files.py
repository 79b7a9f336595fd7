"""Two hundred damaged files: each is read or refused by a typed error, none by a traceback or a wait."""

import gzip
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import PerturbDataset, load_file
from perturbfm.errors import PerturbFMError

SOURCES = ("sparse.h5ad", "dense.h5ad", "text.csv", "packed.csv.gz")
GIVEN = {
    "pert_column": "pert",
    "context_column": "line",
    "batch_column": None,
    "mode": "drug",
    "delimiter": "+",
    "dose_column": "dose",
    "covariates": ["size"],
}


def cut(content, rng):
    return content[: rng.integers(len(content))]


def flipped(content, rng):
    damaged = bytearray(content)
    for place in rng.integers(len(content), size=rng.integers(1, 20)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def holed(content, rng):
    place, size = rng.integers(len(content)), rng.integers(1, 300)
    return content[:place] + bytes(min(size, len(content) - place)) + content[place + size :]


def stuffed(content, rng):
    place = rng.integers(len(content))
    return content[:place] + rng.bytes(rng.integers(1, 50)) + content[place:]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    x, cells, genes = rng.poisson(1.0, (30, 12)).astype(np.float32), [f"c{i}" for i in range(30)], list("abcdefghijkl")
    x[:, 0] += 1
    columns = {"pert": ["control", "A", "A+B"] * 10, "line": ["k"] * 30, "dose": ["0", "1", "1+2"] * 10}
    obs = pd.DataFrame({**columns, "size": rng.random(30)}, index=cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AnnData(X=sparse.csr_matrix(x), obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(folder / "sparse.h5ad")
        AnnData(X=x, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(folder / "dense.h5ad", compression="gzip")
    obs.to_csv(folder / "obs.csv")
    pd.DataFrame(x, cells, genes).to_csv(folder / "text.csv")
    (folder / "packed.csv.gz").write_bytes(gzip.compress((folder / "text.csv").read_bytes(), mtime=0))
    return folder


def load(path, sources):
    obs = str(sources / "obs.csv") if ".csv" in path.name else None
    return load_file("damaged", str(path), "counts", obs=obs, **GIVEN)


@pytest.mark.parametrize("name", SOURCES)
def test_whole_files_are_read(sources, name):
    assert load(sources / name, sources).n_obs == 30


@pytest.mark.parametrize("damage", [cut, flipped, holed, stuffed])
@pytest.mark.parametrize("name", SOURCES)
def test_a_damaged_file_is_read_or_refused_by_name(sources, tmp_path, name, damage):
    content = (sources / name).read_bytes()
    refused = []
    for seed in range(13):
        path = tmp_path / name
        path.write_bytes(damage(content, np.random.default_rng([seed, SOURCES.index(name)])))
        try:
            found = load(path, sources)
        except PerturbFMError as e:
            refused.append(e)
        else:
            assert isinstance(found, PerturbDataset)
    assert all(e.exit_code == 2 and e.fix for e in refused)
    assert refused or damage is flipped
