"""Are rows dropped for the reasons stated, before a split is made, and no others?"""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.cli.options import load_data
from perturbfm.config import compose_config
from perturbfm.data import load_composed
from perturbfm.data.cells import keep_cells
from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.declaration import Declaration
from perturbfm.data.preprocess import normalise_log1p
from perturbfm.errors import BadValue, ContextWithoutControls, MissingColumn, NothingLeft

X = np.array(
    [  # gene a, gene b, MT-1, MT-2
        [6, 2, 1, 1],  # 0 control, context k:  3 genes + 1, share 0.2
        [5, 0, 0, 0],  # 1 control, context l:  1 gene,      share 0
        [1, 1, 4, 4],  # 2 p in k:              4 genes,     share 0.8
        [9, 0, 1, 0],  # 3 p in k:              2 genes,     share 0.1
        [0, 9, 0, 1],  # 4 p in k:              2 genes,     share 0.1
        [3, 3, 0, 0],  # 5 q in l:              2 genes,     share 0
    ],
    dtype=np.float32,
)


def data(scale="counts", dense=False, **columns):
    pert = ["control", "control", "p", "p", "p", "q"]
    obs = pd.DataFrame(
        {
            "pert_id": pert,
            "context_id": ["k", "l", "k", "k", "k", "l"],
            "batch_id": "all",
            "is_control": [p == "control" for p in pert],
            "mode": "knockout",
            **columns,
        },
        index=[f"c{i}" for i in range(6)],
    )
    var = pd.DataFrame(index=["a", "b", "MT-1", "MT-2"])
    x, declared = sparse.csr_matrix(X), Declaration("toy", "counts", source="a paper")
    if scale == "log1p":
        x, declared = normalise_log1p(x, obs, declared, None, 10.0)
    return PerturbDataset(AnnData(x.toarray() if dense else x, obs=obs, var=var), declared)


def left(dataset):
    return [int(name[1:]) for name in dataset.obs.index]


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({"min_genes": 2}, None),  # takes the only control of l
        ({"min_counts": 6}, None),
        ({"min_counts": 5}, [0, 1, 2, 3, 4, 5]),
        ({"max_mito_fraction": 0.2}, None),  # the limit itself is out, and with it the control of k
        ({"max_mito_fraction": 0.21}, [0, 1, 3, 4, 5]),
        ({"max_mito_fraction": 0.01, "relaxed_mito_fraction": 0.3}, [0, 1, 3, 4, 5]),
        ({"min_cells_per_condition": 2}, [0, 1, 2, 3, 4]),
        ({"min_cells_per_condition": 3, "max_mito_fraction": 0.3}, [0, 1]),
    ],
)
@pytest.mark.parametrize("scale", ["counts", "log1p"])
@pytest.mark.parametrize("dense", [False, True])
def test_rows_that_pass_are_kept(limits, rows, scale, dense):
    dataset = data(scale, dense)
    if rows is None:
        with pytest.raises(ContextWithoutControls, match="A context has no control cells"):
            keep_cells(dataset, **limits)
        return
    out = keep_cells(dataset, **limits)
    assert left(out) == rows
    expected = dataset.dense(np.array(rows))
    assert np.array_equal(out.dense(slice(None)), expected)
    assert out.fingerprint != dataset.fingerprint or len(rows) == 6


def test_the_relaxed_limit_holds_only_where_the_strict_one_would_take_more_than_half():
    share = [0.0, 0.0, 0.12, 0.12, 0.12, 0.0]  # three of six is not more than half
    strict = {"max_mito_fraction": 0.1, "relaxed_mito_fraction": 0.15, "mito_column": "mito"}
    assert left(keep_cells(data(mito=share), **strict)) == [0, 1, 5]
    share[5] = 0.14
    assert left(keep_cells(data(mito=share), **strict)) == [0, 1, 2, 3, 4, 5]


def test_no_limit_changes_nothing():
    dataset = data()
    assert keep_cells(dataset) is dataset
    assert keep_cells(dataset, mito_prefix="mt-", relaxed_mito_fraction=0.5) is dataset


def test_what_was_dropped_stands_in_the_source():
    out = keep_cells(data(), max_mito_fraction=0.21, min_cells_per_condition=2)
    assert out.declared.source == "a paper; 4 of 6 cells (mito below 0.21, min_cells_per_condition=2)"


def test_controls_are_matched_among_the_rows_that_are_left():
    dataset = data(is_control=[True, True, True, False, False, False])
    out = keep_cells(dataset, max_mito_fraction=0.5)
    assert np.array_equal(out.X_control[0], X[0])
    assert not np.array_equal(dataset.X_control[0], X[0])


def test_a_match_that_the_file_decided_is_kept():
    dataset = data()
    given = PerturbDataset(dataset.adata, dataset.declared, dataset.match)
    out = keep_cells(given, min_genes=2)
    assert left(out) == [0, 2, 3, 4, 5]
    assert np.array_equal(out.X_control[4], X[1])


def test_nothing_left_is_refused():
    with pytest.raises(NothingLeft, match="No cell is left: given 6 cells, none of which passes min_genes=5"):
        keep_cells(data(), min_genes=5)


@pytest.mark.parametrize("limits", [{"min_counts": 5}, {"max_mito_fraction": 0.1}])
def test_counts_are_asked_for_where_they_are_needed(limits):
    dataset = data("log1p")
    without = PerturbDataset(dataset.adata, Declaration("toy", "log1p"))
    with pytest.raises(
        BadValue, match=rf"preprocess\.cells\.{next(iter(limits))} does not fit the data: given .* log1p"
    ):
        keep_cells(without, **limits)


def test_detected_genes_need_zeros_that_mean_something():
    shifted = PerturbDataset(data().adata, Declaration("toy", "delta"))
    with pytest.raises(
        BadValue, match="preprocess.cells.min_genes does not fit the data: given values on the scale delta"
    ):
        keep_cells(shifted, min_genes=2)


def test_mitochondrial_genes_and_columns_must_be_there():
    with pytest.raises(BadValue, match="No gene is mitochondrial: given no gene name that begins with 'mt-'"):
        keep_cells(data(), max_mito_fraction=0.1, mito_prefix="mt-")
    with pytest.raises(MissingColumn, match="No column 'mito' with the mitochondrial share"):
        keep_cells(data(), max_mito_fraction=0.1, mito_column="mito")


@pytest.mark.parametrize("share", [[5.0] * 6, [np.nan] * 6, [-0.1] * 6, ["x"] * 6])
def test_a_column_that_is_no_share_is_refused(share):
    with pytest.raises(BadValue, match="The column 'mito' is no share"):
        keep_cells(data(mito=share), max_mito_fraction=0.1, mito_column="mito")


# --- one way to load -----------------------------------------------------------------------------------


@pytest.fixture
def overrides(tmp_path):
    dataset = data()
    path = tmp_path / "file.h5ad"
    AnnData(dataset.adata.X, obs=dataset.obs.drop(columns="is_control"), var=dataset.var).write_h5ad(path)
    return [f"data.path={path}", "data.name=toy", "data.scale=counts", "data.mode=knockout"]


def test_a_verb_and_a_run_see_the_same_rows(overrides):
    filters = ["preprocess.cells.max_mito_fraction=0.21", "preprocess.cells.min_cells_per_condition=2"]
    by_run = load_composed(compose_config(["data=h5ad", *overrides, *filters]))
    by_verb = load_data(Namespace(data="h5ad", set=[*overrides, *filters]))
    assert left(by_run) == left(by_verb) == [0, 1, 3, 4]
    assert by_run.fingerprint == by_verb.fingerprint
    whole = load_composed(compose_config(["data=h5ad", *overrides]))
    assert left(whole) == [0, 1, 2, 3, 4, 5]
    assert whole.fingerprint != by_run.fingerprint


def test_a_configuration_from_before_there_were_filters_filters_nothing(overrides):
    cfg = compose_config(["data=h5ad", *overrides])
    from omegaconf import OmegaConf

    old = OmegaConf.create({"data": OmegaConf.to_container(cfg.data)})
    assert left(load_composed(old)) == [0, 1, 2, 3, 4, 5]
