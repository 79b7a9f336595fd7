"""Rows that are distributions keep their variance and number of cells, and say so."""

import numpy as np
import pytest

from perturbfm.data import load_artifact, load_file, write_artifact
from perturbfm.errors import BadValue, SizeNotPositive, ValuesNegative

X = np.array([[0.5, 1.5], [2.5, 0.25], [1, 3]], dtype=np.float32)
VAR = np.array([[0.5, 0], [1, 2], [3, 4]], dtype=np.float32)


@pytest.fixture
def load(write):
    def load_means(var=VAR, n=(10, 20, 30), **options):
        columns = {"pert": ["control", "A", "B"], "n": n}
        path = write(columns, ("g1", "g2"), x=X, layers={"var": var})
        given = {"pert_column": "pert", "context_column": None, "context": "k", "batch_column": None, "mode": "drug"}
        given |= {"unit": "pseudobulk", "var_layer": "var", "n_column": "n"}
        return load_file("means", path, "log1p", **{**given, **options})

    return load_means


def test_a_variance_and_numbers_of_cells_are_kept(load):
    data = load()
    np.testing.assert_array_equal(data.adata.layers["variance"], VAR)
    assert data.obs["n_cells"].tolist() == [10, 20, 30]
    assert (data.declared.variance, data.declared.unit) == ("cells", "pseudobulk")
    assert load(var_kind="sampling").declared.variance == "sampling"


def test_a_slice_keeps_its_own_variances(load):
    part = load()[[2, 0]]
    np.testing.assert_array_equal(part.adata.layers["variance"], VAR[[2, 0]])


def test_the_variance_is_part_of_the_fingerprint(load):
    other = VAR.copy()
    other[0, 0] = 0.75
    found = {load().fingerprint, load(other).fingerprint, load(var_kind="sampling").fingerprint}
    assert len(found | {load(var_layer=None).fingerprint}) == 4
    assert load().fingerprint == load().fingerprint


def test_an_artifact_keeps_the_variance(load, tmp_path):
    data = load()
    again = load_artifact(str(write_artifact(data, tmp_path / "art")))
    assert again.fingerprint == data.fingerprint
    np.testing.assert_array_equal(again.dense(slice(None)), X)
    found = again.adata.layers["variance"]
    np.testing.assert_array_equal(found.toarray() if hasattr(found, "toarray") else found, VAR)


def test_a_filter_takes_the_same_rows_of_both(load):
    data = load(drop={"pert": ["A"]})
    np.testing.assert_array_equal(data.adata.layers["variance"], VAR[[0, 2]])


@pytest.mark.parametrize("bad", [-0.5, np.nan, np.inf])
def test_a_variance_that_is_none_is_refused(load, bad):
    broken = VAR.copy()
    broken[1, 1] = bad
    with pytest.raises(ValuesNegative, match="A variance is negative or not finite: given 1 entries"):
        load(broken)


def test_single_cells_have_no_variance(load):
    with pytest.raises(BadValue, match=r"do not fit: given variance='cells' with unit=cells"):
        load(unit="cells")


def test_an_unknown_kind_of_variance_is_refused(load):
    with pytest.raises(BadValue, match=r"Unknown data\.var_kind: given 'sd', expected cells \| sampling"):
        load(var_kind="sd")


@pytest.mark.parametrize("n", [(10, 0, 30), (10, 2.5, 30), (10, np.nan, 30), ("a", "b", "c")])
def test_what_is_no_number_of_cells_is_refused(load, n):
    with pytest.raises(SizeNotPositive, match="Rows have no number of cells in 'n'"):
        load(n=n)


def test_variances_of_repeated_genes_are_refused(write):
    columns = {"pert": ["control", "A", "B"]}
    path = write(columns, ("g1", "g2"), x=np.rint(X), layers={"var": VAR}, var={"s": ["a", "a"]})
    with pytest.raises(BadValue, match="Variances of repeated genes cannot be summed"):
        load_file(
            "means",
            path,
            "counts",
            "pert",
            None,
            None,
            mode="drug",
            context="k",
            unit="pseudobulk",
            var_layer="var",
            gene_column="s",
            duplicate_genes="sum",
        )
