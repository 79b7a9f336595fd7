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


def test_norman19_pseudobulk():
    data = load("norman19_pseudobulk")
    d = data.declared
    assert (data.n_obs, data.n_genes, d.scale, d.unit, d.controls) == (235, 2000, "delta", "pseudobulk", "baked_in")
    perts = set(data.obs["pert_id"]) - {"control"}
    assert (len(perts), sum("+" in p for p in perts)) == (234, 130)
    assert int(data.obs["is_control"].sum()) == 1
    assert not data.X_pert[data.obs["is_control"].to_numpy()].any()
    assert set(data.obs["context_id"]) == {"K562"}


def test_lincs_ljp005_a375():
    data = load("lincs_ljp005_a375")
    assert (data.n_obs, data.n_genes, data.declared.scale, data.declared.dose_unit) == (377, 978, "log2", "uM")
    treated = data.obs[~data.obs["is_control"]]
    assert set(treated["dose"]) == {"0.04", "0.12", "0.37", "1.11", "3.33", "10"}
    assert set(data.obs["dose"][data.obs["is_control"]]) == {""}
    assert (treated["pert_id"].nunique(), int(data.obs["is_control"].sum())) == (59, 26)
    per_compound = treated.groupby("pert_id")["dose"].nunique().value_counts().to_dict()
    assert per_compound == {6: 56, 5: 3}
    assert len(set(data.labels().intervention_n)) == 56 * 6 + 3 * 5 + 1


def test_lincs_doses_agree_with_their_text_and_times_are_read():
    data = load("lincs_ljp005_a375", dose_label_column="pert_idose", time_column="pert_time", time_unit="h")
    assert set(data.obs["time"]) == {"", "24"}
    assert "vemurafenib@drug;dose=10;time=24" in set(data.labels().intervention_n)


def test_kang18_ifnb1k_counts():
    data = load("kang18_ifnb1k_counts")
    assert (data.n_obs, data.n_genes, data.declared.scale) == (832, 14053, "log1p")
    assert data.declared.counts_hashed
    assert data.obs["pert_id"].value_counts().to_dict() == {"STIM": 441, "control": 391}
    assert data.obs["context_id"].nunique() == 6
    np.testing.assert_allclose(np.expm1(data.X_pert.astype(np.float64)).sum(axis=1), 10000.0, rtol=1e-4)


def test_papalexi_guides_name_the_targets_that_the_file_names():
    by_target = load("papalexi21_eccite", guide_column="grna_id")
    rows = ~by_target.obs["is_control"].to_numpy()
    by_guide = load(
        "papalexi21_eccite",
        pert_column="grna_id",
        guide_pattern=r"^(.+?)g\d+$",
        control_labels=["NT"],
    )
    assert by_guide.obs["pert_id"][rows].tolist() == by_target.obs["pert_id"][rows].tolist()
    assert by_guide.obs["is_control"].tolist() == by_target.obs["is_control"].tolist()
    assert by_guide.obs["guide"].tolist() == by_target.obs["guide"].tolist()


def test_perturbench_devel_doses_follow_the_parts_and_old_symbols_can_be_renamed():
    data = load("perturbench_devel", dose_column="dose", keep={"dataset": ["norman19"]})
    assert set(data.obs["context_id"]) == {"k562"}
    doubles = data.obs["pert_id"].str.contains("+", regex=False)
    assert set(data.obs["dose"][doubles]) == {"1+1"}
    assert set(data.obs["dose"][~doubles & ~data.obs["is_control"]]) == {"1"}
    raw = load("perturbench_devel", pert_column="perturbation_raw", aliases={"KIAA1804": "MAP3K21"})
    assert raw.obs["pert_id"].tolist() == load("perturbench_devel").obs["pert_id"].tolist()
