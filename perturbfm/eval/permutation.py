"""The gate's tests: signal energies in closed form, and permutations of condition labels within batch.

In: cells of one context with their labels. Out: energies and p-values; what they mean is decided in `gate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from scipy import sparse
from scipy.stats import binom

from perturbfm.errors import BadValue, MissingLabel, ShapeMismatch
from perturbfm.types import RowView

POWERED_BELOW, WEAK_BELOW = 0.01, 0.05
THRESHOLDS = (POWERED_BELOW, WEAK_BELOW)
"""Levels at which a verdict turns."""

BLOCK = 8_000_000
"""Numbers (64 MB) held at once while labels are permuted."""

DENSE_UP_TO = 250_000_000
"""Entries (2 GB) up to which a matrix that is not very sparse is made dense."""

STREAMED_FROM = 50_000_000
"""Stored values (600 MB) from which cells stay where they are and are read in chunks."""

CHUNK = 8192
"""Cells read at once then."""

PANEL_STREAM, REST_STREAM, CONTROL_STREAM = 21, 22, 23
"""Second part of a seed, so that the tests of one gate are permuted independently."""

MORE_NEAR_THRESHOLD = 10
"""How many times the permutations are drawn where a verdict would hang on their seed."""

ROUNDING = 1e-10
"""Relative difference below which two statistics are equal."""


def panel_signal(
    x_ng: Any,
    condition_n: np.ndarray,
    batch_n: np.ndarray,
    input_mean_bg: np.ndarray,
    reference_mean_bg: np.ndarray,
    batch_names: Sequence[str],
) -> tuple[tuple[str, ...], np.ndarray, float]:
    r"""Split-half signal energy, averaged over all batch-stratified halvings.

    With halves A and B of each condition, :math:`w_b = n_{pb} / n_p`, :math:`A_p = \sum_b w_b \bar A_{pb}` and
    batch-matched control means :math:`I_p = \sum_b w_b I_b`, :math:`R_p = \sum_b w_b R_b`:

    .. math::
        S_p = E\langle A_p - I_p, B_p - R_p\rangle
            = \langle\mu_p - I_p, \mu_p - R_p\rangle - \sum_b w_b^2\, tr(s^2_{pb}) / n_{pb}

        S_{dc} = \sum_p \langle a_p - \bar a, r_p - \bar r\rangle
            - (1 - 1/n) \sum_p \sum_b w_b^2\, tr(s^2_{pb}) / n_{pb}

    with :math:`a_p = \mu_p - I_p`, :math:`r_p = \mu_p - R_p` and n conditions: halves of different batches and of
    different conditions are independent, and within a batch no cell meets itself.

    Args:
        x_ng: Perturbed cells of one context, dense or CSR, shape (n, g).
        condition_n: Condition of each cell.
        batch_n: Batch of each cell.
        input_mean_bg: Mean of input controls per batch.
        reference_mean_bg: Mean of reference controls per batch.
        batch_names: Names of the batches.

    Returns:
        Sorted condition names, S of each, and S_dc, in squared units of the matrix.

    Raises:
        ShapeMismatch: Labels, means or genes do not belong together.
        MissingLabel: A cell's batch has no control mean.

    Source:
        Protocol section 3.2.
    """
    panel = panel_of(x_ng, condition_n, batch_n, input_mean_bg, reference_mean_bg, batch_names)
    signal_kc, s_dc_k = signal_of(panel, panel.order_n[None, :])
    return panel.condition_c, signal_kc[0], float(s_dc_k[0])


def detectable_conditions(
    x_ng: Any,
    condition_n: np.ndarray,
    batch_n: np.ndarray,
    control_x_mg: Any,
    control_batch_m: np.ndarray,
    *,
    permutations: int = 400,
    seed: int,
) -> dict[str, float]:
    r"""Permutation p of each condition against control cells.

    .. math:: |\sum_b (n_{pb}/n_p) (\mu_{pb} - \mu_{Rb})|^2

    against its distribution when labels are permuted between the condition's cells and the controls within batch;
    p = (1 + #{as large}) / (1 + permutations). Cells of batches without controls are left out.

    Args:
        x_ng: Perturbed cells, dense or CSR, shape (n, g).
        condition_n: Condition of each cell.
        batch_n: Batch of each cell.
        control_x_mg: Control cells, same genes, shape (m, g).
        control_batch_m: Batch of each control cell.
        permutations: Number of permutations.
        seed: Seed; every condition has its own stream, so its p does not depend on the others.

    Returns:
        p by condition name; NaN where no batch of the condition has controls.

    Raises:
        ShapeMismatch: Labels or genes do not belong together.
        BadValue: Fewer than one permutation.

    Source:
        Protocol section 3.2.
    """
    check_permutations(permutations)
    _check_rows(x_ng, condition_n, batch_n)
    _check_rows(control_x_mg, control_batch_m, control_batch_m)
    condition_n, batch_n, control_batch_m = (np.asarray(a).astype(str) for a in (condition_n, batch_n, control_batch_m))
    x_ng, control_x_mg = _alike(_handy(x_ng), _handy(control_x_mg))
    found: dict[str, float] = {}
    for name in np.unique(condition_n).tolist():
        row = np.flatnonzero((condition_n == name) & np.isin(batch_n, control_batch_m))
        rng = np.random.default_rng([seed, CONTROL_STREAM, crc32(name.encode())])
        found[name] = (
            _p_against(
                x_ng[row].astype(float, copy=False), batch_n[row], control_x_mg, control_batch_m, permutations, rng
            )
            if len(row)
            else float("nan")
        )
    return found


# --- the panel: cells sorted by condition and batch ------------------------------------------------


@dataclass(frozen=True)
class CellPanel:
    """Cells of one context in groups (condition, batch), at least two cells each, groups sorted by condition."""

    x_ng: Any
    square_n: np.ndarray
    order_n: np.ndarray
    start_h: np.ndarray
    count_h: np.ndarray
    batch_h: np.ndarray
    first_c: np.ndarray
    count_c: np.ndarray
    condition_c: tuple[str, ...]
    input_cg: np.ndarray
    reference_cg: np.ndarray


def panel_of(
    x_ng: Any,
    condition_n: np.ndarray,
    batch_n: np.ndarray,
    input_mean_bg: np.ndarray,
    reference_mean_bg: np.ndarray,
    batch_names: Sequence[str],
) -> CellPanel:
    """Put the cells of one context into groups, and match controls to their conditions."""
    _check_rows(x_ng, condition_n, batch_n)
    _check_means(x_ng.shape[1], input_mean_bg, reference_mean_bg, batch_names)
    batch_n = _batch_numbers(batch_n, batch_names)
    return _grouped(_handy(x_ng), np.asarray(condition_n).astype(str), batch_n, input_mean_bg, reference_mean_bg)


def _grouped(
    x_ng: Any, condition_n: np.ndarray, batch_n: np.ndarray, input_mean_bg: np.ndarray, reference_mean_bg: np.ndarray
) -> CellPanel:
    n_batches = len(input_mean_bg)
    name_c, number_n = np.unique(condition_n, return_inverse=True)
    group_n = number_n * n_batches + batch_n
    size_h = np.bincount(group_n, minlength=len(name_c) * n_batches)
    kept = np.flatnonzero(size_h[group_n] > 1)
    group_h, count_h = np.unique(group_n[kept], return_counts=True)
    code_c, first_c = np.unique(group_h // n_batches, return_index=True)
    count_c = np.add.reduceat(count_h, first_c) if len(first_c) else np.zeros(0, dtype=int)
    weight_cb = np.zeros((len(code_c), n_batches))
    weight_cb[np.searchsorted(code_c, group_h // n_batches), group_h % n_batches] = count_h
    weight_cb /= np.maximum(count_c, 1)[:, None]
    return CellPanel(
        x_ng=x_ng,
        square_n=_square_rows(x_ng),
        order_n=kept[np.argsort(group_n[kept], kind="stable")],
        start_h=np.concatenate([[0], np.cumsum(count_h)[:-1]]).astype(int) if len(count_h) else np.zeros(0, dtype=int),
        count_h=count_h,
        batch_h=group_h % n_batches,
        first_c=first_c,
        count_c=count_c,
        condition_c=tuple(name_c[code_c].tolist()),
        input_cg=weight_cb @ input_mean_bg,
        reference_cg=weight_cb @ reference_mean_bg,
    )


def _without(panel: CellPanel, condition: int) -> CellPanel:
    """The same panel without one condition's cells."""
    last_c = np.append(panel.first_c[1:], len(panel.count_h))
    group_h = np.arange(len(panel.count_h))
    kept_h = (group_h < panel.first_c[condition]) | (group_h >= last_c[condition])
    count_h = panel.count_h[kept_h]
    gone = last_c[condition] - panel.first_c[condition]
    first_c = np.where(panel.first_c > panel.first_c[condition], panel.first_c - gone, panel.first_c)
    return CellPanel(
        x_ng=panel.x_ng,
        square_n=panel.square_n,
        order_n=panel.order_n[np.repeat(kept_h, panel.count_h)],
        start_h=np.concatenate([[0], np.cumsum(count_h)[:-1]]).astype(int),
        count_h=count_h,
        batch_h=panel.batch_h[kept_h],
        first_c=np.delete(first_c, condition),
        count_c=np.delete(panel.count_c, condition),
        condition_c=panel.condition_c[:condition] + panel.condition_c[condition + 1 :],
        input_cg=np.delete(panel.input_cg, condition, axis=0),
        reference_cg=np.delete(panel.reference_cg, condition, axis=0),
    )


# --- the statistic and its permutations ------------------------------------------------------------


def signal_of(panel: CellPanel, order_kn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S of each condition and S_dc for each of k orders of the cells; a group is a run of the order."""
    k, n_conditions = len(order_kn), len(panel.condition_c)
    if n_conditions == 0:
        return np.zeros((k, 0)), np.zeros(k)
    sum_khg = _group_sums(panel, order_kn)
    square_kh = np.add.reduceat(panel.square_n[order_kn], panel.start_h, axis=1)
    trace_kh = (square_kh - np.sum(sum_khg**2, axis=2) / panel.count_h) / (panel.count_h - 1)
    noise_kc = np.add.reduceat(panel.count_h * trace_kh, panel.first_c, axis=1) / panel.count_c**2
    mean_kcg = np.add.reduceat(sum_khg, panel.first_c, axis=1) / panel.count_c[:, None]
    from_input_kcg, from_reference_kcg = mean_kcg - panel.input_cg, mean_kcg - panel.reference_cg
    signal_kc = np.einsum("kcg,kcg->kc", from_input_kcg, from_reference_kcg) - noise_kc
    from_input_kcg -= from_input_kcg.mean(axis=1, keepdims=True)
    from_reference_kcg -= from_reference_kcg.mean(axis=1, keepdims=True)
    centred_k = np.einsum("kcg,kcg->k", from_input_kcg, from_reference_kcg)
    return signal_kc, centred_k - (1 - 1 / n_conditions) * noise_kc.sum(axis=1)


def _group_sums(panel: CellPanel, order_kn: np.ndarray) -> np.ndarray:
    if isinstance(panel.x_ng, RowView):
        return _streamed_sums(panel, order_kn)
    k, n = order_kn.shape
    pointer = np.concatenate([(panel.start_h[None, :] + n * np.arange(k)[:, None]).ravel(), [n * k]])
    shape = (k * len(panel.count_h), panel.x_ng.shape[0])
    member = sparse.csr_matrix((np.ones(n * k), order_kn.ravel(), pointer), shape=shape)
    return _dense(member @ panel.x_ng).reshape(k, len(panel.count_h), -1)


def _streamed_sums(panel: CellPanel, order_kn: np.ndarray) -> np.ndarray:
    """The same sums with cells read in chunks: memory is bounded by a chunk and the sums."""
    k, n_groups = len(order_kn), len(panel.count_h)
    group_kn = np.full((k, len(panel.x_ng)), -1, dtype=np.int32)
    run_n = np.repeat(np.arange(n_groups, dtype=np.int32), panel.count_h)
    np.put_along_axis(group_kn, order_kn, np.broadcast_to(run_n, order_kn.shape), axis=1)
    sum_mg = np.zeros((k * n_groups, panel.x_ng.shape[1]))
    for start in range(0, len(panel.x_ng), CHUNK):
        draw, cell = np.nonzero(group_kn[:, start : start + CHUNK] >= 0)
        row = draw * n_groups + group_kn[draw, start + cell]
        x_ng = panel.x_ng[start : start + CHUNK].astype(np.float64)
        member = sparse.csr_matrix((np.ones(len(row)), (row, cell)), shape=(len(sum_mg), x_ng.shape[0]))
        sum_mg += _dense(member @ x_ng)
    return sum_mg.reshape(k, n_groups, -1)


def _between(panel: CellPanel, order_kn: np.ndarray) -> np.ndarray:
    """Between-condition sum of squares within batches, for each of k orders of the cells."""
    sum_khg = _group_sums(panel, order_kn)
    n_batches = int(panel.batch_h.max()) + 1
    total_bg, size_b = np.zeros((n_batches, sum_khg.shape[2])), np.zeros(n_batches)
    np.add.at(total_bg, panel.batch_h, sum_khg[0])
    np.add.at(size_b, panel.batch_h, panel.count_h)
    mean_bg = total_bg / np.maximum(size_b, 1)[:, None]
    sum_khg -= panel.count_h[:, None] * mean_bg[panel.batch_h]
    sum_kcg = np.add.reduceat(sum_khg, panel.first_c, axis=1)
    return np.asarray(np.sum(np.sum(sum_kcg**2, axis=2) / panel.count_c, axis=1))


def permutation_p(panel: CellPanel, permutations: int, rng: np.random.Generator) -> float:
    """p of the between-condition sum of squares; near a threshold it is drawn up to ten times as often."""
    if len(panel.condition_c) < 2:
        return float("nan")
    observed = float(_between(panel, panel.order_n[None, :])[0])
    place_n = np.repeat(panel.batch_h, panel.count_h)
    places = [np.flatnonzero(place_n == b) for b in np.unique(place_n)]
    per_block = max(1, BLOCK // (len(panel.count_h) * panel.x_ng.shape[1] + len(panel.order_n)))
    as_large, done, wanted = 0, 0, permutations
    while done < wanted:
        order_kn = np.tile(panel.order_n, (min(per_block, wanted - done), 1))
        for place in places:
            order_kn[:, place] = rng.permuted(order_kn[:, place], axis=1)
        as_large += _count_as_large(_between(panel, order_kn), observed)
        done += len(order_kn)
        if done == permutations and _undecided(as_large, done):
            wanted = MORE_NEAR_THRESHOLD * permutations
    return (1 + as_large) / (1 + done)


def _undecided(as_large: int, done: int) -> bool:
    """Whether a verdict could still turn: a true p at a threshold would not make this count surprising."""
    return any(min(binom.cdf(as_large, done, t), binom.sf(as_large - 1, done, t)) > 0.01 for t in THRESHOLDS)


def p_without(panel: CellPanel, strongest: int, permutations: int, seed: int) -> float:
    """The same test without the cells of one condition."""
    return permutation_p(_without(panel, strongest), permutations, np.random.default_rng([seed, REST_STREAM]))


def _p_against(
    x_ng: Any,
    batch_n: np.ndarray,
    control_x_mg: Any,
    control_batch_m: np.ndarray,
    permutations: int,
    rng: np.random.Generator,
) -> float:
    """p of |batch-weighted mean difference|^2: the difference is linear in which cells carry the condition's label."""
    pool_mg = (
        sparse.vstack([x_ng, control_x_mg], format="csr") if sparse.issparse(x_ng) else np.vstack([x_ng, control_x_mg])
    )
    label_m = np.concatenate([batch_n, control_batch_m])
    chosen, weight, base_m = [], [], np.zeros(len(label_m))
    for batch in np.unique(batch_n):
        member = np.flatnonzero(label_m == batch)
        n = int(np.sum(batch_n == batch))
        share, rest = n / len(batch_n), len(member) - n
        base_m[member] = share / rest
        weight.append(np.full(n, share * (1 / n + 1 / rest)))
        shuffled = rng.permuted(np.tile(member, (permutations, 1)), axis=1)[:, :n]
        chosen.append(np.vstack([member[:n], shuffled]))
    column, value = np.concatenate(chosen, axis=1), np.concatenate(weight)
    pointer = np.arange(len(column) + 1) * column.shape[1]
    pick = sparse.csr_matrix((np.tile(value, len(column)), column.ravel(), pointer), shape=(len(column), len(label_m)))
    base_g = _dense(sparse.csr_matrix(base_m) @ pool_mg)
    per_block = max(1, BLOCK // pool_mg.shape[1])
    size_k = np.concatenate(
        [
            np.sum((_dense(pick[i : i + per_block] @ pool_mg) - base_g) ** 2, axis=1)
            for i in range(0, len(column), per_block)
        ]
    )
    return (1 + _count_as_large(size_k[1:], float(size_k[0]))) / (1 + permutations)


def _count_as_large(drawn_k: np.ndarray, observed: float) -> int:
    return int(np.sum(drawn_k >= observed - ROUNDING * abs(observed)))


# --- small things ----------------------------------------------------------------------------------


def _dense(x: Any) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def _handy(x_ng: Any) -> Any:
    """Dense float64 unless the matrix is very sparse or large; a view of too many cells stays one."""
    if isinstance(x_ng, RowView):
        if x_ng.stored() > STREAMED_FROM:
            return x_ng
        x_ng = x_ng[:]
    if not sparse.issparse(x_ng):
        return np.asarray(x_ng, dtype=float)
    size = x_ng.shape[0] * x_ng.shape[1]
    if size <= DENSE_UP_TO and x_ng.nnz > 0.05 * size:
        return x_ng.astype(float).toarray()
    return sparse.csr_matrix(x_ng, dtype=float)


def _alike(x_ng: Any, y_mg: Any) -> tuple[Any, Any]:
    """Both dense, unless both are sparse; of a view the rows that are cut decide."""
    if isinstance(x_ng, RowView):
        return x_ng, _alike(x_ng[:0], y_mg)[1]
    both = sparse.issparse(x_ng) and sparse.issparse(y_mg)
    return (x_ng, y_mg) if both else (_dense(x_ng), _dense(y_mg))


def _square_rows(x_ng: Any) -> np.ndarray:
    if isinstance(x_ng, RowView):
        parts = (x_ng[start : start + CHUNK].astype(np.float64) for start in range(0, len(x_ng), CHUNK))
        return np.concatenate([_square_rows(part) for part in parts])
    if sparse.issparse(x_ng):
        return np.asarray(x_ng.multiply(x_ng).sum(axis=1)).ravel()
    return np.einsum("ng,ng->n", x_ng, x_ng)


def _batch_numbers(batch_n: np.ndarray, batch_names: Sequence[str]) -> np.ndarray:
    number = {str(name): i for i, name in enumerate(batch_names)}
    label_n = np.asarray(batch_n).astype(str)
    if lost := sorted(set(label_n.tolist()) - set(number)):
        raise MissingLabel(
            "Perturbed cells lie in a batch without control means",
            given=f"{len(lost)} such batches, first {lost[0]!r}",
            expected=f"one of {len(number)} batches with controls",
            fix="Leave those cells out, or compare within the context and give one batch name to all.",
        )
    return np.array([number[b] for b in label_n.tolist()], dtype=int)


def _check_rows(x_ng: Any, *labels: np.ndarray) -> None:
    if any(len(label_n) != x_ng.shape[0] for label_n in labels):
        raise ShapeMismatch(
            "Cells and their labels have different lengths",
            given=f"{x_ng.shape[0]} cells and {[len(label_n) for label_n in labels]} labels",
            expected="one label per cell",
            fix="Take labels and cells from the same rows.",
        )


def _check_means(n_genes: int, input_mean_bg: np.ndarray, reference_mean_bg: np.ndarray, names: Sequence[str]) -> None:
    want = (len(names), n_genes)
    if np.shape(input_mean_bg) != want or np.shape(reference_mean_bg) != want:
        raise ShapeMismatch(
            "Control means do not fit the cells",
            given=f"input {np.shape(input_mean_bg)}, reference {np.shape(reference_mean_bg)}",
            expected=f"{want}: one row per batch name, one column per gene",
            fix="Average the controls of each batch over the same genes.",
        )


def check_permutations(permutations: int) -> None:
    """Refuse a test without permutations."""
    if permutations < 1:
        raise BadValue(
            "A permutation test needs permutations", given=permutations, expected="at least 1", fix="Use 500."
        )
