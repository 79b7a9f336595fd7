"""How fast batches are cut, as a ratio against indexing the AnnData per batch, in one run on one machine.

Prints a table: batches of 512 shuffled rows of the planted world, `precise` preset with 12 contexts' worth of rows.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from perturbfm.data import load
from perturbfm.split import context_ood
from perturbfm.train.datamodule import PerturbDataModule

ROUNDS, BATCH = 5, 512


def rows_per_second(cut: Callable[[np.ndarray], object], batches: list[np.ndarray]) -> float:
    """Best of several rounds."""
    best = np.inf
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for rows in batches:
            cut(rows)
        best = min(best, time.perf_counter() - start)
    return sum(map(len, batches)) / best


def main() -> None:
    dataset = load("synthetic", preset="precise")
    split = context_ood(dataset.labels(), ["C6"]).freeze()
    module = PerturbDataModule(dataset, split, BATCH, seed=0)
    batches = list(module.train_dataloader().sampler)
    ours = rows_per_second(module.rows.__getitem__, batches)
    limit = rows_per_second(lambda rows: torch.from_numpy(dataset.adata.X[rows].toarray()), batches)
    peer = rows_per_second(lambda rows: torch.from_numpy(dataset.adata[rows].X.toarray()), batches)
    print(f"{len(split.train_idx)} rows x {dataset.n_genes} genes, batches of {BATCH}")
    for name, value in (
        ("whole batch (expression, delta, labels)", ours),
        ("CSR slice alone", limit),
        ("AnnData view per batch", peer),
    ):
        print(f"{name:<42} {value:>12,.0f} rows/s   {value / peer:5.2f} x AnnData")


if __name__ == "__main__":
    main()
