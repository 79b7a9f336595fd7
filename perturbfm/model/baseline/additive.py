"""The response of a combination from those of its parts, seen alone."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.response import AbstractClosedForm
from perturbfm.types import Batch, Dims


class Additive(AbstractClosedForm):
    r"""D_{A+B} = e_A + e_B, or their mean; e_a the mean delta over the train conditions of a alone.

    A part that train saw only in combinations has the mean over all single train conditions; one that train does not
    know at all adds nothing, and an intervention of only such parts gets that mean once. Where train holds no single,
    the mean over all train conditions stands in.

    Args:
        dims: Sizes the data decides.
        average: Divide by the number of parts (the *matching mean*).

    Limitations: the sum counts the systematic shift and the noise of the controls once per part.

    Source:
        Additive: Ahlmann-Eltze et al. (2025), doi:10.1038/s41592-025-02772-6. Matching mean: Systema,
        mlbio-epfl/systema fe087c9.
    """

    effect_pg: Tensor
    noise_pg: Tensor

    def __init__(self, dims: Dims, average: bool = False) -> None:
        super().__init__(dims)
        self.average = average
        shape = (dims.n_parts + 1, dims.n_genes)  # the last row answers for a part that was never seen alone
        self.register_buffer("effect_pg", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("noise_pg", torch.zeros(shape, dtype=torch.float64))

    def fit(self, table: ConditionTable) -> None:
        """Average the singles of every part, each condition counting once."""
        single = table.parts_cp.sum(1) == 1
        kept = table.take(single) if bool(single.any()) else table
        mean_g, mean_noise_g = kept.delta_cg.mean(0), kept.noise_cg.sum(0) / len(kept) ** 2
        member_pc = table.parts_cp.double().T * single.double()
        count_p = member_pc.sum(1, keepdim=True)
        known = count_p > 0
        count_p = count_p.clamp_min(1.0)
        self.effect_pg.copy_(_with_last(torch.where(known, member_pc @ table.delta_cg / count_p, mean_g), mean_g))
        noise_pg = torch.where(known, member_pc @ table.noise_cg / count_p**2, mean_noise_g)
        self.noise_pg.copy_(_with_last(noise_pg, mean_noise_g))

    def mean(self, batch: Batch) -> Tensor:
        """Sum (or mean) of the parts' effects, [n, g]."""
        weight_np = self._weight(batch)
        return weight_np @ self.effect_pg.to(weight_np.device)

    def noise(self, batch: Batch) -> Tensor:
        """Sampling variance of that, [n, g]."""
        weight_np = self._weight(batch)
        return weight_np**2 @ self.noise_pg.to(weight_np.device)

    def _weight(self, batch: Batch) -> Tensor:
        parts_np = batch.parts_np.double()
        unknown_n1 = (parts_np.sum(1, keepdim=True) == 0).double()
        weight_np = torch.cat([parts_np, unknown_n1], dim=1)
        return weight_np / weight_np.sum(1, keepdim=True) if self.average else weight_np


def _with_last(rows_pg: Tensor, last_g: Tensor) -> Tensor:
    return torch.cat([rows_pg, last_g.unsqueeze(0)])
