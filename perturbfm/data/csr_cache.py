"""A matrix as memory-mapped CSR on disk, built once and found by content: rows at the speed of memory, without any.

A cache is a folder `<cache>/csr/<key>/` with `indptr.npy` (int64), `indices.npy` (int32; int64 from 2^31 genes or
stored values on), `data.npy` (float32) and `meta.json`. The key is the SHA-256 of the content of the files it was built
from, the name of the matrix and the version of this format; `<cache>/sha256/` remembers the hash of a file by path,
size and time, so that a large file is not hashed at each start. Several files with the same genes make one matrix, rows
one after another. All processes that open a cache share its pages.

A cache appears whole or not at all: it is written into a folder of its own and renamed; where two processes build the
same one, the first wins and both use it. Sizes and checksums are compared on opening; a damaged cache is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from perturbfm.data.csr_source import BLOCK, MatrixSource, spans
from perturbfm.errors import OutputNotWritable, ShapeMismatch, UnreadableFile
from perturbfm.files import write_json
from perturbfm.places import cache_dir

SCHEMA = "perturbfm.csr/1"
PARTS = ("indptr", "indices", "data")
_READ = 16 << 20
_ABANDONED_AFTER_S = 24 * 3600


def cached_csr(paths: Sequence[Path], layer: str | None = None) -> Path:
    """Folder of the cached matrix of some files; it is built where there is none, or none that is whole.

    Args:
        paths: `.h5ad` files or `.zarr` folders with the same genes in the same order; rows follow one another.
        layer: Layer to read instead of `X`.

    Raises:
        UnreadableFile: A file is missing, truncated, or no AnnData.
        MissingColumn: A file has no such layer.
        ShapeMismatch: The files differ in their number of genes.
        OutputNotWritable: The cache folder has no room or cannot be written.
    """
    sources = [MatrixSource(Path(path), layer) for path in paths]
    shapes = [source.shape() for source in sources]
    if len({n_genes for _, n_genes in shapes}) != 1:
        raise ShapeMismatch(
            "Files that make one matrix have different numbers of genes",
            given=", ".join(f"{s.path.name}: {n_genes}" for s, (_, n_genes) in zip(sources, shapes, strict=True)),
            expected="the same genes in the same order",
            fix="Bring the files to one list of genes first.",
        )
    content = [content_hash(source.path) for source in sources]
    key = _key(SCHEMA, "X" if layer is None else f"layers/{layer}", *content)
    return _made(key, lambda folder: _write_matrix(folder, sources, shapes))


def cached_values(base: Path, recipe: str, values: Callable[[], Iterable[np.ndarray]]) -> Path:
    """Folder of a matrix with the places of `base` and other values, made where there is none.

    Args:
        base: Folder of a cached matrix.
        recipe: All that decides the values beside `base`, as text.
        values: Gives the stored values, in order, in blocks.

    Raises:
        OutputNotWritable: The cache folder has no room or cannot be written.
    """

    def write(folder: Path) -> dict[str, Any]:
        meta = _meta(base)
        for part in ("indptr", "indices"):
            _share(base / f"{part}.npy", folder / f"{part}.npy")
        data = _Growing(folder / "data.npy", np.float32)
        for block in values():
            data.append(block)
        meta["files"]["data"] = data.close()
        return meta

    return _made(_key(SCHEMA, "values", base.name, recipe), write)


def cached_rows(base: Path, rows: np.ndarray) -> Path:
    """Folder of some rows of a cached matrix, made where there is none, a block of rows at a time.

    Args:
        base: Folder of a cached matrix.
        rows: Row numbers, in the order they are to have.

    Raises:
        OutputNotWritable: The cache folder has no room or cannot be written.
    """

    def write(folder: Path) -> dict[str, Any]:
        x_ng = open_csr(base, verify=False)
        pointer = _Growing(folder / "indptr.npy", np.int64)
        indices = _Growing(folder / "indices.npy", x_ng.indices.dtype)
        data = _Growing(folder / "data.npy", np.float32)
        pointer.append(np.zeros(1))
        ends = np.cumsum(np.diff(x_ng.indptr)[rows])
        for start, stop in spans(np.concatenate([[0], ends]), BLOCK):
            block = x_ng[rows[start:stop]]
            pointer.append(data.length + block.indptr[1:].astype(np.int64))
            indices.append(block.indices)
            data.append(block.data)
        files = {"indptr": pointer.close(), "indices": indices.close(), "data": data.close()}
        return {**_meta(base), "shape": [len(rows), x_ng.shape[1]], "files": files, "rows": [len(rows)]}

    digest = hashlib.sha256(np.asarray(rows, dtype="<i8").tobytes()).hexdigest()
    return _made(_key(SCHEMA, "rows", base.name, digest), write)


def open_csr(folder: Path, *, verify: bool = True) -> sparse.csr_matrix:
    """The matrix over read-only memory maps; nothing is copied, and rows that are cut from it are in memory.

    Forked processes share it; pickling it writes it out.

    Args:
        folder: What `cached_csr` or `cached_values` returned.
        verify: Read everything once and compare checksums. Sizes are compared always.

    Raises:
        UnreadableFile: Not a cache, or a damaged one.
    """
    try:
        meta = _meta(folder)
        parts = {part: _mapped(folder / f"{part}.npy", meta["files"][part], verify) for part in PARTS}
        shape = (int(meta["shape"][0]), int(meta["shape"][1]))
        if len(parts["indptr"]) != shape[0] + 1 or int(parts["indptr"][-1]) != len(parts["data"]):
            raise ValueError("its parts have different lengths")
        x_ng = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=shape, copy=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UnreadableFile(
            "A cached matrix is damaged",
            given=f"{folder}: {str(e)[:200]}",
            expected="the files that were written",
            fix="Delete this folder; it is made again from the source when it is next needed.",
        ) from e
    x_ng.has_sorted_indices = x_ng.has_canonical_format = True  # made so; finding it out would read everything
    return x_ng


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of all names and files of a folder; remembered by path, size, place and times of change.

    The time at which the system saw a change cannot be set by a tool that keeps the time of writing.
    """
    path = Path(path).resolve()
    members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stamp = [
        [p.relative_to(path).as_posix(), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
        for p in members
        for s in (p.stat(),)
    ]
    note = cache_dir() / "sha256" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    known = _noted(note)
    if known.get("stamp") == stamp:
        return str(known["sha256"])
    digest = hashlib.sha256()
    for member in members:
        digest.update(json.dumps([member.relative_to(path).as_posix(), member.stat().st_size]).encode())
        with member.open("rb") as stream:
            while chunk := stream.read(_READ):
                digest.update(chunk)
    write_json(note, {"path": str(path), "stamp": stamp, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _noted(note: Path) -> dict[str, Any]:
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and isinstance(known.get("sha256"), str) else {}


def _key(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _meta(folder: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    if meta["schema"] != SCHEMA:
        raise ValueError(f"schema {meta['schema']!r}")
    return meta


# --- building --------------------------------------------------------------------------------------


def _made(key: str, write: Callable[[Path], dict[str, Any]]) -> Path:
    """Make a cache folder unless a whole one is there."""
    folder = cache_dir() / "csr" / key
    if _is_whole(folder):
        return folder
    with _writing(folder.parent), _workplace(folder.parent, key) as work:
        write_json(work / "meta.json", {**write(work), "schema": SCHEMA})
        if folder.exists() and not _is_whole(folder):
            folder.rename(work / "damaged")
        try:
            work.rename(folder)
        except OSError:
            if not _is_whole(folder):  # otherwise another process was first
                raise
        shutil.rmtree(folder / "damaged", ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        open_csr(folder)
    except UnreadableFile:
        return False
    return True


@contextmanager
def _writing(parent: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise OutputNotWritable(
            "The cache cannot be written",
            given=f"{parent} ({e.strerror or e})",
            expected="a folder with room for the matrix (8 bytes per stored value) and write permission",
            fix="Set PERTURBFM_CACHE to another folder, or load with data.cache=false.",
        ) from e


@contextmanager
def _workplace(parent: Path, key: str) -> Iterator[Path]:
    """A folder that is gone afterwards, unless it was renamed; what dead processes left behind goes too."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(".making-*"):
        if time.time() - old.stat().st_mtime > _ABANDONED_AFTER_S:
            shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=parent, prefix=f".making-{key[:12]}-"))
    work.chmod(0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_matrix(folder: Path, sources: Sequence[MatrixSource], shapes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Stream all sources into one matrix; memory is bounded by a block and eight bytes per row."""
    n_rows, n_genes = sum(n for n, _ in shapes), shapes[0][1]
    index_type = np.int32 if n_genes < 2**31 else np.int64
    pointer, indices = _Growing(folder / "indptr.npy", np.int64), _Growing(folder / "indices.npy", index_type)
    data = _Growing(folder / "data.npy", np.float32)
    pointer.append(np.zeros(1))
    for source in sources:
        for block in source.blocks(folder):
            pointer.append(data.length + block.indptr[1:].astype(np.int64))
            indices.append(block.indices)
            data.append(block.data)
    files = {"indptr": pointer.close(), "indices": indices.close(), "data": data.close()}
    if data.length >= 2**31 and index_type is np.int32:
        files["indices"] = _widened(folder / "indices.npy")  # scipy holds both kinds of index in one type
    built_from = [str(source.path) for source in sources]
    return {"shape": [n_rows, n_genes], "files": files, "built_from": built_from, "rows": [n for n, _ in shapes]}


def _widened(path: Path) -> dict[str, int]:
    narrow = path.rename(path.with_name("narrow.npy"))
    indices = np.load(narrow, mmap_mode="r", allow_pickle=False)
    wide = _Growing(path, np.int64)
    for start in range(0, len(indices), _READ):
        wide.append(indices[start : start + _READ])
    narrow.unlink()
    return wide.close()


def _share(source: Path, target: Path) -> None:
    """One file under two names, or a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class _Growing:
    """A one-dimensional `.npy` file that grows; numpy leaves room in its header for the final length."""

    def __init__(self, path: Path, dtype: type) -> None:
        self.dtype, self.length, self.checksum = np.dtype(dtype).newbyteorder("<"), 0, 0
        self.stream = path.open("wb")
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        content = np.ascontiguousarray(values, dtype=self.dtype)
        raw = content.view(np.uint8).data
        self.stream.write(raw)
        self.checksum = zlib.crc32(raw, self.checksum)
        self.length += len(content)

    def close(self) -> dict[str, int]:
        """Finish the file; its size and the checksum of its values."""
        self.stream.seek(0)
        self._write_header()
        self.stream.flush()
        os.fsync(self.stream.fileno())
        size = os.fstat(self.stream.fileno()).st_size
        self.stream.close()
        return {"bytes": size, "length": self.length, "crc32": self.checksum}

    def _write_header(self) -> None:
        descr = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.stream, header)


def _mapped(path: Path, recorded: dict[str, int], verify: bool) -> np.ndarray:
    if path.stat().st_size != recorded["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, not {recorded['bytes']}")
    empty = recorded["length"] == 0  # nothing cannot be mapped
    array: np.ndarray = np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)
    if array.ndim != 1 or len(array) != recorded["length"]:
        raise ValueError(f"{path.name} has shape {array.shape}, not ({recorded['length']},)")
    if verify:
        found, step = 0, _READ // array.itemsize
        for start in range(0, len(array), step):
            found = zlib.crc32(np.asarray(array[start : start + step]).view(np.uint8).data, found)
        if found != recorded["crc32"]:
            raise ValueError(f"the values of {path.name} have another checksum")
    return array
