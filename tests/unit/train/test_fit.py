import random

import numpy as np
import pandas as pd
import pytest
import torch

from perturbfm.errors import AcceleratorAbsent
from perturbfm.model.baseline.global_mean import GlobalMean
from perturbfm.model.baseline.no_change import NoChange
from perturbfm.model.baseline.per_perturbation_context_mean import PerPerturbationContextMean
from perturbfm.model.baseline.per_perturbation_mean import PerPerturbationMean
from perturbfm.model.baseline.ridge import Ridge
from perturbfm.train.closed_form import ClosedForm
from perturbfm.train.fit import TrainerSettings, fit_and_test, seed_all

CLOSED_FORMS = (NoChange, GlobalMean, PerPerturbationMean, PerPerturbationContextMean, Ridge)


def same(a, b):
    """Whether two runs gave the same numbers, bit for bit."""
    return all(
        np.array_equal(a.predictions[f].mean_qg, b.predictions[f].mean_qg)
        and np.array_equal(a.predictions[f].var_qg, b.predictions[f].var_qg)
        for f in ("calib", "test")
    )


def val_mse(folder):
    return pd.read_csv(folder / "logs" / "metrics.csv")["val_mse"].dropna().to_numpy()


# --- closed forms ----------------------------------------------------------------------------------


class Counting(ClosedForm):
    """Counts what the Trainer hands over."""

    def __init__(self, *args):
        super().__init__(*args)
        self.rows, self.solved = [], 0

    def training_step(self, batch, batch_idx):
        self.rows += batch.row_n.tolist()
        super().training_step(batch, batch_idx)

    def on_validation_start(self):
        super().on_validation_start()
        self.solved += int(len(self.rows) > 0)


@pytest.mark.parametrize("model", CLOSED_FORMS)
def test_a_closed_form_is_solved_from_exactly_one_epoch(tiny, datamodule, model):
    module = Counting("counted", model, datamodule.encoder.dims)
    tiny.run(module, datamodule, epochs=7)
    assert sorted(module.rows) == datamodule.split.train_idx.tolist()
    assert module.trainer.current_epoch == 1
    assert module.solved == 1


@pytest.mark.parametrize("model", CLOSED_FORMS)
def test_a_closed_form_does_not_depend_on_batches_or_on_their_order(tiny, dataset, split, model):
    runs = []
    for batch_size, seed in ((16, 3), (7, 4)):
        module = tiny.module(dataset, split, batch_size=batch_size, seed=seed)
        runs.append(tiny.run(tiny.baseline(module.encoder.dims, model), module).predictions["test"])
    np.testing.assert_allclose(runs[0].mean_qg, runs[1].mean_qg, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(runs[0].var_qg, runs[1].var_qg, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", CLOSED_FORMS)
def test_a_closed_form_gives_the_same_answer_on_a_gpu(tiny, dataset, split, model):
    runs = []
    for accelerator in ("cpu", "gpu"):
        module = tiny.module(dataset, split)
        found = tiny.run(tiny.baseline(module.encoder.dims, model), module, accelerator=accelerator)
        runs.append(found.predictions["test"])
    np.testing.assert_allclose(runs[0].mean_qg, runs[1].mean_qg, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(runs[0].var_qg, runs[1].var_qg, rtol=1e-5, atol=1e-7)


def test_a_known_intervention_gets_the_mean_of_its_train_contexts(tiny, dataset, split, datamodule):
    """Every number from cells to prediction, by loops: deltas against input controls of the same batch."""
    predicted = tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule).predictions["test"]
    x, obs = dataset.adata.X.toarray().astype(float), dataset.obs.reset_index()
    is_input = np.isin(np.arange(len(obs)), split.input_control_idx)
    is_train = np.isin(np.arange(len(obs)), split.train_idx)
    for pert, contexts in (("g1", ["A"]), ("g2", ["A", "B"]), ("g1+g2", ["A", "B"]), ("g3", ["B"])):
        deltas = []
        for k in contexts:
            mine = np.flatnonzero(is_train & (obs["context_id"] == k) & (obs["pert_id"] == pert))
            assert len(mine) == 12
            deltas.append(
                np.mean(
                    [
                        x[r] - x[is_input & (obs["context_id"] == k) & (obs["batch_id"] == obs["batch_id"][r])].mean(0)
                        for r in mine
                    ],
                    axis=0,
                )
            )
        asked = (obs["pert_id"].to_numpy()[predicted.idx_n] == pert).nonzero()[0]
        assert len(asked) == 12
        for n in asked:
            np.testing.assert_allclose(predicted.mean_ng()[n], np.mean(deltas, 0), rtol=1e-4, atol=1e-5)


# --- predictions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["baseline", "network"])
def test_the_judge_gets_both_blind_folds_with_their_own_rows(tiny, dataset, split, datamodule, kind):
    found = tiny.run(getattr(tiny, kind)(datamodule.encoder.dims), datamodule).predictions
    assert list(found) == ["calib", "test"]
    for fold, p in found.items():
        np.testing.assert_array_equal(p.idx_n, split.fold(fold))
        assert p.mean_ng().shape == p.var_ng().shape == (len(split.fold(fold)), dataset.n_genes)
        assert p.genes_g == dataset.genes
        assert (p.fold, p.model, p.scale) == (fold, kind, "log1p")
        assert (p.split_hash, p.fingerprint) == (split.frozen_hash, dataset.fingerprint)


def test_a_second_test_forgets_the_first_ones_answers(tiny, datamodule):
    module = tiny.baseline(datamodule.encoder.dims)
    first = tiny.run(module, datamodule)
    second = tiny.run(module, datamodule)
    assert same(first, second)


@pytest.mark.parametrize("kind", ["baseline", "network"])
@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
def test_judged_rows_and_their_reference_controls_change_nothing(tiny, kind, match, tmp_path):
    """Their expression is overwritten with NaN: whoever read it would fail or answer NaN."""
    runs, scores, weights = [], [], []
    for poisoned in (False, True):
        dataset = tiny.data(match=match)
        split = tiny.split(dataset)
        if poisoned:
            tiny.overwrite(dataset, np.concatenate([split.test_idx, split.calib_idx]), np.nan)
            judged = np.isin(dataset.obs["context_id"].to_numpy()[split.reference_control_idx], ["A", "B", "D"])
            tiny.overwrite(dataset, split.reference_control_idx[judged], np.nan)
        module, folder = tiny.module(dataset, split), tmp_path / str(poisoned)
        runs.append(tiny.run(getattr(tiny, kind)(module.encoder.dims), module, folder, epochs=4))
        scores.append(val_mse(folder))
        weights.append(torch.load(folder / "checkpoints" / "final.ckpt", weights_only=True)["state_dict"])
    assert np.isfinite(runs[1].predictions["test"].mean_qg).all()
    assert same(*runs)
    np.testing.assert_array_equal(*scores)
    assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())


def test_train_rows_do_change_the_answer(tiny, dataset, split):
    """The counterpart of the test above: overwriting does reach what is read."""
    first = tiny.module(dataset, split)
    before = tiny.run(tiny.baseline(first.encoder.dims), first)
    tiny.overwrite(dataset, split.train_idx[:3], 3.0)
    assert not same(before, tiny.run(tiny.baseline(first.encoder.dims), first))


# --- networks --------------------------------------------------------------------------------------


def test_a_network_learns(tiny, datamodule, tmp_path):
    tiny.run(tiny.network(datamodule.encoder.dims), datamodule, tmp_path, epochs=12)
    score = val_mse(tmp_path)
    assert len(score) == 12
    assert score.min() < 0.9 * score[0]


def test_the_tested_weights_are_the_best_on_validation_and_not_the_last(tiny, datamodule, tmp_path):
    module = tiny.network(datamodule.encoder.dims, lr=0.1)
    tiny.run(module, datamodule, tmp_path, epochs=15)
    score = val_mse(tmp_path)
    load = {n: torch.load(tmp_path / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "final")}
    assert score.argmin() < len(score) - 1
    assert load["best"]["epoch"] == score.argmin()
    for name, value in load["best"]["state_dict"].items():
        if name != "model.tau2":
            assert torch.equal(load["final"]["state_dict"][name], value)
            assert torch.equal(module.state_dict()[name], value)
    assert float(load["final"]["state_dict"]["model.tau2"]) == float(module.model.tau2) > 0


def test_fitting_stops_when_validation_stops_improving(tiny, datamodule, tmp_path):
    tiny.run(tiny.network(datamodule.encoder.dims, lr=0.1), datamodule, tmp_path, epochs=40, patience=2)
    score = val_mse(tmp_path)
    assert len(score) < 40
    assert score.argmin() == len(score) - 3


def test_validation_decides_which_weights_are_tested(tiny, dataset, split, tmp_path):
    module = tiny.module(dataset, split)
    tiny.run(tiny.network(module.encoder.dims), module, tmp_path / "a", epochs=2)
    tiny.overwrite(dataset, split.val_idx, 4.0)
    tiny.run(tiny.network(module.encoder.dims), module, tmp_path / "b", epochs=2)
    assert not np.array_equal(val_mse(tmp_path / "a"), val_mse(tmp_path / "b"))


def test_one_seed_gives_one_answer_and_another_seed_another(tiny, dataset, split):
    def answer(seed):
        module = tiny.module(dataset, split, seed=seed)
        return tiny.run(tiny.network(module.encoder.dims, seed=seed), module)

    first = answer(0)
    assert same(first, answer(0))
    assert not same(first, answer(1))


def test_every_source_of_chance_is_seeded():
    def drawn(seed):
        seed_all(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    first = drawn(5)
    assert first == drawn(5)
    assert all(a != b for a, b in zip(first, drawn(6), strict=True))


def test_a_run_without_a_folder_writes_nothing(tiny, datamodule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.run(tiny.network(datamodule.encoder.dims), datamodule, epochs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_accelerator_is_refused_before_fitting():
    with pytest.raises(AcceleratorAbsent, match="There is no such accelerator: given trainer.accelerator=cuda"):
        fit_and_test(None, None, TrainerSettings(accelerator="cuda"), print, print, None)
