"""Do exported files hold what other tools need: one set of controls, and the predicted change?"""

import anndata
import numpy as np
import pytest
from foreign import GENES, PERTS, predicted_cells, stated

from perturbfm.errors import NoCells, UnknownChoice, ValuesNegative
from perturbfm.external.export import LAYOUTS, kept_above_zero, layout_of, write_export

VERDICT = np.full(len(PERTS), "unknown", dtype=object)


def exported(world, prediction, form, folder):
    truth = world.truth
    case = truth.judged(prediction, None, VERDICT)
    return truth, case, write_export(folder, layout_of(form), truth, case, "+")


def means(adata, column):
    names = adata.obs[column].astype(str).to_numpy()
    x = np.asarray(adata.X.todense())
    return {name: x[names == name].astype(float).mean(0) for name in set(names)}


@pytest.mark.parametrize("form", list(LAYOUTS))
def test_both_files_have_the_tools_columns_the_same_genes_and_the_same_control_cells(world, form, tmp_path):
    layout = layout_of(form)
    _, _, written = exported(world, stated(world, 0.1), form, tmp_path)
    real, predicted = (anndata.read_h5ad(p) for p in (written.real, written.predicted))
    for adata in (real, predicted):
        assert {layout.pert, layout.context} <= set(adata.obs.columns)
        assert tuple(adata.var_names) == GENES
        assert adata.X.dtype == np.float32
        assert set(adata.obs[layout.pert]) == {*PERTS, layout.control}
        assert set(adata.obs[layout.context]) == {"t"}
        assert adata.obs_names.is_unique
    control = [a[a.obs[layout.pert] == layout.control].X.toarray() for a in (real, predicted)]
    np.testing.assert_array_equal(*control)
    shown = np.asarray(world.observed["test"].input_mg[np.arange(20)])
    np.testing.assert_array_equal(control[0], shown)


@pytest.mark.parametrize("form", list(LAYOUTS))
def test_the_change_between_the_files_means_is_the_prediction(unbatched, form, tmp_path):
    rng = np.random.default_rng(0)
    delta = 0.5 * rng.normal(size=(len(PERTS), len(GENES)))
    truth, _, written = exported(unbatched, stated(unbatched, delta), form, tmp_path)
    layout = layout_of(form)
    predicted, real = (means(anndata.read_h5ad(p), layout.pert) for p in (written.predicted, written.real))
    for c, name in enumerate(i.partition("@")[0] for i in truth.intervention_c):
        np.testing.assert_allclose(predicted[name] - predicted[layout.control], delta[c], atol=1e-5)
        np.testing.assert_allclose(real[name], truth.mean_cg[c], atol=1e-5)
    assert written.note == ""


def test_a_tool_that_refuses_negative_values_gets_none_and_the_same_means(unbatched, tmp_path):
    truth = unbatched.truth
    delta = np.zeros((len(PERTS), len(GENES)))
    delta[:, 0], delta[:, 1] = -0.97 * truth.input_cg[:, 0], -2.0 * truth.input_cg[:, 1]
    _, _, written = exported(unbatched, stated(unbatched, delta), "cell-eval", tmp_path)
    predicted = anndata.read_h5ad(written.predicted)
    assert predicted.X.min() >= 0
    found = means(predicted, "target_gene")
    for p in PERTS:
        assert found[p][0] == pytest.approx(0.03 * truth.input_cg[0, 0], rel=1e-4)
        assert found[p][1] == 0
    assert written.note.startswith(f"{len(PERTS)} of {len(PERTS) * len(GENES)} predicted means are below zero")
    _, _, free = exported(unbatched, stated(unbatched, delta), "perturbench", tmp_path / "free")
    assert anndata.read_h5ad(free.predicted).X.min() < 0
    assert free.note == ""


def test_a_gene_is_scaled_only_where_a_cell_would_fall_below_zero():
    control = np.array([[0.0, 2.0, 0.0], [4.0, 4.0, 0.0]])
    moved = kept_above_zero(control, np.array([-1.0, -1.0, -0.5]))
    np.testing.assert_allclose(moved, [[0.0, 1.0, 0.0], [2.0, 3.0, 0.0]])  # mean 2 -> 1 by scaling; 3 -> 2 by moving


def test_emitted_cells_are_exported_as_they_are_and_never_clipped(world, cells, write, tmp_path):
    p = world.judgeable(write(cells)).predictions["test"]
    _, _, written = exported(world, p, "cell-eval", tmp_path / "a")
    found = anndata.read_h5ad(written.predicted)
    mine = found[found.obs["target_gene"] == "A+B"].X.toarray()
    np.testing.assert_array_equal(mine, cells.x[(cells.obs["pert_id"] == "A+B").to_numpy()])
    cells.x[0, 0] = -0.5
    p = world.judgeable(write(cells, "negative.h5ad")).predictions["test"]
    with pytest.raises(ValuesNegative, match=r"lowest -0\.5"):
        exported(world, p, "cell-eval", tmp_path / "b")


def test_what_was_exported_is_judged_as_what_it_was_exported_from(world, write, tmp_path):
    delta = 0.3 * np.random.default_rng(1).normal(size=(len(PERTS), len(GENES)))
    truth, case, written = exported(world, stated(world, delta), "perturbench", tmp_path)
    own = {"pert_column": "condition", "context_column": "cell_type"}
    back = world.judgeable(written.predicted, own)
    again = truth.judged(back.predictions["test"], None, VERDICT)
    np.testing.assert_allclose(again.predicted_cg, case.predicted_cg, atol=1e-5)
    for c in range(len(PERTS)):
        np.testing.assert_allclose(again.cells(c)[1], case.cells(c)[1], atol=1e-5)
    assert back.verdict["batches"] == "as the file names them"


def test_a_point_has_no_cells_to_export(world, write, tmp_path):
    p = world.judgeable(write(predicted_cells(world, n=1))).predictions["test"]
    with pytest.raises(NoCells, match="no cells to export: given point prediction"):
        exported(world, p, "cell-eval", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_doses_of_one_perturbation_stay_apart(make_world, tmp_path):
    world = make_world(dose=True, perts=("A", "B", "C"))
    _, _, written = exported(world, stated(world, 0.1), "perturbench", tmp_path)
    names = set(anndata.read_h5ad(written.real).obs["condition"])
    assert {"A@knockdown;dose=1", "A@knockdown;dose=10", "control"} <= names


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(UnknownChoice, match="Did you mean cell-eval"):
        layout_of("cell_eval")


def test_the_command_line_knows_every_format():
    from perturbfm.cli.export import FORMATS

    assert tuple(LAYOUTS) == FORMATS
