"""Are stages learned on train rows only, recorded whole, and replayed exactly?"""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from perturbfm.data.artifact import load_artifact, write_artifact
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.preprocess import normalise_log1p
from perturbfm.errors import (
    ArtifactEdited,
    CheckpointMismatch,
    GenesAbsent,
    InternalError,
    ScaleMismatch,
    SplitOfOtherData,
    StageOutOfPlace,
    StillCounts,
    UnreadableFile,
)
from perturbfm.files import write_json
from perturbfm.train.guards import PreprocessingIsCarried
from perturbfm.train.preprocess import Preprocessor, learning_rows, nothing, read
from perturbfm.train.stage.filter_genes import FilterGenes
from perturbfm.train.stage.highly_variable import HighlyVariable
from perturbfm.train.stage.log1p import Log1p
from perturbfm.train.stage.normalise_total import NormaliseTotal
from perturbfm.train.stage.rows import cut
from perturbfm.train.stage.scale import Scale


def stages():
    chosen = HighlyVariable(n_top=6, plus_perturbed=True, plus_de=1)
    return [FilterGenes(min_cells=30), NormaliseTotal(), Log1p(), chosen, Scale(max_value=10.0)]


def counted(adata, match="context_batch", scale="counts"):
    """The tiny data as counts; gene 1 and 3 bear names of perturbations, gene 14 is seen in few cells."""
    x = np.rint(np.expm1(adata.X.toarray())) if scale == "counts" else adata.X.toarray()
    x[:, 14] = 0
    x[::20, 14] = 1 if scale == "counts" else 0.5
    genes = list(adata.var_names)
    genes[1], genes[3] = "g1", "g3"
    values = sparse.csr_matrix(x.astype(np.float32))
    made = AnnData(values, obs=adata.obs.copy(), var=pd.DataFrame(index=genes))
    return PerturbDataset(made, Declaration("tiny", scale, delimiter="+", match=match))


@pytest.fixture
def dataset(tiny):
    return counted(tiny.adata())


@pytest.fixture
def split(tiny, dataset):
    return tiny.split(dataset)


def learn(dataset, split, made=None, learn_on="train"):
    rows = learning_rows(split, dataset.labels(), learn_on)
    return Preprocessor.learn(stages() if made is None else made, dataset, rows, "tiny", learn_on)


@pytest.fixture
def learned(dataset, split):
    return learn(dataset, split)


def same(a, b):
    return a.genes == b.genes and np.array_equal(a.adata.X.toarray(), b.adata.X.toarray())


# --- which rows ----------------------------------------------------------------------------------------


def test_learning_rows_are_train_and_the_input_controls_of_its_contexts(dataset, split):
    rows = learning_rows(split, dataset.labels(), "train")
    obs = dataset.obs.reset_index()
    controls = [r for r in split.input_control_idx if obs["context_id"][r] in ("A", "B")]
    assert sorted([*split.train_idx, *controls]) == rows.tolist()
    assert controls
    hidden = [split.val_idx, split.calib_idx, split.test_idx, split.reference_control_idx]
    assert not set(rows.tolist()) & set(np.concatenate(hidden).tolist())
    assert learning_rows(split, dataset.labels(), "all").tolist() == list(range(dataset.n_obs))


def test_where_batches_are_matched_controls_of_other_batches_are_left_out(tiny, dataset, split):
    in_b1 = dataset.obs["batch_id"].to_numpy() == "b1"
    labels = dataset.labels()
    only = tiny.refreeze(split, train_idx=split.train_idx[in_b1[split.train_idx]])
    assert in_b1[learning_rows(only, labels, "train")].all()
    by_context = counted(tiny.adata(), match="context").labels()
    assert not in_b1[learning_rows(only, by_context, "train")].all()


def test_no_other_row_is_read(tiny, dataset, split):
    rows = learning_rows(split, dataset.labels(), "train")
    tiny.watch(dataset, forbidden=np.setdiff1d(np.arange(dataset.n_obs), rows))
    assert len(learn(dataset, split).learned) == 5


def altered(tiny, rows):
    """The same cells, where some rows have other counts."""
    return counted(tiny.changed_elsewhere(tiny.adata(), rows))


@pytest.mark.parametrize("role", ["val", "calib", "test", "reference_control", "controls of held-out contexts"])
def test_values_of_hidden_rows_change_nothing(tiny, dataset, split, learned, role):
    if role.startswith("controls"):
        held_out = dataset.obs["context_id"].isin(["C", "D"]).to_numpy()
        rows = split.input_control_idx[held_out[split.input_control_idx]]
    else:
        rows = split.indices()[role]
    other = altered(tiny, rows)
    assert other.fingerprint != dataset.fingerprint
    found = learn(other, split)
    assert found.learned == learned.learned
    assert found.state() == learned.state()


@pytest.mark.parametrize("role", ["train", "input_control"])
def test_values_of_learning_rows_do(tiny, split, learned, role):
    assert learn(altered(tiny, split.indices()[role]), split).learned != learned.learned


def test_learning_on_all_rows_sees_the_test(tiny, dataset, split, learned):
    leaking = learn(dataset, split, learn_on="all")
    assert (leaking.leaking, learned.leaking) == (True, False)
    assert leaking.rows_count == dataset.n_obs
    assert learn(altered(tiny, split.test_idx), split, learn_on="all").learned != leaking.learned
    assert not learn(counted(tiny.adata(), scale="log1p"), split, [], "all").leaking


def test_the_numbers_are_those_of_train(dataset, split, learned):
    rows = learning_rows(split, dataset.labels(), "train")
    x = dataset.adata.X[rows].toarray()
    keep = (x > 0).sum(0) >= 30
    assert not keep[14]
    assert learned.learned[0]["genes"] == [g for g, k in zip(dataset.genes, keep, strict=True) if k]
    assert learned.learned[1]["target"] == np.median(x[:, keep].sum(1))
    assert {"g1", "g3"} <= set(learned.learned[3]["genes"])


# --- what comes out ------------------------------------------------------------------------------------


def test_the_data_keep_their_lock_and_get_a_fingerprint_of_their_own(dataset, split, learned):
    out = learned.apply(dataset)
    assert (out.declared.scale, dataset.declared.scale) == ("log1p", "counts")
    assert out.genes == tuple(learned.learned[3]["genes"])
    assert out.locked_fingerprint == dataset.fingerprint == out.labels().fingerprint
    assert out.fingerprint != dataset.fingerprint
    split.assert_fits(out.locked_fingerprint, out.n_obs)
    assert "preprocess tiny (learned on train): FilterGenes(min_cells=30" in out.declared.source
    assert out.declared.controls == dataset.declared.controls


def test_a_run_goes_through_on_what_comes_out(tiny, dataset, split, learned):
    out = learned.apply(dataset)
    module = PerturbDataModuleOf(tiny, out, split, learned)
    found = tiny.run(tiny.baseline(module.encoder.dims), module)
    assert found.predictions["test"].genes_g == out.genes
    assert found.predictions["test"].scale == "log1p"
    assert found.predictions["test"].fingerprint == dataset.fingerprint


def test_data_that_were_preprocessed_from_others_are_refused(tiny, dataset, split, learned):
    out = learned.apply(altered(tiny, split.test_idx))
    module = PerturbDataModuleOf(tiny, out, split, learned)
    with pytest.raises(SplitOfOtherData, match="locked to other data"):
        tiny.run(tiny.baseline(module.encoder.dims), module)


def PerturbDataModuleOf(tiny, dataset, split, preprocessor=None):
    from perturbfm.train.datamodule import PerturbDataModule

    return PerturbDataModule(dataset, split, 16, 3, preprocessor=preprocessor)


def test_models_are_shown_scaled_controls_and_judged_on_unscaled_deltas(tiny, dataset, split, learned):
    out = learned.apply(dataset)
    scaled, plain = (PerturbDataModuleOf(tiny, out, split, p) for p in (learned, None))
    rows = split.train_idx[:7]
    a, b = scaled.rows[rows], plain.rows[rows]
    by_name = dict(
        zip(
            learned.learned[4]["genes"], zip(*(learned.learned[4][k] for k in ("mean", "sd")), strict=True), strict=True
        )
    )
    mean, sd = np.array([by_name[g] for g in out.genes]).T
    np.testing.assert_allclose(a.x_ng.numpy(), np.clip((b.x_ng.numpy() - mean) / sd, -10, 10), rtol=1e-5, atol=1e-6)
    assert not torch.equal(a.x_ng, b.x_ng)
    for key in ("delta_ng", "x_var_ng", "x_count_n"):
        assert torch.equal(getattr(a, key), getattr(b, key))
    assert torch.equal(scaled.val_rows[split.val_idx].delta_ng, plain.val_rows[split.val_idx].delta_ng)


def test_dense_data_come_out_dense_and_equal(tiny, dataset, split, learned):
    dense = copy.copy(dataset)
    dense.adata = AnnData(dataset.adata.X.toarray(), obs=dataset.obs, var=dataset.var)
    out = learned.apply(dense)
    assert isinstance(out.adata.X, np.ndarray)
    assert np.array_equal(out.adata.X, learned.apply(dataset).adata.X.toarray())
    assert learn(dense, split).learned == learned.learned


def test_nothing_is_done_by_no_stages(tiny):
    dataset = counted(tiny.adata(), scale="log1p")
    assert nothing(dataset).apply(dataset) is dataset
    assert nothing(dataset).provenance() == []


def test_counts_never_reach_a_model(tiny, dataset, split):
    with pytest.raises(StillCounts, match=r"still counts after 0 preprocess stages.*data\.target_sum"):
        learn(dataset, split, [])
    with pytest.raises(StillCounts, match="still normalised after 1 preprocess stages"):
        learn(dataset, split, [NormaliseTotal()])
    with pytest.raises(StillCounts, match="without a logarithm"):
        PerturbDataModuleOf(tiny, dataset, split)


def test_log_data_are_refused_by_stages_for_counts(tiny, split):
    with pytest.raises(StageOutOfPlace, match="choose preprocess=log_hvg"):
        learn(counted(tiny.adata(), scale="log1p"), split)


def test_log_data_may_lose_genes_and_nothing_else(tiny):
    dataset = counted(tiny.adata(), scale="log1p")
    split = tiny.split(dataset)
    out = learn(dataset, split, [HighlyVariable(n_top=4)]).apply(dataset)
    columns = [dataset.genes.index(g) for g in out.genes]
    assert 4 <= len(columns) < 15
    assert np.array_equal(out.adata.X.toarray(), dataset.adata.X[:, columns].toarray())


def test_counts_are_given_back_where_the_loader_normalised_them(tiny):
    dataset = counted(tiny.adata())
    obs = dataset.obs.copy()
    values, declared = normalise_log1p(dataset.adata.X, obs, dataset.declared, None, 100.0)
    logged = PerturbDataset(AnnData(values, obs=obs, var=dataset.var), declared)
    rows = np.arange(5, 90, 3)
    part = cut(logged, rows, counts=True)
    assert np.array_equal(part.counts_ng.toarray(), dataset.adata.X[rows].toarray())
    assert cut(logged, rows, counts=False).counts_ng is None
    out = learn(logged, tiny.split(logged), [HighlyVariable(n_top=5, flavor="pearson_residuals")]).apply(logged)
    assert out.n_genes == 5
    assert out.declared.counts_hashed
    assert len(out.fingerprint) == 64


def test_what_comes_out_can_be_handed_on_as_an_artifact(dataset, learned, tmp_path):
    out = learned.apply(dataset)
    again = load_artifact(str(write_artifact(out, tmp_path / "a")))
    assert again.fingerprint == out.fingerprint
    before = load_artifact(str(write_artifact(dataset, tmp_path / "b")))
    assert same(learned.apply(before), out)


# --- replaying -----------------------------------------------------------------------------------------


def shuffled(dataset, drop=(), extra=("new gene",)):
    """The same cells, genes in another order, some absent, some that nobody knows."""
    order = [i for i in np.random.default_rng(1).permutation(dataset.n_genes) if dataset.genes[i] not in drop]
    x = sparse.hstack([dataset.adata.X[:, order], sparse.csr_matrix(np.full((dataset.n_obs, len(extra)), 9.0))])
    genes = [*(dataset.genes[i] for i in order), *extra]
    adata = AnnData(x.tocsr().astype(np.float32), obs=dataset.obs.copy(), var=pd.DataFrame(index=genes))
    return PerturbDataset(adata, dataset.declared)


def test_new_data_are_read_by_gene_name(dataset, learned):
    assert same(learned.apply(shuffled(dataset)), learned.apply(dataset))


def test_genes_that_the_filter_drops_need_not_be_there(dataset, learned):
    dropped = [g for g in dataset.genes if g not in learned.genes_read]
    assert "gene14" in dropped
    assert same(learned.apply(shuffled(dataset, drop=dropped)), learned.apply(dataset))


def test_absent_genes_are_refused_with_their_number(dataset, learned):
    n = len(learned.genes_read)
    with pytest.raises(GenesAbsent, match=rf"given 2 of {n} genes absent, first 'g1'"):
        learned.apply(shuffled(dataset, drop=("g1", "gene5")))


def test_data_on_another_scale_are_refused(tiny, learned):
    with pytest.raises(ScaleMismatch, match="Preprocessing was learned on another scale: given .* scale log1p"):
        learned.apply(counted(tiny.adata(), scale="log1p"))


def test_what_is_written_down_is_read_back_and_does_the_same(dataset, split, learned, tmp_path):
    write_json(tmp_path / "preprocess.json", learned.state())
    rows = learning_rows(split, dataset.labels(), "train")
    again = read(tmp_path / "preprocess.json", rows)
    assert again.state() == learned.state()
    assert again.card() == learned.card()
    assert same(again.apply(dataset), learned.apply(dataset))
    x = np.ones((2, len(learned.learned[3]["genes"])))
    genes = tuple(learned.learned[3]["genes"])
    assert np.array_equal(again.view(x, genes), learned.view(x, genes))


def test_other_rows_than_recorded_are_refused(learned, split):
    with pytest.raises(ArtifactEdited, match="Preprocessing was learned on other rows than the split allows"):
        Preprocessor.from_state(learned.state(), split.test_idx)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other/1"},
        {"stages": [{"stage": "os.system", "params": {}, "learned": {}}]},
        {"stages": [{"stage": "perturbfm.train.stage.nowhere.Nothing", "params": {}, "learned": {}}]},
        {"stages": [{"stage": "perturbfm.train.stage.rows.Rows", "params": {}, "learned": {}}]},
        {"stages": [{"stage": "perturbfm.train.stage.log1p.Log1p", "params": {"base": 2}, "learned": {}}]},
        {"rows": None},
    ],
)
def test_a_record_that_is_none_is_refused(learned, change):
    with pytest.raises(UnreadableFile, match="A recorded preprocessing cannot be read"):
        Preprocessor.from_state({**learned.state(), **change})


def test_a_cut_file_is_refused(tmp_path, learned):
    (tmp_path / "a.json").write_text(json.dumps(learned.state())[:-9])
    for name in ("a.json", "b.json"):
        with pytest.raises(UnreadableFile, match="A recorded preprocessing cannot be read"):
            read(tmp_path / name)


# --- checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["baseline", "network"])
def test_a_checkpoint_carries_it(tiny, dataset, split, learned, tmp_path, kind):
    module = PerturbDataModuleOf(tiny, learned.apply(dataset), split, learned)
    tiny.run(getattr(tiny, kind)(module.encoder.dims), module, tmp_path, epochs=1)
    carried = torch.load(tmp_path / "checkpoints" / "final.ckpt", weights_only=True)["perturbfm"]
    assert carried["encoder"]["genes"] == learned.learned[3]["genes"]
    again = Preprocessor.from_state(carried["preprocess"])
    assert again.state() == learned.state()
    assert same(again.apply(shuffled(dataset)), learned.apply(dataset))


def test_a_checkpoint_of_other_preprocessing_is_refused(tiny, dataset, split, learned):
    module = PerturbDataModuleOf(tiny, learned.apply(dataset), split, learned)
    trainer, guard = SimpleNamespace(datamodule=module), PreprocessingIsCarried()
    mine = json.loads(json.dumps(learned.state()))
    guard.on_load_checkpoint(trainer, None, {"perturbfm": {"preprocess": {**mine, "versions": {"scanpy": "0"}}}})
    other = copy.deepcopy(mine)
    other["stages"][1]["learned"]["target"] += 1.0
    for state in ({"preprocess": other}, {}):
        with pytest.raises(CheckpointMismatch, match="The checkpoint was made with other preprocessing"):
            guard.on_load_checkpoint(trainer, None, {"perturbfm": state})
    plain = counted(tiny.adata(), scale="log1p")
    bare = SimpleNamespace(datamodule=PerturbDataModuleOf(tiny, plain, tiny.split(plain)))
    guard.on_load_checkpoint(bare, None, {"perturbfm": {}})
    with pytest.raises(CheckpointMismatch, match="given tiny, expected none"):
        guard.on_load_checkpoint(bare, None, {"perturbfm": {"preprocess": mine}})


# --- evidence ------------------------------------------------------------------------------------------


def test_it_says_what_was_learned_from_which_rows(tiny, dataset, split, learned):
    rows = learning_rows(split, dataset.labels(), "train")
    evidence = learned.provenance()
    assert [e.what for e in evidence] == ["FilterGenes", "NormaliseTotal", "HighlyVariable", "Scale"]
    assert all(np.array_equal(e.rows, rows) for e in evidence)
    fixed = learn(dataset, split, [NormaliseTotal(target=1e4), Log1p()])
    assert fixed.provenance() == []
    module = PerturbDataModuleOf(tiny, learned.apply(dataset), split, learned)
    last = module.provenance()[-1]
    assert (last.what, last.rows.tolist()) == ("vocabulary", split.train_idx.tolist())


def test_a_replayed_one_does_not_invent_its_rows(learned):
    with pytest.raises(InternalError, match="A replayed preprocessing does not know its rows"):
        Preprocessor.from_state(learned.state()).provenance()
