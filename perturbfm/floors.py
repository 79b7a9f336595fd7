"""The floors of a run: which models they are, and their predictions, fitted once per split and kept."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbfm import config
from perturbfm.kept import KeptStanding

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.split import Split
    from perturbfm.train.datamodule import PerturbDataModule
    from perturbfm.train.preprocess import Preprocessor
    from perturbfm.train.response_module import ResponseModule
    from perturbfm.types import Prediction

FLOORS = {"no_change": "no_change", "train_mean": "global_mean", "source_delta": "per_perturbation_mean"}
"""Floors that learn on train, and the model that each one is."""

COMBINATION_FLOORS = {"additive": "additive", "matching_mean": "matching_mean"}
"""Further floors where the test fold holds combinations."""

BATCH_SIZE = 1024
"""Rows per batch of a floor's one epoch; of its own, so that no setting of a model's moves a floor's last digit."""


def floors_for(dataset: PerturbDataset, split: Split) -> dict[str, str]:
    """The floors that stand beside models of this split."""
    delimiter = dataset.labels().delimiter
    judged = set(dataset.labels().pert_n[split.test_idx].tolist()) if delimiter else set()
    return FLOORS | (COMBINATION_FLOORS if any(str(delimiter) in str(p) for p in judged) else {})


def fitted_floors(
    dataset: PerturbDataset, split: Split, preprocessor: Preprocessor, kept: KeptStanding, seed: int
) -> dict[str, dict[str, Prediction]]:
    """Predictions of every floor by fold: kept ones, or fitted now and kept.

    Args:
        dataset: The data, preprocessed.
        split: The frozen split.
        preprocessor: What was done to the data.
        kept: Where they are kept.
        seed: Seed of the shuffling, a fact of the split.
    """
    from perturbfm.train.datamodule import PerturbDataModule

    found = kept.floors()
    if found is None:
        datamodule = PerturbDataModule(dataset, split, BATCH_SIZE, seed, preprocessor=preprocessor)
        fitted = {n: floor_predictions(model, datamodule) for n, model in floors_for(dataset, split).items()}
        kept.keep_floors(fitted)
        found = kept.floors() or fitted
    return found


def floor_predictions(model: str, datamodule: PerturbDataModule) -> dict[str, Prediction]:
    """Predictions of a floor, through the same Trainer and the same guards as any model."""
    from perturbfm.train.fit import TrainerSettings, fit_and_test

    module: ResponseModule = config.build(_composed(model))(dims=datamodule.encoder.dims)
    found: dict[str, Prediction] = {}
    fit_and_test(module, datamodule, TrainerSettings(), found.update, _ignore, None)
    return found


def floor_facts(dataset: PerturbDataset, split: Split) -> dict[str, Any]:
    """What decides the floors' predictions, beside the code."""
    models = floors_for(dataset, split)
    return {
        "floors": {n: config.plain(_composed(m)) for n, m in models.items()},
        "genes": len(dataset.genes),
        "fingerprint": dataset.fingerprint,
        "split": split.frozen_hash,
        "test_rows": int(np.size(split.test_idx)),
    }


@cache
def _composed(model: str) -> DictConfig:
    """The shipped yaml of a model."""
    return config.compose_group("model", [f"model={model}"], {})


def _ignore(_event: str, **_fields: Any) -> None:
    """A floor leaves no trace of its own; the run that scores it does."""
