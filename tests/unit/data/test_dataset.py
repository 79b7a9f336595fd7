"""Every row knows its own control: shapes, means, draws and slices against sums done by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from perturbfm.data import PerturbDataset
from perturbfm.data.controls import match_controls
from perturbfm.data.declaration import Declaration
from perturbfm.errors import (
    BadValue,
    ContextWithoutControls,
    ControlLabelAbsent,
    DuplicateNames,
    MissingColumn,
    MissingLabel,
    ShapeMismatch,
    ValuesNotFinite,
)

N_GENES = 5
DECLARED = Declaration("small", "log1p", delimiter="+")


def small_obs():
    """Two contexts x two batches; in each three controls and four perturbed rows, in mixed order."""
    rows = [
        (p, k, b)
        for p in ("control", "A", "control", "A+B", "B", "control", "A")
        for k in ("k1", "k2")
        for b in ("b1", "b2")
    ]
    obs = pd.DataFrame(rows, columns=["pert_id", "context_id", "batch_id"], index=[f"c{i}" for i in range(len(rows))])
    return obs.assign(is_control=obs["pert_id"] == "control", mode="drug")


def small_x():
    x = np.random.default_rng(0).random((28, N_GENES)).astype(np.float32)
    return np.where(x < 0.3, 0, x)


def small(match="context", seed=0, dense=False, obs=None, x=None, **changes):
    x, obs = small_x() if x is None else x, small_obs() if obs is None else obs
    var = pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])
    declared = replace(DECLARED, match=match, match_seed=seed, **changes)
    return PerturbDataset(AnnData(X=x if dense else sparse.csr_matrix(x), obs=obs, var=var), declared)


def group_mean(columns):
    """Per row, the mean of the controls of its group: one loop, float64."""
    x, obs = small_x().astype(np.float64), small_obs()
    key = obs[columns].agg("/".join, axis=1)
    return np.stack([x[((key == k) & obs["is_control"]).to_numpy()].mean(axis=0) for k in key])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("match", "columns"), [("context", ["context_id"]), ("context_batch", ["context_id", "batch_id"])]
)
def test_matched_controls_are_the_means_of_their_group(match, columns, dense):
    data = small(match, dense=dense)
    np.testing.assert_allclose(data.X_control, group_mean(columns), rtol=1e-6)
    assert data.X_control.shape == data.delta.shape == data.X_pert.shape == (28, N_GENES)
    assert data.X_control.dtype == data.delta.dtype == np.float32


def test_two_controls_have_the_mean_of_arithmetic():
    obs = small_obs().iloc[[0, 8, 4]]  # control, control, A: all of k1, b1
    assert obs["pert_id"].tolist() == ["control", "control", "A"]
    x = np.array([[1.5, 0, 0, 0, 4], [2.5, 0, 0, 1, 0], [5.25, 0, 1, 0, 0]], dtype=np.float32)
    data = small(obs=obs, x=x)
    np.testing.assert_array_equal(data.X_control, [[2, 0, 0, 0.5, 2]] * 3)
    np.testing.assert_array_equal(data.delta[2], [3.25, 0, 1, -0.5, -2])


@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
def test_delta_is_own_expression_minus_matched_control(match):
    data = small(match)
    np.testing.assert_array_equal(data.X_pert.toarray(), small_x())
    np.testing.assert_array_equal(data.delta, small_x() - data.X_control)


def test_mean_delta_of_controls_is_zero_in_every_group():
    data = small("context_batch")
    obs = data.obs
    for _, rows in obs[obs["is_control"]].groupby(["context_id", "batch_id"]).groups.items():
        np.testing.assert_allclose(data.delta[obs.index.get_indexer(rows)].mean(axis=0), 0, atol=1e-7)


def test_draw_repeats_with_its_seed_and_differs_with_another():
    one = small("draw", seed=3).X_control
    np.testing.assert_array_equal(one, small("draw", seed=3).X_control)
    assert (one != small("draw", seed=4).X_control).any()


def test_every_drawn_control_is_a_control_cell_of_its_context_and_batch():
    data, obs, x = small("draw", seed=1), small_obs(), small_x()
    for i, drawn in enumerate(data.X_control):
        same = (
            obs["is_control"]
            & (obs["context_id"] == obs["context_id"].iloc[i])
            & (obs["batch_id"] == obs["batch_id"].iloc[i])
        )
        assert (x[same.to_numpy()] == drawn).all(axis=1).any()


def test_draw_reaches_every_control_about_equally():
    n = 3000
    is_control = np.arange(n) < 3
    match = match_controls(
        np.eye(n, 3, dtype=np.float32), np.full(n, "k"), np.full(n, "b"), np.flatnonzero(is_control), by="draw", seed=0
    )
    share = np.bincount(match.row_n, minlength=3) / n
    np.testing.assert_allclose(share, 1 / 3, atol=0.05)  # five standard errors of 1/3 at n = 3000 are 0.043


@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
@pytest.mark.parametrize(
    "rows",
    [np.arange(28) % 3 == 0, [5, 1, 20], slice(4, 17, 2), np.array([27, 0]), slice(None)],
    ids=["bool", "list", "slice", "int", "all"],
)
def test_a_slice_of_the_data_is_the_slice_of_everything(match, rows):
    data = small(match)
    part = data[rows]
    np.testing.assert_array_equal(part.delta, data.delta[rows])
    np.testing.assert_array_equal(part.X_control, data.X_control[rows])
    np.testing.assert_array_equal(part.X_pert.toarray(), data.X_pert.toarray()[rows])
    assert part.obs.index.tolist() == data.obs.index[rows].tolist()
    assert len(part) == part.n_obs == len(data.obs.index[rows])


def test_a_slice_of_a_slice_without_controls_keeps_the_controls_of_the_whole():
    data = small("context_batch")
    perturbed = np.flatnonzero(~data.obs["is_control"])
    part = data[perturbed][[3, 0]]
    assert not part.obs["is_control"].any()
    np.testing.assert_array_equal(part.delta, data.delta[perturbed[[3, 0]]])


def test_a_slice_is_a_copy_with_a_fingerprint_of_its_own():
    data = small()
    part, before = data[:10], data.fingerprint
    part.adata.X.data[:] = 1.5
    assert small().fingerprint == before
    np.testing.assert_array_equal(data.X_pert.toarray(), small_x())
    assert data[:10].fingerprint != before
    assert data[slice(None)].fingerprint == before


def test_an_empty_slice_is_refused():
    with pytest.raises(ShapeMismatch, match=r"The matrix is empty: given shape \(0, 5\)"):
        small()[slice(0, 0)]


def test_tensors_are_the_arrays_in_float32():
    torch = pytest.importorskip("torch")
    data = small("context_batch")
    tensors = data.to("cpu")
    for name in ("X_control", "X_pert", "delta"):
        tensor = getattr(tensors, name)
        array = getattr(data, name)
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy(), array.toarray() if sparse.issparse(array) else array)


def test_labels_carry_what_a_split_may_see():
    data, obs = small(), small_obs()
    labels = data.labels()
    assert labels.cell_n.tolist() == obs.index.tolist()
    assert labels.pert_n.tolist() == obs["pert_id"].tolist()
    assert labels.context_n.tolist() == obs["context_id"].tolist()
    assert labels.batch_n.tolist() == obs["batch_id"].tolist()
    assert labels.is_control_n.tolist() == obs["is_control"].tolist()
    assert labels.is_control_n.dtype == bool
    assert labels.condition_n[4] == "k1|A@drug"
    assert (labels.fingerprint, labels.data_name) == (data.fingerprint, "small")
    assert (labels.unit, labels.controls, labels.delimiter) == ("cells", "cells", "+")


def test_metadata_genes_and_repr():
    data = small("draw", seed=5, source="made here")
    assert data.metadata == {
        "name": "small",
        "scale": "log1p",
        "unit": "cells",
        "controls": "cells",
        "delimiter": "+",
        "match": "draw",
        "match_seed": 5,
        "counts_hashed": False,
        "dose_unit": "",
        "time_unit": "",
        "variance": "",
        "source": "made here",
        "fingerprint": data.fingerprint,
    }
    assert data.genes == ("g0", "g1", "g2", "g3", "g4")
    assert repr(data) == f"PerturbDataset(small: 28 cells x 5 genes, log1p, {data.fingerprint[:12]})"


def test_baked_in_controls_are_zero_and_need_no_control_rows():
    obs = small_obs().assign(is_control=False, pert_id=[f"p{i}" for i in range(28)])
    x = small_x() - 0.5
    data = small(obs=obs, x=x, dense=True, scale="delta", unit="pseudobulk", controls="baked_in")
    np.testing.assert_array_equal(data.X_control, np.zeros((28, N_GENES), dtype=np.float32))
    np.testing.assert_array_equal(data.delta, x)
    np.testing.assert_array_equal(data[[3, 4]].delta, x[[3, 4]])
    assert "28 pseudobulk x 5 genes, delta" in repr(data)


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("scale", "counts | log1p"),
        ("unit", "cells | pseudobulk"),
        ("controls", "cells | baked_in"),
        ("match", "context | context_batch | draw"),
    ],
)
def test_options_outside_their_vocabulary_are_refused(key, allowed):
    with pytest.raises(BadValue, match=rf"Unknown data\.{key}: given 'odd', expected {allowed.replace('|', '[|]')}"):
        small(**{key: "odd"})


def test_match_controls_refuses_an_unknown_match():
    with pytest.raises(BadValue, match=r"Unknown control match: given nearest, expected context [|] context_batch"):
        match_controls(small_x(), np.full(28, "k"), np.full(28, "b"), np.arange(2), by="nearest")


@pytest.mark.parametrize("match", ["context_batch", "draw"])
def test_a_batch_without_controls_is_refused_when_batches_are_matched(match):
    obs = small_obs()
    obs.loc[(obs["context_id"] == "k2") & (obs["batch_id"] == "b1"), "is_control"] = False
    assert small(obs=obs).delta.shape == (28, N_GENES)
    with pytest.raises(ContextWithoutControls, match=r"1 groups without controls, first 'k2 / b1', .*and batch"):
        _ = small(match, obs=obs).delta


def test_a_context_without_controls_is_refused():
    obs = small_obs()
    obs.loc[obs["context_id"] == "k2", "is_control"] = False
    with pytest.raises(ContextWithoutControls, match="A context has no control cells: given k2"):
        small(obs=obs)


def test_no_controls_at_all_are_refused():
    with pytest.raises(ControlLabelAbsent, match="No row carries a control label: given perturbations A, A"):
        small(obs=small_obs().assign(is_control=False))


@pytest.mark.parametrize("column", ["pert_id", "context_id", "batch_id", "mode"])
@pytest.mark.parametrize("missing", [None, "nan", ""])
def test_missing_labels_are_refused(column, missing):
    obs = small_obs()
    obs.loc["c2", column] = missing
    with pytest.raises(MissingLabel, match=f"Rows have no {column}: given 1 rows, first cell 'c2'"):
        small(obs=obs)


def test_missing_columns_names_values_and_modes_are_refused():
    with pytest.raises(MissingColumn, match="Missing column 'mode' in obs: given columns pert_id, context_id"):
        small(obs=small_obs().drop(columns="mode"))
    with pytest.raises(BadValue, match="Unknown intervention mode: given 'magic', expected activation"):
        small(obs=small_obs().assign(mode="magic"))
    with pytest.raises(ValuesNotFinite, match="1 NaN or infinite entries"):
        small(x=np.where(np.arange(140).reshape(28, 5) == 7, np.nan, small_x()))


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_repeated_cells_are_refused():
    with pytest.raises(DuplicateNames, match="Repeated cell ids: given 1 repeats, first 'c0'"):
        small(obs=small_obs().rename(index={"c1": "c0"}))


def test_labels_refuse_a_dose_or_covariate_of_another_length():
    from dataclasses import replace

    from perturbfm.errors import ShapeMismatch

    labels = small("context").labels()
    for given in ({"dose_n": np.array(["1"])}, {"time_n": np.array(["1"])}, {"covariates": {"donor": np.array(["d"])}}):
        with pytest.raises(ShapeMismatch, match="Label columns have different lengths"):
            replace(labels, **given)


def test_labels_are_one_object_so_that_what_is_derived_of_them_is_derived_once():
    data = small("context")
    assert data.labels() is data.labels()
    assert data.labels().condition_n is data.labels().condition_n
