"""What the audit says of the shipped splits and the real files they are of."""

from pathlib import Path

import anndata
import numpy as np
import pytest

from perturbfm import config
from perturbfm.auditing import evidence_of
from perturbfm.split import SplitStore, audit
from perturbfm.split.audit import Evidence, Prior
from perturbfm.types import Learned

STORE = SplitStore(Path(__file__).parents[3] / "splits")
SPLITS = [split for _, split in STORE.list()]
ONE_BATCH = {"axis_confounded_with_batch"}
"""Not made where the labels know one batch: every real file of these."""


@pytest.fixture(scope="module")
def loaded(real_data):
    known = {}

    def load(name):
        if name not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PERTURBFM_DATA", str(real_data))
                known[name] = config.build(config.compose_config([f"data={name}"]).data)
        return known[name]

    return load


@pytest.mark.real
@pytest.mark.parametrize("split", SPLITS, ids=lambda s: f"{s.data_name}-{s.short}")
def test_a_shipped_split_passes_every_check_that_its_data_allow(loaded, split):
    dataset = loaded(split.data_name)
    learned = (Learned("vocabulary", split.train_idx),)
    found = audit(split, dataset.labels(), evidence_of(dataset, priors=(), aliases={}, learned=learned))
    assert found.verdict == "pass"
    unmade = {f.check for f in found.with_verdict("not_checked")}
    assert unmade == (set() if split.data_name == "synthetic" else ONE_BATCH)


@pytest.mark.real
def test_weights_trained_on_another_file_of_the_same_cells_are_found(loaded, real_data):
    """kang18_ifnb1k_counts and kang18_pbmc_scgen are cuts of one experiment; 94 barcodes are in both."""
    other = anndata.read_h5ad(real_data / "kang18_ifnb1k_counts" / "kang18_ifnb1k_counts.h5ad", backed="r").obs_names
    theirs = {name.partition(".")[0] for name in other}
    labels = loaded("kang18_pbmc_scgen").labels()
    shared = [row for row, name in enumerate(labels.cell_n) if name.partition("-")[0] in theirs]
    assert len({labels.cell_n[row].partition("-")[0] for row in shared}) == 94

    prior = Prior("pretrained", "weights", data_sets=("kang18_ifnb1k_counts",), cell_ids=tuple(other))
    kang = [s for s in SPLITS if s.data_name == "kang18_pbmc_scgen"]
    found = {s: audit(s, labels, Evidence(priors=(prior,)), only=("prior_trained_on_test",)) for s in kang}
    for split, said in found.items():
        judged = np.concatenate([split.test_idx, split.reference_control_idx])
        assert sum(f.n for f in said.with_verdict("refuse")) == np.isin(shared, judged).sum()
    assert {said.verdict for said in found.values()} == {"refuse"}

    unsaid = Prior("pretrained", "weights", data_sets=("kang18_ifnb1k_counts",))
    said = audit(kang[0], labels, Evidence(priors=(unsaid,)), only=("prior_trained_on_test",))
    assert [f.verdict for f in said.findings] == ["warn"]
    assert "of a like name" in said.findings[0].message


@pytest.mark.real
def test_a_real_cell_under_another_id_and_a_real_delta_in_uns_are_found(loaded):
    dataset = loaded("papalexi21_eccite")
    split = next(s for s in SPLITS if s.data_name == "papalexi21_eccite")
    labels, x_ng = dataset.labels(), dataset.adata.X.copy()
    delta = np.asarray(
        x_ng[split.test_idx[labels.pert_n[split.test_idx] == "STAT1"]].mean(axis=0)
        - x_ng[split.reference_control_idx[labels.context_n[split.reference_control_idx] == "rep_3"]].mean(axis=0)
    ).ravel()
    rows = np.arange(labels.n_obs)
    rows[split.test_idx[0]] = split.train_idx[np.argmax(np.diff(x_ng.indptr)[split.train_idx])]
    evidence = Evidence(x_ng=x_ng[rows], uns={"uns/anything": delta})
    found = audit(split, labels, evidence, only=("duplicated_expression", "target_statistics_in_uns"))
    assert [(f.check, f.verdict, f.n) for f in found.with_verdict("refuse")] == [
        ("duplicated_expression", "refuse", 2),
        ("target_statistics_in_uns", "refuse", 1),
    ]
