"""Writing files so that a crash at any moment leaves the old file or the new one, never half a file."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from perturbfm.errors import OutputNotWritable

_BLOCK = 4_000_000
"""Numbers made at once while rows are expanded."""


def write_bytes(path: Path, content: bytes) -> Path:
    """Write beside the target, flush to disk, then rename over it.

    Raises:
        OutputNotWritable: No right, no room, or no place for a file there.
    """
    return _written(path, lambda stream: stream.write(content))


def _written(path: Path, fill: Callable[[IO[bytes]], object]) -> Path:
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, fill)
    except OSError as e:
        raise OutputNotWritable(
            "A result cannot be written",
            given=f"{path} ({e.strerror or e})",
            expected="a folder with room and write permission",
            fix="Choose another folder (PERTURBFM_OUTPUTS, PERTURBFM_SPLITS or --out).",
        ) from e
    return path


def _replace(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Put a complete file in place of another; whatever goes wrong, nothing half-written stays."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as stream:
            fill(stream)
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


@dataclass(frozen=True)
class Expanded:
    """Rows of a matrix, some of them many times, as `matrix[rows]` would be; made only while they are written."""

    matrix: np.ndarray
    rows: np.ndarray

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows, some at a time."""
        step = max(1, _BLOCK // max(self.matrix.shape[1], 1))
        for start in range(0, len(self.rows), step):
            yield self.matrix[self.rows[start : start + step]]


def write_npz(path: Path, arrays: Mapping[str, np.ndarray | Expanded]) -> Path:
    """Write arrays, compressed, without pickled objects; nothing is held in memory beside them.

    Raises:
        OutputNotWritable: No right, no room, or no place for a file there.
        ValueError: An array of Python objects.
    """

    def fill(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            for name, array in arrays.items():
                # a fixed date, as numpy writes it: equal arrays give equal bytes
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as member:
                    _write_array(member, array)

    return _written(path, fill)


def _write_array(stream: IO[bytes], array: np.ndarray | Expanded) -> None:
    if not isinstance(array, Expanded):
        np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
        return
    shape, dtype = (len(array.rows), array.matrix.shape[1]), array.matrix.dtype
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for block in array.blocks():
        stream.write(np.ascontiguousarray(block).tobytes())


def write_gzip(path: Path, content: str) -> Path:
    """Write compressed text whose bytes depend on the text only."""
    return write_bytes(path, gzip.compress(content.encode(), mtime=0))
