"""The yaml that reads a file of the catalog, for a person to put into `conf/data/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perturbfm.data.catalog.entry import COLUMNS, UNSAID, Entry, File

_DEFAULTS: dict[str, Any] = {"batch_column": None, "control_labels": ["control"], "unit": "cells", "controls": "cells"}
"""What `conf/data/h5ad.yaml` says already, so that it need not be repeated."""

_FIRST = {
    "zip": "Unpack it first (`python -m zipfile -e {path} DIR`){member}, then name the file in `path`.",
    "tar": "Unpack it first (`tar -xf {path}`), then name the file in `path`.",
    "rds": "An R object: convert it to .h5ad first, then name that file in `path`.",
    "folder": "Name the file or folder that you fetched in `path`.",
}


def recipe(entry: Entry, file: File, path: Path) -> str | None:
    """At most ten lines of yaml that read a file, or None where it is no data matrix.

    What no source publishes stands as `???`: a run refuses it until a person has said it.
    """
    if file.columns is None:
        return None
    where = str(path) if file.format in ("h5ad", "h5mu") else UNSAID
    lines = ["defaults: [h5ad, _self_]", f"name: {recipe_name(entry, file)}", f"path: {_yaml(where)}"]
    said = {k: file.columns[k] for k in COLUMNS if k in file.columns}
    lines += [f"{k}: {_yaml(v)}" for k, v in said.items() if k not in _DEFAULTS or v != _DEFAULTS[k]]
    return "\n".join(lines) + "\n"


def recipe_name(entry: Entry, file: File) -> str:
    """The name of the yaml: the entry's, or with the file's where an entry has several to read."""
    several = sum(f.columns is not None for f in entry.files) > 1
    return f"{entry.name}_{Path(file.name).stem.split('.')[0]}".lower() if several else entry.name


def first_step(file: File, path: Path) -> str:
    """What has to be done to a file before it can be read, or nothing."""
    member = f" and find {file.member} in it" if file.member else ""
    return _FIRST.get(file.format, "").format(path=path, member=member)


def _yaml(value: Any) -> str:
    """A value in one line."""
    if value is None or value == UNSAID:
        return "null" if value is None else UNSAID
    return json.dumps(value, ensure_ascii=False)
