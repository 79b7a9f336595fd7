"""The prediction file: how the seam looks on disk.

`mean`, `var` [N, G] float32, `idx` [N] int64, `genes` [G], and scalars `scale`, `fold`, `model`, `split_hash`,
`fingerprint`, `variance_factor` (what calibration multiplied the variance by; 1 when uncalibrated). Where a prediction
states no variance there is no `var`, and `has_variance` says so; where it is a point although cells were to be
expected, `no_cells` says why. Cells that a model emits lie beside it in `predicted_cells.npz`.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy import sparse

from perturbfm.errors import UnreadableFile
from perturbfm.files import Expanded, write_npz
from perturbfm.types import PredictedCells, Prediction

CELLS_FILE = "predicted_cells.npz"
"""Cells that a model emits for the test fold, in a run's folder."""

PREDICTION_FILES = {"test": "predictions.npz", "calib": "predictions_calib.npz"}
"""File of each blind fold in a run's folder."""


def write_prediction(path: Path, prediction: Prediction, variance_factor: float) -> None:
    """Write a prediction, expanded to one row per judged row."""
    words: dict[str, np.ndarray] = {
        k: np.array(getattr(prediction, k)) for k in ("scale", "fold", "model", "split_hash", "fingerprint")
    }
    arrays: dict[str, np.ndarray | Expanded] = {
        "mean": Expanded(prediction.mean_qg.astype(np.float32, copy=False), prediction.query_n),
        "idx": prediction.idx_n.astype(np.int64),
        "genes": np.array(prediction.genes_g, dtype=str),
        "variance_factor": np.array(variance_factor),
    }
    if prediction.has_variance:
        arrays["var"] = Expanded(prediction.var_qg.astype(np.float32, copy=False), prediction.query_n)
    else:
        words["has_variance"] = np.array(False)
    if prediction.no_cells:
        words["no_cells"] = np.array(prediction.no_cells)
    write_npz(path, {**arrays, **words})


def read_prediction(path: Path) -> tuple[Prediction, float]:
    """Read a prediction back, with the factor calibration applied.

    Raises:
        UnreadableFile: Missing, truncated, or no prediction file.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            a = {k: npz[k] for k in npz.files}
        stated = bool(a.get("has_variance", True))
        both = np.concatenate([a["mean"], a["var"]], axis=1) if stated else a["mean"]
        unique, query = np.unique(both, axis=0, return_inverse=True)
        n_genes = a["mean"].shape[1]
        words: dict[str, Any] = {k: str(a[k]) for k in ("scale", "fold", "model", "split_hash", "fingerprint")}
        prediction = Prediction(
            mean_qg=unique[:, :n_genes],
            var_qg=unique[:, n_genes:] if stated else no_variance(unique.shape),
            query_n=query.reshape(-1),
            idx_n=a["idx"],
            genes_g=tuple(a["genes"].tolist()),
            has_variance=stated,
            no_cells=str(a.get("no_cells", "")),
            **words,
        )
        factor = float(a["variance_factor"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as e:
        raise UnreadableFile(
            "A prediction file cannot be read",
            given=f"{path}: {type(e).__name__} {str(e)[:120]}",
            expected="mean, var, idx, genes and hashes",
            fix="Run the model again.",
        ) from e
    return prediction, factor


def as_stored(prediction: Prediction) -> Prediction:
    """The prediction exactly as it comes back from its file: float32, each different row once, rows in sorted order.

    A score sums over these rows; in another order its last digit is another one, and tests on float32 values flip.
    """
    used_q, query_n = np.unique(prediction.query_n, return_inverse=True)
    mean_qg = prediction.mean_qg[used_q].astype(np.float32)
    parts = [mean_qg, prediction.var_qg[used_q].astype(np.float32)] if prediction.has_variance else [mean_qg]
    unique, of_q = np.unique(np.concatenate(parts, axis=1), axis=0, return_inverse=True)
    n_genes = mean_qg.shape[1]
    return replace(
        prediction,
        mean_qg=unique[:, :n_genes],
        var_qg=unique[:, n_genes:] if prediction.has_variance else no_variance(unique.shape),
        query_n=of_q.reshape(-1)[query_n.reshape(-1)] if len(query_n) else query_n,
    )


def no_variance(shape: tuple[int, ...]) -> np.ndarray:
    """What stands in place of a variance that nobody stated: NaN, in no memory."""
    return np.broadcast_to(np.float32(np.nan), shape)


def write_cells(path: Path, cells: PredictedCells) -> None:
    """Write emitted cells as CSR, with the condition of each."""
    x_mg = sparse.csr_matrix(cells.x_mg, dtype=np.float32)
    parts = {name: getattr(x_mg, name) for name in ("data", "indices", "indptr")}
    labels = {"context": cells.context_m.astype(str), "intervention": cells.intervention_m.astype(str)}
    write_npz(path, {**parts, "shape": np.array(x_mg.shape), **labels})


def read_cells(path: Path) -> PredictedCells:
    """Read emitted cells back.

    Raises:
        UnreadableFile: Missing, truncated, or no file of cells.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            a = {k: npz[k] for k in npz.files}
        x_mg = sparse.csr_matrix((a["data"], a["indices"], a["indptr"]), shape=tuple(a["shape"].tolist()))
        x_mg.check_format(full_check=True)
        return PredictedCells(x_mg, a["context"].astype(object), a["intervention"].astype(object))
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, zlib.error) as e:
        raise UnreadableFile(
            "A file of predicted cells cannot be read",
            given=f"{path}: {type(e).__name__} {str(e)[:120]}",
            expected="a sparse matrix with the condition of each cell",
            fix="Judge the prediction again.",
        ) from e
