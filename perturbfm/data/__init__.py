"""Files -> `PerturbDataset`.

Comes in: a file of any format of the field and the names of its columns (from a yaml), an interchange
    artifact, or the planted world.
Goes out: `PerturbDataset`, a checked view of AnnData, with a content fingerprint that splits lock themselves to, and
    `Labels`, the part of it that a split rule may see.
May import: types, errors, config (to read a yaml by name); numpy, scipy, pandas, anndata. No torch at import.
To add a data set: one yaml in `conf/data/` naming the file and its columns (`defaults: [file, _self_]`, or a project's
    template). To add a kind of file: one function in `reader/`. To add a source that is no file: one module here with a
    function that returns a `PerturbDataset`, and one yaml whose `_target_` is that function.

    dataset.py         the view, its fingerprint, its labels     declaration.py   what is declared of it
    check.py           what is refused                           fingerprint.py   the content hash
    file.py            any file, by naming its columns           preprocess.py    counts -> log1p, once
    obs_map.py         its columns -> ours, with column.py, label.py (perturbations) and dose.py
    several.py         several files as one                      gene.py          names of genes
    reader/            the formats, one module each              official_split.py   split files of benchmarks
    cells.py           which rows are used at all                catalog/         public data sets and their facts
    artifact.py        the interchange folder                    controls.py      matched controls
    planted.py         the planted world as a data set           names.py         load and register by name
    csr_cache.py       a matrix as memory-mapped CSR             csr_source.py    blocks of rows of a file
    scatter.py         rows of CSR into dense arrays             group_statistics.py  one pass over rows, in chunks
    synthetic.py       the world itself, on world_settings.py and frozen_random.py
    catalog/           public data sets: facts, fetching, verifying

Nothing is guessed: labels, delimiter, scale, mode and control labels are declared, and refused where they do not fit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbfm.data.artifact import load_artifact, write_artifact
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.data.file import load_file
    from perturbfm.data.names import load, load_composed, register
    from perturbfm.data.planted import load_synthetic

__all__ = [
    "PerturbDataset",
    "load",
    "load_artifact",
    "load_composed",
    "load_file",
    "load_synthetic",
    "register",
    "write_artifact",
]

_HOME = {
    "PerturbDataset": "dataset",
    "load": "names",
    "load_artifact": "artifact",
    "load_composed": "names",
    "load_file": "file",
    "load_synthetic": "planted",
    "register": "names",
    "write_artifact": "artifact",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `--help` and config errors stay light."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
