"""Models fitted by gradient: Gaussian likelihood of rows, selection on the validation fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import gaussian_nll_loss

from perturbfm.errors import InternalError
from perturbfm.model.baseline.statistics import ConditionStatistics
from perturbfm.model.response import AbstractNetwork
from perturbfm.train.response_module import ResponseModule
from perturbfm.types import Batch, Dims


class Gradient(ResponseModule):
    """LightningModule of a network.

    Args:
        name: Name of the model, as runs are called.
        model: Makes the network from the sizes of the data.
        optimizer: Makes the optimiser from the parameters.
        dims: Sizes of the data.
    """

    model: AbstractNetwork

    def __init__(
        self,
        name: str,
        model: Callable[..., AbstractNetwork],
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
        dims: Dims,
    ) -> None:
        super().__init__(name, dims)
        self.model = model(dims=dims)
        self.make_optimizer = optimizer

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Gaussian negative log-likelihood of single rows around their predicted mean."""
        if batch.delta_ng is None:
            raise InternalError(
                "A train batch has no response", given="None", expected="delta", fix="Please report this."
            )
        loss = gaussian_nll_loss(self.model.mean(batch), batch.delta_ng, self.model.cell_variance(batch))
        self.log("train_loss", loss, batch_size=len(batch.row_n), prog_bar=True)
        return loss

    def learn_variance(self, batches: Iterable[Batch]) -> None:
        """Learn the variance of mean deltas from one more pass over train."""
        statistics = ConditionStatistics()
        for batch in batches:
            statistics.add(batch)
        self.model.learn_variance(statistics.table())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser that the yaml names."""
        return self.make_optimizer(self.parameters())
