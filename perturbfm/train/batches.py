"""Rows and queries -> `Batch`. A batch is cut from CSR in one slice, never cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from perturbfm.data.controls import ControlMatch, group_keys, group_means, match_controls
from perturbfm.data.dataset import PerturbDataset
from perturbfm.errors import ContextWithoutControls
from perturbfm.split import Split
from perturbfm.train.encoder import Encoder, encode
from perturbfm.types import Batch


@dataclass(frozen=True)
class ControlSummary:
    """Mean, variance of single cells, and number of some controls, per group (context, or context and batch).

    Attributes:
        mean_kg: Mean of each group's controls.
        var_kg: Variance (ddof 1) of single control cells of the group's context, within batches.
        count_k: Number of cells behind each mean.
        row_n: Group of every row of the data; -1 for rows whose group has no such control.
    """

    mean_kg: np.ndarray
    var_kg: np.ndarray
    count_k: np.ndarray
    row_n: np.ndarray


def summarise_controls(dataset: PerturbDataset, rows: np.ndarray) -> ControlSummary:
    """Summarise some control rows per context, or per context and batch; zeros where the file has no controls."""
    labels = dataset.labels()
    if not len(rows):
        zeros = np.zeros((1, dataset.n_genes), np.float32)
        return ControlSummary(zeros, zeros, np.zeros(1), np.zeros(dataset.n_obs, np.int64))
    key_n = group_keys(labels.context_n, labels.batch_n, dataset.declared.match != "context")
    known = {k: i for i, k in enumerate(sorted(set(key_n[rows].tolist())))}
    group_m = np.array([known[k] for k in key_n[rows]])
    x_mg = dataset.adata.X[rows]
    mean = group_means(x_mg, group_m, len(known))
    context = sorted(set(labels.context_n[rows].tolist()))
    context_m = encode(labels.context_n[rows], tuple(context))
    var = _within_variance(x_mg, context_m, len(context), labels.batch_n[rows])
    context_of_k = np.empty(len(known), dtype=np.int64)
    context_of_k[group_m] = context_m
    row_n = np.array([known.get(k, -1) for k in key_n], dtype=np.int64)
    return ControlSummary(
        mean.astype(np.float32), var[context_of_k].astype(np.float32), np.bincount(group_m).astype(float), row_n
    )


def _within_variance(x_mg: object, context_m: np.ndarray, n_contexts: int, batch_m: np.ndarray) -> np.ndarray:
    """Variance of single cells per context, around the means of their batches, [k, g]."""
    pair = np.array([f"{c}\x1f{b}" for c, b in zip(context_m, batch_m, strict=True)], dtype=object)
    names, group_m = np.unique(pair.astype(str), return_inverse=True)
    n_b = np.bincount(group_m).astype(float)
    square = x_mg.multiply(x_mg).tocsr() if hasattr(x_mg, "multiply") else np.asarray(x_mg, float) ** 2
    scatter = (group_means(square, group_m, len(names)) - group_means(x_mg, group_m, len(names)) ** 2) * n_b[:, None]
    context_of_b = np.array([int(n.split("\x1f")[0]) for n in names])
    member = (np.arange(n_contexts)[:, None] == context_of_b).astype(float)
    free = np.maximum(member @ (n_b - 1.0), 1.0)
    return np.maximum(member @ scatter, 0.0) / free[:, None]


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
        pert, self.parts_n = np.unique(labels.pert_n.astype(str), return_inverse=True)
        self.parts_up = encoder.encode_parts(pert)
        self.match = _drawn_match(dataset, split) if truth is None else None

    def __getitem__(self, rows: np.ndarray) -> Batch:
        """Batch of the rows, response included."""
        batch = self.blind(rows)
        control = self.match.take(rows) if self.match is not None else self.against.mean_kg[self.against.row_n[rows]]
        batch.delta_ng = torch.from_numpy(self.dataset.dense(rows) - control)
        return batch

    def blind(self, rows: np.ndarray) -> Batch:
        """Batch of the rows without their response: their expression is not read."""
        group = self.shown.row_n[rows]
        return Batch(
            x_ng=torch.from_numpy(self.input_kg[group]),
            x_var_ng=torch.from_numpy(self.shown.var_kg[group]),
            x_count_n=torch.from_numpy(self.shown.count_k[group]),
            intervention_n=torch.from_numpy(self.intervention_n[rows]),
            parts_np=torch.from_numpy(self.parts_up[self.parts_n[rows]]),
            context_n=torch.from_numpy(self.context_n[rows]),
            batch_n=torch.from_numpy(self.batch_n[rows]),
            row_n=torch.from_numpy(np.array(rows, dtype=np.int64)),
        )


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
    x_ng, context, batch = dataset.adata.X[used], labels.context_n[used], labels.batch_n[used]
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
        _, first, inverse = np.unique(names_n[fold_idx].astype(str), return_index=True, return_inverse=True)
        self.representative_q = fold_idx[first]
        self.query_n = inverse.reshape(-1)
        self.fold_idx = fold_idx

    def __len__(self) -> int:
        return len(self.representative_q)

    def __getitem__(self, queries: np.ndarray) -> Batch:
        """Blind batch of some queries."""
        return self._blind(self.representative_q[queries])


class IndexBatches(Sampler[np.ndarray]):
    """Arrays of indices, reshuffled every epoch from the seed alone, or in order.

    Args:
        index: What to deal out.
        batch_size: Most indices per batch.
        seed: Seed of the shuffling; None keeps the order.
    """

    def __init__(self, index: np.ndarray, batch_size: int, seed: int | None) -> None:
        self.index, self.batch_size, self.seed, self.epoch = index, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        index = self.index
        if self.seed is not None:
            index = np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(index)
        for start in range(0, len(index), self.batch_size):
            yield index[start : start + self.batch_size]


def together(batches: list[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate means and variances collected batch by batch."""
    return tuple(torch.cat([b[i] for b in batches]).numpy() for i in (0, 1))  # type: ignore[return-value]
