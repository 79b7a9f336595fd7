"""Rows and queries -> `Batch`. A batch is cut from CSR in one slice, never cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from perturbfm.data.controls import ControlMatch, group_keys, match_controls
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.group_statistics import GroupStatistics, group_statistics
from perturbfm.data.scatter import subtract_into
from perturbfm.errors import ContextWithoutControls
from perturbfm.split import Split
from perturbfm.train.buffers import Buffers
from perturbfm.train.encoder import Encoder, encode
from perturbfm.train.grouped import GroupedBatch
from perturbfm.types import Batch, RowView


@dataclass(frozen=True)
class ControlSummary:
    """Mean, variance of single cells, and number of some controls, per group (context, or context and batch).

    Attributes:
        mean_kg: Mean of each group's controls.
        var_kg: Variance (ddof 1) of single control cells, within batches: of the group's context, or, where batches are
            matched, of those batches of it that train has; of the batch itself where train lacks the batch alone.
        count_k: Number of cells behind each mean.
        row_n: Group of every row of the data; -1 for rows whose group has no such control.
    """

    mean_kg: np.ndarray
    var_kg: np.ndarray
    count_k: np.ndarray
    row_n: np.ndarray


def summarise_controls(dataset: PerturbDataset, rows: np.ndarray, train_idx: np.ndarray) -> ControlSummary:
    """Summarise some control rows per context, or per context and batch; zeros where the file has no controls.

    Args:
        dataset: The data.
        rows: The controls.
        train_idx: Rows of train: controls of a held-out batch are no part of what its rows are shown.
    """
    labels = dataset.labels()
    if not len(rows):
        zeros = np.zeros((1, dataset.n_genes), np.float32)
        return ControlSummary(zeros, zeros, np.zeros(1), np.zeros(dataset.n_obs, np.int64))
    context_m, batch_m = labels.context_n[rows], labels.batch_n[rows]
    pair_m, pairs = pd.factorize(group_keys(context_m, batch_m, True), sort=True)
    first_h = np.unique(pair_m, return_index=True)[1]
    within = group_statistics(dataset.adata.X, pair_m, len(pairs), rows)
    by_batch = dataset.declared.match != "context"
    key_n = group_keys(labels.context_n, labels.batch_n, by_batch)
    known = {k: i for i, k in enumerate(sorted(set(key_n[rows].tolist())))}
    key_h = np.array([known[k] for k in key_n[rows[first_h]]])
    found = within.merged(key_h, len(known))
    context_h = np.unique(context_m[first_h].astype(str), return_inverse=True)[1]
    pool_h = _pools(context_h, np.isin(pairs, np.unique(key_n[train_idx]))) if by_batch else context_h
    var_kg = _within_variance(within, pool_h)[pool_h]
    of_key_k = np.unique(key_h, return_index=True)[1]
    row_n = np.array([known.get(k, -1) for k in key_n], dtype=np.int64)
    return ControlSummary(found.mean_kg.astype(np.float32), var_kg[of_key_k].astype(np.float32), found.n_k, row_n)


def _pools(context_h: np.ndarray, in_train_h: np.ndarray) -> np.ndarray:
    """Which batches share a variance: a context's, less those that train lacks while it has others of the context."""
    apart_h = ~in_train_h & np.isin(context_h, context_h[in_train_h])
    return np.unique(
        np.where(apart_h, context_h.max() + 1 + np.arange(len(context_h)), context_h), return_inverse=True
    )[1]


def _within_variance(within: GroupStatistics, pool_h: np.ndarray) -> np.ndarray:
    """Variance of single cells per pool of batches, around the means of these, [pools, g]."""
    free, scatter = np.zeros(pool_h.max() + 1), np.zeros((pool_h.max() + 1, within.scatter_kg.shape[1]))
    np.add.at(free, pool_h, within.n_k - 1.0)
    np.add.at(scatter, pool_h, within.scatter_kg)
    return scatter / np.maximum(free, 1.0)[:, None]


class RowBatches(Dataset[Batch]):
    """Batches of rows with their observed deltas; an index is an array of row numbers.

    Args:
        dataset: The data.
        split: The frozen split, for its input controls.
        encoder: Vocabularies of train.
        shown: Summary of the input controls: what a model sees, and what train deltas are taken against.
        truth: Summary of the reference controls, for folds whose deltas are truth; None takes deltas against `shown`.
        input_kg: Means of `shown` as models see them; None shows them as they are. Deltas never depend on it.
    """

    def __init__(
        self,
        dataset: PerturbDataset,
        split: Split,
        encoder: Encoder,
        shown: ControlSummary,
        truth: ControlSummary | None = None,
        input_kg: np.ndarray | None = None,
    ) -> None:
        _assert_covered(dataset, split, shown, truth)
        labels = dataset.labels()
        self.dataset, self.shown, self.against = dataset, shown, truth or shown
        self.input_kg = shown.mean_kg if input_kg is None else input_kg
        self.intervention_n = encode(labels.intervention_n, encoder.interventions)
        self.context_n = encode(labels.context_n, encoder.contexts)
        self.batch_n = encode(labels.batch_n, encoder.batches)
        self.parts_n, pert = pd.factorize(labels.pert_n, sort=True)
        self.parts_up = encoder.encode_parts(pert)
        self.match = _drawn_match(dataset, split) if truth is None else None
        self._table_kg, self._group_n = self._compared_with()
        self.buffers = Buffers(dataset.n_genes)

    def __getitem__(self, rows: np.ndarray) -> Batch:
        """Batch of the rows, response included."""
        batch = self.blind(rows)
        delta_ng = self.buffers.take(len(rows))
        subtract_into(self.dataset.adata.X, rows, self._table_kg, self._group_n[rows], delta_ng)
        batch.delta_ng = torch.from_numpy(delta_ng)
        return batch

    def _compared_with(self) -> tuple[np.ndarray, np.ndarray]:
        """Control profiles, and which of them is subtracted from each row."""
        if self.match is not None:
            return self.match.profile_kg, self.match.row_n
        return self.against.mean_kg, np.maximum(self.against.row_n, 0)

    def blind(self, rows: np.ndarray) -> Batch:
        """Batch of the rows without their response: their expression is not read."""
        group = self.shown.row_n[rows]
        present_k, control_n = np.unique(group, return_inverse=True)
        return GroupedBatch(
            control_kg=_cut(self.input_kg, present_k),
            control_var_kg=_cut(self.shown.var_kg, present_k),
            control_n=torch.from_numpy(control_n),
            x_count_n=torch.from_numpy(self.shown.count_k[group]),
            intervention_n=torch.from_numpy(self.intervention_n[rows]),
            parts_np=torch.from_numpy(self.parts_up[self.parts_n[rows]]),
            context_n=torch.from_numpy(self.context_n[rows]),
            batch_n=torch.from_numpy(self.batch_n[rows]),
            row_n=torch.from_numpy(np.array(rows, dtype=np.int64)),
        )


def _cut(value_kg: np.ndarray, group_k: np.ndarray) -> Tensor:
    """Some groups of a table, copied; -1 (no group) is refused when the batches are made."""
    return torch.from_numpy(np.take(value_kg, group_k, axis=0, mode="clip").astype(np.float32, copy=False))


def _assert_covered(dataset: PerturbDataset, split: Split, shown: ControlSummary, truth: ControlSummary | None) -> None:
    """Refuse rows that no control of their group answers for: they would be compared with some other group's."""
    if dataset.declared.controls != "cells":
        return
    folds = np.concatenate([split.train_idx, split.val_idx, split.calib_idx, split.test_idx])
    for role, summary, rows in (("input", shown, folds), ("reference", truth, split.val_idx)):
        if summary is None:
            continue
        lacking = rows if not summary.count_k.any() else rows[summary.row_n[rows] < 0]
        if len(lacking):
            raise ContextWithoutControls(
                f"Rows have no {role} control to compare with",
                given=f"{len(lacking)} rows, first {lacking[0]}",
                expected="controls of that role in the group of every row",
                fix="Make the split again with `perturbfm splits create`, or match by context only.",
            )


def _drawn_match(dataset: PerturbDataset, split: Split) -> ControlMatch | None:
    """One drawn input control per row, where the data asks for it; the drawing covers rows whose group has one."""
    if dataset.declared.match != "draw" or not len(split.input_control_idx):
        return None
    labels = dataset.labels()
    used = np.sort(
        np.concatenate([split.train_idx, split.val_idx, split.calib_idx, split.test_idx, split.input_control_idx])
    )
    local = np.searchsorted(used, split.input_control_idx)
    x_ng, context, batch = RowView(dataset.adata.X, used), labels.context_n[used], labels.batch_n[used]
    match = match_controls(x_ng, context, batch, local, by="draw", seed=dataset.declared.match_seed)
    row_n = np.zeros(dataset.n_obs, dtype=np.int64)
    row_n[used] = match.row_n
    return ControlMatch(match.profile_kg, row_n)


class QueryBatches(Dataset[Batch]):
    """The distinct questions a fold asks: context, batch, intervention. Responses are not reachable from here.

    Args:
        rows: Batches of rows.
        fold_idx: Judged rows of the fold.
        names_n: For every row of the data, the label of its query.
    """

    def __init__(self, rows: RowBatches, fold_idx: np.ndarray, names_n: np.ndarray) -> None:
        self._blind = rows.blind
        self.query_n = pd.factorize(names_n[fold_idx], sort=True)[0]
        self.representative_q = fold_idx[np.unique(self.query_n, return_index=True)[1]]
        self.fold_idx = fold_idx

    def __len__(self) -> int:
        return len(self.representative_q)

    def __getitem__(self, queries: np.ndarray) -> Batch:
        """Blind batch of some queries."""
        return self._blind(self.representative_q[queries])


def together(batches: list[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate means and variances collected batch by batch."""
    return tuple(torch.cat([b[i] for b in batches]).numpy() for i in (0, 1))  # type: ignore[return-value]
