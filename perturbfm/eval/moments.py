"""Sums per group of rows, held and synced by torchmetrics: truth accumulates chunk by chunk, or rank by rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torchmetrics import Metric

CHUNK = 8192


class GroupMoments(Metric):
    """Number, sum and sum of squares of the rows of each group, float64.

    Args:
        n_groups: Number of groups.
        n_genes: Number of genes.
    """

    full_state_update = False
    n_r: Tensor
    sum_rg: Tensor
    square_rg: Tensor

    def __init__(self, n_groups: int, n_genes: int) -> None:
        super().__init__()
        self.add_state("n_r", torch.zeros(n_groups, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sum_rg", torch.zeros(n_groups, n_genes, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("square_rg", torch.zeros(n_groups, n_genes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x_ng: Any, group_n: np.ndarray) -> None:
        """Add rows, CSR, dense or a view, in chunks."""
        n_groups = len(self.n_r)
        for start in range(0, x_ng.shape[0], CHUNK):
            x, group = x_ng[start : start + CHUNK], group_n[start : start + CHUNK]
            x = x.astype(np.float64)
            member = sparse.csr_matrix(
                (np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group))
            )
            square = x.multiply(x) if sparse.issparse(x) else x**2
            self.n_r += torch.from_numpy(np.bincount(group, minlength=n_groups).astype(np.float64))
            self.sum_rg += torch.from_numpy(_dense(member @ x))
            self.square_rg += torch.from_numpy(_dense(member @ square))

    def compute(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of rows, mean, and sum of squared deviations of each group (zeros for empty groups)."""
        n = self.n_r.numpy()
        safe = np.maximum(n, 1.0)[:, None]
        mean = self.sum_rg.numpy() / safe
        return n, mean, np.maximum(self.square_rg.numpy() - safe * mean**2, 0.0)


def moments(x_ng: Any, group_n: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of rows, mean and scatter (sum of squared deviations) of each group; rows are cut in chunks.

    Args:
        x_ng: Rows, CSR, dense or a view.
        group_n: Group of each row.
        n_groups: Number of groups.
    """
    accumulator = GroupMoments(n_groups, x_ng.shape[1])
    accumulator.update(x_ng, group_n)
    return accumulator.compute()


def detected(x_ng: Any) -> np.ndarray:
    """Share of rows in which each gene is not zero, rows cut in chunks."""
    found_g = np.zeros(x_ng.shape[1], dtype=np.int64)
    for start in range(0, x_ng.shape[0], CHUNK):
        found_g += np.asarray((x_ng[start : start + CHUNK] != 0).sum(axis=0)).ravel()
    return found_g / x_ng.shape[0]


def _dense(x: Any) -> np.ndarray:
    return np.ascontiguousarray(x.toarray() if sparse.issparse(x) else np.asarray(x), dtype=np.float64)
