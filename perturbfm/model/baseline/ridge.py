"""Linear map from control expression to delta, solved in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbfm.errors import BadValue
from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.response import AbstractClosedForm
from perturbfm.types import Batch, Dims


class Ridge(AbstractClosedForm):
    r"""Ridge regression of the delta on the control profile, with a free intercept.

    Conditions of one context share a control profile, so the k contexts are the distinct inputs and the dual form needs
    a k x k solve, whatever the number of genes. With :math:`\bar T_k` a context's mean delta over its :math:`n_k`
    conditions, :math:`Z_k = \sqrt{n_k}(x_k - \bar x)` and :math:`Y_k = \sqrt{n_k}(\bar T_k - \bar T)`:

    .. math:: D(x) = \bar T + (x - \bar x) Z^\top (Z Z^\top + \lambda I)^{-1} Y

    Args:
        dims: Sizes of the data.
        penalty: lambda in units of the mean diagonal of :math:`Z Z^\top`.

    Limitations: it sees the state and not the intervention, so all perturbations of a context get one answer.
    """

    mean_g: Tensor
    x_mean_g: Tensor
    z_kg: Tensor
    coefficient_kk: Tensor
    group_kg: Tensor
    group_noise_kg: Tensor
    share_k: Tensor

    def __init__(self, dims: Dims, penalty: float = 1.0) -> None:
        super().__init__(dims)
        if penalty < 0:
            raise BadValue(
                "A ridge penalty is negative", given=penalty, expected="0 or more", fix="Set model.model.penalty."
            )
        self.penalty = penalty
        k, g = dims.n_contexts, dims.n_genes
        for name, shape in (
            ("mean_g", (g,)),
            ("x_mean_g", (g,)),
            ("z_kg", (k, g)),
            ("coefficient_kk", (k, k)),
            ("group_kg", (k, g)),
            ("group_noise_kg", (k, g)),
            ("share_k", (k,)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def fit(self, table: ConditionTable) -> None:
        """Average conditions within contexts and solve the dual form; contexts without conditions weigh nothing."""
        k = self.dims.n_contexts
        n_k = torch.bincount(table.context_c, minlength=k).double()
        member_kc = torch.zeros(k, len(table), dtype=torch.float64)
        member_kc[table.context_c, torch.arange(len(table))] = 1.0
        safe = n_k.clamp_min(1.0).unsqueeze(1)
        self.share_k.copy_(n_k / n_k.sum())
        self.group_kg.copy_(member_kc @ table.delta_cg / safe)
        self.group_noise_kg.copy_(member_kc @ table.noise_cg / safe**2)
        x_kg = member_kc @ table.x_cg / safe
        self.mean_g.copy_(self.share_k @ self.group_kg)
        self.x_mean_g.copy_(self.share_k @ x_kg)
        self.z_kg.copy_(n_k.sqrt().unsqueeze(1) * (x_kg - self.x_mean_g))
        gram = self.z_kg @ self.z_kg.T
        strength = self.penalty * gram.diagonal().sum() / (n_k > 0).sum().clamp_min(1)
        regular = gram + torch.eye(k, dtype=torch.float64) * strength.clamp_min(1e-12)
        self.coefficient_kk.copy_(torch.linalg.solve(regular, torch.diag(n_k.sqrt())))

    def _weights(self, batch: Batch) -> Tensor:
        """Weight of each context's mean delta in the prediction, [n, k]; they sum to one."""
        slope_nk = (batch.x_ng.double() - self.x_mean_g) @ self.z_kg.T @ self.coefficient_kk
        return self.share_k + slope_nk - slope_nk.sum(1, keepdim=True) * self.share_k

    def mean(self, batch: Batch) -> Tensor:
        """Intercept plus slope, [n, g]."""
        return self._weights(batch) @ self.group_kg

    def noise(self, batch: Batch) -> Tensor:
        """Sampling variance of the weighted sum, [n, g]."""
        return self._weights(batch) ** 2 @ self.group_noise_kg
