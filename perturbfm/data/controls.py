"""Matched controls: what each row is compared with.

`context`: mean of the context's controls. `context_batch`: mean of the controls of the row's context and batch.
`draw`: one control cell of the row's context and batch, drawn with a seed. A match is kept as a small matrix of
distinct profiles plus one index per row, never as a dense copy of the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.declaration import Declaration
from perturbfm.data.group_statistics import rows_at_once
from perturbfm.errors import BadValue, ContextWithoutControls
from perturbfm.types import join_labels

MATCHES = ("context", "context_batch", "draw")


@dataclass(frozen=True)
class ControlMatch:
    """Distinct control profiles and, per row, which one it is compared with.

    Attributes:
        profile_kg: Control profiles, float32, shape (k, g).
        row_n: For each row of the data, its profile.
    """

    profile_kg: np.ndarray
    row_n: np.ndarray

    def take(self, rows: np.ndarray | slice) -> np.ndarray:
        """Matched profiles of some rows, dense, [len(rows), g]."""
        return self.profile_kg[self.row_n[rows]]

    def sliced(self, rows: np.ndarray) -> ControlMatch:
        """The same profiles for a subset of rows."""
        return ControlMatch(self.profile_kg, self.row_n[rows])


def group_keys(context_n: np.ndarray, batch_n: np.ndarray, by_batch: bool) -> np.ndarray:
    """Name of the group within which a row is compared: its context, or context and batch."""
    if not by_batch:
        return context_n
    return join_labels(context_n, batch_n, "\x1f")


def group_means(x_ng: Any, group_m: np.ndarray, n_groups: int, rows_m: np.ndarray | None = None) -> np.ndarray:
    """Mean row of each group, in chunks; groups are numbered, every group has a row.

    Args:
        x_ng: Matrix, CSR or dense.
        group_m: Group of each row.
        n_groups: Number of groups.
        rows_m: Which rows of the matrix; all of them by default.

    Returns:
        float64 array of shape (n_groups, g).
    """
    weight_m = 1.0 / np.bincount(group_m, minlength=n_groups)[group_m]
    mean_kg = np.zeros((n_groups, x_ng.shape[1]))
    step = rows_at_once(x_ng.shape[1])
    for start in range(0, len(group_m), step):
        part = slice(start, start + step)
        present_h, local_n = np.unique(group_m[part], return_inverse=True)
        member = sparse.csr_matrix(
            (weight_m[part], (local_n, np.arange(len(local_n)))), shape=(len(present_h), len(local_n))
        )
        mean = member @ x_ng[part if rows_m is None else rows_m[part]]
        mean_kg[present_h] += np.asarray(mean.todense() if sparse.issparse(mean) else mean)
    return mean_kg


def match_controls(
    x_ng: Any, context_n: np.ndarray, batch_n: np.ndarray, control_rows: np.ndarray, *, by: str, seed: int = 0
) -> ControlMatch:
    """Match every row to controls.

    Args:
        x_ng: Expression of all rows, CSR or dense.
        context_n: Context of each row.
        batch_n: Batch of each row.
        control_rows: Rows that may serve as controls.
        by: `context`, `context_batch` or `draw`.
        seed: Seed of the drawing, used by `draw` only.

    Raises:
        BadValue: `by` is not a kind of match.
        ContextWithoutControls: A row's group has no control.
    """
    if by not in MATCHES:
        raise BadValue(
            "Unknown control match", given=by, expected=" | ".join(MATCHES), fix="Set data.match to one of them."
        )
    key_n = group_keys(context_n, batch_n, by != "context")
    known = {k: i for i, k in enumerate(sorted(set(key_n[control_rows].tolist())))}
    lacking = sorted(set(key_n.tolist()) - known.keys())
    if lacking:
        raise ContextWithoutControls(
            "Rows have no control to compare with",
            given=f"{len(lacking)} groups without controls, first {lacking[0].replace(chr(31), ' / ')!r}",
            expected="at least one control in every context" + ("" if by == "context" else " and batch"),
            fix="Drop those rows, declare their control labels, or match by context only.",
        )
    group_n = np.array([known[k] for k in key_n])
    if by == "draw":
        return _drawn(x_ng, group_n, control_rows, seed)
    return ControlMatch(group_means(x_ng, group_n[control_rows], len(known), control_rows).astype(np.float32), group_n)


def subtract_controls(
    x_ng: Any, variance_ng: Any, obs: pd.DataFrame, declared: Declaration
) -> tuple[np.ndarray, np.ndarray | None, pd.DataFrame, Declaration]:
    """Differences of treated rows from the mean control row of their context, or of their batch of it.

    For pseudobulks whose contexts have one control row each: it cannot be divided into what a model sees and what
    truth is measured against. The control rows are left out; a sampling variance gains that of the mean control.

    Args:
        x_ng: Means, one row per condition, on a logarithmic scale.
        variance_ng: Variances beside them, or None.
        obs: Labels of the rows.
        declared: What is declared of the means.

    Returns:
        Differences, variances, labels and declaration of the treated rows.

    Raises:
        ContextWithoutControls: A context, or a batch of it, has no control row.
    """
    control = obs["is_control"].to_numpy(dtype=bool)
    context_n, batch_n = (obs[c].to_numpy(dtype=object) for c in ("context_id", "batch_id"))
    matched = match_controls(x_ng, context_n, batch_n, np.flatnonzero(control), by=declared.match)
    rows, dense = np.flatnonzero(~control), _dense(x_ng)
    if variance_ng is not None:
        variance_ng = _dense(variance_ng)
        if declared.variance == "sampling":
            n_k = np.bincount(matched.row_n[control])
            beside = match_controls(variance_ng, context_n, batch_n, np.flatnonzero(control), by=declared.match)
            variance_ng = variance_ng + beside.take(slice(None)) / n_k[matched.row_n][:, None]
        variance_ng = variance_ng[rows].astype(np.float32)
    note = f"differences from the mean of {int(control.sum())} control rows by {declared.match}, which are left out"
    source = f"{declared.source}; {note}" if declared.source else note
    kept = obs[~control].drop(columns="size_factor", errors="ignore")
    said = replace(declared, scale="delta", controls="baked_in", counts_hashed=False, match="context", source=source)
    return dense[rows] - matched.take(rows), variance_ng, kept, said


def _dense(x_ng: Any) -> np.ndarray:
    return np.asarray(x_ng.toarray() if sparse.issparse(x_ng) else x_ng, dtype=np.float32)


def _drawn(x_ng: Any, group_n: np.ndarray, control_rows: np.ndarray, seed: int) -> ControlMatch:
    """One control cell per row, from its own group."""
    rng = np.random.Generator(np.random.PCG64(seed))
    position = np.empty(len(group_n), dtype=np.int64)
    for group in np.unique(group_n):
        pool = np.flatnonzero(group_n[control_rows] == group)
        rows = np.flatnonzero(group_n == group)
        position[rows] = pool[np.floor(rng.random(len(rows)) * len(pool)).astype(np.int64)]
    profile = x_ng[control_rows]
    return ControlMatch(
        np.asarray(profile.todense() if sparse.issparse(profile) else profile, dtype=np.float32), position
    )
