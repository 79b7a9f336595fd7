"""Models that are solved: one epoch of sufficient statistics through the same Trainer as every other model."""

from __future__ import annotations

from collections.abc import Callable

from perturbfm.model.baseline.statistics import ConditionStatistics
from perturbfm.model.response import AbstractClosedForm
from perturbfm.train.response_module import ResponseModule
from perturbfm.types import Batch, Dims


class ClosedForm(ResponseModule):
    """LightningModule of a closed-form model.

    Args:
        name: Name of the model, as runs are called.
        model: Makes the model from the sizes of the data.
        dims: Sizes of the data.
    """

    epochs = 1
    learns_by_gradient = False
    model: AbstractClosedForm

    def __init__(self, name: str, model: Callable[..., AbstractClosedForm], dims: Dims) -> None:
        super().__init__(name, dims)
        self.model = model(dims=dims)
        self.automatic_optimization = False
        self.statistics: ConditionStatistics | None = ConditionStatistics()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the rows to the statistics."""
        if self.statistics is not None:
            self.statistics.add(batch)

    def on_validation_start(self) -> None:
        """Solve as soon as the epoch's rows are in, so that validation sees the solved model."""
        self._solve()

    def on_train_epoch_end(self) -> None:
        """Solve, where nothing was validated."""
        self._solve()

    def _solve(self) -> None:
        if self.statistics is not None:
            device = self.device
            self.model.cpu().solve(self.statistics.table())  # the table is on the CPU, wherever batches were
            self.model.to(device)
            self.statistics = None

    def configure_optimizers(self) -> None:
        """No optimiser: nothing is fitted by gradient."""
        return
