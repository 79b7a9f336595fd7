"""The matrix of a data set from the memory-mapped cache instead of from memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from perturbfm.data.csr_cache import cached_csr, cached_rows, open_csr
from perturbfm.data.reader.raw import Raw
from perturbfm.errors import BadValue, UnreadableFile

_LAYOUTS = (".h5ad", ".h5", ".hdf5", ".zarr")


def mapped_matrix(
    paths: Sequence[Path], layer: str | None, raw: Raw, row_n: np.ndarray
) -> tuple[sparse.csr_matrix, Path]:
    """The cached matrix of some files, cut to the rows that are kept, and the folder it lies in.

    Args:
        paths: Files with the layout of AnnData, all with the same genes in the same order.
        layer: Layer to read instead of `X`.
        raw: Tables of these files.
        row_n: Mask of the rows that are kept.

    Raises:
        BadValue: A file or layer that cannot be mapped.
        UnreadableFile: The matrix does not fit the tables.
    """
    foreign = [path.name for path in paths if path.suffix.lower() not in _LAYOUTS]
    if foreign or layer == "raw":
        raise BadValue(
            "This matrix cannot be mapped",
            given=f"data.cache=true with {', '.join(foreign) or 'data.layer=raw'}",
            expected=f"a matrix or layer of {', '.join(_LAYOUTS)}",
            fix="Save the data as .h5ad once (anndata: write_h5ad), or set data.cache=false.",
        )
    if not raw.var.index.is_unique:
        raise BadValue(
            "Repeated genes cannot be summed in a mapped matrix",
            given="data.cache=true with repeated gene names",
            expected="unique gene names",
            fix="Make them unique in the file, or set data.cache=false.",
        )
    folder = cached_csr(paths, layer)
    x_ng = open_csr(folder, verify=False)  # `cached_csr` has verified it
    if x_ng.shape != (len(raw.obs), len(raw.var)):
        raise UnreadableFile(
            "The matrix of the file does not fit its tables",
            given=f"matrix {x_ng.shape}, obs and var {(len(raw.obs), len(raw.var))}",
            expected="one row per cell and one column per gene",
            fix="Fetch it again and compare its checksum.",
        )
    if not row_n.all():
        folder = cached_rows(folder, np.flatnonzero(row_n))
        x_ng = open_csr(folder, verify=False)
    return x_ng, folder
