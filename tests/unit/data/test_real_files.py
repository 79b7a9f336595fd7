"""Public data sets load through their shipped yaml with the sizes that their READMEs state."""

import numpy as np
import pytest

from perturbfm.data import load

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _real(real_data, monkeypatch):
    monkeypatch.setenv("PERTURBFM_DATA", str(real_data))


def test_perturbench_devel():
    data = load("perturbench_devel")
    assert (data.n_obs, data.n_genes, data.declared.scale) == (5961, 500, "log1p")
    assert data.obs["context_id"].value_counts().to_dict() == {"k562": 3375, "U87MG": 865, "T98G": 871, "A172": 850}
    controls = data.obs[data.obs["is_control"]]
    assert controls["context_id"].value_counts().to_dict() == dict.fromkeys(("k562", "A172", "T98G", "U87MG"), 100)
    perts = set(data.obs["pert_id"]) - {"control"}
    assert (len(perts), sum("+" in p for p in perts)) == (33, 15)
    perturbed = data.obs[~data.obs["is_control"]]
    modes = perturbed.groupby("context_id")["mode"].unique().map(list).to_dict()
    assert modes == {"k562": ["activation"], "A172": ["knockdown"], "T98G": ["knockdown"], "U87MG": ["knockdown"]}
    assert set(data.obs["batch_id"]) == {"all"}


def test_kang18_pbmc_scgen():
    data = load("kang18_pbmc_scgen")
    assert (data.n_obs, data.n_genes, data.declared.scale) == (1975, 6998, "log1p")
    cells = {"CD4T": 634, "FCGR3A+Mono": 421, "CD14+Mono": 321, "B": 222, "NK": 141, "CD8T": 122, "Dendritic": 114}
    assert data.obs["context_id"].value_counts().to_dict() == cells
    assert data.obs["pert_id"].value_counts().to_dict() == {"control": 936, "stimulated": 1039}
    assert set(data.obs["mode"]) == {"ligand"}


def test_papalexi21_eccite():
    data = load("papalexi21_eccite")
    assert (data.n_obs, data.n_genes, data.declared.scale) == (20729, 299, "log1p")
    assert data.obs["context_id"].value_counts().to_dict() == {"rep_1": 9428, "rep_2": 6001, "rep_3": 5300}
    assert int(data.obs["is_control"].sum()) == 2386
    assert data.obs["pert_id"].nunique() == 26
    assert data.declared.counts_hashed
    assert "response_n_umis" in data.declared.source
    assert np.isfinite(data.X_pert.data).all()
    assert data.X_pert.max() < np.log1p(10000)
