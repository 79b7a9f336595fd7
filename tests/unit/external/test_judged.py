"""Is another tool's prediction judged by what it states: its own cells, its variance, or none of them?"""

import json

import numpy as np
import pytest
from foreign import GENES, PERTS, predicted_cells, stated

from perturbfm.errors import PredictionMismatch, UnreadableFile
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED
from perturbfm.eval.cells import EmittedCells, ShiftedControls, stated_alike
from perturbfm.eval.effort import Effort
from perturbfm.eval.judge import judge
from perturbfm.eval.metric.distribution import energy_distance_cells
from perturbfm.eval.panel import FULL, score
from perturbfm.eval.panel.metric import NO_VARIANCE
from perturbfm.eval.separation import Separation
from perturbfm.eval.truth import TrainCentroids, Truth, halve
from perturbfm.predictions import read_cells, read_prediction, write_cells, write_prediction
from perturbfm.types import PredictedCells, Prediction

EFFORT = Effort(bootstrap_draws=20, permutations=60, halvings=1, seed=0)
TRAIN = TrainCentroids(np.full(len(GENES), 4.5), np.linspace(-0.1, 0.1, len(GENES)))
EDIST = "edist[ground=euclidean,stat=U,cells={}]"


def judged(world, prediction, calib=None):
    floors = {"no_change": stated(world, 0.0), "train_mean": stated(world, TRAIN.delta_g)}
    seen = Separation(Truth(world.observed["calib"]), calib)
    return judge(FULL, world.truth, prediction, floors, TRAIN, seen, EFFORT)


@pytest.fixture
def told(world, cells, write):
    """What a file of cells without a variance says of the test fold."""
    return world.judgeable(write(cells)).predictions["test"]


# --- no variance -----------------------------------------------------------------------------------


def test_every_line_that_rests_on_the_variance_is_silent_without_one_and_no_other_is(world, told):
    truth, verdict = world.truth, np.full(len(PERTS), "powered", dtype=object)
    mean_cg, _ = truth.predicted(told)
    small, large = (score(FULL, truth.case(mean_cg, np.full_like(mean_cg, v), TRAIN, verdict)) for v in (0.01, 1.0))
    silent = score(FULL, truth.judged(told, TRAIN, verdict))
    shifted = {m.identifier for m in FULL.metrics if "cells=" in m.identifier}
    for i in set(FULL.identifiers) - shifted:
        if np.array_equal(small[i].value_c, large[i].value_c, equal_nan=True):
            np.testing.assert_allclose(silent[i].value_c, small[i].value_c, rtol=1e-5, atol=1e-7, err_msg=i)
        else:
            assert set(silent[i].status_c) == {NOT_APPLICABLE}, i
            assert set(silent[i].reason_c) == {NO_VARIANCE}, i


def test_without_a_variance_uncertainty_is_reported_as_not_applicable_in_every_place(world, told):
    metrics = judged(world, told).metrics
    for i in ("crps_gaussian", "coverage[level=0.9", "pfm.obs_share", "width", "nll_gaussian"):
        entries = [e for k, e in metrics["metrics"].items() if k.startswith(i)]
        assert entries, i
        assert {(e["status"], e["reason"], e["value"]) for e in entries} == {(NOT_APPLICABLE, NO_VARIANCE, None)}
    assert metrics["separation"]["model"] == {"value": None, "status": NOT_APPLICABLE, "reason": NO_VARIANCE}
    assert metrics["separation"]["control_variance"]["status"] == OK
    json.dumps(metrics, allow_nan=False)


def test_a_stated_variance_without_a_calibration_fold_has_no_separation(world, cells, write):
    cells.layers = {"var": np.full_like(cells.x, 0.2)}
    p = world.judgeable(write(cells)).predictions["test"]
    metrics = judged(world, p).metrics
    assert metrics["separation"]["model"]["reason"] == "no prediction of the calibration fold"
    assert metrics["metrics"]["crps_gaussian[target=mean_delta,obs_noise=added,genes=detected10]"]["status"] == OK


def test_a_prediction_cannot_state_half_a_variance(world, told):
    var = np.full(told.mean_qg.shape, np.nan)
    var[0, 0] = 1.0
    for has in (True, False):
        with pytest.raises(PredictionMismatch, match="not a distribution"):
            Prediction(**{**vars(told), "var_qg": var, "has_variance": has, "cells": None})


# --- cells of its own ------------------------------------------------------------------------------


def test_emitted_cells_are_compared_as_they_are_and_the_name_says_so(world, cells, told):
    metrics = judged(world, told).metrics
    assert not [i for i in metrics["metrics"] if "control_shifted" in i]
    entry = metrics["metrics"][EDIST.format("predicted")]
    labels = world.dataset.labels()
    x = np.asarray(world.dataset.adata.X, dtype=float)
    each = []
    for p in PERTS:
        true = x[(labels.context_n == "t") & (labels.pert_n == p)]
        each.append(energy_distance_cells(true, cells.x[(cells.obs["pert_id"] == p).to_numpy()], "U"))
    assert entry["value"] == pytest.approx(np.mean(each), rel=1e-9)
    assert entry["lead"]


def test_a_model_of_means_keeps_its_name_and_energy_does_not_lead(world):
    metrics = judged(world, stated(world, 0.1), stated(world, 0.1, fold="calib")).metrics
    entry = metrics["metrics"][EDIST.format("control_shifted")]
    assert not entry["lead"]
    assert not [i for i in metrics["metrics"] if "cells=predicted" in i]


def test_suites_compare_the_emitted_cells_with_the_same_controls_on_both_sides(world, cells, told):
    c = 1
    comparison = world.truth.judged(told, TRAIN, np.full(6, "powered", dtype=object)).comparison
    name = comparison.perturbation_c[c]
    np.testing.assert_array_equal(comparison.predicted.cells(c), cells.x[(cells.obs["pert_id"] == name).to_numpy()])
    np.testing.assert_array_equal(comparison.predicted.control(0), comparison.truth.control(0))


def test_half_of_the_truth_is_still_held_against_the_models_own_cells(world, told):
    truth = world.truth
    whole = truth.judged(told, TRAIN, np.full(6, "powered", dtype=object))
    half, _ = halve(truth, 0)
    part = stated_alike(half.case(whole.predicted_cg, whole.variance_cg, TRAIN, whole.powered_c), whole, half)
    assert isinstance(part.cells, EmittedCells)
    assert not part.has_variance
    true, predicted = part.cells(2)
    assert len(true) == 10
    np.testing.assert_array_equal(predicted, whole.cells(2)[1])
    mean = stated(world, 0.1)
    other = truth.judged(mean, TRAIN, whole.powered_c)
    assert isinstance(
        stated_alike(half.case(*half.predicted(mean), TRAIN, whole.powered_c), other, half).cells, ShiftedControls
    )


# --- points and constants --------------------------------------------------------------------------


def test_a_point_prediction_has_no_distribution_to_compare(world, write):
    table = predicted_cells(world, n=1)
    p = world.judgeable(write(table)).predictions["test"]
    entries = judged(world, p).metrics["metrics"]
    distances = [e for i, e in entries.items() if "cells=" in i]
    assert distances
    for e in distances:
        assert (e["status"], e["value"]) == (NOT_APPLICABLE, None)
        assert e["reason"].startswith("point prediction: one cell in 6 of 6 conditions; declare model.unit=pseudobulk")
    assert entries["mse[space=mean_delta,ref=control_split,genes=all]"]["status"] == OK
    assert world.truth.judged(p, TRAIN, np.full(6, "powered", dtype=object)).comparison is None


def test_a_prediction_that_is_the_same_for_all_is_undefined_or_chance(world, write, make_world):
    big = make_world(perts=tuple("ABCDEFGHIJ"))
    table = predicted_cells(big)
    table.x = np.tile(table.x[:12], (10, 1))
    p = big.judgeable(write(table)).predictions["test"]
    entries = judged(big, p).metrics["metrics"]
    assert entries["retrieval[space=delta,query=prediction,dist=cosine,norm=n-1,ties=mid]"]["value"] == pytest.approx(
        0.5
    )
    for i, e in entries.items():
        if "ref=panel" in i or "panel_centred" in i:
            assert (e["status"], e["value"]) == (UNDEFINED, None), i


def test_one_perturbation_in_a_context_has_no_rank(make_world, write):
    alone = make_world(perts=("A",))
    p = alone.judgeable(write(predicted_cells(alone))).predictions["test"]
    entries = judged(alone, p).metrics["metrics"]
    found = {i: (e["status"], e["value"]) for i, e in entries.items() if "retrieval" in i or "ref=panel" in i}
    assert {status for status, _ in found.values()} <= {NOT_APPLICABLE, UNDEFINED}
    assert {value for _, value in found.values()} == {None}


# --- on disk ---------------------------------------------------------------------------------------


def test_what_is_not_stated_is_not_on_disk_either_and_comes_back_so(told, tmp_path):
    write_prediction(tmp_path / "p.npz", told, 1.0)
    with np.load(tmp_path / "p.npz") as npz:
        assert "var" not in npz.files
    again, _ = read_prediction(tmp_path / "p.npz")
    assert not again.has_variance
    np.testing.assert_array_equal(again.mean_ng(), told.mean_ng())


def test_a_file_that_lost_its_variance_is_refused_rather_than_read_as_one_without(world, tmp_path):
    write_prediction(tmp_path / "p.npz", stated(world, 0.1), 1.0)
    with np.load(tmp_path / "p.npz") as npz:
        rest = {k: npz[k] for k in npz.files if k != "var"}
    np.savez(tmp_path / "p.npz", **rest)
    with pytest.raises(UnreadableFile, match="KeyError.*var"):
        read_prediction(tmp_path / "p.npz")


def test_why_a_point_has_no_cells_comes_back(world, write, tmp_path):
    p = world.judgeable(write(predicted_cells(world, n=1))).predictions["test"]
    write_prediction(tmp_path / "p.npz", p, 1.0)
    assert read_prediction(tmp_path / "p.npz")[0].no_cells == p.no_cells


def test_emitted_cells_come_back_as_they_were(told, tmp_path):
    write_cells(tmp_path / "c.npz", told.cells)
    again = read_cells(tmp_path / "c.npz")
    for name in PERTS:
        key = ("t", f"{name}@knockdown")
        np.testing.assert_array_equal(again.of(*key).toarray(), told.cells.of(*key))
    assert again.of("t", "none@knockdown").shape == (0, len(GENES))
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:500])
    with pytest.raises(UnreadableFile, match="predicted cells cannot be read"):
        read_cells(tmp_path / "c.npz")


def test_cells_of_other_genes_are_refused(told):
    other = PredictedCells(told.cells.x_mg[:, 1:], told.cells.context_m, told.cells.intervention_m)
    with pytest.raises(PredictionMismatch, match="29 genes"):
        Prediction(**{**vars(told), "cells": other})
