"""Several files are one data set only if genes and cells say so."""

import numpy as np
import pytest
from scipy import sparse

from perturbfm.data import load_file
from perturbfm.errors import BadValue, DuplicateNames, GenesDiffer, UnknownValue, UnreadableFile

GIVEN = {"pert_column": "pert", "context_column": None, "batch_column": None, "mode": "drug"}
X = np.arange(1, 7, dtype=np.float32).reshape(2, 3) / np.float32(64)


@pytest.fixture
def two(write, tmp_path):
    """Two files of one cell line each; options of the second may differ."""

    def write_two(genes=("g1", "g2", "g3"), index=("d0", "d1"), x=X + 1):
        write({"pert": ["control", "A"], "n": [1, 2]}, x=sparse.csr_matrix(X), name="hepg2.h5ad")
        write({"pert": ["control", "B"], "n": [3, 4], "more": ["p", "q"]}, genes, x=x, name="k562.v2.h5ad", index=index)
        return str(tmp_path / "*.h5ad")

    return write_two


def test_files_are_stacked_and_named(two):
    data = load_file("both", two(), "log1p", file_context=True, covariates=["n", "more"], **GIVEN)
    assert data.obs.index.tolist() == ["c0", "c1", "d0", "d1"]
    assert data.obs["context_id"].tolist() == ["hepg2", "hepg2", "k562.v2", "k562.v2"]
    assert data.obs["n"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert data.obs["more"].tolist() == ["nan", "nan", "p", "q"]
    np.testing.assert_array_equal(data.dense(slice(None)), np.vstack([X, X + 1]))


def test_two_sparse_files_stay_sparse(two, tmp_path):
    two(x=sparse.csc_matrix(X + 1))
    paths = [str(tmp_path / "k562.v2.h5ad"), str(tmp_path / "hepg2.h5ad")]
    data = load_file("both", paths, "log1p", file_context=True, **GIVEN)
    assert sparse.issparse(data.X_pert)
    assert data.obs["context_id"].tolist()[0] == "k562.v2"  # a list keeps its order
    np.testing.assert_array_equal(data.dense(slice(None)), np.vstack([X + 1, X]))


def test_a_file_may_have_a_value_of_its_own(two):
    values = {"hepg2": "liver", "k562.v2": "blood"}
    path = two()
    data = load_file("both", path, "log1p", file_context=True, file_values=values, **GIVEN)
    assert data.obs["context_id"].tolist() == ["liver", "liver", "blood", "blood"]
    options = {**GIVEN, "context": "all", "covariates": ["organ"], "file_column": "organ"}
    assert load_file("both", path, "log1p", file_values=values, **options).obs["organ"].tolist()[::2] == [
        "liver",
        "blood",
    ]


@pytest.mark.parametrize("values", [{"hepg2": "liver"}, {"hepg2": "liver", "k562.v2": "blood", "rpe1": "eye"}])
def test_file_values_must_fit_the_files(two, values):
    with pytest.raises(UnknownValue, match=r"data\.file_values does not fit the files"):
        load_file("both", two(), "log1p", file_context=True, file_values=values, **GIVEN)


def test_a_file_column_that_is_there_is_refused(two):
    with pytest.raises(BadValue, match=r"data\.file_column is a column of the file: given 'pert' in hepg2\.h5ad"):
        load_file("both", two(), "log1p", context="k", file_column="pert", **GIVEN)


def test_the_same_genes_in_another_order_are_aligned(two):
    data = load_file("both", two(genes=("g3", "g1", "g2")), "log1p", context="k", **GIVEN)
    assert data.genes == ("g1", "g2", "g3")
    np.testing.assert_array_equal(data.dense(slice(2, 4)), (X + 1)[:, [1, 2, 0]])


def test_other_genes_are_refused_or_intersected(two):
    path = two(genes=("g2", "g4", "g1"))
    with pytest.raises(GenesDiffer, match=r"given hepg2\.h5ad 3, k562\.v2\.h5ad 3; 2 in common.*genes=intersect"):
        load_file("both", path, "log1p", context="k", **GIVEN)
    data = load_file("both", path, "log1p", context="k", genes="intersect", **GIVEN)
    assert data.genes == ("g1", "g2")
    np.testing.assert_array_equal(data.dense(slice(None)), np.vstack([X[:, [0, 1]], (X + 1)[:, [2, 0]]]))
    assert data.declared.source == "2 genes common to 2 files"


def test_genes_without_any_in_common_are_refused(two):
    with pytest.raises(GenesDiffer, match=r"0 in common.*data\.gene_map"):
        load_file("both", two(genes=("a", "b", "c")), "log1p", context="k", genes="intersect", **GIVEN)


def test_repeated_genes_cannot_be_aligned(two):
    with pytest.raises(DuplicateNames, match="Repeated gene names"):
        load_file("both", two(genes=("g1", "g1", "g2")), "log1p", context="k", **GIVEN)


def test_an_unknown_way_with_genes_is_refused(two):
    with pytest.raises(BadValue, match=r"Unknown data\.genes: given 'union'"):
        load_file("both", two(), "log1p", context="k", genes="union", **GIVEN)


def test_a_cell_id_in_two_files_is_refused_or_prefixed(two):
    path = two(index=("c0", "d1"))
    with pytest.raises(DuplicateNames, match=r"given 'c0' in hepg2\.h5ad and k562\.v2\.h5ad.*prefix_cells=true"):
        load_file("both", path, "log1p", context="k", **GIVEN)
    data = load_file("both", path, "log1p", context="k", prefix_cells=True, **GIVEN)
    assert data.obs.index.tolist() == ["hepg2:c0", "hepg2:c1", "k562.v2:c0", "k562.v2:d1"]


def test_paths_that_name_nothing_or_one_file_twice_are_refused(two, tmp_path):
    two()
    one = str(tmp_path / "hepg2.h5ad")
    with pytest.raises(BadValue, match=r"data\.path names a file twice: given .*hepg2"):
        load_file("both", [one, one], "log1p", context="k", **GIVEN)
    with pytest.raises(BadValue, match=r"data\.path names no file"):
        load_file("both", [], "log1p", context="k", **GIVEN)
    with pytest.raises(UnreadableFile, match=r"There is no such file: given .*\*\.zarr"):
        load_file("both", str(tmp_path / "*.zarr"), "log1p", context="k", **GIVEN)
