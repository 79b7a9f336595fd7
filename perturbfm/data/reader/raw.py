"""`Raw`: a file's tables, and its matrix when it is asked for; and what a broken file raises."""

from __future__ import annotations

import lzma
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from anndata._io.specs.registry import IORegistryError
from scipy import sparse

from perturbfm.errors import MissingColumn, PerturbFMError, UnreadableFile

BROKEN = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    IORegistryError,
)
"""What libraries raise for files that are cut short, foreign, of a newer format, or whose parts disagree."""


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may need to know beside the path.

    Attributes:
        layer: Layer instead of `X`; `raw` is the file's raw matrix with its own genes.
        modality: Modality of an `.h5mu`.
        obs: Table of cells beside the matrix, CSV or TSV, first column the cell ids.
        orientation: Of a text matrix: `cells_by_genes` or `genes_by_cells`.
    """

    layer: str | None = None
    modality: str | None = None
    obs: str | None = None
    orientation: str = "cells_by_genes"


BESIDE = "perturbfm_beside"
"""Entry of `uns` for what a file stores beside its matrix and no run reads: columns of `var`, names of layers."""


@dataclass(frozen=True)
class Raw:
    """What a file holds, before any of it has a meaning.

    Attributes:
        name: File name, for messages.
        obs: Table of cells, ids as index.
        var: Table of genes of the chosen layer, names as index.
        load: Gives the matrix of a layer (None for the one that was chosen) as the file stores it.
        notes: What was done while reading, for the record.
        stored: Gives what lies beside the matrix: content of `uns` and `varm`, columns and index of `var`, and under
            `names` the names in `layers` and `obsm`. Nothing reads it but the audit, which must.
    """

    name: str
    obs: pd.DataFrame
    var: pd.DataFrame
    load: Callable[[str | None], Any]
    notes: tuple[str, ...] = ()
    stored: Callable[[], dict[str, dict[str, Any]]] = dict

    def matrix(self, layer: str | None = None) -> Any:
        """The matrix as float32 CSR (columns of each row sorted, entries stored once) or dense.

        Raises:
            UnreadableFile: It is broken or of another shape than the tables.
        """
        x_ng = self.load(layer)
        shape = (len(self.obs), len(self.var))
        if tuple(x_ng.shape) != shape:
            raise UnreadableFile(
                "The matrix of a file does not fit its tables, so it cannot be read as AnnData",
                given=f"{self.name}: shape {tuple(x_ng.shape)}",
                expected=f"{shape[0]} cells x {shape[1]} genes",
                fix="Fetch it again and compare its checksum; for a text matrix look at data.orientation.",
            )
        return as_float32(x_ng, self.name)


def as_float32(x_ng: Any, name: str) -> Any:
    """A matrix as float32 CSR in canonical form, or dense; what is no numbers is refused."""
    if x_ng.dtype.kind not in "biuf":
        raise UnreadableFile(
            "The matrix of a file holds no numbers",
            given=f"{name}: values of type {x_ng.dtype}",
            expected="integers or floats",
            fix="Name the matrix in data.layer.",
        )
    if not sparse.issparse(x_ng):
        return np.asarray(x_ng, dtype=np.float32)
    try:
        if x_ng.format in ("csr", "csc"):
            _sign_indices(x_ng)
            if bool((np.diff(x_ng.indptr) < 0).any()):  # scipy looks only where the last row end is not zero
                raise ValueError("row ends decrease")
            x_ng.check_format(full_check=True)  # an index beyond the matrix would be read outside of memory
        csr = sparse.csr_matrix(x_ng, dtype=np.float32)
        csr.check_format(full_check=True)
    except ValueError as e:
        raise UnreadableFile(
            "The sparse matrix of the file is broken",
            given=f"{name}: {e}",
            expected="row and column indices within the matrix",
            fix="Fetch it again and compare its checksum.",
        ) from e
    csr.sum_duplicates()
    return csr


def _sign_indices(x_ng: Any) -> None:
    """Indices stored as small or unsigned integers become what scipy computes with."""
    for part in ("indices", "indptr"):
        if getattr(x_ng, part).dtype not in (np.int32, np.int64) and getattr(x_ng, part).dtype.kind in "iu":
            setattr(x_ng, part, getattr(x_ng, part).astype(np.int64))


def missing_layer(layer: str, known: list[str]) -> MissingColumn:
    """The refusal of a layer that is not there."""
    return MissingColumn(
        f"Missing layer {layer!r}",
        given=f"layers {', '.join(known) or 'none'}",
        expected=f"{layer!r}",
        fix="Set data.layer to one of them, or to null for X.",
    )


@contextmanager
def refusing(path: Path, what: str = "AnnData", expected: str = "a complete .h5ad") -> Iterator[None]:
    """Turn what libraries raise for a broken file into one refusal with its name and size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # repeated names and old formats are refused or read here, with a remedy
            yield
    except PerturbFMError:
        raise
    except BROKEN as e:
        size = f"{path.stat().st_size} bytes" if path.is_file() else "a folder"
        said = (str(e) or type(e).__name__).splitlines()[0][:200]
        raise UnreadableFile(
            f"A file cannot be read as {what}",
            given=f"{path} ({size}): {said}",
            expected=expected,
            fix="Fetch it again and compare its checksum.",
        ) from e
