"""A batch that carries the controls of its rows once per group of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from perturbfm.train.buffers import Buffers
from perturbfm.types import Batch


@dataclass(kw_only=True)
class GroupedBatch(Batch):
    """A batch whose rows share controls: a small table and an index, expanded when `x_ng` or `x_var_ng` is first read.

    Attributes:
        control_kg: Mean of each control group, as `x_ng` has it.
        control_var_kg: Variance of each control group, as `x_var_ng` has it.
        control_n: Row of these tables for each row of the batch.
    """

    control_kg: Tensor
    control_var_kg: Tensor
    control_n: Tensor
    x_ng: Tensor = field(init=False, repr=False)
    x_var_ng: Tensor = field(init=False, repr=False)

    def __getattr__(self, name: str) -> Tensor:
        """Called for what is not there yet: expands a table and keeps the result."""
        if name not in ("x_ng", "x_var_ng"):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        table_kg = self.control_kg if name == "x_ng" else self.control_var_kg
        value_ng = _expanded(table_kg, self.control_n)
        setattr(self, name, value_ng)
        return value_ng

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and genes."""
        return len(self.row_n), int(self.control_kg.shape[1])

    def controls_of(self, row: int) -> tuple[Tensor, Tensor]:
        """Mean and single-cell variance of the controls of one row, each [g]."""
        group = self.control_n[row]
        return self.control_kg[group], self.control_var_kg[group]


def _expanded(table_kg: Tensor, group_n: Tensor) -> Tensor:
    """Rows of a table, on the CPU in memory that is used again."""
    if table_kg.device.type != "cpu" or table_kg.dtype != torch.float32:
        return table_kg.index_select(0, group_n)
    value_ng = torch.from_numpy(_buffers(table_kg.shape[1]).take(len(group_n)))
    return torch.index_select(table_kg, 0, group_n, out=value_ng)


@lru_cache(maxsize=1)
def _buffers(n_genes: int) -> Buffers:
    """One pool per process, because batches travel between processes and memory does not."""
    return Buffers(n_genes)
