"""What every LightningModule of the house does alike: validate on rows, answer blind queries, hand the answers over."""

from __future__ import annotations

import lightning.pytorch as pl
from torch import Tensor

from perturbfm.model.response import AbstractResponse
from perturbfm.train.batches import together
from perturbfm.train.datamodule import BLIND_FOLDS, PerturbDataModule
from perturbfm.types import Batch, Dims, Prediction


class ResponseModule(pl.LightningModule):
    """Shared part of `ClosedForm` and `Gradient`.

    Args:
        name: Name of the model, as runs are called.
        dims: Sizes of the data.
    """

    epochs: int | None = None
    learns_by_gradient = True
    model: AbstractResponse

    def __init__(self, name: str, dims: Dims) -> None:
        super().__init__()
        self.name, self.dims = name, dims
        self.answers: dict[str, list[tuple[Tensor, Tensor]]] = {f: [] for f in BLIND_FOLDS}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Mean squared error of single rows of the validation fold; all that selection may look at."""
        if batch.delta_ng is None:
            return
        error = ((self.model.mean(batch) - batch.delta_ng) ** 2).mean()
        self.log("val_mse", error, batch_size=len(batch.row_n), prog_bar=True, on_epoch=True)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Answer blind queries."""
        answer = self.model(batch)
        self.answers[BLIND_FOLDS[dataloader_idx]].append((answer.mean_ng.cpu(), answer.var_ng.cpu()))

    def on_test_start(self) -> None:
        """Forget earlier answers."""
        for collected in self.answers.values():
            collected.clear()

    def predictions(self, datamodule: PerturbDataModule) -> dict[str, Prediction]:
        """The answers as predictions of whole folds."""
        split, dataset = datamodule.split, datamodule.dataset
        found = {}
        for fold, queries in datamodule.queries.items():
            mean_qg, var_qg = together(self.answers[fold])
            found[fold] = Prediction(
                mean_qg=mean_qg,
                var_qg=var_qg,
                query_n=queries.query_n,
                idx_n=queries.fold_idx,
                genes_g=dataset.genes,
                scale=dataset.declared.scale,
                fold=fold,
                model=self.name,
                split_hash=str(split.frozen_hash),
                fingerprint=split.fingerprint,
            )
        return found
