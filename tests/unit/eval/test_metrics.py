"""Do the metrics give the numbers that arithmetic gives?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from perturbfm.errors import BadValue, PredictionMismatch, ShapeMismatch, UnknownChoice
from perturbfm.eval.case import Case
from perturbfm.eval.metric.correlation import pearson_delta
from perturbfm.eval.metric.distribution import energy_distance, energy_distance_cells
from perturbfm.eval.metric.error import mean_squared_error, root_mean_squared_error
from perturbfm.eval.metric.explained import explained_variance
from perturbfm.eval.metric.ood import auroc, separation_score
from perturbfm.eval.metric.pairs import pair_distance_sums
from perturbfm.eval.metric.retrieval import retrieval
from perturbfm.eval.metric.uncertainty import (
    coverage,
    crps_gaussian,
    interval_width,
    nll_gaussian,
    observation_share,
)


def case_of(truth_cg, predicted_cg, **changes) -> Case:
    truth_cg, predicted_cg = np.asarray(truth_cg, dtype=float), np.asarray(predicted_cg)
    n, g = truth_cg.shape
    plain = Case(
        context_c=np.full(n, "k", dtype=object),
        intervention_c=np.array([f"p{i}@knockout" for i in range(n)], dtype=object),
        n_c=np.full(n, 50),
        genes_g=tuple(f"g{i}" for i in range(g)),
        truth_cg=truth_cg,
        noise_cg=np.zeros((n, g)),
        noise_known=True,
        predicted_cg=predicted_cg,
        variance_cg=np.ones((n, g)),
        mean_cg=truth_cg + 1.0,
        input_cg=np.ones((n, g)),
        input_var_cg=np.ones((n, g)),
        scored_cg=np.ones((n, g), dtype=bool),
        train_centroid_g=np.zeros(g),
        train_delta_g=np.zeros(g),
        cells=None,
        powered_c=np.full(n, "powered", dtype=object),
    )
    return replace(plain, **changes)


def random_case(n: int = 12, g: int = 30, seed: int = 0, **changes) -> Case:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, g))
    return replace(case_of(truth, truth + rng.normal(size=(n, g))), **changes)


# --- error and explained variance ------------------------------------------------------------------


def test_squared_error_is_that_of_the_delta_not_of_the_mean():
    case = case_of([[1.0, 0.0]], [[0.0, 2.0]], mean_cg=np.array([[9.0, 9.0]]))
    assert mean_squared_error(case).value_c[0] == 2.5
    assert root_mean_squared_error(case).value_c[0] == np.sqrt(2.5)


def test_root_is_taken_per_condition():
    case = case_of([[0.0], [0.0]], [[1.0], [3.0]])
    assert root_mean_squared_error(case).value_c.tolist() == [1.0, 3.0]


def test_explained_variance_by_hand():
    case = case_of([[3.0, 4.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]], noise_cg=np.array([[1.0, 4.0], [0.5, 0.5]]))
    stats = explained_variance(case)
    assert stats.num_c.tolist() == [9.0, 0.0]
    assert stats.den_c.tolist() == [20.0, 0.0]
    assert np.isnan(stats.value_c[1])
    by_definition = 1 - ((16 - 5) + (1 - 1)) / ((25 - 5) + (1 - 1))
    assert stats.num_c.sum() / stats.den_c.sum() == pytest.approx(by_definition, rel=1e-14)


def test_no_change_explains_exactly_nothing():
    case = random_case(noise_cg=np.full((12, 30), 0.1))
    stats = explained_variance(replace(case, predicted_cg=np.zeros((12, 30))))
    assert (stats.num_c == 0.0).all()
    assert (stats.status_c == "ok").all()


def test_perfect_mean_explains_one_in_expectation():
    rng = np.random.default_rng(3)
    effect, noise = rng.normal(size=(400, 200)), np.full((400, 200), 0.5)
    case = case_of(effect + np.sqrt(0.5) * rng.normal(size=effect.shape), effect, noise_cg=noise)
    stats = explained_variance(case)
    assert stats.num_c.sum() / stats.den_c.sum() == pytest.approx(1.0, abs=0.01)
    worse = explained_variance(replace(case, predicted_cg=-effect))
    assert worse.num_c.sum() / worse.den_c.sum() == pytest.approx(-3.0, abs=0.05)


def test_unknown_noise_is_not_subtracted():
    case = case_of([[1.0, 1.0]], [[1.0, 1.0]], noise_cg=np.full((1, 2), 0.7), noise_known=False)
    assert explained_variance(case).value_c[0] == 1.0


# --- correlation -----------------------------------------------------------------------------------


def test_correlation_with_control_is_numpys():
    case = random_case()
    want = [np.corrcoef(d, t)[0, 1] for d, t in zip(case.predicted_cg, case.truth_cg, strict=True)]
    np.testing.assert_allclose(pearson_delta(case, reference="control").value_c, want, rtol=1e-12)


def test_correlation_with_train_means_subtracts_them():
    rng = np.random.default_rng(1)
    case = random_case(train_centroid_g=rng.normal(size=30), train_delta_g=rng.normal(size=30))
    literal = [
        np.corrcoef(i + d - case.train_centroid_g, m - case.train_centroid_g)[0, 1]
        for i, d, m in zip(case.input_cg, case.predicted_cg, case.mean_cg, strict=True)
    ]
    moved = [
        np.corrcoef(d - case.train_delta_g, t - case.train_delta_g)[0, 1]
        for d, t in zip(case.predicted_cg, case.truth_cg, strict=True)
    ]
    np.testing.assert_allclose(pearson_delta(case, reference="train_centroid").value_c, literal, rtol=1e-12)
    np.testing.assert_allclose(pearson_delta(case, reference="control_plus_train_mean").value_c, moved, rtol=1e-12)


def test_panel_is_centred_within_its_own_context():
    context = np.array(["a"] * 5 + ["b"] * 7, dtype=object)
    case = random_case(context_c=context)
    common = np.where(context == "a", 5.0, -9.0)[:, None] * np.arange(30)
    shifted = replace(case, predicted_cg=case.predicted_cg + common, truth_cg=case.truth_cg - 2 * common)
    here, there = (pearson_delta(c, reference="panel").value_c for c in (case, shifted))
    np.testing.assert_allclose(here, there, atol=1e-9)
    d, t = case.predicted_cg[:5], case.truth_cg[:5]
    assert here[0] == pytest.approx(np.corrcoef(d[0] - d.mean(0), t[0] - t.mean(0))[0, 1], rel=1e-12)


def test_small_panel_is_not_applicable_beside_a_large_one():
    context = np.array(["a"] * 3 + ["b"] * 9, dtype=object)
    stats = pearson_delta(random_case(context_c=context), reference="panel")
    assert stats.status_c.tolist() == ["not_applicable"] * 3 + ["ok"] * 9
    assert stats.reason_c[0] == "panel of 3 conditions, 5 needed"
    assert np.isnan(stats.num_c[:3]).all()


@pytest.mark.parametrize("reference", ["control", "control_plus_train_mean", "panel"])
def test_no_change_has_no_direction(reference):
    case = random_case(predicted_cg=np.zeros((12, 30)))
    stats = pearson_delta(case, reference=reference)
    assert (stats.status_c == "undefined").all()
    assert np.isnan(stats.value_c).all()


def test_prediction_of_the_train_centroid_is_undefined():
    case = random_case(predicted_cg=np.zeros((12, 30)), train_centroid_g=np.ones(30))
    stats = pearson_delta(case, reference="train_centroid")
    assert set(stats.reason_c) == {"prediction is constant over genes beside the train centroid"}


def test_rounding_is_not_a_direction():
    rounding = 1e-15 * np.random.default_rng(0).normal(size=(12, 30))
    stats = pearson_delta(random_case(predicted_cg=rounding), reference="control")
    assert set(stats.reason_c) == {"predicted delta is constant over genes"}
    stats = pearson_delta(random_case(predicted_cg=0.1 + rounding), reference="control")
    assert (stats.status_c == "undefined").all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_same_prediction_for_all_is_undefined_up_to_its_own_precision(kind):
    rng = np.random.default_rng(0)
    same = np.tile(rng.normal(size=30), (12, 1))
    same = (same * (1 + np.finfo(kind).eps * rng.integers(-2, 3, size=same.shape))).astype(kind)
    for stats in (
        pearson_delta(random_case(predicted_cg=same), reference="panel"),
        retrieval(random_case(predicted_cg=same), centred=True),
    ):
        assert set(stats.reason_c) == {"prediction is the same for all perturbations"}


def test_train_mean_against_itself_is_undefined():
    case = random_case()
    mean = case.predicted_cg[0]
    case = replace(case, predicted_cg=np.tile(mean, (12, 1)), train_delta_g=mean)
    assert (pearson_delta(case, reference="control_plus_train_mean").status_c == "undefined").all()


@pytest.mark.parametrize(("off", "status"), [(1e-7, "undefined"), (5e-6, "undefined"), (1e-3, "ok")])
def test_what_is_left_of_the_train_mean_by_rounding_is_undefined(off, status):
    """Two float32 sums of one mean differ by 1e-7 of it; the truth is planted along that difference."""
    case = random_case()
    mean = np.ones(30)
    rounding = off * np.resize([1.0, -1.0], 30)  # centred, and `off` times the norm of the mean
    truth = mean + 1e3 * rounding
    predicted = np.tile(mean + rounding, (12, 1)).astype(np.float64)
    case = replace(case, predicted_cg=predicted, truth_cg=np.tile(truth, (12, 1)), train_delta_g=mean)
    stats = pearson_delta(case, reference="control_plus_train_mean")
    assert (stats.status_c == status).all()
    if status == "undefined":
        assert set(stats.reason_c) == {"predicted delta is constant over genes beside the mean train delta"}
    else:
        assert stats.num_c == pytest.approx(np.ones(12))


def test_null_truth_is_undefined():
    case = random_case()
    case = replace(case, truth_cg=np.zeros((12, 30)))
    assert set(pearson_delta(case, reference="control").reason_c) == {"true delta is constant over genes"}
    assert set(pearson_delta(case, reference="panel").reason_c) == {"truth is the same for all perturbations"}


def test_unknown_train_mean_is_not_applicable():
    case = random_case(train_centroid_g=None, train_delta_g=None)
    for reference, reason in (
        ("train_centroid", "the mean of train conditions is not known"),
        ("control_plus_train_mean", "the mean delta of train conditions is not known"),
    ):
        stats = pearson_delta(case, reference=reference)
        assert set(stats.reason_c) == {reason}
        assert (stats.status_c == "not_applicable").all()


def test_unknown_reference_is_refused():
    with pytest.raises(UnknownChoice, match=r"no such reference of a delta: given 'controls'.*Closest: control\."):
        pearson_delta(random_case(), reference="controls")


# --- retrieval -------------------------------------------------------------------------------------


def cosine_rank(predicted, true, p):
    """The definition, one pair at a time."""
    d = [1 - predicted[p] @ t / np.linalg.norm(predicted[p]) / np.linalg.norm(t) for t in true]
    others = [q for q in range(len(true)) if q != p]
    return 1 - sum((d[q] < d[p]) + 0.5 * (d[q] == d[p]) for q in others) / len(others)


@pytest.mark.parametrize("centred", [False, True])
def test_retrieval_is_its_definition(centred):
    context = np.array(["a", "b"] * 10, dtype=object)
    case = random_case(n=20, g=4, context_c=context)
    got = retrieval(case, centred=centred).value_c
    for name in ("a", "b"):
        member = np.flatnonzero(context == name)
        d, t = case.predicted_cg[member], case.truth_cg[member]
        if centred:
            d, t = d - d.mean(0), t - t.mean(0)
        np.testing.assert_allclose(got[member], [cosine_rank(d, t, p) for p in range(10)], rtol=1e-12)


def test_truth_finds_itself_and_its_opposite_comes_last():
    case = random_case()
    assert (retrieval(replace(case, predicted_cg=case.truth_cg), centred=True).value_c == 1.0).all()
    two = case_of([[1.0, 0.0], [-1.0, 0.0]], [[-1.0, 0.0], [1.0, 0.0]])
    assert retrieval(two, centred=False).value_c.tolist() == [0.0, 0.0]


def test_constant_prediction_is_at_chance_raw_and_undefined_centred():
    same = np.tile(np.random.default_rng(5).normal(size=30), (12, 1))
    case = random_case(predicted_cg=same)
    assert retrieval(case, centred=False).value_c.mean() == pytest.approx(0.5, abs=1e-14)
    assert (retrieval(case, centred=True).status_c == "undefined").all()


def test_ties_count_half():
    case = case_of(np.tile([1.0, 2.0], (4, 1)), np.tile([1.0, 2.0], (4, 1)))
    assert retrieval(case, centred=False).value_c.tolist() == [0.5] * 4


def test_retrieval_needs_a_panel():
    lone = retrieval(random_case(n=1), centred=False)
    assert (lone.status_c[0], lone.reason_c[0]) == ("not_applicable", "one perturbation to rank")
    small = retrieval(random_case(n=7), centred=True)
    assert set(small.reason_c) == {"panel of 7 conditions, 8 needed"}
    assert (retrieval(random_case(n=8), centred=True).status_c == "ok").all()


def test_zero_delta_cannot_be_ranked():
    case = random_case()
    zero = case.predicted_cg.copy()
    zero[2] = 0.0
    stats = retrieval(replace(case, predicted_cg=zero), centred=False)
    assert stats.reason_c[2] == "predicted delta is zero"
    assert stats.ok_c.sum() == 11
    truth = case.truth_cg.copy()
    truth[4] = 0.0
    assert retrieval(replace(case, truth_cg=truth), centred=False).reason_c[4] == "true delta is zero"


# --- energy distance -------------------------------------------------------------------------------


def test_energy_by_hand():
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    assert energy_distance_cells(x, y, "V") == pytest.approx(2 * 2.5 - 1 - 2)
    assert energy_distance_cells(x, y, "U") == pytest.approx(2 * 2.5 - 2 - 4)


def test_unbiased_energy_is_zero_in_expectation_for_equal_distributions():
    rng = np.random.default_rng(0)
    drawn = [energy_distance_cells(rng.normal(size=(15, 5)), rng.normal(size=(20, 5)), "U") for _ in range(400)]
    assert abs(np.mean(drawn)) < 3 * np.std(drawn) / 20
    biased = energy_distance_cells(rng.normal(size=(15, 5)), rng.normal(size=(20, 5)), "V")
    assert biased > 0


def test_fast_path_agrees_with_differences():
    rng = np.random.default_rng(1)
    x = np.maximum(rng.normal(loc=-0.5, size=(420, 700)), 0) + 3.0
    y = np.maximum(rng.normal(loc=-0.4, size=(430, 700)), 0) + 3.0
    y[:7] = x[:7]
    y[7] = x[7] + 1e-7
    x[20:30] = x[20]
    got = pair_distance_sums(x, y)
    want = [cdist(x, y).sum(), cdist(x, x).sum(), cdist(y, y).sum()]
    np.testing.assert_allclose([s.distance for s in (got.between, got.within_x, got.within_y)], want, rtol=1e-9)


def test_identical_large_groups_have_distance_zero():
    x = np.random.default_rng(1).normal(size=(400, 800))
    assert energy_distance_cells(x, x.copy(), "V") == pytest.approx(0.0, abs=1e-9)


def test_energy_of_a_case_and_its_reasons():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(5, 3)), rng.normal(size=(6, 3))), (rng.normal(size=(1, 3)), rng.normal(size=(6, 3)))]
    asked = []

    def cells(c):
        asked.append(c)
        return pairs[c]

    case = random_case(n=2, g=3, cells=cells)
    u, v = energy_distance(case, statistic="U"), energy_distance(case, statistic="V")
    assert asked == [0, 1], "the second statistic must not ask for cells again"
    assert u.value_c[0] == energy_distance_cells(*pairs[0], "U")
    assert u.reason_c[1] == "1 true and 6 predicted cells, 2 of each needed"
    assert u.status_c[1] == "undefined"
    assert v.value_c.tolist() == [energy_distance_cells(*p, "V") for p in pairs]


def test_other_cells_are_not_taken_for_known_ones():
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
        case = random_case(n=1, g=3, cells=lambda _, pair=(x, y): pair)
        assert energy_distance(case, statistic="V").value_c[0] == energy_distance_cells(x, y, "V")


def test_no_cells_no_energy():
    stats = energy_distance(random_case(), statistic="U")
    assert set(stats.reason_c) == {"the file has no cells"}
    assert set(stats.status_c) == {"not_applicable"}


def test_wrong_statistic_and_genes_are_refused():
    with pytest.raises(UnknownChoice, match=r"no such energy statistic: given 'W', expected 'U'"):
        energy_distance(random_case(), statistic="W")
    with pytest.raises(ShapeMismatch, match=r"cannot be compared: given shapes \(2, 3\) and \(2, 4\)"):
        energy_distance_cells(np.zeros((2, 3)), np.zeros((2, 4)), "U")


# --- uncertainty -----------------------------------------------------------------------------------


def calibrated(n: int = 300, g: int = 200, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    sigma2, v = rng.uniform(0.5, 2.0, size=(n, g)), rng.uniform(0.5, 2.0, size=(n, g))
    predicted = rng.normal(size=(n, g))
    truth = predicted + np.sqrt(sigma2 + v) * rng.normal(size=(n, g))
    return case_of(truth, predicted, variance_cg=sigma2, noise_cg=v)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_right_variance_covers_at_its_level(level):
    assert coverage(calibrated(), level=level, noise="added").value_c.mean() == pytest.approx(level, abs=0.005)
    assert coverage(calibrated(), level=level, noise="ignored").value_c.mean() < level - 0.1 * level**4


def test_right_variance_has_the_scores_of_theory():
    case = calibrated()
    w = case.variance_cg + case.noise_cg
    assert crps_gaussian(case, noise="added").value_c.mean() == pytest.approx(
        np.mean(np.sqrt(w)) / np.sqrt(np.pi), rel=0.01
    )
    entropy = np.mean(0.5 * np.log(2 * np.pi * np.e * w))
    assert nll_gaussian(case, noise="added").value_c.mean() == pytest.approx(entropy, rel=0.005)
    assert nll_gaussian(case, noise="ignored").value_c.mean() > entropy


def test_width_and_share_by_hand():
    case = case_of([[0.0, 0.0]], [[0.0, 0.0]], variance_cg=np.array([[1.0, 3.0]]), noise_cg=np.array([[3.0, 1.0]]))
    z = 1.6448536269514722
    assert interval_width(case, level=0.9, noise="added").value_c[0] == pytest.approx(4 * z)
    assert interval_width(case, level=0.9, noise="ignored").value_c[0] == pytest.approx(z * (1 + np.sqrt(3)))
    assert observation_share(case).value_c[0] == 0.5


def test_only_scored_genes_count():
    scored = np.array([[True, False], [False, False]])
    case = case_of(
        np.zeros((2, 2)), [[0.0, 99.0], [0.0, 0.0]], scored_cg=scored, variance_cg=np.array([[1.0, 0.0]] * 2)
    )
    for stats in (
        coverage(case, level=0.5, noise="added"),
        interval_width(case, level=0.5, noise="added"),
        nll_gaussian(case, noise="added"),
        crps_gaussian(case, noise="added"),
        observation_share(case),
    ):
        assert stats.status_c.tolist() == ["ok", "not_applicable"]
        assert stats.reason_c[1] == "no gene is detected in enough input controls to be scored"
        assert np.isfinite(stats.value_c[0])
    assert coverage(case, level=0.5, noise="added").value_c[0] == 1.0


def test_unknown_noise_is_not_added():
    case = random_case(noise_known=False)
    for stats in (
        coverage(case, level=0.5, noise="added"),
        interval_width(case, level=0.5, noise="added"),
        nll_gaussian(case, noise="added"),
        crps_gaussian(case, noise="added"),
        observation_share(case),
    ):
        assert set(stats.reason_c) == {"noise of the truth is unknown"}
        assert set(stats.status_c) == {"not_applicable"}
    assert (coverage(case, level=0.5, noise="ignored").status_c == "ok").all()


def test_wrong_words_levels_and_variances_are_refused():
    case = random_case()
    with pytest.raises(UnknownChoice, match=r"no such treatment of noise: given 'plus', expected 'added' or 'ignored'"):
        crps_gaussian(case, noise="plus")
    with pytest.raises(BadValue, match=r"level is not a probability: given 90"):
        coverage(case, level=90, noise="added")
    with pytest.raises(PredictionMismatch, match=r"predictive variance is not positive: given lowest 0"):
        nll_gaussian(replace(case, variance_cg=np.zeros((12, 30))), noise="ignored")


# --- out of distribution ---------------------------------------------------------------------------


def test_auroc_counts_ties_half():
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == (3.5 / 4, "")
    assert auroc(np.ones(5), np.ones(3)) == (0.5, "")
    assert auroc(np.zeros(5), np.ones(3)) == (1.0, "")


def test_auroc_says_why_there_is_none():
    assert auroc(np.ones(3), np.array([])) == (None, "3 conditions inside and 0 outside, at least one of each needed")
    assert auroc(np.ones(3), np.array([np.nan])) == (None, "1 of 4 conditions have no score")


def test_separation_score_leaves_out_silent_genes():
    variance, cells = np.array([[2.0, 5.0, 9.0], [1.0, 1.0, 1.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 1.0]])
    score = separation_score(variance, cells, np.array([[True, True, True], [True, True, False]]))
    assert score[0] == 2.5
    assert np.isnan(score[1])
