"""The yaml that reads a file of the catalog, for a person to put into `conf/data/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perturbfm.data.catalog.entry import COLUMNS, UNSAID, Entry, File

_DEFAULTS: dict[str, Any] = {"batch_column": None, "control_labels": ["control"], "unit": "cells", "controls": "cells"}
"""What `conf/data/h5ad.yaml` says already, so that it need not be repeated."""

SAY_IT = "not known here: say it"

MOST_LINES = 10
"""A yaml that is longer than this is no recipe."""

_FIRST = {
    "zip": "Unpack it first (`python -m zipfile -e {path} DIR`){member}, then name the file in `path`.",
    "tar": "Unpack it first (`tar -xf {path}`), then name the file in `path`.",
    "rds": "An R object: convert it to .h5ad first, then name that file in `path`.",
    "folder": "Name the file or folder that you fetched in `path`.",
}


def recipe(entry: Entry, file: File, path: Path) -> str | None:
    """At most ten lines of yaml that read a file, or None where it is no data matrix.

    What no source publishes stands as null, which overrides the default and which a run refuses until a person has said
    it. (A `???` would not: merging keeps the default under it.)
    """
    if file.columns is None:
        return None
    where = str(path) if file.format in ("h5ad", "h5mu") else UNSAID
    lines = ["defaults: [file, _self_]", f"name: {recipe_name(entry, file)}", _line("path", where)]
    said = {k: file.columns[k] for k in COLUMNS if k in file.columns}
    told = {k: _line(k, v) for k, v in said.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
    if "context" in told:
        told["context"] = f"context_column: null\n{told['context']}"
    n_lines = len(lines) + len(told) + ("context" in told)
    if n_lines > MOST_LINES and "batch_column" in told:  # what a run can do without
        told["context" if "context" in told else "context_column"] += f"   # also there: {told.pop('batch_column')}"
    lines += told.values()
    return "\n".join(lines) + "\n"


def recipe_name(entry: Entry, file: File) -> str:
    """The name of the yaml: the entry's, or with the file's where an entry has several to read."""
    several = sum(f.columns is not None for f in entry.files) > 1
    return f"{entry.name}_{Path(file.name).stem.split('.')[0]}".lower() if several else entry.name


def first_step(file: File, path: Path) -> str:
    """What has to be done to a file before it can be read, or nothing."""
    member = f" and find {file.member} in it" if file.member else ""
    return _FIRST.get(file.format, "").format(path=path, member=member)


def _line(key: str, value: Any) -> str:
    """A key with its value."""
    if value == UNSAID and key == "context_column":  # null would mean one context; no file has a column of this name
        return f'{key}: "{SAY_IT}"'
    if value == UNSAID:
        return f"{key}: null   # {SAY_IT}"
    return f"{key}: {json.dumps(value, ensure_ascii=False)}"
