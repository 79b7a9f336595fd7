"""Does another tool's file become the prediction it states, and is a file that would mislead refused with a remedy?"""

import numpy as np
import pandas as pd
import pytest
from foreign import CELLS, CONTROLS, GENES, PERTS, predicted_cells

from perturbfm.errors import (
    BadValue,
    CellUsedTwice,
    ConditionsDiffer,
    ControlsTouched,
    DuplicateNames,
    GenesDiffer,
    MissingColumn,
    MissingLabel,
    PredictionMismatch,
    PredictionOfOtherSplit,
    RowsOutsideFold,
    ScaleMismatch,
    ShapeMismatch,
    TruthCopied,
    UnreadableFile,
    ValuesNegative,
    ValuesNotFinite,
)
from perturbfm.external.prediction_file import PredictionFile
from perturbfm.predictions import write_prediction


def finding(found, check):
    return next(f for f in found.verdict["findings"] if f["check"] == check)


def delta_of(world, prediction):
    return world.truth.predicted(prediction)[0]


def per_condition(table):
    """Mean rows of a table of cells, in sorted order of (context, perturbation)."""
    frame = pd.DataFrame(table.x.astype(np.float64)).groupby(
        [table.obs["context_id"].to_numpy(), table.obs["pert_id"].to_numpy()]
    )
    return frame.mean()


# --- what a file states ----------------------------------------------------------------------------


def test_a_condition_changes_by_the_mean_of_its_cells_minus_the_input_controls_of_its_batches(world, cells, write):
    found = world.judgeable(write(cells))
    labels, split = world.dataset.labels(), world.split
    x = np.asarray(world.dataset.adata.X, dtype=np.float64)
    shown = np.isin(np.arange(len(x)), split.input_control_idx) & (labels.context_n == "t")
    mean_b = {b: x[shown & (labels.batch_n == b)].mean(0) for b in "xy"}
    truth = world.truth
    delta = delta_of(world, found.predictions["test"])
    for c, name in enumerate(truth.intervention_c):
        mine = (labels.context_n == "t") & (labels.intervention_n == name)
        share = np.mean(labels.batch_n[mine] == "x")
        matched = share * mean_b["x"] + (1 - share) * mean_b["y"]
        mean = per_condition(cells).loc[("t", name.partition("@")[0])].to_numpy()
        np.testing.assert_allclose(delta[c], mean - matched, atol=1e-5)
    assert found.verdict["batches"] == "in the shares of the judged rows"
    assert found.verdict["verdict"] == "pass"


def test_cells_of_named_batches_are_held_against_the_controls_of_that_batch(world, cells, write):
    cells.obs["batch_id"] = np.resize(np.array(["x", "y", "y"], dtype=object), len(cells.obs))
    p = world.judgeable(write(cells)).predictions["test"]
    labels, split = world.dataset.labels(), world.split
    x = np.asarray(world.dataset.adata.X, dtype=np.float64)
    rows = np.flatnonzero((cells.obs["pert_id"] == "C") & (cells.obs["batch_id"] == "x"))
    shown = split.input_control_idx[
        (labels.context_n[split.input_control_idx] == "t") & (labels.batch_n[split.input_control_idx] == "x")
    ]
    judged = (labels.pert_n[p.idx_n] == "C") & (labels.batch_n[p.idx_n] == "x")
    expected = cells.x[rows].astype(float).mean(0) - x[shown].mean(0)
    np.testing.assert_allclose(p.mean_ng()[judged], np.tile(expected, (judged.sum(), 1)), atol=1e-5)


def test_moving_the_controls_by_a_prediction_and_reading_the_cells_back_gives_the_prediction(unbatched, write):
    truth = unbatched.truth
    delta = np.random.default_rng(3).normal(size=truth.mean_cg.shape)
    o = truth.observed
    table = predicted_cells(unbatched)
    parts = [o.input_mg[np.arange(len(o.input_mg))] + d for d in delta]
    table.x = np.concatenate(parts).astype(np.float32)
    names = [i.partition("@")[0] for i in truth.intervention_c]
    table.obs = pd.DataFrame({"pert_id": np.repeat(names, len(o.input_mg)), "context_id": "t"}, dtype=object)
    table.obs.index = [f"p{i}" for i in range(len(table.obs))]
    found = unbatched.judgeable(write(table))
    np.testing.assert_allclose(delta_of(unbatched, found.predictions["test"]), delta, atol=1e-5)


@pytest.mark.parametrize("name", ["pred.h5ad", "pred.zarr"])
def test_cells_are_kept_as_they_are_each_once(world, cells, write, name):
    p = world.judgeable(write(cells, name)).predictions["test"]
    mine = np.asarray(p.cells.of("t", "A+B@knockdown"))
    np.testing.assert_array_equal(mine, cells.x[(cells.obs["pert_id"] == "A+B").to_numpy()])
    assert p.cells.x_mg.shape == cells.x.shape


def test_a_file_that_states_no_variance_gets_none(world, cells, write):
    found = world.judgeable(write(cells))
    p = found.predictions["test"]
    assert not p.has_variance
    assert np.isnan(p.var_qg).all()
    assert found.verdict["variance"] == "not stated, so uncertainty is not applicable"


@pytest.mark.parametrize("place", ["layers", "obsm"])
def test_a_stated_variance_is_taken_as_it_is(world, cells, write, place):
    value = (1.0 + np.arange(len(cells.obs)) // 12)[:, None] * np.ones(len(GENES))
    setattr(cells, place, {"var": value.astype(np.float32)})
    p = world.judgeable(write(cells)).predictions["test"]
    _, var = world.truth.predicted(p)
    order = [PERTS.index(i.partition("@")[0]) for i in world.truth.intervention_c]
    np.testing.assert_allclose(var[:, 0], 1.0 + np.array(order))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_variance_that_is_none_is_refused(world, cells, write, value):
    cells.layers = {"var": np.full_like(cells.x, value)}
    with pytest.raises(PredictionMismatch, match="not a distribution"):
        world.judgeable(write(cells))


def test_the_calibration_fold_is_used_where_it_is_there(world, write):
    found = world.judgeable(write(predicted_cells(world, contexts=("t", "k"))))
    assert found.predictions.keys() == {"test", "calib"}
    assert found.predictions["calib"].cells is None
    assert found.verdict["calibration_fold"] == "predicted"


def test_a_part_of_the_calibration_fold_is_refused(world, write):
    table = predicted_cells(world, contexts=("t", "k"))
    keep = ~((table.obs["context_id"] == "k") & (table.obs["pert_id"] == "E")).to_numpy()
    table.obs, table.x = table.obs[keep], table.x[keep]
    with pytest.raises(ConditionsDiffer, match="Only a part of the calibration fold.*5 of 6"):
        world.judgeable(write(table))


# --- other forms -----------------------------------------------------------------------------------


def test_mean_rows_say_what_their_cells_say_and_are_no_cells(world, cells, write):
    whole = world.judgeable(write(cells)).predictions["test"]
    mean = per_condition(cells)
    cells.x = mean.to_numpy(dtype=np.float32)
    cells.obs = pd.DataFrame(list(mean.index), columns=["context_id", "pert_id"], index=[f"m{i}" for i in range(6)])
    p = world.judgeable(write(cells, "mean.h5ad"), unit="pseudobulk").predictions["test"]
    np.testing.assert_allclose(delta_of(world, p), delta_of(world, whole), atol=1e-5)
    assert p.cells is None
    assert p.no_cells == ""


def test_two_mean_rows_of_a_condition_are_refused(world, cells, write):
    with pytest.raises(DuplicateNames, match="several mean rows.*t\\|A"):
        world.judgeable(write(cells), unit="pseudobulk")


def test_changes_are_taken_as_they_are(world, cells, write):
    mean = per_condition(cells)
    cells.x = mean.to_numpy(dtype=np.float32) - 4.0
    cells.obs = pd.DataFrame(list(mean.index), columns=["context_id", "pert_id"], index=[f"m{i}" for i in range(6)])
    p = world.judgeable(write(cells), unit="pseudobulk", scale="delta").predictions["test"]
    order = [i.partition("@")[0] for i in world.truth.intervention_c]
    np.testing.assert_allclose(delta_of(world, p), mean.loc["t"].loc[order].to_numpy() - 4.0, atol=1e-5)


@pytest.mark.parametrize("name", ["t|{}@knockdown", "t|{}"])
def test_an_npz_of_conditions_is_read_by_whole_or_short_names(world, tmp_path, name):
    mean = np.random.default_rng(0).normal(size=(6, len(GENES))).astype(np.float32)
    arrays = {"mean": mean[:, ::-1], "genes": GENES[::-1], "conditions": [name.format(p) for p in PERTS]}
    np.savez(tmp_path / "p.npz", **arrays)
    found = world.judgeable(tmp_path / "p.npz")
    order = [PERTS.index(i.partition("@")[0]) for i in world.truth.intervention_c]
    np.testing.assert_allclose(delta_of(world, found.predictions["test"]), mean[order], atol=1e-12)
    assert "order by name" in finding(found, "genes")["message"]


def test_a_short_name_of_two_conditions_is_refused(world, tmp_path):
    names = [*(f"t|{p}" for p in PERTS), "A"]
    np.savez(tmp_path / "p.npz", mean=np.ones((7, len(GENES))), genes=GENES, conditions=names)
    with pytest.raises(DuplicateNames, match="'A'.*context\\|perturbation"):
        world.judgeable(tmp_path / "p.npz")


def test_our_own_prediction_file_is_read_back_as_it_was(world, cells, write, tmp_path):
    cells.layers = {"var": np.full_like(cells.x, 0.5)}
    p = world.judgeable(write(cells)).predictions["test"]
    write_prediction(tmp_path / "predictions.npz", p, 1.0)
    again = world.judgeable(tmp_path / "predictions.npz").predictions["test"]
    np.testing.assert_array_equal(again.mean_ng(), p.mean_ng())
    np.testing.assert_array_equal(again.var_ng(), p.var_ng())


# --- labels ----------------------------------------------------------------------------------------


def test_the_data_sets_own_names_and_conventions_are_understood(world, cells, write):
    expected = delta_of(world, world.judgeable(write(cells)).predictions["test"])
    swap = {"A+B": "B+A", "A": "gene A"}
    cells.obs["condition"] = [swap.get(p, p) for p in cells.obs.pop("pert_id")]
    cells.obs = cells.obs.rename(columns={"context_id": "cell_type"})
    own = {"pert_column": "condition", "context_column": "cell_type", "aliases": {"gene A": "A", "unused": "B"}}
    found = world.judgeable(write(cells, "own.h5ad"), own)
    np.testing.assert_array_equal(delta_of(world, found.predictions["test"]), expected)


def test_named_columns_go_first(world, cells, write):
    cells.obs = cells.obs.rename(columns={"pert_id": "target_gene", "context_id": "celltype"})
    options = {"pert_column": "target_gene", "context_column": "celltype"}
    assert world.judgeable(write(cells), **options).verdict["verdict"] == "pass"
    with pytest.raises(MissingColumn, match="no column of perturbations.*target_gene"):
        world.judgeable(write(cells))


def test_a_column_that_nobody_declared_is_not_taken_for_perturbations(world, cells, write):
    cells.obs = cells.obs.rename(columns={"pert_id": "condition"})
    with pytest.raises(MissingColumn, match=r"no column of perturbations.*model\.pert_column"):
        world.judgeable(write(cells))
    assert world.judgeable(write(cells), pert_column="condition").verdict["verdict"] == "pass"


def test_contexts_must_be_told_where_there_are_several(world, cells, write):
    del cells.obs["context_id"]
    with pytest.raises(MissingColumn, match="no column of contexts"):  # calibration and test are two contexts
        world.judgeable(write(cells))


def test_doses_that_tell_conditions_apart_must_be_told(make_world, write):
    world = make_world(dose=True, perts=("A", "B", "C"))
    table = predicted_cells(world)
    with pytest.raises(MissingColumn, match="which of several judged conditions.*dose"):
        world.judgeable(write(table))
    table.obs["dose"] = np.resize([1.0, 10.0], len(table.obs))
    found = world.judgeable(write(table, "dose.h5ad"))
    assert "t|A@knockdown;dose=10" in world.truth.context_c[0] + "|" + "t|".join(world.truth.intervention_c)
    mine = ((table.obs["pert_id"] == "A") & (table.obs["dose"] == 10)).to_numpy()
    np.testing.assert_array_equal(found.predictions["test"].cells.of("t", "A@knockdown;dose=10"), table.x[mine])


def test_rows_without_a_label_are_refused(world, cells, write):
    cells.obs.loc["p3", "pert_id"] = ""
    with pytest.raises(MissingLabel, match="1 rows, first 'p3'"):
        world.judgeable(write(cells))


# --- genes -----------------------------------------------------------------------------------------


def test_genes_in_another_order_are_put_right_by_name(world, cells, write):
    expected = delta_of(world, world.judgeable(write(cells)).predictions["test"])
    order = np.random.default_rng(0).permutation(len(GENES))
    cells.genes, cells.x = [GENES[i] for i in order], cells.x[:, order]
    found = world.judgeable(write(cells, "moved.h5ad"))
    np.testing.assert_array_equal(delta_of(world, found.predictions["test"]), expected)
    assert "order by name" in finding(found, "genes")["message"]


@pytest.mark.parametrize(
    ("genes", "error", "words"),
    [
        (["g00x", *GENES[1:]], GenesDiffer, "lacks genes of the data.*1 genes, first g00"),
        ([GENES[1], *GENES[1:]], DuplicateNames, "genes twice.*g01"),
    ],
)
def test_other_genes_are_refused(world, cells, write, genes, error, words):
    cells.genes = genes
    with pytest.raises(error, match=words):
        world.judgeable(write(cells))


def test_further_genes_are_refused_unless_that_is_said(world, cells, write):
    expected = delta_of(world, world.judgeable(write(cells)).predictions["test"])
    cells.genes, cells.x = ["new", *GENES], np.concatenate([np.ones((len(cells.x), 1), np.float32), cells.x], axis=1)
    path = write(cells, "more.h5ad")
    with pytest.raises(GenesDiffer, match=r"not judged.*first new.*extra_genes=drop"):
        world.judgeable(path)
    found = world.judgeable(path, extra_genes="drop")
    np.testing.assert_array_equal(delta_of(world, found.predictions["test"]), expected)
    assert finding(found, "genes")["verdict"] == "warn"


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_refused_and_named(world, cells, write, value):
    cells.x[7, 3] = value
    with pytest.raises(ValuesNotFinite, match="1 NaN or infinite entries, first in row 'p7', gene 'g03'"):
        world.judgeable(write(cells))


def test_counts_are_refused_on_a_log_scale_in_one_row_too(world, cells, write):
    cells.x[30] = np.rint(cells.x[30]) + 1
    with pytest.raises(ScaleMismatch, match=r"1 of 72 rows are all integers, first of t\|A\+B"):
        world.judgeable(write(cells))


def test_values_that_were_never_logged_are_refused(world, cells, write):
    cells.x = np.expm1(cells.x)
    with pytest.raises(ScaleMismatch, match="exceed 20"):
        world.judgeable(write(cells))


def test_expression_at_another_level_is_refused(world, cells, write):
    cells.x[cells.obs["pert_id"] == "D"] *= 4.2
    cells.x = np.minimum(cells.x, 19.9)
    with pytest.raises(ScaleMismatch, match=r"far above.*t\|D@knockdown"):
        world.judgeable(write(cells))


def test_changes_that_are_called_expression_are_refused(world, cells, write):
    cells.x -= cells.x.mean(axis=0)
    with pytest.raises(ValuesNegative, match=r"model\.scale=delta"):
        world.judgeable(write(cells))


@pytest.mark.parametrize("scale", ["counts", "log2"])
def test_another_declared_scale_is_refused(world, cells, write, scale):
    with pytest.raises(ScaleMismatch, match=f"given {scale}.*expected log1p"):
        world.judgeable(write(cells), scale=scale)


def test_changes_have_no_cells(world, cells, write):
    with pytest.raises(BadValue, match=r"Changes from control have no cells.*unit=pseudobulk"):
        world.judgeable(write(cells), scale="delta")


# --- conditions and rows ---------------------------------------------------------------------------


def test_a_missing_condition_is_refused(world, cells, write):
    keep = (cells.obs["pert_id"] != "A+B").to_numpy()
    cells.obs, cells.x = cells.obs[keep], cells.x[keep]
    with pytest.raises(ConditionsDiffer, match=r"have no prediction: given t\|A\+B@knockdown"):
        world.judgeable(write(cells))


@pytest.mark.parametrize(("context", "pert", "what"), [("r", "A", "of another fold"), ("t", "XYZ", "not in the data")])
def test_a_further_condition_is_refused_unless_that_is_said(world, cells, write, context, pert, what):
    expected = delta_of(world, world.judgeable(write(cells)).predictions["test"])
    extra = pd.DataFrame({"context_id": [context] * 3, "pert_id": [pert] * 3}, index=["e0", "e1", "e2"])
    cells.obs, cells.x = pd.concat([cells.obs, extra]), np.concatenate([cells.x, cells.x[:3]])
    path = write(cells, "extra.h5ad")
    with pytest.raises(ConditionsDiffer, match=rf"{context}\|{pert} \({what}\).*extra_conditions=drop"):
        world.judgeable(path)
    found = world.judgeable(path, extra_conditions="drop")
    np.testing.assert_array_equal(delta_of(world, found.predictions["test"]), expected)
    assert found.verdict["verdict"] == "warn"


def test_a_batch_that_is_not_judged_is_refused(world, cells, write):
    cells.obs["batch_id"] = np.resize(np.array(["x", "y", "z"], dtype=object), len(cells.obs))
    with pytest.raises(ConditionsDiffer, match="batches that are not judged.*in batch z"):
        world.judgeable(write(cells))


def test_rows_named_after_cells_of_another_fold_are_refused(world, cells, write):
    names = world.dataset.obs.index
    labels = world.dataset.labels()
    mine = np.flatnonzero((labels.context_n == "t") & (labels.pert_n == "A"))
    cells.obs.index = [*names[mine[:12]], *cells.obs.index[12:]]
    assert "12 rows are named" in finding(world.judgeable(write(cells)), "row_names")["message"]
    train = np.flatnonzero((labels.context_n == "r") & (labels.pert_n == "A"))
    cells.obs.index = [*names[train[:12]], *cells.obs.index[12:]]
    with pytest.raises(RowsOutsideFold, match=r"12 rows.*in the data 'r\|A@knockdown'"):
        world.judgeable(write(cells, "other.h5ad"))


@pytest.fixture
def by_row(world, tmp_path):
    def written(idx, **arrays):
        mean = np.random.default_rng(0).normal(size=(len(idx), len(GENES))).astype(np.float32)
        np.savez(tmp_path / "rows.npz", **{"mean": mean, "idx": idx, "genes": GENES, **arrays})
        return tmp_path / "rows.npz"

    return written


def test_rows_by_number_are_those_of_the_fold_in_any_order(world, by_row):
    idx = world.split.test_idx[::-1]
    path = by_row(idx)
    p = world.judgeable(path).predictions["test"]
    np.testing.assert_array_equal(p.mean_ng()[::-1], np.load(path)["mean"])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.test_idx[1:], RowsOutsideFold, "have no prediction: given 1 of 120"),
        (lambda s: np.append(s.test_idx, s.train_idx[0]), RowsOutsideFold, "not judged.*which is in train"),
        (lambda s: np.append(s.test_idx, s.reference_control_idx[0]), RowsOutsideFold, "is in reference_control"),
        (lambda s: np.append(s.test_idx, s.test_idx[0]), CellUsedTwice, "121 rows, 120 of them different"),
    ],
)
def test_other_row_numbers_are_refused(world, by_row, change, error, words):
    with pytest.raises(error, match=words):
        world.judgeable(by_row(change(world.split)))


# --- controls, copies, points ----------------------------------------------------------------------


def test_controls_that_are_the_datas_pass(world, write):
    found = world.judgeable(write(predicted_cells(world, controls=True)))
    assert finding(found, "controls") == {
        "check": "controls",
        "verdict": "pass",
        "message": f"the data's own: all {CONTROLS} of t",
    }


def test_rounded_controls_and_the_input_controls_alone_pass(world, write):
    table = predicted_cells(world, controls=True)
    control = np.flatnonzero(table.obs["pert_id"] == "control")
    table.x[control] = np.round(table.x[control], 3)
    labels = world.dataset.labels()
    mine = np.flatnonzero(labels.is_control_n & (labels.context_n == "t"))
    shown = np.isin(mine, world.split.input_control_idx)
    keep = np.r_[: control[0], control[shown]]
    table.obs, table.x = table.obs.iloc[keep], table.x[keep]
    message = finding(world.judgeable(write(table)), "controls")["message"]
    assert message == f"the data's own: the {CONTROLS // 2} input controls of t"


def test_a_part_of_the_controls_is_noted(world, write):
    table = predicted_cells(world, controls=True)
    table.obs, table.x = table.obs.iloc[:-3], table.x[:-3]
    assert finding(world.judgeable(write(table)), "controls")["verdict"] == "warn"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x + np.float32(0.01), f"{CONTROLS} control rows of t that are none"),
        (lambda x: np.concatenate([x[:-1], x[:1]]), "1 control rows of t too often"),
        (lambda x: np.tile(x.mean(0), (len(x), 1)), f"{CONTROLS} control rows of t that are none"),
    ],
)
def test_touched_controls_are_refused(world, write, spoil, words):
    table = predicted_cells(world, controls=True)
    control = np.flatnonzero(table.obs["pert_id"] == "control")
    table.x[control] = spoil(table.x[control])
    with pytest.raises(ControlsTouched, match=words):
        world.judgeable(write(table))


def test_a_mean_control_row_must_be_that_of_the_data(world, cells, write):
    mean = per_condition(cells)
    labels = world.dataset.labels()
    control = np.asarray(world.dataset.adata.X[labels.is_control_n & (labels.context_n == "t")]).mean(0)
    names = [*mean.index, ("t", "control")]
    cells.obs = pd.DataFrame(names, columns=["context_id", "pert_id"], index=[f"m{i}" for i in range(7)])
    cells.x = np.concatenate([mean.to_numpy(), control[None]]).astype(np.float32)
    found = world.judgeable(write(cells), unit="pseudobulk")
    assert "all controls of t" in finding(found, "controls")["message"]
    cells.x[-1] += 0.01
    with pytest.raises(ControlsTouched, match="mean of neither"):
        world.judgeable(write(cells, "moved.h5ad"), unit="pseudobulk")


def truth_cells(world, pert):
    labels = world.dataset.labels()
    return np.asarray(world.dataset.adata.X[(labels.context_n == "t") & (labels.pert_n == pert)])


def test_a_copy_of_the_judged_cells_is_refused_although_it_is_rounded(world, cells, write):
    cells.x[cells.obs["pert_id"] == "B"] = np.round(truth_cells(world, "B")[:12], 3)
    with pytest.raises(TruthCopied, match=r"12 of 72 predicted cells are cells of the test fold, first of t\|B"):
        world.judgeable(write(cells))


def test_a_copy_of_the_judged_means_is_refused(world, cells, write):
    mean = per_condition(cells)
    mean.loc[("t", "C")] = truth_cells(world, "C").mean(0)
    cells.obs = pd.DataFrame(list(mean.index), columns=["context_id", "pert_id"], index=[f"m{i}" for i in range(6)])
    cells.x = mean.to_numpy(dtype=np.float32)
    with pytest.raises(TruthCopied, match=r"1 of 6 predicted means.*t\|C@knockdown"):
        world.judgeable(write(cells), unit="pseudobulk")


def test_jittered_copies_of_judged_cells_are_said(world, cells, write):
    rng = np.random.default_rng(0)
    for p in PERTS:
        cells.x[cells.obs["pert_id"] == p] = truth_cells(world, p)[:12] + 0.03 * rng.normal(size=(12, len(GENES)))
    found = world.judgeable(write(cells))
    assert finding(found, "near_copies")["verdict"] == "warn"
    assert "were they made from them?" in finding(found, "near_copies")["message"]


def test_withheld_controls_among_predicted_cells_are_said(world, cells, write):
    o = world.observed["test"]
    cells.x[:12] = np.asarray(o.reference_rg[np.arange(12)])
    found = world.judgeable(write(cells))
    assert "12 of 72 predicted cells are reference controls" in finding(found, "withheld_controls")["message"]
    assert found.verdict["verdict"] == "warn"


@pytest.mark.parametrize(
    ("n", "words"), [(12, r"tiled: one cell repeated in 1 of 6"), (1, r"one cell in 6 of 6 conditions")]
)
def test_one_cell_however_often_is_a_point(world, write, n, words):
    table = predicted_cells(world, n=n)
    table.x[: max(n, 1)] = table.x[0]
    found = world.judgeable(write(table))
    p = found.predictions["test"]
    assert p.cells is None
    assert p.no_cells.startswith("point prediction: ")
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(p.no_cells)
    assert finding(found, "cells")["verdict"] == "warn"


def test_cells_drawn_with_replacement_are_no_sample(world, cells, write):
    cells.x[:12] = cells.x[[0, 1, 2] * 4]
    p = world.judgeable(write(cells)).predictions["test"]
    assert p.cells is None
    assert p.no_cells == "12% of the predicted cells repeat another one, so they are no sample of cells"


# --- locks and files -------------------------------------------------------------------------------


def test_a_file_made_for_another_split_or_other_data_is_refused(world, cells, write):
    cells.uns = {"split_hash": world.split.frozen_hash[:12], "fingerprint": world.split.fingerprint}
    assert "carries split" in finding(world.judgeable(write(cells)), "split_hash")["message"]
    for key in cells.uns:
        spoiled = {**cells.uns, key: "0" * 64}
        with pytest.raises(PredictionOfOtherSplit, match="made for other"):
            world.judgeable(write(type(cells)(**{**vars(cells), "uns": spoiled}), f"{key}.h5ad"))


def test_files_that_cannot_be_read_are_refused(world, cells, write, tmp_path):
    with pytest.raises(UnreadableFile, match="no such prediction file"):
        world.judgeable(tmp_path / "none.h5ad")
    path = write(cells)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableFile, match="cannot be read"):
        world.judgeable(path)
    np.savez(tmp_path / "p.npz", mean=np.ones((6, 30)), genes=GENES)
    with pytest.raises(UnreadableFile, match="idx, or conditions"):
        world.judgeable(tmp_path / "p.npz")
    np.savez(tmp_path / "p.npz", mean=np.ones((5, 30)), genes=GENES, conditions=PERTS)
    with pytest.raises(ShapeMismatch, match="6 names or row numbers"):
        world.judgeable(tmp_path / "p.npz")


@pytest.mark.parametrize(("key", "value"), [("unit", "cell"), ("extra_genes", "keep"), ("extra_conditions", "ignore")])
def test_an_unknown_option_is_refused_before_anything_is_read(key, value):
    with pytest.raises(BadValue, match=f"Unknown model.{key}"):
        PredictionFile("tool", "none.h5ad", **{key: value})


def test_the_verdict_says_which_file_was_judged(world, cells, write):
    import hashlib

    path = write(cells)
    verdict = world.judgeable(path).verdict
    assert verdict["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert verdict["file"] == "pred.h5ad"
    assert verdict["form"] == "cells"
    assert verdict["n_rows"] == 6 * 12 == len(cells.obs)
    assert CELLS == 20
