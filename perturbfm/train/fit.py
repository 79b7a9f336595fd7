"""The one training path: seed, Trainer with its guards, fit, test."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from perturbfm.errors import AcceleratorAbsent
from perturbfm.train.datamodule import PerturbDataModule
from perturbfm.train.gradient import Gradient
from perturbfm.train.guards import PanelOnTestEnd, guards
from perturbfm.train.response_module import ResponseModule
from perturbfm.types import Prediction


@dataclass(frozen=True)
class TrainerSettings:
    """How long and on what a model is fitted."""

    max_epochs: int = 50
    patience: int = 8
    accelerator: str = "cpu"
    devices: int = 1
    progress: bool = False


def seed_all(seed: int) -> None:
    """Seed random, numpy, torch and CUDA; the only function that does."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries below us draw from the global state
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def fit_and_test(
    module: ResponseModule,
    datamodule: PerturbDataModule,
    settings: TrainerSettings,
    judge: Callable[[dict[str, Prediction]], None],
    record: Callable[..., None],
    folder: Path | None,
) -> None:
    """Fit on train, select on validation, then open calibration and test through the Trainer's own test loop.

    Args:
        module: The model.
        datamodule: The data and its frozen split.
        settings: How long and on what.
        judge: Called on test end with the blind predictions.
        record: Takes events of the run.
        folder: Where logs and checkpoints go; None keeps nothing (floors).
    """
    _check_accelerator(settings.accelerator)
    trainer = _trainer(module, settings, judge, record, folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        warnings.filterwarnings("ignore", message=".*returned `None`.*")
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*|.*logging interval.*")
        trainer.fit(module, datamodule=datamodule)
        _finish(trainer, module, datamodule, folder)
        trainer.test(module, datamodule=datamodule, verbose=False)


def _check_accelerator(accelerator: str) -> None:
    there = {"gpu": torch.cuda.is_available() or torch.backends.mps.is_available()}
    there |= {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(accelerator, True):
        raise AcceleratorAbsent(
            "There is no such accelerator",
            given=f"trainer.accelerator={accelerator}",
            expected="one that torch finds on this machine",
            fix="Set trainer.accelerator=cpu, or install the build of torch for your device.",
        )


def _finish(trainer: pl.Trainer, module: ResponseModule, datamodule: PerturbDataModule, folder: Path | None) -> None:
    """Go back to the best epoch on validation, learn the variance there, and save what will be tested."""
    if isinstance(module, Gradient):
        best = next((c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), "")
        if best:
            module.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
        module.learn_variance(datamodule.train_dataloader())
    if folder is not None:
        trainer.save_checkpoint(folder / "checkpoints" / "final.ckpt")


def _trainer(
    module: ResponseModule,
    settings: TrainerSettings,
    judge: Callable[[dict[str, Prediction]], None],
    record: Callable[..., None],
    folder: Path | None,
) -> pl.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    callbacks = [*guards(record), PanelOnTestEnd(judge)]
    keeps = folder is not None and module.learns_by_gradient
    if keeps and folder is not None:
        callbacks.append(EarlyStopping("val_mse", patience=settings.patience, mode="min"))
        callbacks.append(ModelCheckpoint(folder / "checkpoints", "best", monitor="val_mse", mode="min"))
    if settings.progress:
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        max_epochs=module.epochs or settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        deterministic=True,
        num_sanity_val_steps=0,
        logger=CSVLogger(folder, name=None, version="logs") if folder is not None else False,
        callbacks=callbacks,
        enable_checkpointing=keeps,
        enable_progress_bar=settings.progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
