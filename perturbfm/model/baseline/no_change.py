"""The floor of every table: a perturbed cell looks like its control."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.response import AbstractClosedForm
from perturbfm.types import Batch


class NoChange(AbstractClosedForm):
    """D = 0. Its variance is the mean squared true effect of train conditions: a calibrated "I do not know"."""

    def fit(self, table: ConditionTable) -> None:
        """Nothing to learn."""

    def mean(self, batch: Batch) -> Tensor:
        """Zeros, [n, g]."""
        return torch.zeros(batch.shape, dtype=torch.float64, device=batch.row_n.device)

    def noise(self, batch: Batch) -> Tensor:
        """Zero is known without error."""
        return torch.zeros(batch.shape, dtype=torch.float64, device=batch.row_n.device)
