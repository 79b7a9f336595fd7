from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

import perturbfm.train.guards as guards_module
from perturbfm.errors import (
    CheckpointMismatch,
    FoldsOverlap,
    GenesOutOfOrder,
    InternalError,
    LossNotFinite,
    SplitEdited,
    SplitHashNotCarried,
    SplitNotFrozen,
    SplitOfOtherData,
)
from perturbfm.model.perturbfm.small_network import SmallNetwork
from perturbfm.train.fit import TrainerSettings
from perturbfm.train.guards import (
    FoldsStayApart,
    GenesStayInOrder,
    LossStaysFinite,
    PanelOnTestEnd,
    RunLeavesATrace,
    SplitHashIsCarried,
    SplitStaysLocked,
    guards,
)
from perturbfm.train.sampler import IndexBatches

GUARDS = (RunLeavesATrace, SplitStaysLocked, FoldsStayApart, GenesStayInOrder, LossStaysFinite, SplitHashIsCarried)
REPO = Path(__file__).parents[3]


def trainer_of(datamodule):
    """As much of a trainer as a guard looks at."""
    return SimpleNamespace(datamodule=datamodule, loggers=[], global_step=7)


def deal(rows, index):
    return DataLoader(rows, batch_size=None, sampler=IndexBatches(index, 16, None))


# --- always attached -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["baseline", "network"])
def test_every_run_has_every_guard_and_the_panel(tiny, datamodule, kind, tmp_path):
    module = getattr(tiny, kind)(datamodule.encoder.dims)
    tiny.run(module, datamodule, folder=tmp_path if kind == "network" else None, epochs=1)
    attached = [type(c) for c in module.trainer.callbacks]
    assert [a for a in attached if a in GUARDS] == list(GUARDS)
    assert PanelOnTestEnd in attached


def test_every_callback_of_the_file_is_attached():
    written = {
        v for v in vars(guards_module).values() if isinstance(v, type) and v.__module__ == guards_module.__name__
    }
    assert {type(g) for g in guards(lambda *_, **__: None)} | {PanelOnTestEnd} == written


def test_no_configuration_reaches_a_guard():
    conf = "\n".join(p.read_text() for p in sorted((REPO / "conf").rglob("*.yaml")))
    assert conf
    for name in (*(g.__name__ for g in GUARDS), "PanelOnTestEnd", "callbacks", "guards"):
        assert name not in conf
    assert {f.name for f in fields(TrainerSettings)} == {"max_epochs", "patience", "accelerator", "devices", "progress"}


def test_a_trainer_without_our_data_is_refused():
    with pytest.raises(InternalError, match="A trainer has no data module of ours"):
        FoldsStayApart().on_fit_start(SimpleNamespace(datamodule=None), None)


# --- folds -----------------------------------------------------------------------------------------


def test_folds_that_are_apart_pass(datamodule):
    FoldsStayApart().on_fit_start(trainer_of(datamodule), None)


@pytest.mark.parametrize(
    ("into", "of", "named"),
    [
        ("train_idx", "test_idx", "train and in test"),
        ("val_idx", "calib_idx", "val and in calib"),
        ("train_idx", "reference_control_idx", "train and in reference"),
        ("reference_control_idx", "input_control_idx", "input and in reference"),
    ],
)
def test_a_row_in_two_folds_is_refused(datamodule, into, of, named):
    split = datamodule.split
    shared = getattr(split, of)[:1]
    object.__setattr__(split, into, np.union1d(getattr(split, into), shared))
    with pytest.raises(FoldsOverlap, match=f"Rows are in {named}: given 1 rows, first {shared[0]}"):
        FoldsStayApart().on_fit_start(trainer_of(datamodule), None)


@pytest.mark.parametrize("fold", ["train", "val"])
@pytest.mark.parametrize("kind", ["baseline", "network"])
def test_a_loader_that_deals_judged_rows_ends_the_run(tiny, datamodule, monkeypatch, fold, kind):
    split = datamodule.split
    index = np.concatenate([split.fold(fold), split.test_idx[:3]])
    monkeypatch.setattr(datamodule, f"{fold}_dataloader", lambda: deal(datamodule.rows, index))
    with pytest.raises(FoldsOverlap, match=f"The {fold} loader deals out other rows than the {fold} fold"):
        tiny.run(getattr(tiny, kind)(datamodule.encoder.dims), datamodule)


def test_a_loader_that_deals_a_row_twice_ends_the_run(tiny, datamodule, monkeypatch):
    index = np.concatenate([datamodule.split.train_idx, datamodule.split.train_idx[:1]])
    monkeypatch.setattr(datamodule, "train_dataloader", lambda: deal(datamodule.rows, index))
    with pytest.raises(FoldsOverlap, match="once each"):
        tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule)


def test_questions_of_another_fold_end_the_run(tiny, datamodule):
    datamodule.queries["test"] = datamodule.queries["calib"]
    with pytest.raises(FoldsOverlap, match="The test loader deals out other rows than the test fold"):
        tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule)


# --- genes -----------------------------------------------------------------------------------------


def test_genes_in_another_order_end_the_run(tiny, datamodule):
    names = datamodule.dataset.adata.var_names
    datamodule.dataset.adata.var_names = names[::-1]
    with pytest.raises(GenesOutOfOrder, match="Genes of the data are not those of the encoder"):
        tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule)


# --- loss ------------------------------------------------------------------------------------------


class Broken(SmallNetwork):
    """Answers NaN."""

    def mean(self, batch):
        return super().mean(batch) * float("nan")


def test_a_loss_that_is_nan_ends_the_run_at_its_step(tiny, datamodule, tmp_path):
    events = []
    module = tiny.network(datamodule.encoder.dims, model=Broken)
    with pytest.raises(LossNotFinite, match="The loss is not finite at step 1: given nan"):
        tiny.run(module, datamodule, tmp_path, record=lambda event, **f: events.append((event, f)))
    assert events[-1] == ("failed", {"error": "LossNotFinite"})


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_loss_that_is_not_finite_is_refused(datamodule, value):
    with pytest.raises(LossNotFinite, match="not finite at step 7"):
        LossStaysFinite().on_train_batch_end(trainer_of(datamodule), None, {"loss": torch.tensor(value)}, None, 0)


@pytest.mark.parametrize("outputs", [{"loss": torch.tensor(1.0)}, torch.tensor(-3.0), None, {}])
def test_a_finite_or_absent_loss_passes(datamodule, outputs):
    LossStaysFinite().on_train_batch_end(trainer_of(datamodule), None, outputs, None, 0)


# --- the lock --------------------------------------------------------------------------------------


def test_an_edited_split_ends_the_run_before_it_starts(tiny, datamodule):
    split = datamodule.split
    object.__setattr__(split, "test_idx", split.test_idx[1:])
    with pytest.raises(SplitEdited, match="hash"):
        tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule)


@pytest.mark.parametrize("moment", ["fit_finished", "test_opened"])
def test_a_split_that_is_edited_meanwhile_ends_the_run(tiny, datamodule, moment):
    split, judged = datamodule.split, []

    def edit(event, **_fields):
        if event == moment:
            object.__setattr__(split, "test_idx", split.test_idx[1:])

    with pytest.raises(SplitEdited, match="hash"):
        judged.append(tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule, record=edit))
    assert not judged


def test_a_split_that_was_never_frozen_ends_the_run(tiny, datamodule):
    object.__setattr__(datamodule.split, "frozen_hash", None)
    with pytest.raises(SplitNotFrozen, match="carries no frozen hash"):
        tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule)


def test_other_data_end_the_run(tiny, datamodule):
    datamodule.dataset = tiny.data(tiny.adata(seed=1))
    with pytest.raises(SplitOfOtherData, match="locked to other data"):
        tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule)


# --- the hash --------------------------------------------------------------------------------------


class Forgetful(CSVLogger):
    """Drops hyperparameters."""

    def log_hyperparams(self, *args, **kwargs):
        pass


@pytest.mark.filterwarnings("ignore:.*returned `None`.*")
def test_a_logger_that_drops_the_hash_ends_the_run(tiny, datamodule, tmp_path):
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        logger=Forgetful(tmp_path), accelerator="cpu", callbacks=guards(lambda *_, **__: None), max_epochs=1, **quiet
    )
    with pytest.raises(SplitHashNotCarried, match="The logger Forgetful does not keep the split hash: given None"):
        trainer.fit(tiny.baseline(datamodule.encoder.dims), datamodule=datamodule)


@pytest.mark.parametrize("kind", ["baseline", "network"])
def test_what_a_run_stores_carries_the_hash_and_the_vocabulary(tiny, datamodule, tmp_path, kind):
    tiny.run(getattr(tiny, kind)(datamodule.encoder.dims), datamodule, tmp_path)
    stored = sorted((tmp_path / "checkpoints").glob("*.ckpt"))
    assert {p.name for p in stored} >= ({"final.ckpt"} if kind == "baseline" else {"best.ckpt", "final.ckpt"})
    for path in stored:
        carried = torch.load(path, weights_only=True)["perturbfm"]
        assert carried == {
            "split_hash": datamodule.split.frozen_hash,
            "encoder": datamodule.encoder.state(),
        }
    assert datamodule.split.frozen_hash in (tmp_path / "logs" / "hparams.yaml").read_text()


def resume(module, datamodule, path):
    quiet = {
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "logger": False,
    }
    trainer = pl.Trainer(accelerator="cpu", callbacks=guards(lambda *_, **__: None), max_epochs=9, **quiet)
    trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*", "ignore:.*many workers.*")
def test_a_checkpoint_of_another_split_is_refused(tiny, dataset, datamodule, tmp_path):
    tiny.run(tiny.network(datamodule.encoder.dims), datamodule, tmp_path, epochs=1)
    split = datamodule.split
    other = tiny.module(dataset, tiny.refreeze(split, val_idx=split.calib_idx, calib_idx=split.val_idx))
    with pytest.raises(CheckpointMismatch, match="The checkpoint was made on another split"):
        resume(tiny.network(other.encoder.dims), other, tmp_path / "checkpoints" / "final.ckpt")


def test_a_checkpoint_of_another_vocabulary_is_refused(datamodule):
    state = {"encoder": {**datamodule.encoder.state(), "genes": ["other"]}}
    with pytest.raises(CheckpointMismatch, match="The checkpoint has other genes: given 1 entries"):
        GenesStayInOrder().on_load_checkpoint(trainer_of(datamodule), None, {"perturbfm": state})


def test_a_foreign_checkpoint_is_refused(datamodule):
    with pytest.raises(CheckpointMismatch, match="another split: given None"):
        SplitHashIsCarried().on_load_checkpoint(trainer_of(datamodule), None, {})
    with pytest.raises(CheckpointMismatch, match="other genes: given 0 entries"):
        GenesStayInOrder().on_load_checkpoint(trainer_of(datamodule), None, {})


# --- the trace -------------------------------------------------------------------------------------


def test_a_run_tells_what_happens_in_order(tiny, datamodule):
    said = []
    tiny.run(tiny.baseline(datamodule.encoder.dims), datamodule, record=lambda event, **f: said.append((event, f)))
    assert [e for e, _ in said] == ["fit_started", "fit_finished", "test_opened"]
    assert said[0][1] == {"model": "ClosedForm"}
    assert said[1][1]["epochs"] == 1


@pytest.mark.parametrize(
    ("raised", "event"), [(KeyboardInterrupt(), "interrupted"), (ValueError("no"), "failed"), (MemoryError(), "failed")]
)
def test_what_ended_a_run_is_noted(raised, event):
    said = []
    RunLeavesATrace(lambda name, **f: said.append((name, f))).on_exception(None, None, raised)
    assert said == [(event, {"error": type(raised).__name__})]
