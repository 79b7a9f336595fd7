"""One response for everything: the unweighted mean over train conditions."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.response import AbstractClosedForm
from perturbfm.types import Batch, Dims


class GlobalMean(AbstractClosedForm):
    r"""D = mean over train conditions of their delta; N = sum V / C^2.

    Limitations: the same answer for every perturbation; it cannot rank them.
    """

    mean_g: Tensor
    noise_g: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__(dims)
        self.register_buffer("mean_g", torch.zeros(dims.n_genes, dtype=torch.float64))
        self.register_buffer("noise_g", torch.zeros(dims.n_genes, dtype=torch.float64))

    def fit(self, table: ConditionTable) -> None:
        """Average over conditions, each counting once."""
        self.mean_g.copy_(table.delta_cg.mean(0))
        self.noise_g.copy_(table.noise_cg.sum(0) / len(table) ** 2)

    def mean(self, batch: Batch) -> Tensor:
        """The mean, repeated; [n, g]."""
        return self.mean_g.expand(batch.shape[0], -1)

    def noise(self, batch: Batch) -> Tensor:
        """Sampling variance of the mean, repeated; [n, g]."""
        return self.noise_g.expand(batch.shape[0], -1)
