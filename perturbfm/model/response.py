"""The sockets: what every model is, what a closed form adds, what a network adds."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.types import VARIANCE_FLOOR, Batch, Dims, Gaussian

MAX_INNER_FOLDS = 20


class AbstractResponse(nn.Module, ABC):
    r"""A predictor of the mean delta with a predictive variance of that *mean*.

    .. math:: \sigma^2_{pg} = \tau^2\, s^2_{I,g}(c) + N_{pg}

    with :math:`s^2_I` the variance of single input-control cells of the asked context (1 where a file has no cells),
    :math:`N` the sampling variance of the prediction itself, and :math:`\tau^2` learned from train residuals:

    .. math:: \tau^2 = \max\left(0, \frac{\sum (e^2 - V - N)}{\sum s^2_I}\right)

    Source:
        The protocol's section on variance; `V` is the sampling variance of an observed delta.
    """

    tau2: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.dims = dims
        self.register_buffer("tau2", torch.zeros((), dtype=torch.float64))

    @abstractmethod
    def mean(self, batch: Batch) -> Tensor:
        """Predicted mean delta, [n, g]."""

    @abstractmethod
    def noise(self, batch: Batch) -> Tensor:
        """Sampling variance N of the prediction, [n, g]."""

    def excess(self, batch: Batch) -> Tensor:
        """Variance beyond sampling noise, [n, g]: what transfer to a new condition adds."""
        return self.tau2 * spread(batch)

    def forward(self, batch: Batch) -> Gaussian:
        """Mean and variance of each query's mean delta."""
        var = (self.noise(batch) + self.excess(batch)).clamp_min(VARIANCE_FLOOR)
        return Gaussian(self.mean(batch).float(), var.float())

    def learn_excess(self, residual_cg: Tensor, noise_cg: Tensor, spread_cg: Tensor) -> None:
        """Set tau2 from residuals e, their expected noise V + N, and the spread s2_I."""
        total = spread_cg.double().sum()
        excess = (residual_cg.double() ** 2 - noise_cg.double()).sum() / total if total > 0 else torch.zeros(())
        self.tau2.fill_(max(0.0, float(excess)))


def spread(batch: Batch) -> Tensor:
    """Variance of single control cells, or one where the file has no cells; [n, g], float64."""
    known = (batch.x_var_ng > 0).any(dim=1, keepdim=True)
    return torch.where(
        known, batch.x_var_ng.double(), torch.ones((), dtype=torch.float64, device=batch.x_var_ng.device)
    )


class AbstractClosedForm(AbstractResponse):
    """A model that is solved from a table of train conditions."""

    @abstractmethod
    def fit(self, table: ConditionTable) -> None:
        """Set the buffers from train conditions."""

    def solve(self, table: ConditionTable) -> None:
        """Learn the variance from inner leave-one-out residuals, then fit on every train condition."""
        residual, noise, scale = [], [], []
        for kept, left_out in table.inner_folds(MAX_INNER_FOLDS):
            inner = copy.deepcopy(self)
            inner.fit(kept)
            batch = left_out.as_batch()
            residual.append(left_out.delta_cg - inner.mean(batch))
            noise.append(left_out.noise_cg + inner.noise(batch))
            scale.append(spread(batch))
        self.fit(table)
        if residual:
            self.learn_excess(torch.cat(residual), torch.cat(noise), torch.cat(scale))
        else:  # a single condition: nothing can be left out, so its own size is all that is known of the error
            batch = table.as_batch()
            self.learn_excess(table.delta_cg, table.noise_cg, spread(batch))


class AbstractNetwork(AbstractResponse):
    """A model fitted by gradient on rows; the variance of the mean is learned afterwards from train conditions."""

    @abstractmethod
    def cell_variance(self, batch: Batch) -> Tensor:
        """Variance of a single row around its predicted mean, [n, g]; what the training likelihood uses."""

    def noise(self, batch: Batch) -> Tensor:
        """A network does not know its own sampling variance; all of it is in the excess."""
        return torch.zeros(batch.shape, dtype=torch.float64, device=batch.row_n.device)

    def learn_variance(self, table: ConditionTable) -> None:
        """Learn tau2 from residuals of train conditions (too small by what the network has memorised)."""
        batch = table.as_batch()
        with torch.no_grad():
            residual = table.delta_cg - self.mean(batch).double()
        self.learn_excess(residual, table.noise_cg, spread(batch))


def lookup(table_pg: Tensor, index_n: Tensor) -> Tensor:
    """Rows of a table whose last row answers for the unknown label -1."""
    return cast(Tensor, table_pg[index_n])
