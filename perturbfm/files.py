"""Writing files so that a crash at any moment leaves the old file or the new one, never half a file."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perturbfm.errors import OutputNotWritable


def write_bytes(path: Path, content: bytes) -> Path:
    """Write beside the target, flush to disk, then rename over it.

    Raises:
        OutputNotWritable: No right, no room, or no place for a file there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as e:
        raise OutputNotWritable(
            "A result cannot be written",
            given=f"{path} ({e.strerror or e})",
            expected="a folder with room and write permission",
            fix="Choose another folder (PERTURBFM_OUTPUTS, PERTURBFM_SPLITS or --out).",
        ) from e
    return path


def _replace(path: Path, content: bytes) -> None:
    """Put a complete file in place of another; whatever goes wrong, nothing half-written stays."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> Path:
    """Write text, whole or not at all."""
    return write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write JSON with sorted keys; NaN and infinity are refused, a value that is not there is null."""
    return write_text(path, json.dumps(content, sort_keys=True, indent=1, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays, compressed, without pickled objects."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return write_bytes(path, buffer.getvalue())


def write_gzip(path: Path, content: str) -> Path:
    """Write compressed text whose bytes depend on the text only."""
    return write_bytes(path, gzip.compress(content.encode(), mtime=0))
