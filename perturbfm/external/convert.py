"""Predicted expression -> changes from the input controls, one query per condition or per condition and batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from perturbfm.errors import CellUsedTwice, ConditionsDiffer, DuplicateNames, RowsOutsideFold
from perturbfm.eval.truth import Truth
from perturbfm.external.labels import Rows
from perturbfm.predictions import no_variance
from perturbfm.types import VARIANCE_FLOOR

SHOWN = 8


@dataclass(frozen=True, eq=False)
class Answer:
    """What a file says of one fold: changes and variances of its queries, and the query of each judged row."""

    mean_qg: np.ndarray
    var_qg: np.ndarray
    query_n: np.ndarray
    has_variance: bool


def by_condition(truth: Truth, x_mg: Any, var_mg: Any, rows: Rows, *, changes: bool, single: bool) -> Answer:
    r"""Mean change of each condition from rows of predicted expression.

    .. math:: D_p = \bar Y_p - \sum_b w_{pb}\,\bar X_{I,b}

    The mean of the predicted rows, minus the mean of the *input* controls matched to the condition: by the batches that
    its judged rows have and in their shares, :math:`w_{pb}`. Where the file itself names batches and deltas compare
    within them, both means are taken per batch, and each judged row gets the change of its own batch.

    Args:
        truth: The judged rows and their controls.
        x_mg: Rows on the data's scale, genes in the data's order.
        var_mg: Variance of the mean change, one row per row; None where none is stated. Rows of one condition are
            averaged.
        rows: What each row is about.
        changes: Whether rows are changes already, from which no control is subtracted.
        single: Whether a condition may have one row only.

    Raises:
        ConditionsDiffer: A condition, or a batch of it, has no row, or a batch is not one of the judged rows.
        DuplicateNames: A condition that may have one row has several.
    """
    batched = rows.batch_m is not None and truth.observed.match_batch
    asked_q, query_n, input_qg = _batched(truth) if batched else _whole(truth)
    number = {name: q for q, name in enumerate(asked_q)}
    name_c = list(zip(rows.table["context"], rows.table["intervention"], strict=True))
    batch_m = rows.batch_m if batched and rows.batch_m is not None else np.full(len(rows.code_m), "")
    mine_m = np.flatnonzero(np.isin(rows.code_m, _codes(truth, name_c)))
    query_m = np.array([number.get((*name_c[rows.code_m[m]], str(batch_m[m])), -1) for m in mine_m], dtype=np.int64)
    _check(asked_q, query_m, [(*name_c[rows.code_m[m]], str(batch_m[m])) for m in mine_m], single)
    mean_qg = _means(x_mg[mine_m], query_m, len(asked_q)) - (0.0 if changes else input_qg)
    if var_mg is None:
        return Answer(mean_qg.astype(np.float32), no_variance(mean_qg.shape), query_n, has_variance=False)
    var_qg = _floored(_means(var_mg[mine_m], query_m, len(asked_q)))
    return Answer(mean_qg.astype(np.float32), var_qg, query_n, has_variance=True)


def by_row(truth: Truth, x_mg: np.ndarray, var_mg: Any, idx_m: np.ndarray) -> Answer:
    """Changes that a file gives for each judged row by its number in the data set.

    Raises:
        RowsOutsideFold: Rows of the fold are missing.
    """
    place = {int(row): m for m, row in enumerate(idx_m)}
    lacking = [int(row) for row in truth.observed.idx_n if int(row) not in place]
    if lacking:
        raise RowsOutsideFold(
            f"Rows of the {truth.observed.fold} fold have no prediction",
            given=f"{len(lacking)} of {len(truth.observed.idx_n)} rows, first {lacking[0]}",
            expected="one prediction for every row of the fold",
            fix="Predict them too; leaving out the hard ones would make any number look better.",
        )
    used = np.array([place[int(row)] for row in truth.observed.idx_n])
    both = x_mg[used] if var_mg is None else np.concatenate([x_mg[used], var_mg[used]], axis=1)
    unique, query = np.unique(both, axis=0, return_inverse=True)
    n_genes = x_mg.shape[1]
    mean_qg = np.ascontiguousarray(unique[:, :n_genes])
    var_qg = no_variance(mean_qg.shape) if var_mg is None else _floored(unique[:, n_genes:])
    return Answer(mean_qg, var_qg, query.reshape(-1), var_mg is not None)


def check_row_numbers(idx_m: np.ndarray, fold_of: dict[str, np.ndarray]) -> None:
    """Refuse row numbers twice, and those of rows that are not judged.

    Args:
        idx_m: Row numbers of the file.
        fold_of: Row numbers by fold and role.

    Raises:
        CellUsedTwice: A row number is there twice.
        RowsOutsideFold: A row is in neither the test nor the calibration fold.
    """
    if len(np.unique(idx_m)) < len(idx_m):
        raise CellUsedTwice(
            "A row has more than one prediction",
            given=f"{len(idx_m)} rows, {len(np.unique(idx_m))} of them different",
            expected="one prediction per row",
            fix="Write each judged row once.",
        )
    outside = np.setdiff1d(idx_m, np.concatenate([fold_of["test"], fold_of["calib"]]))
    if len(outside):
        where = next((name for name, idx in fold_of.items() if np.isin(outside[0], idx)), "no fold")
        raise RowsOutsideFold(
            "A prediction speaks of rows that are not judged",
            given=f"{len(outside)} rows, first {int(outside[0])}, which is in {where}",
            expected="rows of the test fold, and of the calibration fold if you like",
            fix="Leave the others out, or name the split that the predictions were made for.",
        )


def _whole(truth: Truth) -> tuple[list[tuple[str, str, str]], np.ndarray, np.ndarray]:
    names = [(c, i, "") for c, i in zip(truth.context_c, truth.intervention_c, strict=True)]
    return names, truth.condition_n, truth.input_cg


def _batched(truth: Truth) -> tuple[list[tuple[str, str, str]], np.ndarray, np.ndarray]:
    n_k = len(truth.group_names)
    pair_q, query_n = np.unique(truth.condition_n * n_k + truth.group_n, return_inverse=True)
    c_q, k_q = pair_q // n_k, pair_q % n_k
    names = [
        (truth.context_c[c], truth.intervention_c[c], truth.group_names[k][1]) for c, k in zip(c_q, k_q, strict=True)
    ]
    return names, query_n.reshape(-1), truth.input.mean_kg[k_q]


def _codes(truth: Truth, name_c: list[tuple[str, str]]) -> list[int]:
    mine = set(zip(truth.context_c.tolist(), truth.intervention_c.tolist(), strict=True))
    return [i for i, name in enumerate(name_c) if name in mine]


def _check(
    asked_q: list[tuple[str, str, str]], query_m: np.ndarray, given_m: list[tuple[str, str, str]], single: bool
) -> None:
    n_q = np.bincount(query_m[query_m >= 0], minlength=len(asked_q))
    lacking = [said(asked_q[q]) for q in np.flatnonzero(n_q == 0)]
    unasked = sorted({said(name) for name, q in zip(given_m, query_m, strict=True) if q < 0})
    if lacking or unasked:
        raise ConditionsDiffer(
            "Judged conditions have no prediction" if lacking else "Predictions name batches that are not judged",
            given=_some(lacking or unasked),
            expected=f"each of the {len(asked_q)} judged conditions, in each batch that they have if batches are named",
            fix="Predict every one, or remove the batch column; a partial prediction is not judged.",
        )
    several = [said(asked_q[q]) for q in np.flatnonzero(n_q > 1)]
    if single and several:
        raise DuplicateNames(
            "A condition has several mean rows",
            given=_some(several),
            expected="one row per condition",
            fix="Average them yourself, or set model.unit=cells if they are cells.",
        )


def said(name: tuple[str, str, str]) -> str:
    """A condition, or a batch of it, as people read it."""
    return f"{name[0]}|{name[1]}" + (f" in batch {name[2]}" if name[2] else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _means(x_mg: Any, group_m: np.ndarray, n_groups: int) -> np.ndarray:
    """Mean of the rows of each group, float64, dense."""
    n_q = np.maximum(np.bincount(group_m, minlength=n_groups), 1)
    member = sparse.csr_matrix((1.0 / n_q[group_m], (group_m, np.arange(len(group_m)))), shape=(n_groups, len(group_m)))
    found = member @ x_mg.astype(np.float64)
    return np.asarray(found.toarray() if sparse.issparse(found) else found)


def _floored(var_qg: np.ndarray) -> np.ndarray:
    """Positive variances floored as every model's are; others stay, and are refused as no variance."""
    return np.where(var_qg > 0, np.maximum(var_qg, VARIANCE_FLOOR), var_qg).astype(np.float32)
