"""One small world, written in every format of the field, is read as the same data set; broken files are refused."""

import gzip
import pickle
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

from perturbfm.data import load_file
from perturbfm.errors import (
    BadValue,
    DuplicateNames,
    MissingColumn,
    MissingLabel,
    MissingValue,
    PickleRefused,
    UnreadableFile,
)

COUNTS = np.array([[3, 0, 1], [0, 2, 0], [9, 0, 0], [0, 7, 30], [2, 1, 5], [0, 0, 4]], dtype=np.float32)
CELLS = [f"AAC{i}-1" for i in range(6)]
GENES = ["TP53", "ATM", "KLF1"]
PERT = ["control", "A", "control", "B", "A", "B"]
OPTIONS = {"pert_column": "pert", "context_column": None, "context": "k", "batch_column": None, "mode": "drug"}


def table():
    return pd.DataFrame({"pert": pd.Categorical(PERT), "site": list("xxyyxy")}, index=CELLS)


def adata(x=COUNTS, **parts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AnnData(X=x, obs=table(), var=pd.DataFrame(index=GENES), **parts)


def load(path, **options):
    return load_file("small", str(path), "counts", **{**OPTIONS, **options})


@pytest.fixture
def expected(tmp_path):
    adata().write_h5ad(tmp_path / "expected.h5ad")
    return load(tmp_path / "expected.h5ad")


@pytest.fixture
def obs(tmp_path):
    (tmp_path / "obs").mkdir()
    table().iloc[::-1].to_csv(tmp_path / "obs" / "cells.csv")
    return str(tmp_path / "obs" / "cells.csv")


def same(data, expected):
    assert data.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(data.dense(slice(None)), COUNTS)
    assert data.genes == tuple(GENES)
    assert data.obs.index.tolist() == CELLS


# --- the layout of AnnData -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8, bool])
def test_any_numbers_in_any_form_are_one_data_set(tmp_path, expected, kind, dtype):
    if dtype is bool:
        adata(kind((COUNTS > 0).astype(bool))).write_h5ad(tmp_path / "x.h5ad")
        np.testing.assert_array_equal(load(tmp_path / "x.h5ad").dense(slice(None)), COUNTS > 0)
        return
    adata(kind(COUNTS.astype(dtype))).write_h5ad(tmp_path / "x.h5ad")
    same(load(tmp_path / "x.h5ad"), expected)


@pytest.mark.parametrize("name", ["hepg2.h5", "hepg2.hdf5", "no_suffix"])
def test_the_layout_is_known_whatever_the_name(tmp_path, expected, name):
    adata(sparse.csr_matrix(COUNTS)).write_h5ad(tmp_path / "x.h5ad")
    (tmp_path / "x.h5ad").rename(tmp_path / name)
    same(load(tmp_path / name), expected)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_zarr_folders_of_both_formats(tmp_path, expected, version, kind):
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=version)
        write_elem(group, "/", adata(kind(COUNTS)))
    same(load(tmp_path / "x.zarr"), expected)


def test_a_modality_of_an_h5mu(tmp_path, expected):
    other = AnnData(X=np.ones((6, 2), np.float32), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=["p1", "p2"]))
    rna = adata()
    del rna.obs["site"]
    with h5py.File(tmp_path / "x.h5mu", "w") as file:
        write_elem(file, "mod/rna", rna)
        write_elem(file, "mod/adt", other)
        write_elem(file, "obs", table()[["site"]])
        write_elem(file, "var", pd.DataFrame(index=[*GENES, "p1", "p2"]))
    same(load(tmp_path / "x.h5mu", modality="rna"), expected)
    assert load(tmp_path / "x.h5mu", modality="rna", covariates=["site"]).obs["site"].tolist() == list("xxyyxy")
    with pytest.raises(MissingValue, match=r"given data\.modality=None, x\.h5mu has adt, rna"):
        load(tmp_path / "x.h5mu")


def test_raw_has_genes_of_its_own(tmp_path, expected):
    small = adata()
    small.raw = small.copy()
    part = small[:, [0, 2]].copy()
    part.X = np.log1p(part.X)
    part.write_h5ad(tmp_path / "x.h5ad")
    same(load(tmp_path / "x.h5ad", layer="raw"), expected)
    with pytest.raises(MissingColumn, match=r"Missing layer 'counts': given layers raw"):
        load(tmp_path / "x.h5ad", layer="counts")


def test_a_layer_named_raw_comes_before_the_raw_matrix(tmp_path, expected):
    adata(COUNTS + 1, layers={"raw": COUNTS}).write_h5ad(tmp_path / "x.h5ad")
    same(load(tmp_path / "x.h5ad", layer="raw"), expected)


def test_tables_as_anndata_wrote_them_before_0_7(tmp_path, expected):
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        codes = np.array([0, 1, 0, 2, 1, 2], dtype=np.int8)
        rows = np.array(
            list(zip([c.encode() for c in CELLS], codes, strict=True)), dtype=[("index", "S10"), ("pert", "i1")]
        )
        file["obs"] = rows
        file["var"] = np.array([(g.encode(),) for g in GENES], dtype=[("index", "S10")])
        file["X"] = COUNTS
        file["uns/pert_categories"] = np.array([b"control", b"A", b"B"])
    same(load(tmp_path / "old.h5ad"), expected)
    with h5py.File(tmp_path / "old.h5ad", "a") as file:
        del file["uns/pert_categories"]
        file["uns/pert_categories"] = np.array([b"control", b"A"])
    with pytest.raises(UnreadableFile, match="column 'pert' holds codes beyond its categories"):
        load(tmp_path / "old.h5ad")


def test_categories_as_anndata_0_7_wrote_them(tmp_path, expected):
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        group = file.create_group("obs")
        group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "index"})
        group.attrs["column-order"] = np.array(["pert"], dtype=object)
        group["index"] = np.array(CELLS, dtype=object)
        group["pert"] = np.array([0, 1, 0, 2, 1, 2], dtype=np.int8)
        group["__categories/pert"] = np.array(["control", "A", "B"], dtype=object)
        group["pert"].attrs["categories"] = group["__categories/pert"].ref
        write_elem(file, "var", pd.DataFrame(index=GENES))
        file["X"] = COUNTS
    same(load(tmp_path / "old.h5ad"), expected)


def test_bytes_are_read_as_text(tmp_path, expected):
    adata().write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "a") as file:
        del file["obs/pert"]
        file["obs/pert"] = np.array([p.encode() for p in PERT])
        file["obs/pert"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    same(load(tmp_path / "x.h5ad"), expected)


# --- Cell Ranger -----------------------------------------------------------------------------------


def write_10x_h5(path, legacy=False, guides=False, drop=()):
    genes, kinds = list(GENES), ["Gene Expression"] * 3
    x = sparse.csc_matrix(COUNTS.T)
    if guides:
        genes, kinds = [*genes, "sgTP53"], [*kinds, "CRISPR Guide Capture"]
        x = sparse.csc_matrix(np.vstack([COUNTS.T, np.ones((1, 6))]))
    with h5py.File(path, "w") as file:
        group = file.create_group("GRCh38" if legacy else "matrix")
        group["barcodes"] = np.array([c.encode() for c in CELLS])
        group["data"], group["indices"], group["indptr"] = x.data.astype(np.int32), x.indices, x.indptr
        group["shape"] = np.array(x.shape, dtype=np.int32)
        ids, names = [np.array([(p + g).encode() for g in genes]) for p in ("ENSG_", "")]
        if legacy:
            group["genes"], group["gene_names"] = ids, names
        else:
            group["features/id"], group["features/name"] = ids, names
            group["features/feature_type"] = np.array([k.encode() for k in kinds])
            group["features/genome"] = np.array([b"GRCh38"] * len(genes))
        for part in drop:
            del group[part]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_10x_h5_of_either_version(tmp_path, expected, obs, legacy):
    write_10x_h5(tmp_path / "filtered.h5", legacy)
    same(load(tmp_path / "filtered.h5", obs=obs), expected)
    assert load(tmp_path / "filtered.h5", obs=obs, gene_column="gene_ids").genes == tuple(f"ENSG_{g}" for g in GENES)


def test_guides_in_a_10x_h5_are_no_genes(tmp_path, obs):
    write_10x_h5(tmp_path / "filtered.h5", guides=True)
    data = load(tmp_path / "filtered.h5", obs=obs)
    assert data.genes == tuple(GENES)
    assert data.declared.source == "1 features of type CRISPR Guide Capture left out"


@pytest.mark.parametrize("part", ["data", "barcodes", "shape", "features/name"])
def test_a_10x_h5_that_lost_a_part_is_refused(tmp_path, obs, part):
    write_10x_h5(tmp_path / "filtered.h5", drop=[part])
    with pytest.raises(UnreadableFile, match="A file cannot be read as"):
        load(tmp_path / "filtered.h5", obs=obs)


def test_a_10x_h5_whose_parts_disagree_is_refused(tmp_path, obs):
    write_10x_h5(tmp_path / "filtered.h5")
    with h5py.File(tmp_path / "filtered.h5", "a") as file:
        file["matrix/indices"][0] = 99
    with pytest.raises(UnreadableFile, match=r"cannot be read as 10x HDF5: given .*sizes that disagree"):
        load(tmp_path / "filtered.h5", obs=obs)


def write_mtx(folder, features="features.tsv", packed=True, prefix="", turned=False, types=True, header=False):
    folder.mkdir()
    scipy.io.mmwrite(folder / "m.mtx", sparse.coo_matrix(COUNTS if turned else COUNTS.T).astype(np.int32))
    rows = [f"ENSG_{g}\t{g}" + ("\tGene Expression" if types else "") for g in GENES]
    texts = {
        f"{prefix}matrix.mtx": (folder / "m.mtx").read_text(),
        f"{prefix}{features}": "\n".join((["id\tname\ttype"] if header else []) + rows) + "\n",
        f"{prefix}barcodes.tsv": "\n".join(CELLS) + "\n",
    }
    (folder / "m.mtx").unlink()
    for name, text in texts.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"packed": False, "features": "genes.tsv", "types": False},
        {"packed": False},
        {"prefix": "GSM1_"},
        {"turned": True},
    ],
)
def test_a_10x_folder(tmp_path, expected, obs, given):
    write_mtx(tmp_path / "mtx", **given)
    same(load(tmp_path / "mtx", obs=obs), expected)


def test_a_matrix_may_be_named_where_a_folder_holds_several(tmp_path, expected, obs):
    write_mtx(tmp_path / "mtx", prefix="GSM1_")
    write_mtx(tmp_path / "more", prefix="GSM2_")
    for file in (tmp_path / "more").iterdir():
        shutil.move(file, tmp_path / "mtx" / file.name)
    with pytest.raises(UnreadableFile, match="A 10x folder has more than one matrix"):
        load(tmp_path / "mtx", obs=obs)
    same(load(tmp_path / "mtx" / "GSM2_matrix.mtx.gz", obs=obs), expected)


def test_a_10x_folder_that_does_not_fit_is_refused(tmp_path, obs):
    write_mtx(tmp_path / "headed", header=True)
    with pytest.raises(UnreadableFile, match=r"do not fit: given matrix\.mtx\.gz \(3, 6\), 4 features, 6 barcodes"):
        load(tmp_path / "headed", obs=obs)
    write_mtx(tmp_path / "lost", packed=False)
    (tmp_path / "lost" / "barcodes.tsv").unlink()
    with pytest.raises(UnreadableFile, match="A 10x folder has no barcodes"):
        load(tmp_path / "lost", obs=obs)
    write_mtx(tmp_path / "cut", packed=False)
    text = (tmp_path / "cut" / "matrix.mtx").read_text()
    (tmp_path / "cut" / "matrix.mtx").write_text(text[: len(text) // 2])
    with pytest.raises(UnreadableFile, match="cannot be read as a Matrix Market file"):
        load(tmp_path / "cut", obs=obs)


# --- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.txt", "x.csv.gz", "x.tsv.gz"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_text_matrix(tmp_path, expected, obs, name, turned):
    frame = pd.DataFrame(COUNTS, CELLS, GENES)
    (frame.T if turned else frame).to_csv(tmp_path / name, sep="," if ".csv" in name else "\t")
    same(load(tmp_path / name, obs=obs, orientation="genes_by_cells" if turned else "cells_by_genes"), expected)


def test_a_text_matrix_turned_the_wrong_way_is_refused(tmp_path, obs):
    pd.DataFrame(COUNTS, CELLS, GENES).T.to_csv(tmp_path / "x.csv")
    with pytest.raises(
        MissingLabel, match=r"3 of 3 cells of x\.csv, first 'TP53'; cells\.csv has ids .*data\.orientation"
    ):
        load(tmp_path / "x.csv", obs=obs)
    with pytest.raises(BadValue, match=r"Unknown data\.orientation: given 'sideways'"):
        load(tmp_path / "x.csv", obs=obs, orientation="sideways")
    with pytest.raises(MissingColumn, match="Missing layer 'raw': given layers none"):
        load(tmp_path / "x.csv", obs=obs, layer="raw")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,TP53,kind\nAAC0-1,1,a\n", "A text matrix holds words: given x.csv: columns kind"),
        ("id\tTP53\nAAC0-1\t1\n", "A text matrix holds words: given x.csv: one column"),
        ("id,TP53\nAAC0-1,1,2,3\nAAC1-1,1\nAAC2-1,1,2,3,4,5\n", "cannot be read as a matrix"),
        ("id,TP53\nAAC0-1,1\n\x00\xff", "cannot be read as a matrix|holds words"),
    ],
)
def test_text_that_is_no_matrix_is_refused(tmp_path, obs, text, told):
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UnreadableFile, match=told):
        load(tmp_path / "x.csv", obs=obs)


def test_names_that_pandas_would_make_unique_are_refused(tmp_path, obs):
    pd.DataFrame(COUNTS, CELLS, ["TP53", "TP53", "KLF1"]).to_csv(tmp_path / "x.csv")
    with pytest.raises(DuplicateNames, match=r"A text matrix has a column twice: given 'TP53' in x\.csv"):
        load(tmp_path / "x.csv", obs=obs)


# --- tables of cells -------------------------------------------------------------------------------


def test_a_table_of_cells_may_hold_more_cells_and_keeps_codes(tmp_path):
    pd.DataFrame(COUNTS, CELLS, GENES).to_csv(tmp_path / "x.csv")
    more = pd.DataFrame(
        {"pert": [*PERT, "Z"], "code": ["01"] * 7, "n": list("1234567"), "na": ["NA"] * 7}, [*CELLS, "z"]
    )
    more.to_csv(tmp_path / "cells.tsv", sep="\t")
    data = load(tmp_path / "x.csv", obs=str(tmp_path / "cells.tsv"), covariates=["code", "n", "na"])
    assert set(data.obs["pert_id"]) == {"control", "A", "B"}
    assert (data.obs["code"].iloc[0], data.obs["n"].iloc[0], data.obs["na"].iloc[0]) == ("01", 1.0, "NA")


def test_a_table_of_cells_that_does_not_fit_is_refused(tmp_path, obs):
    adata().write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(
        BadValue, match=r"in the file and in the table of cells: given 'pert' in x\.h5ad and cells\.csv"
    ):
        load(tmp_path / "x.h5ad", obs=obs)
    pd.DataFrame({"extra": ["a"] * 7}, [*CELLS, CELLS[0]]).to_csv(tmp_path / "twice.csv")
    with pytest.raises(DuplicateNames, match=r"has an id twice: given 'AAC0-1' in twice\.csv"):
        load(tmp_path / "x.h5ad", obs=str(tmp_path / "twice.csv"))
    pd.DataFrame({"extra": ["a"] * 5}, CELLS[1:]).to_csv(tmp_path / "few.csv")
    with pytest.raises(MissingLabel, match=r"given 1 of 6 cells of x\.h5ad, first 'AAC0-1'"):
        load(tmp_path / "x.h5ad", obs=str(tmp_path / "few.csv"))
    (tmp_path / "empty.csv").write_text("id\n")
    with pytest.raises(UnreadableFile, match="cannot be read as a table"):
        load(tmp_path / "x.h5ad", obs=str(tmp_path / "empty.csv"))
    with pytest.raises(UnreadableFile, match="There is no such table of cells"):
        load(tmp_path / "x.h5ad", obs=str(tmp_path / "none.csv"))


# --- what is refused -------------------------------------------------------------------------------


class Told:
    """An object whose opening would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_is_never_opened(tmp_path, protocol):
    trace = tmp_path / "opened"
    (tmp_path / "split.pkl").write_bytes(pickle.dumps(Told(trace), protocol=protocol))
    with pytest.raises(PickleRefused, match=r"split\.pkl: a pickle.*write_h5ad"):
        load(tmp_path / "split.pkl")
    if protocol:
        (tmp_path / "split.pkl").rename(tmp_path / "x.h5ad")
        with pytest.raises(PickleRefused, match="run code when they are opened"):
            load(tmp_path / "x.h5ad")
    assert not trace.exists()


def test_a_numpy_file_of_objects_is_refused(tmp_path):
    trace = tmp_path / "opened"
    np.save(tmp_path / "x.npy", np.array([Told(trace)], dtype=object), allow_pickle=True)
    with pytest.raises(PickleRefused, match="a NumPy file of objects"):
        load(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", COUNTS)
    with pytest.raises(UnreadableFile, match=r"of no known format: given .*y\.npy"):
        load(tmp_path / "y.npy")
    assert not trace.exists()


def test_a_zarr_array_packed_as_pickles_is_refused(tmp_path):
    import numcodecs
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=2)
        write_elem(group, "/", adata())
    numcodecs.Pickle()  # there is such a codec
    text = (tmp_path / "x.zarr" / "X" / ".zarray").read_text()
    (tmp_path / "x.zarr" / "X" / ".zarray").write_text(text.replace('"filters": null', '"filters": [{"id": "pickle"}]'))
    with pytest.raises(PickleRefused, match=r"X/\.zarray says that an array is pickled"):
        load(tmp_path / "x.zarr")


def test_a_zarr_folder_that_lacks_chunks_is_refused(tmp_path):
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=2)
        write_elem(group, "/", adata(sparse.csr_matrix(COUNTS)))
    (tmp_path / "x.zarr" / "X" / "data" / "0").unlink()
    with pytest.raises(UnreadableFile, match=r"lacks chunks.*1 of 1 chunks of X/data"):
        load(tmp_path / "x.zarr")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.h5ad", b"", r"x\.h5ad \(0 bytes\): it is empty"),
        ("x.csv", b"", "it is empty"),
        ("x.h5", b"\n\n<html><body>404 Not Found", "it is a web page"),
        ("x.csv", b"<!DOCTYPE html>\n<html>", "it is a web page"),
        ("x.h5ad", b'<?xml version="1.0"?><Error>AccessDenied', "it is a web page"),
        ("x.h5ad", b"id,TP53\na,1\n", "file signature not found, it begins with b'id,TP53"),
        ("x.rds", b"\x1f\x8b" + bytes(20), r"A file is of no known format.*zellkonverter"),
        ("x.zip", b"PK\x03\x04" + bytes(20), "A file is of no known format"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFile, match=told):
        load(tmp_path / name)


def test_text_that_a_cut_download_left_as_zeros_is_refused_and_not_waited_for(tmp_path):
    adata().write_h5ad(tmp_path / "x.h5ad")
    content = (tmp_path / "x.h5ad").read_bytes()
    place = content.index(b"GCOL")
    (tmp_path / "x.h5ad").write_bytes(content[: place + 16] + bytes(200) + content[place + 216 :])
    with pytest.raises(UnreadableFile, match=rf"its text at byte {place} is zeros"):
        load(tmp_path / "x.h5ad")


def test_a_folder_without_data_is_refused(tmp_path):
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(UnreadableFile, match=r"a folder without a data set: given .* with notes\.md"):
        load(tmp_path)


def test_a_path_into_a_clone_says_what_is_data_and_what_is_code(tmp_path):
    with pytest.raises(UnreadableFile, match=r"scPerturBench is GPL-3\.0.*third_party/.*only ever executed"):
        load(tmp_path / "third_party" / "scPerturBench" / "kang.h5ad")
    with pytest.raises(UnreadableFile, match=r"or set PERTURBFM_DATA\.$"):
        load(tmp_path / "kang.h5ad")


def test_a_matrix_of_words_is_refused(tmp_path):
    adata().write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "a") as file:
        del file["X"]
        write_elem(file, "X", np.full((6, 3), "a", dtype=object))
    with pytest.raises(UnreadableFile, match="The matrix of a file holds no numbers"):
        load(tmp_path / "x.h5ad")


@pytest.mark.parametrize("x", [np.ones(6, np.float32), np.ones((5, 3), np.float32), pd.DataFrame(index=CELLS)])
def test_a_matrix_of_another_shape_is_refused(tmp_path, x):
    adata().write_h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "a") as file:
        del file["X"]
        write_elem(file, "X", x)
    with pytest.raises((UnreadableFile, MissingColumn), match="is no matrix|does not fit its tables"):
        load(tmp_path / "x.h5ad")
