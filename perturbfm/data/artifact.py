"""The interchange artifact: one folder with `data.npz` and `meta.json`.

`data.npz`: float32 `X_control`, `X_pert`, `delta`, each [N, G], optional float32 `variance` [N, G] where a row is a
distribution, and optional int64 `obs_idx` [N] (row numbers in the data set it was cut from). `meta.json`: `obs` and
`var` (an index and columns), `metadata` (what is declared, and the fingerprint). A data set and its artifact have one
fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from perturbfm.data.controls import ControlMatch
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.errors import ArtifactEdited, ForeignArtifact, UnreadableFile
from perturbfm.files import write_json, write_npz

SCHEMA = "perturbfm.artifact/1"
_TOLERANCE = 1e-4
_BROKEN = (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error)
"""What json, numpy and zipfile raise for damaged files (RuntimeError: encrypted, or an unknown compression)."""


def write_artifact(dataset: PerturbDataset, folder: Path, obs_idx: np.ndarray | None = None) -> Path:
    """Write a data set as an artifact; both files appear whole or not at all, `meta.json` last."""
    folder = Path(folder)
    arrays = {"X_control": dataset.X_control, "X_pert": dataset.dense(slice(None)), "delta": dataset.delta}
    if dataset.declared.variance:
        variance_ng = dataset.adata.layers["variance"]
        dense = variance_ng.toarray() if sparse.issparse(variance_ng) else variance_ng
        arrays["variance"] = np.asarray(dense, dtype=np.float32)
    if obs_idx is not None:
        arrays["obs_idx"] = np.asarray(obs_idx, dtype=np.int64)
    write_npz(folder / "data.npz", arrays)
    meta = {
        "schema": SCHEMA,
        "obs": _table(dataset.obs),
        "var": _table(dataset.var),
        "metadata": {
            **asdict(dataset.declared),
            "fingerprint": dataset.fingerprint,
            "controls_sha256": _sha256(arrays["X_control"]),
        },
    }
    write_json(folder / "meta.json", meta)
    return folder


def load_artifact(path: str, name: str | None = None) -> PerturbDataset:
    """Read an artifact back to a data set equal to the one it was written from.

    Args:
        path: Folder with `data.npz` and `meta.json`.
        name: Another short name than the recorded one.

    Raises:
        UnreadableFile: A file is missing or truncated.
        ForeignArtifact: The parts do not belong together.
        ArtifactEdited: The content no longer has the recorded fingerprint.
    """
    folder = Path(path)
    arrays, meta = _read(folder)
    declared = _declaration(meta, name)
    _check_shapes(folder, arrays, meta)
    obs, var = _frame(meta["obs"]), _frame(meta["var"])
    layers = {"variance": arrays["variance"]} if "variance" in arrays else {}
    adata = AnnData(X=sparse.csr_matrix(arrays["X_pert"]), obs=obs, var=var, layers=layers)
    profile_kg, row_n = np.unique(arrays["X_control"], axis=0, return_inverse=True)
    dataset = PerturbDataset(adata, declared, ControlMatch(profile_kg, row_n.reshape(-1)))
    found = {"fingerprint": dataset.fingerprint, "controls_sha256": _sha256(arrays["X_control"])}
    for key, value in found.items():
        recorded = meta["metadata"].get(key)
        if value != recorded and (recorded is not None or key == "fingerprint"):
            raise ArtifactEdited(
                f"The artifact {folder} does not have its recorded {key}",
                given=value[:12],
                expected=str(recorded)[:12],
                fix="Restore it, or write it again with `perturbfm data make-synth` or `write_artifact`.",
            )
    return dataset


def _sha256(x_ng: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(x_ng, dtype="<f4").tobytes()).hexdigest()


def _read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        with np.load(folder / "data.npz", allow_pickle=False) as npz:
            arrays = {k: npz[k] for k in npz.files}
    except _BROKEN as e:
        raise UnreadableFile(
            "An artifact cannot be read",
            given=f"{folder}: {str(e).splitlines()[0][:200] if str(e) else type(e).__name__}",
            expected="a folder with data.npz and meta.json",
            fix="Write it again; it was moved, truncated or is something else.",
        ) from e
    lacking = [k for k in ("X_control", "X_pert", "delta") if k not in arrays]
    lacking += [k for k in ("obs", "var", "metadata") if k not in meta]
    if lacking:
        raise ForeignArtifact(
            f"The artifact {folder} lacks parts",
            given=f"{sorted(arrays)} and {sorted(meta)}",
            expected=", ".join(lacking),
            fix="See the schema that `perturbfm data info` prints.",
        )
    return arrays, meta


def _check_shapes(folder: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    _check_tables(folder, meta)
    shape = (len(meta["obs"]["index"]), len(meta["var"]["index"]))
    for key in ("X_control", "X_pert", "delta", *(["variance"] if "variance" in arrays else [])):
        if arrays[key].shape != shape or arrays[key].dtype != np.float32:
            raise ForeignArtifact(
                f"{key} of {folder} does not fit its labels",
                given=f"{arrays[key].dtype} {arrays[key].shape}",
                expected=f"float32 {shape}",
                fix="Write matrices and labels from one data set.",
            )
    error = float(np.abs(arrays["X_pert"] - arrays["X_control"] - arrays["delta"]).max(initial=0.0))
    if not error <= _TOLERANCE:
        raise ForeignArtifact(
            f"delta of {folder} is not X_pert - X_control",
            given=f"largest difference {error:.3g}",
            expected=f"at most {_TOLERANCE:g}",
            fix="Write delta as the difference of the two matrices.",
        )


def _check_tables(folder: Path, meta: dict[str, Any]) -> None:
    for part in ("obs", "var"):
        table = meta[part]
        if not {"index", "columns"} <= table.keys() or {len(c) for c in table["columns"].values()} - {
            len(table["index"])
        }:
            raise ForeignArtifact(
                f"{part} of {folder} is not a table",
                given=", ".join(f"{k} ({len(v)})" for k, v in table.items()) or "nothing",
                expected="an index, and columns of its length",
                fix="Write every column with one value per row.",
            )


def _declaration(meta: dict[str, Any], name: str | None) -> Declaration:
    known = {f.name for f in fields(Declaration)}
    recorded = {k: v for k, v in meta["metadata"].items() if k in known}
    if not {"name", "scale"} <= recorded.keys():
        raise ForeignArtifact(
            "metadata does not declare name and scale",
            given=sorted(recorded),
            expected="name, scale",
            fix="Declare them in meta.json.",
        )
    return Declaration(**{**recorded, "name": name or recorded["name"]})


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    """Index and columns as lists; a missing number is null, which JSON has and NaN it has not."""
    columns = {str(c): [None if v != v else v for v in frame[c].tolist()] for c in frame.columns}
    return {"index": frame.index.astype(str).tolist(), "columns": columns}


def _frame(table: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(index=pd.Index(table["index"], dtype=object))
    for column, values in table["columns"].items():
        frame[column] = np.array(values, dtype=_kind(values))
    return frame


def _kind(values: list[Any]) -> type | None:
    if any(isinstance(v, str) for v in values):
        return object
    return np.float64 if None in values else None
