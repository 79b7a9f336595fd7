"""One small network: it proves the gradient path, nothing more."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from perturbfm.errors import BadValue
from perturbfm.model.response import AbstractNetwork
from perturbfm.types import Batch, Dims


class SmallNetwork(AbstractNetwork):
    """delta = MLP(projection of the control profile + sum of learned embeddings of the intervention's parts).

    Args:
        dims: Sizes of the data.
        hidden: Width of the hidden layer.
        latent: Width of the projection and of the embeddings.
        use_control: Whether the control profile enters at all.

    Limitations: a part not seen in train adds nothing; few contexts teach it little about control expression.
    """

    def __init__(self, dims: Dims, hidden: int = 64, latent: int = 16, use_control: bool = True) -> None:
        super().__init__(dims)
        if min(hidden, latent) < 1:
            raise BadValue(
                "A width of the network is not positive",
                given=f"hidden={hidden}, latent={latent}",
                expected="1 or more",
                fix="Set model.model.hidden and model.model.latent.",
            )
        self.use_control = use_control
        self.control = nn.Linear(dims.n_genes, latent)
        self.part_pd = nn.Parameter(torch.randn(dims.n_parts, latent) * 0.1)
        self.head = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, dims.n_genes))
        self.log_var_g = nn.Parameter(torch.zeros(dims.n_genes))

    def mean(self, batch: Batch) -> Tensor:
        """Predicted mean delta, [n, g]."""
        h_nd = batch.parts_np.float() @ self.part_pd
        if self.use_control:
            h_nd = h_nd + self.control(batch.x_ng.float())
        return cast(Tensor, self.head(h_nd))

    def cell_variance(self, batch: Batch) -> Tensor:
        """One learned variance per gene, [n, g]."""
        return self.log_var_g.exp().expand(batch.shape[0], -1)
