"""The response seen here: each condition's own train mean, where train has it."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbfm.model.baseline.per_perturbation_mean import averages
from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.response import AbstractClosedForm, lookup
from perturbfm.types import Batch, Dims


class PerPerturbationContextMean(AbstractClosedForm):
    """D_pc = the condition's train delta; elsewhere the intervention's mean over contexts; elsewhere the global mean.

    On a split of whole conditions every judged condition falls back, so it equals `PerPerturbationMean` there.
    """

    mean_rg: Tensor
    noise_rg: Tensor
    seen_r: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__(dims)
        rows = (dims.n_interventions + 1) * (dims.n_contexts + 1)
        self.register_buffer("mean_rg", torch.zeros(rows, dims.n_genes, dtype=torch.float64))
        self.register_buffer("noise_rg", torch.zeros(rows, dims.n_genes, dtype=torch.float64))
        self.register_buffer("seen_r", torch.zeros(rows, dtype=torch.bool))

    def fit(self, table: ConditionTable) -> None:
        """Fill every pair with its own mean or its fallback."""
        mean, noise = averages(table, table.intervention_c, self.dims.n_interventions)
        self.mean_rg.copy_(mean.repeat_interleave(self.dims.n_contexts + 1, 0))
        self.noise_rg.copy_(noise.repeat_interleave(self.dims.n_contexts + 1, 0))
        row = self._row(table.intervention_c, table.context_c)
        self.mean_rg[row], self.noise_rg[row] = table.delta_cg, table.noise_cg
        self.seen_r.zero_()
        self.seen_r[row] = True

    def _row(self, intervention: Tensor, context: Tensor) -> Tensor:
        n_p, n_k = self.dims.n_interventions + 1, self.dims.n_contexts + 1
        return (intervention % n_p) * n_k + context % n_k

    def mean(self, batch: Batch) -> Tensor:
        """The pair's mean or its fallback, [n, g]."""
        return lookup(self.mean_rg, self._row(batch.intervention_n, batch.context_n))

    def noise(self, batch: Batch) -> Tensor:
        """Sampling variance of that mean, [n, g]."""
        return lookup(self.noise_rg, self._row(batch.intervention_n, batch.context_n))

    def excess(self, batch: Batch) -> Tensor:
        """Nothing is transferred to a pair that train has seen, so only fallbacks carry the excess."""
        seen = lookup(self.seen_r, self._row(batch.intervention_n, batch.context_n)).unsqueeze(1)
        return torch.where(seen, torch.zeros((), dtype=torch.float64), super().excess(batch))
