"""A small data set with a split dealt by hand, and the shortest way through the Trainer."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.model.baseline.per_perturbation_mean import PerPerturbationMean
from perturbfm.model.perturbfm.small_network import SmallNetwork
from perturbfm.split import Split
from perturbfm.train.closed_form import ClosedForm
from perturbfm.train.datamodule import PerturbDataModule
from perturbfm.train.fit import TrainerSettings, fit_and_test, seed_all
from perturbfm.train.gradient import Gradient

CONTEXTS, PERTS = ("A", "B", "C", "D"), ("g1", "g2", "g1+g2", "g3")
GENES, CELLS, CONTROLS = 15, 12, 30


def make_adata(seed=0):
    """Four contexts x four perturbations x 12 cells, 30 controls per context, two batches; rows in no order."""
    rng = np.random.default_rng(seed)
    rows = [(p, k, f"b{n % 2}") for k in CONTEXTS for p in PERTS for n in range(CELLS)]
    rows += [("ctrl", k, f"b{n % 2}") for k in CONTEXTS for n in range(CONTROLS)]
    rows += [("new", "D", f"b{n % 2}") for n in range(CELLS)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    obs = pd.DataFrame(rows, columns=["pert_id", "context_id", "batch_id"], index=[f"c{i}" for i in range(len(rows))])
    obs["is_control"], obs["mode"] = obs["pert_id"] == "ctrl", "knockout"
    effect = {"g1": np.eye(GENES)[1] * 2, "g2": np.eye(GENES)[2] * 2, "g3": np.eye(GENES)[3] * 2}
    effect |= {"g1+g2": effect["g1"] + effect["g2"], "ctrl": np.zeros(GENES), "new": np.eye(GENES)[4]}
    base = {k: rng.normal(0.5, 0.5, GENES) for k in CONTEXTS}
    rate = np.exp([base[k] + effect[p] + (b == "b1") * 0.1 for p, k, b in rows])
    x = sparse.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32))
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"gene{g}" for g in range(GENES)]))


def make_data(adata=None, match="context_batch"):
    return PerturbDataset(
        make_adata() if adata is None else adata, Declaration("tiny", "log1p", delimiter="+", match=match)
    )


def make_split(dataset, **changes):
    """Test: D. Validation: C. Calibration: g3 in A and g1 in B. Train: the rest. Controls halved within batches."""
    obs = dataset.obs.reset_index()
    pert, context, control = obs["pert_id"], obs["context_id"], obs["is_control"]
    calib = ~control & (((context == "A") & (pert == "g3")) | ((context == "B") & (pert == "g1")))
    turn = obs[control].groupby(["context_id", "batch_id"]).cumcount().reindex(obs.index, fill_value=0)
    fields = {
        "train_idx": np.flatnonzero(~control & context.isin(["A", "B"]) & ~calib),
        "val_idx": np.flatnonzero(~control & (context == "C")),
        "calib_idx": np.flatnonzero(calib),
        "test_idx": np.flatnonzero(~control & (context == "D")),
        "input_control_idx": np.flatnonzero(control & (turn % 2 == 0)),
        "reference_control_idx": np.flatnonzero(control & (turn % 2 == 1)),
        "fingerprint": dataset.fingerprint,
        "data_name": "tiny",
        "rule": "context_ood",
        "params": {},
        "ood_axes": ("context",),
        "seed": 0,
        "n_obs": dataset.n_obs,
        "unit": "cells",
    }
    return Split(**{**fields, **changes}).freeze()


class Watched:
    """A CSR matrix that counts how often it is cut, and refuses forbidden rows."""

    def __init__(self, x, forbidden=()):
        self.x, self.cuts, self.forbidden = x, 0, set(np.asarray(forbidden).tolist())

    def __getitem__(self, rows):
        self.cuts += 1
        assert not self.forbidden & set(np.arange(self.x.shape[0])[rows].tolist()), (
            "expression of a hidden row was read"
        )
        return self.x[rows]


def watch(dataset, forbidden=()):
    """Put a watched matrix in the place of the data's own."""
    a = dataset.adata
    watched = Watched(a.X, forbidden)
    dataset.adata = SimpleNamespace(
        X=watched, obs=a.obs, var=a.var, var_names=a.var_names, n_obs=a.n_obs, n_vars=a.n_vars
    )
    return watched


def overwrite(dataset, rows, value):
    """Write something over stored expression, after the fingerprint was taken."""
    assert dataset.fingerprint
    x = dataset.adata.X
    for row in rows:
        x.data[x.indptr[row] : x.indptr[row + 1]] = value


def changed_elsewhere(adata, rows):
    """A copy of the data in which some rows have other expression."""
    other = adata.copy()
    dense = other.X.toarray()
    dense[rows] = np.log1p(np.random.default_rng(99).poisson(5.0, (len(rows), GENES)))
    other.X = sparse.csr_matrix(dense)
    return other


def baseline(dims, model=PerPerturbationMean):
    return ClosedForm("baseline", model, dims)


def network(dims, seed=0, lr=0.01, model=SmallNetwork):
    seed_all(seed)
    make = partial(model, hidden=16, latent=4)
    return Gradient("network", make, partial(torch.optim.AdamW, lr=lr), dims)


def run(module, datamodule, folder=None, epochs=3, patience=50, record=None, accelerator="cpu"):
    """Through the Trainer; the predictions, and the names of what happened."""
    found, events = {}, []
    fit_and_test(
        module,
        datamodule,
        TrainerSettings(max_epochs=epochs, patience=patience, accelerator=accelerator),
        found.update,
        record or (lambda event, **_: events.append(event)),
        folder,
    )
    return SimpleNamespace(predictions=found, events=events, module=module)


@pytest.fixture
def dataset():
    return make_data()


@pytest.fixture
def split(dataset):
    return make_split(dataset)


@pytest.fixture
def datamodule(dataset, split):
    return PerturbDataModule(dataset, split, batch_size=16, seed=3)


@pytest.fixture
def tiny():
    """The functions above, for tests that need more than one data set, split or run."""
    return SimpleNamespace(
        adata=make_adata,
        data=make_data,
        split=make_split,
        module=lambda d, s, batch_size=16, seed=3: PerturbDataModule(d, s, batch_size, seed),
        watch=watch,
        overwrite=overwrite,
        changed_elsewhere=changed_elsewhere,
        baseline=baseline,
        network=network,
        run=run,
        refreeze=lambda s, **changes: replace(s, frozen_hash=None, **changes).freeze(),
    )
