"""Centroids of train that a panel needs as references: unweighted means over train conditions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from perturbfm.data.controls import group_means
from perturbfm.train.datamodule import PerturbDataModule


def train_centroids(datamodule: PerturbDataModule) -> tuple[np.ndarray, np.ndarray]:
    """Mean expression and mean delta of train conditions, each condition counting once.

    Deltas are against matched *input* controls, weighted by the batches of the condition's rows.

    Returns:
        Two arrays of shape (g,).
    """
    rows, dataset = datamodule.split.train_idx, datamodule.dataset
    condition, names = pd.factorize(dataset.labels().condition_n[rows], sort=True)
    n = len(names)
    mean_cg = group_means(dataset.adata.X, condition, n, rows)
    group_n = datamodule.rows.shown.row_n[rows]
    share = np.zeros((n, len(datamodule.rows.shown.mean_kg)))
    np.add.at(share, (condition, group_n), 1.0)
    control_cg = share / share.sum(1, keepdims=True) @ datamodule.rows.shown.mean_kg
    return mean_cg.mean(0), (mean_cg - control_cg).mean(0)
