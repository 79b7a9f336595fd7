"""Pseudobulk means with a control row per context become differences; nothing else may be treated so."""

import numpy as np
import pytest

from perturbfm.cli import main
from perturbfm.data import load, load_file
from perturbfm.errors import BadValue, ContextWithoutControls
from perturbfm.split import SplitStore

COLUMNS = {"pert": ["control", "A", "B", "control", "A", "B"], "line": ["x", "x", "x", "y", "y", "y"]}
X = np.array([[1, 1, 1], [2, 1, 1], [1, 3, 1], [2, 2, 2], [2, 2, 4], [5, 2, 2]], np.float32) / 8
GIVEN = {"pert_column": "pert", "context_column": "line", "batch_column": None, "mode": "knockdown"}


def means(path, scale="log1p", **options):
    return load_file("means", path, scale, **{**GIVEN, "unit": "pseudobulk", "controls": "subtract", **options})


def test_each_row_is_its_difference_from_its_context(write):
    data = means(write(COLUMNS, x=X))
    np.testing.assert_allclose(data.dense(slice(None)) * 8, [[1, 0, 0], [0, 2, 0], [0, 0, 2], [3, 0, 0]])
    assert (data.declared.scale, data.declared.controls, data.n_obs) == ("delta", "baked_in", 4)
    assert "differences from the mean of 2 control rows by context" in data.declared.source


def test_several_control_rows_are_averaged_within_their_batch(write):
    columns = {"pert": ["control", "control", "A", "control", "A"], "line": ["x"] * 5, "batch": list("aaabb")}
    x = np.array([[1, 0, 1], [3, 0, 1], [4, 1, 1], [8, 8, 8], [9, 8, 8]], np.float32) / 16
    data = means(write(columns, x=x), batch_column="batch")
    np.testing.assert_allclose(data.dense(slice(None)) * 16, [[2, 1, 0], [1, 0, 0]])


def test_a_sampling_variance_gains_that_of_the_control_and_one_of_cells_does_not(write):
    columns = {"pert": ["control", "control", "A"], "line": ["x"] * 3}
    var = np.array([[2, 2, 2], [4, 4, 4], [1, 1, 1]], np.float32)
    path = write(columns, x=X[:3], layers={"v": var})
    sampled = means(path, var_layer="v", var_kind="sampling").adata.layers["variance"]
    np.testing.assert_allclose(sampled, [[1 + 3 / 2] * 3])
    np.testing.assert_allclose(means(path, var_layer="v").adata.layers["variance"], [[1, 1, 1]])


def test_counts_are_normalised_before(write):
    counts = np.array([[1, 1, 2], [2, 1, 1], [4, 2, 2], [1, 1, 2], [2, 1, 1], [1, 2, 1]], np.float32)
    data = means(write(COLUMNS, x=counts), "counts", target_sum=4.0)
    np.testing.assert_allclose(data.dense(slice(0, 1)), np.log1p([[2, 1, 1]]) - np.log1p([[1, 1, 2]]), rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"unit": "cells"}, {"scale": "delta"}, {"scale": "counts"}, {"scale": "counts", "cache": True}]
)
def test_what_is_no_mean_of_logarithms_is_refused(write, options):
    with pytest.raises(BadValue, match=r"data\.controls=subtract does not fit.*controls=cells"):
        means(write(COLUMNS, x=X), **options)


def test_a_context_without_a_control_row_is_refused(write):
    with pytest.raises(ContextWithoutControls, match="y"):
        means(write({**COLUMNS, "pert": ["control", "A", "B", "A", "B", "C"]}, x=X))


def test_the_doctor_proposes_it_and_the_file_carries_a_split(tmp_path, write, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERTURBFM_SPLITS", str(tmp_path / "splits"))
    labels = ["control", *(f"P{i}" for i in range(9))]
    columns = {"perturbation": labels * 3, "cell_line": [c for c in "xyz" for _ in labels]}
    x = np.random.default_rng(0).gamma(1, 1, (30, 3)) * np.random.default_rng(1).integers(0, 2, (30, 3))
    path = write(columns, x=x.astype(np.float32), name="means.h5ad")
    assert main(["doctor", path, "--set", "mode=knockdown"]) == 0
    assert 'controls: "subtract"' in capsys.readouterr().out
    given = ["splits", "create", "--data", "means", "--rule", "context_ood", "--holdout-context", "x", "--no-gate"]
    assert main(given) == 0
    split = SplitStore(tmp_path / "splits", ()).load(capsys.readouterr().out.split()[-1])
    assert split.fingerprint == load("means").fingerprint
