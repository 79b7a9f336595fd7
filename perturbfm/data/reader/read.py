"""Any of the field's files, told by content and name -> `Raw`."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import h5py

from perturbfm.data.reader.anndata_file import read_h5ad, read_h5mu, read_zarr
from perturbfm.data.reader.hdf5_heap import hollow_heap
from perturbfm.data.reader.obs_table import with_obs
from perturbfm.data.reader.raw import Raw, ReadOptions, refusing
from perturbfm.data.reader.tenx import read_10x_h5, read_mtx_folder
from perturbfm.data.reader.text import read_text
from perturbfm.errors import PickleRefused, UnreadableFile

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TEXT = re.compile(r"\.(csv|tsv|txt)(\.gz)?$", re.IGNORECASE)
_HDF5_NAME = re.compile(r"\.(h5ad|h5|h5mu|hdf5)$", re.IGNORECASE)
_PICKLE_NAME = re.compile(r"\.(pkl|pickle|pt|pth|joblib)(\.gz)?$", re.IGNORECASE)
_PICKLED_CODEC = re.compile(r'"(?:id|name)"\s*:\s*"[^"]*pickle"')
_KNOWN = "an .h5ad, .h5mu, .zarr folder, 10x .h5, folder with matrix.mtx, or text matrix (.csv, .tsv, .txt)"


def read_raw(path: Path, options: ReadOptions) -> Raw:
    """Read the tables of a file; its matrix follows when asked for.

    Raises:
        UnreadableFile: Missing, empty, truncated, a web page, or of no known format.
        PickleRefused: It holds pickled objects.
    """
    if not path.exists():
        raise UnreadableFile(
            "There is no such file",
            given=path,
            expected=_KNOWN,
            fix="Check data.path, or set PERTURBFM_DATA." + _isolated(path),
        )
    raw = _folder(path, options) if path.is_dir() else _file(path, options)
    return raw if options.obs is None else with_obs(raw, Path(options.obs))


def _folder(path: Path, options: ReadOptions) -> Raw:
    with refusing(path, "data", _KNOWN):
        names = sorted(p.name for p in path.iterdir())
    if {"zarr.json", ".zgroup", ".zmetadata"} & set(names):
        _check_codecs(path)
        return read_zarr(path, options)
    if any(re.search(r"\.mtx(\.gz)?$", name) for name in names):
        return read_mtx_folder(path)
    raise UnreadableFile(
        "There is no such file, but a folder without a data set",
        given=f"{path} with {', '.join(names[:6]) or 'nothing'}",
        expected="a .zarr folder, or matrix.mtx with features and barcodes",
        fix=_several(path, names) + _isolated(path),
    )


def _several(path: Path, names: list[str]) -> str:
    """How to name a file in a folder, or several as one data set."""
    kinds = [m[0] for name in names if (m := _HDF5_NAME.search(name) or _TEXT.search(name))]
    if len(kinds) < 2:
        return "Name the file in it: data.path."
    return f"Name one file in it, or all as one data set: data.path={path}/*{max(set(kinds), key=kinds.count)}."


def _file(path: Path, options: ReadOptions) -> Raw:
    with refusing(path, "data", _KNOWN):
        head = _head(path)
    if not head:
        raise _unreadable(path, "it is empty")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")) or b"<html" in start[:512]:
        raise _unreadable(path, f"signature not found, it is a web page: {start[:60].decode(errors='replace')!r}")
    _check_pickle(path, head)
    if head.startswith(_HDF5):
        return _hdf5(path, options)
    if re.search(r"\.mtx(\.gz)?$", path.name) or head.startswith(b"%%MatrixMarket"):
        return read_mtx_folder(path.parent, path)
    if _HDF5_NAME.search(path.name):
        raise _unreadable(path, f"file signature not found, it begins with {head[:8]!r}")
    if _TEXT.search(path.name):
        return read_text(path, options)
    raise UnreadableFile(
        "A file is of no known format",
        given=f"{path} ({path.stat().st_size} bytes), it begins with {head[:8]!r}",
        expected=_KNOWN,
        fix="Convert it (R: write an .h5ad with zellkonverter or anndataR; a zip or tar: unpack it), or correct its "
        "suffix if it is a text matrix.",
    )


def _head(path: Path) -> bytes:
    """The first bytes, of the content where it is compressed."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        with gzip.open(path, "rb") as packed:
            return packed.read(4096)
    except (OSError, EOFError, zlib.error):
        return head


def _hdf5(path: Path, options: ReadOptions) -> Raw:
    with refusing(path):
        hole = hollow_heap(path)
    if hole is not None:
        raise _unreadable(path, f"its text at byte {hole} is zeros, as a cut and padded download leaves it")
    with refusing(path), h5py.File(path, "r") as file:
        parts = set(file)
        has_barcodes = any("barcodes" in part for part in file.values() if isinstance(part, h5py.Group))
    if "mod" in parts and "X" not in parts:
        return read_h5mu(path, options)
    if "obs" not in parts and has_barcodes:
        return read_10x_h5(path)
    return read_h5ad(path, options)


def _unreadable(path: Path, what: str) -> UnreadableFile:
    return UnreadableFile(
        "A file cannot be read as AnnData" if _HDF5_NAME.search(path.name) else "A file cannot be read as data",
        given=f"{path} ({path.stat().st_size} bytes): {what}",
        expected="a complete file",
        fix="Fetch it again and compare its checksum.",
    )


# --- pickles ---------------------------------------------------------------------------------------


def _check_pickle(path: Path, head: bytes) -> None:
    """Refuse pickles by name and by content, NumPy files of objects too; they are never opened."""
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    objects = head.startswith(b"\x93NUMPY") and b"'|O'" in head[:512]
    if pickled or objects or _PICKLE_NAME.search(path.name):
        raise _pickle(path, "a pickle" if not objects else "a NumPy file of objects")


def _check_codecs(path: Path) -> None:
    """Refuse a zarr folder in which an array is packed as pickles: reading it would run them."""
    for part in sorted(path.rglob("*")):
        if part.name in (".zarray", ".zmetadata", "zarr.json") and part.is_file():
            with refusing(path):
                text = part.read_text(encoding="utf-8")
            if _PICKLED_CODEC.search(text):
                raise _pickle(path, f"{part.relative_to(path).as_posix()} says that an array is pickled")


def _pickle(path: Path, what: str) -> PickleRefused:
    return PickleRefused(
        "A file holds pickled objects, which run code when they are opened",
        given=f"{path}: {what}",
        expected="data without code",
        fix="Open it where you trust it and write an .h5ad (AnnData.write_h5ad), or JSON for a split.",
    )


def _isolated(path: Path) -> str:
    """What to know where the path points into other people's code."""
    if "third_party" not in path.parts and "scperturbench" not in str(path).lower():
        return ""
    return (
        " scPerturBench is GPL-3.0: its code is cloned by you into third_party/ and only ever executed there; its "
        "prepared .h5ad files are data, fetched from figshare or zenodo, and read from wherever data.path says."
    )
