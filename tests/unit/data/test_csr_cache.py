"""A cached matrix is the matrix of the file, whatever its form, and a damaged cache is never used."""

import json
import os
import threading
import time
import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm import places
from perturbfm.data import csr_cache, csr_source, load_file
from perturbfm.data.csr_cache import cached_csr, cached_values, content_hash, open_csr
from perturbfm.errors import BadValue, MissingColumn, OutputNotWritable, ShapeMismatch, UnreadableFile

ROWS, GENES = 60, 17


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBFM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counts(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.4, (rows, GENES)).astype(np.float32)
    x[:, 0] = 1 + rng.poisson(3, rows)
    x[:, 5] = 0
    return x


def write(path, x, layer=None):
    n = x.shape[0]
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {"pert": rng.choice(["ctrl", "A", "B"], n), "line": rng.choice(["k1", "k2"], n)},
        index=[f"c{i}" for i in range(n)],
    )
    adata = AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))
    if layer:
        adata.layers[layer] = adata.X * 2
    if path.suffix == ".zarr":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # anndata announces a change of its own default
            adata.write_zarr(path)
    else:
        adata.write_h5ad(path)
    return path


OPTIONS = {
    "name": "small",
    "scale": "counts",
    "target_sum": 100.0,
    "pert_column": "pert",
    "context_column": "line",
    "batch_column": None,
    "control_labels": ["ctrl"],
    "mode": "drug",
}


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("block", [7, 4_000_000])
def test_a_cached_matrix_is_the_matrix_of_the_file(tmp_path, monkeypatch, kind, suffix, block):
    monkeypatch.setattr(csr_source, "BLOCK", block)
    x = counts()
    x[3] = 0  # a row without values
    found = open_csr(cached_csr([write(tmp_path / f"file{suffix}", kind(x))]))
    np.testing.assert_array_equal(found.toarray(), x)
    assert found.data.dtype == np.float32
    assert found.has_canonical_format


def test_repeated_entries_are_added_and_rows_sorted(tmp_path):
    x = sparse.csr_matrix((np.array([1.0, 2, 4, 8]), np.array([3, 1, 3, 0]), np.array([0, 3, 4])), shape=(2, GENES))
    found = open_csr(cached_csr([write(tmp_path / "file.h5ad", x)]))
    assert found.indices.tolist() == [1, 3, 0]
    assert found.data.tolist() == [2, 5, 8]


def test_values_are_mapped_and_not_in_memory_also_inside_an_anndata(tmp_path):
    x = open_csr(cached_csr([write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))]))
    for array in (x.data, AnnData(X=x).X.data, AnnData(X=x).X.indices):
        while array.base is not None and isinstance(array.base, np.ndarray):
            array = array.base
        assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 1


def test_several_files_are_one_matrix(tmp_path):
    paths = [write(tmp_path / f"{i}.h5ad", sparse.csr_matrix(counts(i, 10 + i))) for i in range(3)]
    found = open_csr(cached_csr(paths))
    np.testing.assert_array_equal(found.toarray(), np.vstack([counts(i, 10 + i) for i in range(3)]))
    swapped = open_csr(cached_csr(paths[::-1]))
    assert swapped[0].toarray().tolist() == counts(2, 12)[:1].tolist()


def test_files_of_other_genes_make_no_matrix(tmp_path):
    first = write(tmp_path / "a.h5ad", sparse.csr_matrix(counts()))
    AnnData(np.ones((2, 3), np.float32)).write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(ShapeMismatch, match="different numbers of genes"):
        cached_csr([first, tmp_path / "b.h5ad"])


def test_a_layer_has_a_cache_of_its_own(tmp_path):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()), layer="twice")
    np.testing.assert_array_equal(open_csr(cached_csr([path], "twice")).toarray(), 2 * counts())
    np.testing.assert_array_equal(open_csr(cached_csr([path])).toarray(), counts())
    with pytest.raises(MissingColumn, match="Missing layer 'thrice'"):
        cached_csr([path], "thrice")


def test_content_decides_and_not_the_name(tmp_path):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    first = cached_csr([path])
    (tmp_path / "copy.h5ad").write_bytes(path.read_bytes())
    assert cached_csr([tmp_path / "copy.h5ad"]) == first
    write(path, sparse.csr_matrix(counts(9)))
    assert cached_csr([path]) != first


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path, cache):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    first = content_hash(path)
    note = next((cache / "sha256").iterdir())
    known = json.loads(note.read_text())
    note.write_text(json.dumps({**known, "sha256": "remembered"}))
    assert content_hash(path) == "remembered"
    note.write_text("no json")
    assert content_hash(path) == first
    write(path, sparse.csr_matrix(counts(3)))
    assert content_hash(path) != first


@pytest.mark.parametrize("part", ["indptr.npy", "indices.npy", "data.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_damaged_cache_is_found_out_and_built_again(tmp_path, part, damage):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    folder = cached_csr([path])
    content = bytearray((folder / part).read_bytes())
    content[-3] ^= 0x41
    cut = content[: len(content) // 2]
    (folder / part).unlink() if damage == "gone" else (folder / part).write_bytes(cut if damage == "cut" else content)
    if part != "meta.json" or damage != "flipped":
        with pytest.raises(UnreadableFile, match="A cached matrix is damaged"):
            open_csr(folder)
    np.testing.assert_array_equal(open_csr(cached_csr([path])).toarray(), counts())
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]


def test_two_builders_at_once_both_work(tmp_path, monkeypatch):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    real, barrier, found = csr_cache._write_matrix, threading.Barrier(2), []

    def both_at_once(*arguments):
        barrier.wait(10)
        meta = real(*arguments)
        barrier.wait(10)
        return meta

    monkeypatch.setattr(csr_cache, "_write_matrix", both_at_once)
    threads = [threading.Thread(target=lambda: found.append(cached_csr([path]))) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(set(found)) == 1
    assert len(found) == 2
    np.testing.assert_array_equal(open_csr(found[0]).toarray(), counts())
    assert sorted(p.name for p in found[0].parent.iterdir()) == [found[0].name]


def test_a_build_that_dies_leaves_nothing_and_old_leftovers_go(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    left = cache / "csr" / ".making-old"
    left.mkdir(parents=True)
    os.utime(left, (time.time() - 2e5,) * 2)
    monkeypatch.setattr(csr_cache, "_write_matrix", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cached_csr([path])
    assert list((cache / "csr").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_resource_error(tmp_path, monkeypatch):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    monkeypatch.setattr(csr_cache, "_write_matrix", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputNotWritable, match="The cache cannot be written: given .*No space left"):
        cached_csr([path])


def test_other_values_share_the_places(tmp_path):
    base = cached_csr([write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))])
    calls = []

    def doubled():
        calls.append(1)
        yield open_csr(base).data * 2

    folder = cached_values(base, "twice", doubled)
    np.testing.assert_array_equal(open_csr(folder).toarray(), 2 * counts())
    assert (folder / "indices.npy").samefile(base / "indices.npy")
    assert cached_values(base, "twice", doubled) == folder
    assert len(calls) == 1
    assert cached_values(base, "thrice", doubled) != folder


@pytest.mark.parametrize("what", ["cut", "text", "absent"])
def test_a_file_that_is_none_is_refused(tmp_path, what):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    if what == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:4000] if what == "cut" else b"hello")
    match = "There is no such file" if what == "absent" else "A file cannot be read as AnnData"
    with pytest.raises(UnreadableFile, match=match):
        cached_csr([path])
    with pytest.raises(UnreadableFile, match=match):
        load_file(**OPTIONS, path=str(path), cache=True)


def test_an_index_outside_of_the_matrix_is_refused_while_building(tmp_path):
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    with h5py.File(path, "r+") as f:
        f["X/indices"][4] = GENES
    with pytest.raises(
        UnreadableFile, match="sparse matrix of the file is broken: given .*indices from 0 to 17 for 17"
    ):
        cached_csr([path])
    with h5py.File(path, "r+") as f:
        f["X/indices"][4] = 1
        f["X/indptr"][-1] += 1
    with pytest.raises(UnreadableFile, match="row or column pointers"):
        cached_csr([path])


def test_a_file_without_a_matrix_is_refused(tmp_path):
    AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["g"])).write_h5ad(tmp_path / "empty.h5ad")
    with pytest.raises(UnreadableFile, match="The file has no matrix"):
        cached_csr([tmp_path / "empty.h5ad"])


def test_a_matrix_that_does_not_fit_its_tables_is_refused(tmp_path):
    path = write(tmp_path / "file.h5ad", counts())
    with h5py.File(path, "r+") as f:
        x = f["X"][:-1]
        del f["X"]
        made = f.create_dataset("X", data=x)
        made.attrs["encoding-type"], made.attrs["encoding-version"] = "array", "0.2.0"
    with pytest.raises(UnreadableFile, match="does not fit its tables"):
        load_file(**OPTIONS, path=str(path), cache=True)


# --- the same data set, with and without -----------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("block", [11, 4_000_000])
def test_a_data_set_is_the_same_from_the_cache(tmp_path, monkeypatch, kind, block):
    path = str(write(tmp_path / "file.h5ad", kind(counts())))
    plain = load_file(**OPTIONS, path=path)
    for module in ("perturbfm.data.csr_source", "perturbfm.data.preprocess"):
        monkeypatch.setattr(f"{module}.BLOCK", block)
    cached = load_file(**OPTIONS, path=path, cache=True)
    assert cached.fingerprint == plain.fingerprint
    assert cached.declared == plain.declared
    pd.testing.assert_frame_equal(cached.obs, plain.obs)
    np.testing.assert_array_equal(cached.dense(slice(None)), plain.dense(slice(None)))
    np.testing.assert_array_equal(cached[5:9].dense(slice(None)), plain.dense(np.arange(5, 9)))


def test_log_values_are_the_same_from_the_cache_and_from_zarr(tmp_path):
    x = sparse.csr_matrix(np.log1p(counts()))
    options = {**OPTIONS, "scale": "log1p", "target_sum": None}
    plain = load_file(**options, path=str(write(tmp_path / "file.h5ad", x)))
    for name in ("file.h5ad", "file.zarr"):
        cached = load_file(**options, path=str(write(tmp_path / name, x)), cache=True)
        assert cached.fingerprint == plain.fingerprint


def test_where_the_cache_lies(monkeypatch, tmp_path):
    assert places.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("PERTURBFM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert places.cache_dir().is_absolute()
    assert "perturbfm" in places.cache_dir().name


def test_anndata_reads_what_the_tests_write(tmp_path):
    assert anndata.read_h5ad(write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))).shape == (ROWS, GENES)


@pytest.mark.parametrize("block", [11, 4_000_000])
def test_rows_left_out_are_left_out_of_the_mapped_matrix_too(tmp_path, monkeypatch, block):
    path = str(write(tmp_path / "file.h5ad", sparse.csr_matrix(counts())))
    plain = load_file(**OPTIONS, path=path, drop={"pert": ["B"]})
    monkeypatch.setattr("perturbfm.data.csr_cache.BLOCK", block)
    cached = load_file(**OPTIONS, path=path, drop={"pert": ["B"]}, cache=True)
    assert cached.n_obs < ROWS
    assert cached.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(cached.dense(slice(None)), plain.dense(slice(None)))


def test_several_files_are_one_mapped_data_set(tmp_path):
    paths = [str(write(tmp_path / f"part{i}.h5ad", sparse.csr_matrix(counts()))) for i in range(2)]
    plain = load_file(**OPTIONS, path=paths, prefix_cells=True)
    cached = load_file(**OPTIONS, path=paths, prefix_cells=True, cache=True)
    assert cached.n_obs == 2 * ROWS
    assert cached.fingerprint == plain.fingerprint


def test_what_cannot_be_mapped_is_refused(tmp_path):
    table = pd.DataFrame(np.ones((2, 2)), index=["a", "b"], columns=["g0", "g1"])
    table.to_csv(tmp_path / "x.csv")
    pd.DataFrame({"pert": ["ctrl", "A"], "line": ["k1", "k1"]}, index=["a", "b"]).to_csv(tmp_path / "obs.csv")
    with pytest.raises(BadValue, match=r"cannot be mapped: given data.cache=true with x.csv"):
        load_file(**OPTIONS, path=str(tmp_path / "x.csv"), obs=str(tmp_path / "obs.csv"), cache=True)
    path = write(tmp_path / "file.h5ad", sparse.csr_matrix(counts()))
    with h5py.File(path, "r+") as file:
        name = file["var"].attrs["_index"]
        genes = file["var"][name][:]
        genes[1] = genes[0]
        file["var"][name][:] = genes
    with pytest.raises(BadValue, match="Repeated genes cannot be summed in a mapped matrix"):
        load_file(**OPTIONS, path=str(path), cache=True, duplicate_genes="sum")
