"""The prediction file: how the seam looks on disk.

`mean`, `var` [N, G] float32, `idx` [N] int64, `genes` [G], and scalars `scale`, `fold`, `model`, `split_hash`,
`fingerprint`, `variance_factor` (what calibration multiplied the variance by; 1 when uncalibrated).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from perturbfm.errors import UnreadableFile
from perturbfm.files import Expanded, write_npz
from perturbfm.types import Prediction

PREDICTION_FILES = {"test": "predictions.npz", "calib": "predictions_calib.npz"}
"""File of each blind fold in a run's folder."""


def write_prediction(path: Path, prediction: Prediction, variance_factor: float) -> None:
    """Write a prediction, expanded to one row per judged row."""
    words: dict[str, np.ndarray] = {
        k: np.array(getattr(prediction, k)) for k in ("scale", "fold", "model", "split_hash", "fingerprint")
    }
    arrays: dict[str, np.ndarray | Expanded] = {
        "mean": Expanded(prediction.mean_qg.astype(np.float32, copy=False), prediction.query_n),
        "var": Expanded(prediction.var_qg.astype(np.float32, copy=False), prediction.query_n),
        "idx": prediction.idx_n.astype(np.int64),
        "genes": np.array(prediction.genes_g, dtype=str),
        "variance_factor": np.array(variance_factor),
    }
    write_npz(path, {**arrays, **words})


def read_prediction(path: Path) -> tuple[Prediction, float]:
    """Read a prediction back, with the factor calibration applied.

    Raises:
        UnreadableFile: Missing, truncated, or no prediction file.
    """
    try:
        with np.load(path, allow_pickle=False) as npz:
            a = {k: npz[k] for k in npz.files}
        both = np.concatenate([a["mean"], a["var"]], axis=1)
        unique, query = np.unique(both, axis=0, return_inverse=True)
        n_genes = a["mean"].shape[1]
        words = {k: str(a[k]) for k in ("scale", "fold", "model", "split_hash", "fingerprint")}
        prediction = Prediction(
            mean_qg=unique[:, :n_genes],
            var_qg=unique[:, n_genes:],
            query_n=query.reshape(-1),
            idx_n=a["idx"],
            genes_g=tuple(a["genes"].tolist()),
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
