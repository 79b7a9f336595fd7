"""Files are read through declared columns, and what does not fit its declaration is refused by name."""

import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import load_file
from perturbfm.errors import (
    BadValue,
    ContextWithoutControls,
    ControlLabelAbsent,
    DuplicateNames,
    MissingColumn,
    MissingLabel,
    MissingValue,
    ScaleMismatch,
    ShapeMismatch,
    SizeNotPositive,
    UnreadableFile,
    ValuesNegative,
    ValuesNotFinite,
)

LOG = np.array([[0.5, 0, 1.5], [0, 2.5, 0], [1.25, 0, 0], [0, 0.75, 3], [2, 1, 0.5], [0, 0, 0.25]], dtype=np.float32)
COUNTS = np.array([[3, 0, 1], [0, 2, 0], [9, 0, 0], [0, 7, 30], [2, 1, 5], [0, 0, 4]], dtype=np.float32)


def file_obs():
    return pd.DataFrame(
        {
            "drug": ["DMSO", "X", "NT", "DMSO", "X,Y", "Y"],
            "line": pd.Categorical(["k1", "k1", "k1", "k2", "k2", "k2"]),
            "plate": [1, 1, 2, 1, 2, 2],
            "kind": ["none", "small", "none", "none", "small", "protein"],
            "dose": [0.0, 0.5, 0.0, 0.0, 2.0, 1.0],
            "hours": [6, 6, 24, 24, 6, 6],
            "vendor": ["a", "b", "a", "b", "a", "b"],
            "umis": [40.0, 20.0, 90.0, 400.0, 80.0, 40.0],
        },
        index=[f"c{i}" for i in range(6)],
    )


OPTIONS = {
    "name": "small",
    "scale": "log1p",
    "pert_column": "drug",
    "context_column": "line",
    "batch_column": "plate",
    "control_labels": ["DMSO", "NT"],
    "delimiter": ",",
    "match": "context",
    "mode": "drug",
}
AS_COUNTS = {"scale": "counts", "target_sum": 10.0}


@pytest.fixture
def load(tmp_path):
    """Write a file and load it; keywords change what is declared, `x`, `obs` and the rest what is in the file."""

    def write_and_load(x=LOG, obs=None, genes=("g1", "g2", "g3"), layers=None, **changes):
        path = tmp_path / "file.h5ad"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # anndata announces repeated names and changes of its own defaults
            obs = file_obs() if obs is None else obs
            AnnData(X=x, obs=obs, var=pd.DataFrame(index=list(genes)), layers=layers).write_h5ad(path)
        return load_file(**{**OPTIONS, "path": str(path), **changes})

    return write_and_load


# --- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_columns_are_mapped_and_values_kept(load, kind):
    data = load(kind(LOG))
    assert list(data.obs.columns) == ["pert_id", "context_id", "batch_id", "is_control", "mode"]
    assert data.obs["pert_id"].tolist() == ["control", "X", "control", "control", "X,Y", "Y"]
    assert data.obs["context_id"].tolist() == ["k1"] * 3 + ["k2"] * 3
    assert data.obs["batch_id"].tolist() == ["1", "1", "2", "1", "2", "2"]
    assert data.obs["is_control"].tolist() == [True, False, True, True, False, False]
    assert set(data.obs["mode"]) == {"drug"}
    assert data.genes == ("g1", "g2", "g3")
    assert data.declared.delimiter == ","
    np.testing.assert_array_equal(data.dense(slice(None)), LOG)
    np.testing.assert_array_equal(data.X_control[:3], [[0.875, 0, 0.75]] * 3)  # mean of rows 0 and 2


def test_sparse_and_dense_files_have_one_fingerprint(load):
    one = load(LOG).fingerprint
    assert one == load(sparse.csr_matrix(LOG)).fingerprint == load(sparse.csc_matrix(LOG)).fingerprint


def test_entries_stored_twice_are_summed(load):
    doubled = sparse.csr_matrix((np.ones(7, np.float32), [0, 0, 1, 0, 1, 0, 2], [0, 2, 3, 4, 5, 6, 7]), shape=(6, 3))
    once = doubled.toarray()
    assert once[0, 0] == 2
    assert load(doubled, **AS_COUNTS).fingerprint == load(once, **AS_COUNTS).fingerprint
    np.testing.assert_allclose(load(doubled, **AS_COUNTS).X_pert.toarray()[0, 0], np.log1p(10.0), rtol=1e-6)


def test_one_control_label_makes_the_other_a_perturbation(load):
    data = load(control_labels=["DMSO"])
    assert data.obs["pert_id"].tolist() == ["control", "X", "NT", "control", "X,Y", "Y"]
    np.testing.assert_array_equal(data.X_control[2], LOG[0])


def test_a_declared_control_label_may_be_absent_if_another_is_there(load):
    assert load(control_labels=["DMSO", "NT", "vehicle"]).obs["is_control"].sum() == 3


def test_batch_null_is_one_batch(load):
    assert set(load(batch_column=None).obs["batch_id"]) == {"all"}


def test_modes_are_translated_per_row(load):
    data = load(mode=None, mode_column="kind", mode_values={"small": "drug", "protein": "ligand"})
    assert data.obs["mode"].tolist() == ["other", "drug", "other", "other", "drug", "ligand"]


def test_covariates_are_kept_as_numbers_or_text(load):
    data = load(covariates=["umis", "hours", "vendor"])
    assert data.obs["umis"].tolist() == file_obs()["umis"].tolist()
    assert data.obs["hours"].dtype == np.float64
    assert data.obs["vendor"].tolist() == list("ababab")


def test_a_layer_is_read_instead_of_x(load):
    np.testing.assert_array_equal(load(COUNTS, layers={"logged": LOG}, layer="logged").X_pert, LOG)


def test_differences_may_be_negative_and_need_no_controls(load):
    data = load(LOG - 1, scale="delta", controls="baked_in", unit="pseudobulk", control_labels=[])
    np.testing.assert_array_equal(data.delta, LOG - 1)
    assert load(LOG - 1, scale="log2").X_pert.min() == -1


def test_a_combination_has_one_name_in_whatever_order_it_is_written(load):
    data = load(obs=file_obs().replace({"drug": {"X,Y": "Y , X"}}))
    assert data.obs["pert_id"].tolist() == ["control", "X", "control", "control", "X,Y", "Y"]
    assert load(obs=file_obs().replace({"drug": {"X,Y": "Y,X"}}), delimiter=None).obs["pert_id"].iloc[4] == "Y,X"


@pytest.mark.parametrize("label", ["X,", ",X", "X,,Y", "X, "])
def test_a_combination_with_an_empty_part_is_refused(load, label):
    with pytest.raises(MissingLabel, match=rf"A combination has an empty part: given '{label}' with delimiter ','"):
        load(obs=file_obs().replace({"drug": {"X,Y": label}}))


def test_labels_and_control_labels_are_compared_as_text(load):
    obs = file_obs().assign(drug=[0, 1, 0, 0, 2, 1])
    assert load(obs=obs, control_labels=[0]).obs["pert_id"].tolist() == ["control", "1", "control", "control", "2", "1"]


@pytest.mark.parametrize("name", ["pert_id", "is_control", "mode", "size_factor", "dose", "time"])
def test_a_covariate_that_would_overwrite_a_label_is_refused(load, name):
    with pytest.raises(BadValue, match=rf"A covariate would overwrite a label: given data\.covariates with {name}, "):
        load(obs=file_obs().assign(**{name: 1.0}), covariates=["umis", name])


def test_a_negative_seed_of_drawing_is_refused(load):
    with pytest.raises(BadValue, match=r"data\.match_seed is negative: given -1"):
        load(match="draw", match_seed=-1)


@pytest.mark.parametrize(
    ("match", "seen"), [("context", "context"), ("context_batch", "context_batch"), ("draw", "context_batch")]
)
def test_labels_tell_within_what_a_row_is_matched(load, match, seen):
    assert load(match=match).labels().match == seen


# --- counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_counts_by_row_sum_are_what_scanpy_makes_of_them(load, kind):
    import scanpy as sc

    data = load(kind(COUNTS), **AS_COUNTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AnnData(X=COUNTS.copy())
        sc.pp.normalize_total(theirs, target_sum=10.0)
        sc.pp.log1p(theirs)
    np.testing.assert_allclose(data.dense(slice(None)), theirs.X, rtol=1e-6)
    assert sparse.issparse(data.X_pert) == (kind is sparse.csr_matrix)


def test_counts_by_library_size(load):
    data = load(COUNTS, size_column="umis", **AS_COUNTS)
    np.testing.assert_allclose(data.X_pert[0], np.log1p([3 / 4, 0, 1 / 4]), rtol=1e-6)
    np.testing.assert_allclose(data.X_pert[3], np.log1p([0, 7 / 40, 30 / 40]), rtol=1e-6)
    assert data.obs["size_factor"].tolist() == [4, 2, 9, 40, 8, 4]
    assert (data.declared.scale, data.declared.counts_hashed) == ("log1p", True)
    assert data.declared.source == "counts / umis * 10, log1p"
    assert load(COUNTS, **AS_COUNTS, source="GEO").declared.source == "GEO; counts / row sum * 10, log1p"


def test_the_target_and_the_counts_are_part_of_the_fingerprint(load):
    one = load(COUNTS, **AS_COUNTS).fingerprint
    other = COUNTS.copy()
    other[0, 0], other[0, 2] = 2, 2  # the same row sum
    assert one == load(COUNTS.astype(np.int32), **AS_COUNTS).fingerprint
    assert one == load(sparse.csr_matrix(COUNTS), **AS_COUNTS).fingerprint
    assert one != load(other, **AS_COUNTS).fingerprint
    assert one != load(COUNTS, scale="counts", target_sum=20.0).fingerprint


def test_counts_without_a_target_stay_counts(load):
    data = load(COUNTS, scale="counts", size_column="umis")
    assert (data.declared.scale, data.declared.counts_hashed) == ("counts", False)
    np.testing.assert_array_equal(data.X_pert, COUNTS)
    assert data.obs["library_size"].tolist() == file_obs()["umis"].tolist()
    assert "library_size" not in load(COUNTS, scale="counts").obs


@pytest.mark.parametrize(
    ("scale", "target"), [("log1p", 10.0), ("log2", 10.0), ("delta", 1.0), ("counts", 0.0), ("counts", -1.0)]
)
def test_a_target_that_does_not_fit_is_refused(load, scale, target):
    with pytest.raises(
        BadValue, match=rf"target_sum does not fit the scale: given target_sum={target:g} with scale={scale}"
    ):
        load(COUNTS, scale=scale, target_sum=target)


@pytest.mark.parametrize("bad", [0.0, -5.0, np.nan, np.inf])
def test_a_library_size_that_is_not_positive_is_refused(load, bad):
    obs = file_obs()
    obs.loc["c4", "umis"] = bad
    with pytest.raises(SizeNotPositive, match="Cells have no library size: given 1 cells, first 'c4'"):
        load(COUNTS, obs=obs, size_column="umis", **AS_COUNTS)


def test_a_library_size_of_text_is_refused(load):
    with pytest.raises(SizeNotPositive, match="given 6 cells, first 'c0'"):
        load(COUNTS, size_column="vendor", **AS_COUNTS)


def test_an_empty_cell_is_refused(load):
    empty = COUNTS.copy()
    empty[2] = 0
    with pytest.raises(SizeNotPositive, match=r"given 1 cells, first 'c2'.*Remove empty cells"):
        load(empty, **AS_COUNTS)


# --- labels that do not fit ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["pert_column", "context_column", "batch_column", "size_column"])
def test_a_missing_column_lists_the_columns_there_are(load, key):
    with pytest.raises(
        MissingColumn, match="Missing column 'nope' in obs: given columns drug, line, plate, kind, dose"
    ):
        load(**{key: "nope"})


def test_a_missing_covariate_and_mode_column_are_refused(load):
    with pytest.raises(MissingColumn, match="expected 'nope'"):
        load(covariates=["umis", "nope"])
    with pytest.raises(MissingColumn, match="Missing column 'nope'"):
        load(mode=None, mode_column="nope")


def test_an_absent_control_label_lists_the_labels_there_are(load):
    with pytest.raises(
        ControlLabelAbsent, match=r"given labels DMSO, NT, X, X,Y, Y, expected one of \['ctrl', 'Dmso'\]"
    ):
        load(control_labels=["ctrl", "Dmso"])


def test_a_label_control_that_is_not_declared_is_refused(load):
    with pytest.raises(BadValue, match="The label 'control' is taken: given rows labelled 'control'"):
        load(obs=file_obs().replace({"drug": {"Y": "control"}}))


def test_a_context_without_controls_is_refused(load):
    with pytest.raises(ContextWithoutControls, match="A context has no control cells: given k2"):
        load(control_labels=["NT"])


@pytest.mark.parametrize(("column", "told"), [("drug", "pert_id"), ("line", "context_id"), ("plate", "batch_id")])
@pytest.mark.parametrize("missing", [np.nan, "nan", "NaN"])
def test_missing_labels_are_refused(load, column, told, missing):
    obs = file_obs().astype({column: object})
    obs.loc["c5", column] = missing
    obs[column] = pd.Categorical([v if v != v else str(v) for v in obs[column]])
    with pytest.raises(MissingLabel, match=f"Rows have no {told}: given 1 rows, first cell 'c5'"):
        load(obs=obs)


@pytest.mark.parametrize("given", [{"mode": None}, {"mode": "drug", "mode_column": "kind", "mode_values": {}}])
def test_the_mode_must_be_declared_once(load, given):
    with pytest.raises(MissingValue, match="The intervention mode is not declared once"):
        load(**given)


def test_mode_values_without_a_translation_are_refused(load):
    with pytest.raises(
        MissingColumn, match=r"Values of 'kind' have no declared mode: given protein, expected .*\['small'\]"
    ):
        load(mode=None, mode_column="kind", mode_values={"small": "drug"})


def test_unknown_modes_are_refused(load):
    with pytest.raises(BadValue, match="Unknown intervention mode: given 'magic', expected activation"):
        load(mode="magic")
    with pytest.raises(BadValue, match="Unknown intervention mode: given 'poison'"):
        load(mode=None, mode_column="kind", mode_values={"small": "drug", "protein": "poison"})


def test_an_unknown_scale_is_refused(load):
    with pytest.raises(BadValue, match=r"Unknown data\.scale: given 'log10', expected counts"):
        load(scale="log10")


def test_an_unknown_layer_lists_the_layers_there_are(load):
    with pytest.raises(MissingColumn, match="Missing layer 'raw': given layers counts, expected 'raw'"):
        load(layers={"counts": COUNTS}, layer="raw")


def test_repeated_cells_and_genes_are_refused(load):
    with pytest.raises(DuplicateNames, match="Repeated cell ids: given 1 repeats, first 'c0'"):
        load(obs=file_obs().rename(index={"c3": "c0"}))
    with pytest.raises(DuplicateNames, match="Repeated gene names: given 2 repeats, first 'g1'"):
        load(genes=("g1", "g1", "g1"))


# --- values that do not fit ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("declared", [{}, AS_COUNTS, {"scale": "delta"}])
def test_values_that_are_not_finite_are_refused(load, kind, bad, declared):
    x = COUNTS.copy()
    x[1, 1] = bad
    with pytest.raises(ValuesNotFinite, match="not finite: given 1 NaN or infinite entries"):
        load(kind(x), **declared)


@pytest.mark.parametrize("declared", [{"scale": "log1p"}, AS_COUNTS])
def test_negative_values_are_refused(load, declared):
    x = COUNTS.copy()
    x[1, 1] = -2
    with pytest.raises(ValuesNegative, match=f"negative values on the scale {declared['scale']}: given minimum -2"):
        load(x, **declared)


@pytest.mark.parametrize("scale", ["log1p", "log2"])
def test_integers_declared_logarithms_are_refused(load, scale):
    with pytest.raises(ScaleMismatch, match=f"Values declared as {scale} are all integers: given integers up to 30"):
        load(sparse.csr_matrix(COUNTS), scale=scale)


def test_logarithms_declared_counts_are_refused(load):
    with pytest.raises(ScaleMismatch, match=r"declared as counts are not integers: given for example 0\.5"):
        load(LOG, **AS_COUNTS)


def test_values_never_logged_are_refused(load):
    with pytest.raises(ScaleMismatch, match=r"too large for a logarithm: given maximum 30\.5, expected at most 20"):
        load(COUNTS + np.float32(0.5))


@pytest.mark.parametrize("shape", [(0, 3), (6, 0)])
def test_an_empty_matrix_is_refused(load, shape):
    obs, genes = file_obs().iloc[: shape[0]], ("g1", "g2", "g3")[: shape[1]]
    with pytest.raises(ShapeMismatch, match=rf"The matrix is empty: given shape \({shape[0]}, {shape[1]}\)"):
        load(np.zeros(shape, np.float32), obs=obs, genes=genes)


# --- files that are broken -------------------------------------------------------------------------


@pytest.fixture
def good(load, tmp_path):
    load(sparse.csr_matrix(LOG))
    return tmp_path / "file.h5ad"


def read(path):
    return load_file(**{**OPTIONS, "path": str(path)})


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(good, share):
    content = good.read_bytes()
    good.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        UnreadableFile, match=rf"cannot be read as AnnData: given .*file\.h5ad \({int(len(content) * share)} bytes\)"
    ):
        read(good)


def test_a_web_page_is_refused(tmp_path):
    (tmp_path / "page.h5ad").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(UnreadableFile, match=r"cannot be read as AnnData.*signature not found, it is a web page"):
        read(tmp_path / "page.h5ad")


@pytest.mark.filterwarnings("ignore::anndata._warnings.OldFormatWarning")
@pytest.mark.parametrize(
    "content", [{}, {"foo": 5}, {"matrix/data": 5}, {"X": 5}, {"X": 5, "obs": 5, "var": 2}, {"obs/index": 5, "X": 3}]
)
def test_hdf5_that_is_no_anndata_is_refused(tmp_path, content):
    with h5py.File(tmp_path / "foreign.h5ad", "w") as file:
        for key, size in content.items():
            file[key] = np.ones((size, 2)) if key == "X" else np.arange(size)
    with pytest.raises(UnreadableFile, match="cannot be read as AnnData"):
        read(tmp_path / "foreign.h5ad")


def test_an_encoding_of_a_newer_anndata_is_refused(good):
    with h5py.File(good, "a") as file:
        file["X"].attrs["encoding-version"] = "99"
    with pytest.raises(UnreadableFile, match=r"cannot be read as AnnData.*No read method"):
        read(good)


@pytest.mark.parametrize("part", ["obs", "obs/_index", "X/data", "X/indptr", "var/_index"])
def test_a_file_that_lost_a_part_is_refused(good, part):
    with h5py.File(good, "a") as file:
        del file[part]
    with pytest.raises(UnreadableFile, match="cannot be read as AnnData"):
        read(good)


def test_a_file_without_a_matrix_is_refused(good):
    with h5py.File(good, "a") as file:
        del file["X"]
    with pytest.raises(UnreadableFile, match="The file has no matrix"):
        read(good)


def test_an_index_beyond_the_genes_is_refused(good):
    with h5py.File(good, "a") as file:
        file["X/indices"][0] = 9999
    with pytest.raises(UnreadableFile, match=r"sparse matrix of the file is broken: given .*indices"):
        read(good)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"There is no such file: given .*none\.h5ad"):
        read(tmp_path / "none.h5ad")
    with pytest.raises(UnreadableFile, match="There is no such file"):
        read(tmp_path)
