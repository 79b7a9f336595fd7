"""The response seen elsewhere: each intervention's mean over the train contexts that have it."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.response import AbstractClosedForm, lookup
from perturbfm.types import Batch, Dims


class PerPerturbationMean(AbstractClosedForm):
    r"""D_p = mean over the k train contexts of T_pc; N_p = sum V_pc / k^2.

    An intervention not seen in train gets the mean over all train conditions (the last row of the tables).

    Limitations: the same answer in every context; noise of single conditions goes straight into the prediction.
    """

    mean_pg: Tensor
    noise_pg: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__(dims)
        shape = (dims.n_interventions + 1, dims.n_genes)
        self.register_buffer("mean_pg", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("noise_pg", torch.zeros(shape, dtype=torch.float64))

    def fit(self, table: ConditionTable) -> None:
        """Average over contexts, each counting once."""
        mean, noise = averages(table, table.intervention_c, self.dims.n_interventions)
        self.mean_pg.copy_(mean)
        self.noise_pg.copy_(noise)

    def mean(self, batch: Batch) -> Tensor:
        """The intervention's mean, [n, g]."""
        return lookup(self.mean_pg, batch.intervention_n)

    def noise(self, batch: Batch) -> Tensor:
        """Sampling variance of that mean, [n, g]."""
        return lookup(self.noise_pg, batch.intervention_n)


def averages(table: ConditionTable, group_c: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Mean delta and its sampling variance per group, with the mean over all conditions where a group is empty.

    Returns:
        Two tensors of shape (n_groups + 1, g); the last row answers for unknown groups.
    """
    n_genes = table.delta_cg.shape[1]
    total = torch.zeros(n_groups + 1, n_genes, dtype=torch.float64).index_add_(0, group_c, table.delta_cg)
    noise = torch.zeros(n_groups + 1, n_genes, dtype=torch.float64).index_add_(0, group_c, table.noise_cg)
    count = torch.bincount(group_c, minlength=n_groups + 1).double().unsqueeze(1)
    seen = count > 0
    count = count.clamp_min(1.0)
    mean = torch.where(seen, total / count, table.delta_cg.mean(0))
    return mean, torch.where(seen, noise / count**2, table.noise_cg.sum(0) / len(table) ** 2)
