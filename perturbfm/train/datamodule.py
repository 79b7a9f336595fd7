"""The LightningDataModule: train and validation rows with responses, calibration and test as blind queries."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader

from perturbfm.data.dataset import PerturbDataset
from perturbfm.split import Split
from perturbfm.train.batches import QueryBatches, RowBatches, summarise_controls
from perturbfm.train.encoder import Encoder
from perturbfm.train.preprocess import Preprocessor, nothing
from perturbfm.train.sampler import IndexBatches, ResumableLoader
from perturbfm.types import Batch, Learned, join_labels

BLIND_FOLDS = ("calib", "test")
"""Folds that are only ever asked, in the order of the test dataloaders."""


class PerturbDataModule(pl.LightningDataModule):
    """Cuts batches for one data set and one frozen split.

    Args:
        dataset: The data, preprocessed already.
        split: The frozen split.
        batch_size: Rows or queries per batch.
        seed: Seed of the shuffling.
        num_workers: Worker processes of the loaders; they cut batches ahead, and share the data's pages.
        preprocessor: What was done to the data; None where nothing was.
        shuffle_block: 0 shuffles all train rows with each other; see `IndexBatches` for disks that are slow at that.
    """

    def __init__(
        self,
        dataset: PerturbDataset,
        split: Split,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        preprocessor: Preprocessor | None = None,
        shuffle_block: int = 0,
    ) -> None:
        super().__init__()
        self.shuffle_block = shuffle_block
        self.dataset, self.split, self.preprocessor = dataset, split, preprocessor or nothing(dataset)
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        labels = dataset.labels()
        self.encoder = Encoder.learn(labels, split.train_idx, dataset.genes)
        shown = summarise_controls(dataset, split.input_control_idx, split.train_idx)
        truth = summarise_controls(dataset, split.reference_control_idx, split.train_idx)
        input_kg = self.preprocessor.view(shown.mean_kg, dataset.genes)
        self.rows = RowBatches(dataset, split, self.encoder, shown, input_kg=input_kg)
        self.val_rows = RowBatches(dataset, split, self.encoder, shown, truth, input_kg=input_kg)
        by_batch = dataset.declared.match != "context"
        name_n = join_labels(labels.condition_n, labels.batch_n, "#") if by_batch else labels.condition_n
        self.queries = {f: QueryBatches(self.rows, split.fold(f), name_n) for f in BLIND_FOLDS}

    def provenance(self) -> list[Learned]:
        """What was learned before fitting, and from which rows."""
        return [*self.preprocessor.provenance(), Learned("vocabulary", self.split.train_idx)]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Train rows, reshuffled every epoch; with several processes, this one's share of every batch."""
        share = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        index = self.split.train_idx
        return self._loader(self.rows, IndexBatches(index, self.batch_size, self.seed, self.shuffle_block, *share))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation rows, in order; their deltas are truth, so they are taken against reference controls."""
        return self._loader(self.val_rows, IndexBatches(self.split.val_idx, self.batch_size, None))

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Blind queries of the calibration and of the test fold."""
        return [
            self._loader(q, IndexBatches(np.arange(len(q)), self.batch_size, None))
            for q in (self.queries[f] for f in BLIND_FOLDS)
        ]

    def _loader(self, source: RowBatches | QueryBatches, sampler: IndexBatches) -> DataLoader[Batch]:
        return ResumableLoader(
            source,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),  # seeds of workers, which draw nothing; not taken from the models' generator
        )
