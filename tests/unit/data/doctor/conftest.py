"""Small files in the form that real data sets have, examined."""

import warnings
from itertools import cycle, islice

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data.doctor import examine

GENES = ("GAPDH", "TP53", "ATM", "KLF1", "JAK2", "STAT1", "AHR", "FEV", "MYC", "CD86")


def rows(per_label, contexts=("K562",)):
    """One row per label, context and repeat: the labels in blocks, so that each context has them all."""
    return [label for context in contexts for label, n in per_label.items() for _ in range(n)]


def contexts_of(per_label, contexts):
    return [context for context in contexts for _ in range(sum(per_label.values()))]


def turns(values, n):
    """Values in turn, n of them."""
    return list(islice(cycle(values), n))


def counts(n, n_genes=10, seed=0):
    x = np.random.default_rng(seed).poisson(3.0, (n, n_genes)).astype(np.float32)
    x[:, 0] += 1
    return x


def logged(n, n_genes=10):
    x = counts(n, n_genes)
    return np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path / "splits"))
    return tmp_path


@pytest.fixture
def write(tmp_path):
    """Write an `.h5ad`; counts where no matrix is given."""

    def write_file(
        columns, x=None, genes=GENES, layers=None, var=None, name="made.h5ad", raw=None, uns=None, index=None
    ):
        n = len(next(iter(columns.values())))
        obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)] if index is None else index)
        x = counts(n, len(genes)) if x is None else x
        var = pd.DataFrame(var or {}, index=list(genes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = AnnData(X=sparse.csr_matrix(x) if (x == 0).any() else x, obs=obs, var=var, layers=layers)
            data.uns.update(uns or {})
            if raw is not None:
                data.raw = AnnData(X=raw, obs=obs, var=pd.DataFrame(index=[f"r{i}" for i in range(raw.shape[1])]))
            data.write_h5ad(tmp_path / name)
        return tmp_path / name

    return write_file


@pytest.fixture
def examined(write):
    """Examine a made file."""

    def examine_made(columns, given=None, **options):
        return examine(write(columns, **options), "made", given)

    return examine_made


@pytest.fixture
def expect():
    """A finding by name: its level, its words, and that it says what to do."""

    def expect_finding(found, name, level, *said):
        mine = [f for f in found.findings if f.name == name]
        assert mine, f"no {name} in {[(f.name, f.level) for f in found.findings]}"
        assert {f.level for f in mine} == {level}
        assert all(f.fix.endswith(".") for f in found.findings)
        text = " ".join(f"{f.message} -> {f.fix}" for f in mine)
        assert all(word in text for word in said), text

    return expect_finding
