"""`.h5ad`, and everything of its layout: STATE's `.h5`, a `.zarr` folder, one modality of an `.h5mu`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata._io.h5ad import read_dataframe
from anndata.io import read_elem
from scipy import sparse

from perturbfm.data.reader.raw import BROKEN, Raw, ReadOptions, missing_layer, refusing
from perturbfm.errors import MissingColumn, MissingValue, UnreadableFile

Opener = Callable[[], Any]


def read_h5ad(path: Path, options: ReadOptions) -> Raw:
    """Read the tables of an `.h5ad`; its matrix follows when asked for."""
    return _raw(path, options, lambda: _opened(path, None))


def read_h5mu(path: Path, options: ReadOptions) -> Raw:
    """Read one modality of an `.h5mu`; columns of the whole file are added where the modality lacks them."""
    with refusing(path, "MuData", "a complete .h5mu"), h5py.File(path, "r") as file:
        known = sorted(file["mod"])
        whole = read_elem(file["obs"]) if "obs" in file else pd.DataFrame()
    if options.modality is None or options.modality not in known:
        raise MissingValue(
            "A file of several modalities needs one named",
            given=f"data.modality={options.modality}, {path.name} has {', '.join(known)}",
            expected="one of them",
            fix=f"Set data.modality={known[0] if known else '...'}.",
        )
    raw = _raw(path, options, lambda: _opened(path, options.modality))
    more = [c for c in whole.columns if c not in raw.obs.columns]
    obs = raw.obs.join(whole[more]) if more and whole.index.is_unique else raw.obs
    return Raw(raw.name, obs, raw.var, raw.load, raw.notes, raw.stored)


def read_zarr(path: Path, options: ReadOptions) -> Raw:
    """Read the tables of a `.zarr` folder, format 2 or 3."""
    return _raw(path, options, lambda: _zarr(path))


@contextmanager
def _opened(path: Path, modality: str | None) -> Iterator[Any]:
    with h5py.File(path, "r") as file:
        yield file if modality is None else file["mod"][modality]


@contextmanager
def _zarr(path: Path) -> Iterator[Any]:
    import zarr

    yield zarr.open_group(str(path), mode="r")


def _raw(path: Path, options: ReadOptions, opened: Opener) -> Raw:
    with refusing(path), opened() as group:
        _check_layout(path, group)
        obs = _table(group, "obs")
        place = _place(group, options.layer)
        var = _table(group, "var" if not place.startswith("raw") else place.replace("X", "var"))

    def load(layer: str | None) -> Any:
        with refusing(path), opened() as group:
            _check_chunks(path, group, place if layer is None else _place(group, layer))
            return _matrix(group, place if layer is None else _place(group, layer))

    def stored() -> dict[str, dict[str, Any]]:
        parts = ("uns", *(("varm",) if place == "X" else ()))
        with refusing(path), opened() as group:
            names = {part: sorted(map(str, group[part])) for part in ("layers", "obsm") if part in group}
            return {"names": names, **{part: _readable(group[part]) for part in parts if part in group}}

    return Raw(path.name, obs, var, load, stored=stored)


def _readable(part: Any) -> dict[str, Any]:
    """Entries of a mapping that can be read; of the others only the name, for no data set depends on them."""
    found: dict[str, Any] = {}
    for key in part:
        try:
            found[str(key)] = read_elem(part[key])
        except BROKEN:
            found[str(key)] = "unreadable"
    return found


def _check_layout(path: Path, group: Any) -> None:
    lacking = [part for part in ("obs", "var") if part not in group]
    if lacking:
        raise UnreadableFile(
            "A file cannot be read as AnnData",
            given=f"{path}: without {' and '.join(lacking)}, it holds {', '.join(sorted(group)[:8]) or 'nothing'}",
            expected="obs, var and X",
            fix="Fetch it again, or look at what kind of file it is.",
        )


def _place(group: Any, layer: str | None) -> str:
    """Where a layer lies in the file; `raw` is a layer of that name, or else the raw matrix."""
    layers = sorted(group["layers"]) if "layers" in group else []
    raw = next((name for name in ("raw/X", "raw.X") if name in group), None)
    if layer is None:
        if "X" not in group:
            raise UnreadableFile(
                "The file has no matrix",
                given=f"X is empty, layers {', '.join([*layers, *(['raw'] if raw else [])]) or 'none'}",
                expected="X, or a layer that is named",
                fix="Set data.layer to the one that holds the values.",
            )
        return "X"
    if layer in layers:
        return f"layers/{layer}"
    if layer == "raw" and raw:
        return raw
    raise missing_layer(layer, [*layers, *(["raw"] if raw else [])])


def _table(group: Any, part: str) -> pd.DataFrame:
    """obs or var with text ids; the two older layouts are read too."""
    table = read_dataframe(group[part]) if isinstance(group[part], h5py.Dataset) else read_elem(group[part])
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{part} is no table")
    if isinstance(group[part], h5py.Dataset):
        table = _with_categories(table, group)
    table.index = pd.Index([v.decode() if isinstance(v, bytes) else str(v) for v in table.index], dtype=object)
    table.columns = [str(c) for c in table.columns]
    return table


def _with_categories(table: pd.DataFrame, group: Any) -> pd.DataFrame:
    """Before anndata 0.7 a column held codes, and `uns` its categories."""
    uns = group.get("uns", {})
    for name in list(table.columns):
        if f"{name}_categories" in uns:
            categories = np.asarray(read_elem(uns[f"{name}_categories"]))
            words = [v.decode() if isinstance(v, bytes) else str(v) for v in np.atleast_1d(categories)]
            codes = table[name].to_numpy(np.int64)
            if codes.size and (codes.min() < -1 or codes.max() >= len(words)):
                raise ValueError(f"column {name!r} holds codes beyond its categories")
            table[name] = np.array([*words, None], dtype=object)[codes]
    return table


def _check_chunks(path: Path, group: Any, place: str) -> None:
    """A chunk that a zarr folder lacks reads as zeros; where zeros cannot be meant the folder is incomplete."""
    if isinstance(group, h5py.Group):
        return
    names = [f"{place}/data", f"{place}/indices"] if f"{place}/data" in group else []
    names += [f"{t}/{group[t].attrs['_index']}" for t in ("obs", "var") if "_index" in group[t].attrs]
    for name in names:
        array = group[name]
        lacking = array.nchunks - array.nchunks_initialized
        if lacking and not (name.endswith("/indices") and not np.any(array[:])):
            raise UnreadableFile(
                "A zarr folder lacks chunks, so it cannot be read as AnnData",
                given=f"{path}: {lacking} of {array.nchunks} chunks of {name}",
                expected="every chunk",
                fix="Fetch it again.",
            )


def has_narrow_values(x: Any) -> bool:
    """Whether values are half floats or of the other byte order, which scipy's sparse matrices do not take."""
    if hasattr(x, "dtype") or "data" not in x or not hasattr(x["data"], "dtype"):
        return False
    kind = np.dtype(x["data"].dtype)
    return kind.kind in "iuf" and (kind == np.float16 or not kind.isnative)


def _widened(x: Any) -> Any:
    """A sparse matrix with its values as float32."""
    parts = (np.asarray(x["data"][()], dtype=np.float32), np.asarray(x["indices"][()]), np.asarray(x["indptr"][()]))
    shape = tuple(int(v) for v in x.attrs["shape"])
    kind = sparse.csc_matrix if x.attrs["encoding-type"] == "csc_matrix" else sparse.csr_matrix
    return kind(parts, shape=shape)


def _matrix(group: Any, place: str) -> Any:
    x_ng = _widened(group[place]) if has_narrow_values(group[place]) else read_elem(group[place])
    if isinstance(x_ng, dict) or not hasattr(x_ng, "shape") or x_ng.ndim != 2:
        raise MissingColumn(
            f"{place} is no matrix",
            given=f"{type(x_ng).__name__} of shape {getattr(x_ng, 'shape', '-')}",
            expected="cells x genes",
            fix="Name the matrix in data.layer.",
        )
    return x_ng
