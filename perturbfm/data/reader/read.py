"""Any of the field's files, told by content and name -> `Raw`."""

from __future__ import annotations

from pathlib import Path

from perturbfm.data.reader.anndata_file import read_h5ad
from perturbfm.data.reader.raw import Raw, ReadOptions
from perturbfm.errors import UnreadableFile


def read_raw(path: Path, options: ReadOptions) -> Raw:
    """Read the tables of a file; its matrix follows when asked for.

    Raises:
        UnreadableFile: Missing, truncated, or of no known format.
    """
    if not path.is_file():
        raise UnreadableFile(
            "There is no such file",
            given=path,
            expected="a readable .h5ad",
            fix="Check data.path, or set PERTURBFM_DATA.",
        )
    return read_h5ad(path, options)
