"""Does a whole run from raw counts stand, with its preprocessing recorded, replayed, and shouted where it leaks?"""

import json
import shutil

import numpy as np
import pytest

from perturbfm import run_experiment
from perturbfm.cli.evaluate import judge_again
from perturbfm.cli.show import print_result
from perturbfm.config import compose_config
from perturbfm.data import load_composed
from perturbfm.errors import (
    ArtifactEdited,
    PreprocessLeaks,
    SplitOfOtherData,
    StageCannotLearn,
    StillCounts,
    UnreadableFile,
)
from perturbfm.predictions import read_prediction
from perturbfm.split import SplitStore, context_ood
from perturbfm.train.preprocess import learning_rows, read
from perturbfm.train.stage.highly_variable import HighlyVariable
from perturbfm.train.stage.normalise_total import NormaliseTotal

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def base(real_data):
    """The overrides that read Kang's counts as they are."""
    path = real_data / "kang18_ifnb1k_counts" / "kang18_ifnb1k_counts.h5ad"
    return [
        "data=h5ad",
        "data.name=kang_counts",
        f"data.path={path}",
        "data.scale=counts",
        "data.pert_column=stim",
        "data.context_column=seurat_annotations",
        "data.control_labels=[CTRL]",
        "data.mode=ligand",
        "eval=quick",
    ]


@pytest.fixture(scope="module")
def split(base):
    dataset = load_composed(compose_config(base))
    assert (dataset.n_obs, dataset.n_genes, dataset.declared.scale) == (832, 14053, "counts")
    return context_ood(dataset.labels(), ["B"], seed=0, min_controls=5).freeze()


@pytest.fixture
def run(base, split, tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path / "splits"))
    SplitStore(tmp_path / "splits").save(split)
    return lambda *more: run_experiment([*base, "split=frozen", f"split.hash={split.frozen_hash}", *more])


PERTURBENCH = ("preprocess=perturbench", "preprocess.stages.3.n_top=1000", "preprocess.stages.3.span=0.75")


def test_a_run_from_counts_is_recorded_and_judged_again_to_the_same_numbers(run, base, split):
    result = run(*PERTURBENCH)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    card = result.metrics["run"]["preprocess"]
    assert (card["name"], card["leaking"], result.metrics["run"]["scale"]) == ("perturbench", False, "log1p")
    assert manifest["preprocess"].items() >= card.items()
    dataset = load_composed(compose_config(base))
    rows = learning_rows(split, dataset.labels(), "train")
    learned = read(result.folder / "preprocess.json", rows)
    assert learned.card() == card
    after = learned.apply(dataset)
    assert manifest["preprocess"]["genes_after"] == after.n_genes
    assert manifest["preprocess"]["fingerprint_after"] == after.fingerprint != dataset.fingerprint
    assert 1000 <= after.n_genes < 1400
    stored = read_prediction(result.folder / "predictions.npz")[0]
    assert (stored.genes_g, stored.fingerprint) == (after.genes, dataset.fingerprint)
    before = (result.folder / "metrics.json").read_bytes()
    (result.folder / "metrics.json").unlink()
    metrics, outcome = judge_again(result.folder)
    assert outcome == "metrics.json was missing and has been written."
    assert json.loads(before) == metrics
    assert (result.folder / "metrics.json").read_bytes() == before
    assert "perturbench (learned on train)" in result.report.read_text()


def test_what_was_learned_is_replayed_and_not_learned_again(run, monkeypatch):
    result = run("preprocess=state", "preprocess.stages.2.n_top=300")
    for stage in (NormaliseTotal, HighlyVariable):
        monkeypatch.setattr(stage, "learn", lambda *_: pytest.fail("a stage learned again"))
    assert judge_again(result.folder)[1].startswith("Identical to the stored metrics.json")
    path = result.folder / "preprocess.json"
    state = json.loads(path.read_text())
    state["stages"][0]["learned"]["target"] *= 2
    path.write_text(json.dumps(state))
    with pytest.raises(ArtifactEdited, match=r"preprocess\.json is not what the run wrote"):
        judge_again(result.folder)
    path.unlink()
    with pytest.raises(UnreadableFile, match="not the folder of a judged run"):
        judge_again(result.folder)
    shutil.rmtree(result.folder)


def test_a_manifest_that_forgets_the_preprocessing_is_refused(run):
    result = run("preprocess=state", "preprocess.stages.2.n_top=300")
    path = result.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["preprocess.json"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactEdited, match=r"preprocess\.json is not what the run wrote.*no such file"):
        judge_again(result.folder)
    (result.folder / "preprocess.json").unlink()
    with pytest.raises(UnreadableFile, match=r"lacks the hash of preprocess\.json"):
        judge_again(result.folder)


def test_a_run_that_leaks_says_so_everywhere(run, capsys):
    leak = ("preprocess=state", "preprocess.stages.2.n_top=300", "preprocess.learn_on=all")
    with pytest.raises(PreprocessLeaks, match="cells that models are judged on"):
        run(*leak)
    result = run(*leak, "preprocess.allow_leak=true")
    assert result.metrics["run"]["preprocess"]["leaking"] is True
    assert json.loads((result.folder / "metrics.json").read_text())["run"]["preprocess"]["rows"] == 832
    assert json.loads((result.folder / "manifest.json").read_text())["preprocess"]["leaking"] is True
    assert "Preprocessing leaked." in result.report.read_text()
    print_result(result.metrics, result.folder)
    assert "PREPROCESSING LEAKED" in capsys.readouterr().out


def test_counts_without_preprocessing_are_refused_before_a_run_begins(run, tmp_path):
    with pytest.raises(StillCounts, match="Choose preprocess=perturbench"):
        run()
    assert not list((tmp_path / "outputs").glob("2*"))


def test_too_few_cells_for_seurat_v3_are_told_the_way_out(run):
    with pytest.raises(StageCannotLearn, match=r"scanpy says: .*preprocess\.stages\.3\.span=0\.75"):
        run("preprocess=perturbench")


def test_row_filters_belong_to_the_split(run, base, split):
    filters = ["preprocess=gears", "preprocess.cells.min_genes=600"]
    with pytest.raises(SplitOfOtherData, match="locked to other data"):
        run(*filters)
    dataset = load_composed(compose_config([*base, *filters]))
    whole = load_composed(compose_config(base))
    assert dataset.n_obs == int((np.diff(whole.adata.X.indptr) >= 600).sum()) < 832
