"""Callbacks that watch the invariants while a model is fitted. They are always on; no configuration reaches them.

A guard reads and raises; it never repairs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import Logger

from perturbfm.errors import (
    CheckpointMismatch,
    FoldsOverlap,
    GenesOutOfOrder,
    InternalError,
    LossNotFinite,
    SplitHashNotCarried,
)
from perturbfm.train.datamodule import PerturbDataModule
from perturbfm.train.response_module import ResponseModule
from perturbfm.types import Prediction

CARRIED = "perturbfm"
"""Key of our own record inside a checkpoint."""


class FoldsStayApart(pl.Callback):
    """No row is in two folds or roles, and the loaders deal out exactly their fold."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before the first batch."""
        module = data(trainer)
        split = module.split
        rows = {f: split.fold(f) for f in ("train", "val", "calib", "test")}
        rows |= {"input": split.input_control_idx, "reference": split.reference_control_idx}
        for (a, rows_a), (b, rows_b) in combinations(rows.items(), 2):
            shared = np.intersect1d(rows_a, rows_b)
            if len(shared):
                raise FoldsOverlap(
                    f"Rows are in {a} and in {b}",
                    given=f"{len(shared)} rows, first {shared[0]}",
                    expected="no row in two folds",
                    fix="Make the split again with `perturbfm splits create`.",
                )
        dealt = {
            "train": np.concatenate(list(module.train_dataloader().sampler)),
            "val": np.concatenate(list(module.val_dataloader().sampler)),
            **{f: queries.fold_idx for f, queries in module.queries.items()},
        }
        for fold, given in dealt.items():
            if not np.array_equal(np.sort(given), split.fold(fold)):
                raise FoldsOverlap(
                    f"The {fold} loader deals out other rows than the {fold} fold",
                    given=f"{len(given)} rows",
                    expected=f"the {len(split.fold(fold))} rows of {fold}, once each",
                    fix="Give the loader the fold's own rows.",
                )


class GenesStayInOrder(pl.Callback):
    """The genes of the data are those of the encoder and of a checkpoint, in the same order."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the data against the encoder."""
        module = data(trainer)
        if module.encoder.genes != module.dataset.genes:
            raise GenesOutOfOrder(
                "Genes of the data are not those of the encoder",
                given=f"{len(module.dataset.genes)} genes",
                expected=f"{len(module.encoder.genes)} genes in the learned order",
                fix="Reorder the data's genes to the model's.",
            )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the checkpoint carry the vocabulary."""
        checkpoint.setdefault(CARRIED, {})["encoder"] = data(trainer).encoder.state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint of other genes."""
        data(trainer).encoder.assert_same(checkpoint.get(CARRIED, {}).get("encoder", {}))


class PreprocessingIsCarried(pl.Callback):
    """Every checkpoint carries the preprocessing that made its inputs, and is refused beside another."""

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the checkpoint carry what was learned."""
        preprocessor = data(trainer).preprocessor
        if preprocessor.stages:
            checkpoint.setdefault(CARRIED, {})["preprocess"] = preprocessor.state()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint of other preprocessing."""
        data(trainer).preprocessor.assert_same(checkpoint.get(CARRIED, {}).get("preprocess"))


class LossStaysFinite(pl.Callback):
    """A loss that is NaN or infinite ends the run at the step where it happens."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss of the step."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor) and not bool(torch.isfinite(loss).all()):
            raise LossNotFinite(
                f"The loss is not finite at step {trainer.global_step}",
                given=float(loss),
                expected="a finite number",
                fix="Lower the learning rate, and check the scale of the data.",
            )


class SplitStaysLocked(pl.Callback):
    """The split's content gives its frozen hash, and fits the data, before and after fitting and before testing."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before fitting."""
        self._check(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check after fitting."""
        self._check(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before the test fold is opened."""
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        module = data(trainer)
        module.split.assert_frozen()
        module.split.assert_fits(module.dataset.locked_fingerprint, module.dataset.n_obs)


class SplitHashIsCarried(pl.Callback):
    """Every logger and every checkpoint carries the split hash, or the run fails."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the hash to every logger and look whether it arrived."""
        split = data(trainer).split
        for logger in trainer.loggers:
            logger.log_hyperparams({"split_hash": str(split.frozen_hash)})
            if logged_hash(logger) != split.frozen_hash:
                raise SplitHashNotCarried(
                    f"The logger {type(logger).__name__} does not keep the split hash",
                    given=logged_hash(logger),
                    expected=split.frozen_hash,
                    fix="Use a logger that keeps hyperparameters.",
                )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the checkpoint carry the hash."""
        checkpoint.setdefault(CARRIED, {})["split_hash"] = str(data(trainer).split.frozen_hash)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse a checkpoint of another split."""
        carried = checkpoint.get(CARRIED, {}).get("split_hash")
        mine = data(trainer).split.frozen_hash
        if carried != mine:
            raise CheckpointMismatch(
                "The checkpoint was made on another split",
                given=str(carried)[:12],
                expected=str(mine)[:12],
                fix="Use a checkpoint of this split, or run with the split it was made on.",
            )


class RunLeavesATrace(pl.Callback):
    """Tells the run's record what happens, so that a run that dies is visible.

    Args:
        record: Takes the name of an event and its fields.
    """

    def __init__(self, record: Callable[..., None]) -> None:
        self.record = record

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that fitting begins."""
        self.record("fit_started", model=type(pl_module).__name__)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that fitting is over."""
        self.record("fit_finished", epochs=trainer.current_epoch, steps=trainer.global_step)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the test fold is opened."""
        self.record("test_opened")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Note what ended the run."""
        self.record(
            "interrupted" if isinstance(exception, KeyboardInterrupt) else "failed", error=type(exception).__name__
        )


class PanelOnTestEnd(pl.Callback):
    """Hands the blind predictions to the judge when the test loop ends, so that no run ends without its panel.

    Args:
        judge: Takes the predictions of the calibration and test folds.
    """

    def __init__(self, judge: Callable[[dict[str, Prediction]], None]) -> None:
        self.judge = judge

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge."""
        if trainer.is_global_zero and isinstance(pl_module, ResponseModule):
            self.judge(pl_module.predictions(data(trainer)))


def guards(record: Callable[..., None]) -> list[pl.Callback]:
    """All guards, in the order they watch."""
    return [
        RunLeavesATrace(record),
        SplitStaysLocked(),
        FoldsStayApart(),
        GenesStayInOrder(),
        PreprocessingIsCarried(),
        LossStaysFinite(),
        SplitHashIsCarried(),
    ]


def data(trainer: pl.Trainer) -> PerturbDataModule:
    """The data module of a trainer."""
    module = getattr(trainer, "datamodule", None)
    if not isinstance(module, PerturbDataModule):
        raise InternalError(
            "A trainer has no data module of ours",
            given=type(module).__name__,
            expected="PerturbDataModule",
            fix="Please report this.",
        )
    return module


def logged_hash(logger: Logger) -> str | None:
    """The split hash a logger holds, or None."""
    for holder in (logger, getattr(logger, "experiment", None)):
        found = getattr(holder, "hparams", None)
        if found is not None and "split_hash" in found:
            return str(found["split_hash"])
    return None
