"""Files of every format, spoilt part by part: each is read rightly or refused by name, by loader and doctor."""

import os
import shutil
import warnings
from itertools import pairwise

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import io, sparse

from perturbfm import config
from perturbfm.cli import main
from perturbfm.data import PerturbDataset, load_artifact, load_file, write_artifact
from perturbfm.data.doctor import examine
from perturbfm.data.reader.raw import ReadOptions
from perturbfm.errors import ConfigError, PerturbFMError

N, GENES = 30, [f"G{i}" for i in range(12)]
CELLS = [f"c{i}" for i in range(N)]
OBS = {"pert": ["control", "A", "B"] * 10, "line": ["k1"] * 15 + ["k2"] * 15, "batch": ["1"] * N}
GIVEN = {"pert_column": "pert", "context_column": "line", "batch_column": None, "mode": "drug"}


def matrix():
    x = np.random.default_rng(0).poisson(1.0, (N, len(GENES))).astype(np.float32)
    x[:, 0] += 1
    return x


X = matrix()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A whole file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    obs, var = pd.DataFrame(OBS, index=CELLS), pd.DataFrame(index=GENES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AnnData(sparse.csr_matrix(X), obs, var).write_h5ad(folder / "sparse.h5ad")
        AnnData(X, obs, var).write_h5ad(folder / "dense.h5ad")
        AnnData(sparse.csr_matrix(X), obs, var).write_zarr(folder / "sparse.zarr")
    pd.DataFrame(X, CELLS, GENES).to_csv(folder / "text.csv")
    obs.to_csv(folder / "obs.csv")
    (folder / "mtx").mkdir()
    io.mmwrite(folder / "mtx" / "matrix.mtx", sparse.coo_matrix(X.T))
    (folder / "mtx" / "barcodes.tsv").write_text("\n".join(CELLS) + "\n")
    (folder / "mtx" / "features.tsv").write_text("".join(f"E{g}\t{g}\tGene Expression\n" for g in GENES))
    with h5py.File(folder / "tenx.h5", "w") as file:
        m, x = file.create_group("matrix"), sparse.csc_matrix(X.T)
        for key, value in (
            ("data", x.data.astype("i4")),
            ("indices", x.indices),
            ("indptr", x.indptr),
            ("shape", x.shape),
        ):
            m[key] = value
        m["barcodes"] = np.array(CELLS, "S")
        for key, value in (("id", GENES), ("name", GENES), ("feature_type", ["Gene Expression"] * 12)):
            m[f"features/{key}"] = np.array(value, "S")
        m["features/genome"] = np.array(["hg"] * 12, "S")
    write_artifact(load_file("fuzz", str(folder / "sparse.h5ad"), "counts", **GIVEN), folder / "artifact")
    return folder


def load(path, sources):
    if path.name.startswith("artifact"):
        return load_artifact(str(path))
    beside = str(sources / "obs.csv") if path.name.startswith(("text", "mtx", "tenx")) else None
    return load_file("fuzz", str(path), "counts", obs=beside, **GIVEN)


def dense(data):
    x = data.adata.X
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def refusal(call):
    """What a call gives, or the typed error it raises; anything else is a failure."""
    try:
        return call()
    except PerturbFMError as error:
        refused = error
    assert refused.exit_code in (2, 3, 4)
    assert refused.fix
    return refused


def judged(path, sources):
    """What the loader gives, or its refusal; the doctor must find something or refuse by name as well."""
    found = refusal(lambda: load(path, sources))
    assert isinstance(found, PerturbDataset | PerturbFMError)
    if not path.name.startswith("artifact"):
        beside = str(sources / "obs.csv") if path.name.startswith(("text", "mtx", "tenx")) else None
        seen = refusal(lambda: examine(path, "fuzz", options=ReadOptions(obs=beside)))
        assert isinstance(seen, PerturbFMError) or all(f.fix for f in seen.findings)
    return found


FORMATS = ("sparse.h5ad", "dense.h5ad", "sparse.zarr", "text.csv", "mtx", "tenx.h5", "artifact")


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_are_read(sources, name):
    found = load(sources / name, sources)
    assert np.array_equal(dense(found), X)
    assert found.obs["pert_id"].tolist() == OBS["pert"]


# --- parts of an HDF5 file exchanged ----------------------------------------------------------------


def put(file, name, value):
    """Replace a dataset, its attributes kept."""
    attributes = dict(file[name].attrs) if name in file else {}
    if name in file:
        del file[name]
    file[name] = value
    file[name].attrs.update(attributes)


def changed(part, how):
    def change(file):
        put(file, part, how(file[part][()]))

    return change


def first(value):
    def set_first(old):
        old = old.astype(np.result_type(old, type(value))) if isinstance(value, float) else old.copy()
        old[0] = value
        return old

    return set_first


def turned_round(file):
    """Columns of each row from right to left: another order of the same matrix."""
    data, index, end = (file[f"X/{k}"][()] for k in ("data", "indices", "indptr"))
    for a, b in pairwise(end):
        data[a:b], index[a:b] = data[a:b][::-1].copy(), index[a:b][::-1].copy()
    put(file, "X/data", data)
    put(file, "X/indices", index)


def attribute(part, key, value):
    def change(file):
        if value is None:
            del file[part].attrs[key]
        else:
            file[part].attrs[key] = value

    return change


def removed(part):
    def change(file):
        del file[part]

    return change


def a_group(part):
    def change(file):
        del file[part]
        file.create_group(part)

    return change


def texts(values):
    return lambda _: np.array(values, dtype=object)


SAME = {
    **{f"values as {t}": changed("X/data", lambda v, t=t: v.astype(t)) for t in ("f2", "f8", "i8", "u1", "i2", "u4")},
    "values of the other byte order": changed("X/data", lambda v: v.astype(">f4")),
    **{f"indices as {t}": changed("X/indices", lambda v, t=t: v.astype(t)) for t in ("i8", "u2")},
    "row ends as int64": changed("X/indptr", lambda v: v.astype("i8")),
    "columns turned round": turned_round,
    "a column more": changed("obs/batch/codes", lambda v: v[::-1]),
    "unicode genes": changed("var/_index", texts([f"γ{g} 基因" for g in GENES])),
}  # fmt: skip
BROKEN = {
    **{f"without {p}": removed(p) for p in ("obs", "var", "X", "X/data", "X/indices", "X/indptr", "obs/pert")},
    **{f"without {p}": removed(p) for p in ("obs/_index", "var/_index", "obs/line/categories", "obs/line/codes")},
    **{f"{p} is a group": a_group(p) for p in ("obs/pert", "X/data", "X/indptr", "obs/_index", "var/_index")},
    "values as text": changed("X/data", lambda v: v.astype("S4")),
    "values as complex": changed("X/data", lambda v: v.astype("c8")),
    "a value NaN": changed("X/data", first(float("nan"))),
    "a value infinite": changed("X/data", first(float("inf"))),
    "a value negative": changed("X/data", first(-1.0)),
    "a value half": changed("X/data", first(0.5)),
    "values cut": changed("X/data", lambda v: v[:-3]),
    "no values": changed("X/data", lambda v: v[:0]),
    "values doubled": changed("X/data", lambda v: np.concatenate([v, v])),
    "an index too large": changed("X/indices", first(10**6)),
    "an index negative": changed("X/indices", first(-1)),
    "indices cut": changed("X/indices", lambda v: v[:-1]),
    "row ends cut": changed("X/indptr", lambda v: v[:-1]),
    "row ends decrease": changed("X/indptr", lambda v: np.concatenate([v[:1], v[-2::-1][: len(v) - 2], v[-1:]])),
    "row ends fall to zero": changed("X/indptr", lambda v: np.append(v[:-1], v.dtype.type(0))),
    "row ends are zero but one": changed("X/indptr", lambda v: np.array([0, 10**6, *[0] * (len(v) - 2)], v.dtype)),
    "row ends too large": changed("X/indptr", lambda v: v + 10**6),
    "row ends negative": changed("X/indptr", lambda v: v - 7),
    "more rows": attribute("X", "shape", [N + 5, 12]),
    "fewer genes": attribute("X", "shape", [N, 3]),
    "a negative shape": attribute("X", "shape", [-1, 12]),
    "an unknown encoding": attribute("X", "encoding-type", "martian_matrix"),
    "a newer encoding": attribute("X", "encoding-version", "99.0"),
    "obs without an index": attribute("obs", "_index", None),
    "obs with another index": attribute("obs", "_index", "nowhere"),
    "obs lists a column that is not there": attribute("obs", "column-order", ["pert", "gone"]),
    "codes out of range": changed("obs/pert/codes", first(100)),
    "codes below -1": changed("obs/pert/codes", first(-5)),
    "codes cut": changed("obs/pert/codes", lambda v: v[:-1]),
    "categories twice": changed("obs/pert/categories", texts(["A", "A", "control"])),
    "a category nan": changed("obs/pert/categories", texts(["nan", "B", "control"])),
    "a category empty": changed("obs/pert/categories", texts(["", "B", "control"])),
    "a category of 20,000 signs": changed("obs/pert/categories", texts(["A" * 20_000, "B", "control"])),
    "a category with a line break": changed("obs/pert/categories", texts(["A\nB", "B", "control"])),
    "no control": changed("obs/pert/categories", texts(["A", "B", "C"])),
    "numbers for labels": changed("obs/pert/categories", lambda v: np.array([1.5, 2.5, 3.5])),
    "cells twice": changed("obs/_index", texts(["c"] * N)),
    "cells cut": changed("obs/_index", lambda v: v[:-1]),
    "genes twice": changed("var/_index", texts(["g"] * 12)),
    "genes of two dimensions": changed("var/_index", lambda v: v.reshape(3, 4)),
}  # fmt: skip


def exchanged(sources, tmp_path, change, source="sparse.h5ad"):
    path = tmp_path / source
    shutil.copy(sources / source, path)
    with h5py.File(path, "r+") as file:
        if isinstance(file["obs"]["pert"], h5py.Dataset):
            raise AssertionError("labels are expected as categories")
        change(file)
    return path


@pytest.mark.parametrize("name", SAME)
def test_another_way_to_write_the_same_is_read_the_same(sources, tmp_path, name):
    found = judged(exchanged(sources, tmp_path, SAME[name]), sources)
    assert isinstance(found, PerturbDataset), found
    assert np.array_equal(dense(found), X)


@pytest.mark.parametrize("name", BROKEN)
def test_a_spoilt_part_is_refused(sources, tmp_path, name, capsys):
    path = exchanged(sources, tmp_path, BROKEN[name])
    found = judged(path, sources)
    assert isinstance(found, PerturbFMError), f"read with {name}"
    assert main(["doctor", str(path), "--no-write"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("change", [lambda x: x[:, :3], lambda x: x[:7], lambda x: x.ravel(), lambda x: x[None]])
def test_a_dense_matrix_of_another_shape_is_refused(sources, tmp_path, change):
    found = judged(exchanged(sources, tmp_path, changed("X", change), "dense.h5ad"), sources)
    assert isinstance(found, PerturbFMError)


# --- bytes ------------------------------------------------------------------------------------------


def cut(content, rng):
    return content[: rng.integers(len(content))]


def flipped(content, rng):
    spoilt = bytearray(content)
    for place in rng.integers(len(content), size=3):
        spoilt[place] = rng.integers(256)
    return bytes(spoilt)


def flipped_file(path, rng):
    """Flip bytes; of an HDF5 file only in its numbers, for what libhdf5 does with spoilt metadata is its own."""
    if not h5py.is_hdf5(path):
        path.write_bytes(flipped(path.read_bytes(), rng))
        return
    with h5py.File(path, "r") as file:
        places = []
        file.visititems(
            lambda _, x: places.append(x) if isinstance(x, h5py.Dataset) and x.dtype.kind in "iuf" else None
        )
        spans = [(x.id.get_offset(), x.id.get_storage_size()) for x in places if x.id.get_offset() is not None]
    content = bytearray(path.read_bytes())
    for start, size in (spans[i] for i in rng.integers(len(spans), size=3)):
        content[start + rng.integers(size)] = rng.integers(256)
    path.write_bytes(content)


def emptied(content, rng):
    return b""


def a_page(content, rng):
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def a_pickle(content, rng):
    return b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00]\x94."


SEEDS = int(os.environ.get("PERTURBFM_FUZZ_SEEDS", "8"))
"""Damaged copies of each format; more for a longer search."""


def copied(source, target):
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return target


@pytest.mark.parametrize("damage", [cut, flipped, emptied, a_page, a_pickle], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", FORMATS)
def test_spoilt_bytes_are_read_or_refused(sources, tmp_path, name, damage):
    refused = 0
    seeds = SEEDS if damage in (cut, flipped) else 1
    for seed in range(seeds):
        rng = np.random.default_rng([seed, FORMATS.index(name)])
        (tmp_path / f"{seed}").mkdir()
        path = copied(sources / name, tmp_path / f"{seed}" / name)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        hit = files[rng.integers(len(files))] if damage is not a_page else files[0]
        if damage is flipped:
            flipped_file(hit, rng)
        else:
            hit.write_bytes(damage(hit.read_bytes(), rng))
        refused += isinstance(judged(path, sources), PerturbFMError)
    assert refused or damage is flipped or path.is_dir()


@pytest.mark.parametrize("damage", [cut, flipped], ids=lambda f: f.__name__)
def test_a_spoilt_yaml_is_composed_or_refused(tmp_path, monkeypatch, damage):
    text = "defaults: [file]\npath: x.h5ad\nscale: counts\npert_column: pert\nmode: drug\n"
    (tmp_path / "conf" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    refused = 0
    for seed in range(10):
        content = damage(text.encode(), np.random.default_rng(seed))
        (tmp_path / "conf" / "data" / "mine.yaml").write_bytes(content)
        refused += isinstance(refusal(lambda: config.compose_config(["data=mine"])), ConfigError)
    assert refused


# --- what is at the path ----------------------------------------------------------------------------


def a_loop(folder, sources):
    (folder / "x.h5ad").symlink_to(folder / "y.h5ad")
    (folder / "y.h5ad").symlink_to(folder / "x.h5ad")


def a_folder(folder, sources):
    (folder / "x.h5ad").mkdir()


def a_link_to_nothing(folder, sources):
    (folder / "x.h5ad").symlink_to(folder / "gone.h5ad")


def text_named_h5ad(folder, sources):
    shutil.copy(sources / "text.csv", folder / "x.h5ad")


def nothing(folder, sources):
    pass


def a_folder_of_several(folder, sources):
    a_folder(folder, sources)
    for name in ("a", "b"):
        shutil.copy(sources / "sparse.h5ad", folder / "x.h5ad" / f"{name}.h5ad")


PLACES = [a_loop, a_folder, a_link_to_nothing, text_named_h5ad, nothing, a_folder_of_several]


@pytest.mark.parametrize("make", PLACES, ids=lambda f: f.__name__)
def test_what_is_no_file_is_refused(sources, tmp_path, capsys, make):
    make(tmp_path, sources)
    assert isinstance(judged(tmp_path / "x.h5ad", sources), PerturbFMError)
    assert main(["doctor", str(tmp_path / "x.h5ad"), "--no-write"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("UnreadableFile: ")
    assert ("x.h5ad/*.h5ad" in said) == (make is a_folder_of_several)


def test_a_wrong_suffix_is_read_by_content(sources, tmp_path):
    path = shutil.copy(sources / "sparse.h5ad", tmp_path / "x.csv")
    assert np.array_equal(dense(load_file("fuzz", str(path), "counts", **GIVEN)), X)
