"""Do interval score, pooled coverage, PIT, CRPS of draws and the reliability diagram give what arithmetic gives?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from perturbfm.errors import BadValue, PredictionMismatch, UnknownChoice, ValuesNotFinite
from perturbfm.eval.aggregate import aggregates
from perturbfm.eval.case import INTERVAL, Case
from perturbfm.eval.metric.crps_draws import crps_draws, crps_of_draws
from perturbfm.eval.metric.interval_score import interval_score
from perturbfm.eval.metric.pit import pit_counts, pit_reliability_index, pit_values, reliability_index
from perturbfm.eval.metric.uncertainty import coverage, crps_gaussian, interval_width, nll_gaussian
from perturbfm.eval.panel.calibration import CALIBRATION
from perturbfm.eval.panel.metric import HIGHER, INVARIANCES, LOWER, NONE, TARGET
from perturbfm.eval.reliability import calibration_errors, reliability
from perturbfm.eval.report.calibration import coverage_rows

Z90 = 1.6448536269514722


def case_of(truth_cg, predicted_cg=None, **changes) -> Case:
    truth_cg = np.asarray(truth_cg, dtype=float)
    n, g = truth_cg.shape
    plain = Case(
        context_c=np.full(n, "k", dtype=object),
        intervention_c=np.array([f"p{i}@knockout" for i in range(n)], dtype=object),
        n_c=np.full(n, 50),
        genes_g=tuple(f"g{i}" for i in range(g)),
        truth_cg=truth_cg,
        noise_cg=np.zeros((n, g)),
        noise_known=True,
        predicted_cg=np.zeros((n, g)) if predicted_cg is None else np.asarray(predicted_cg, dtype=float),
        variance_cg=np.ones((n, g)),
        mean_cg=truth_cg,
        input_cg=np.zeros((n, g)),
        input_var_cg=np.ones((n, g)),
        scored_cg=np.ones((n, g), dtype=bool),
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(n, "powered", dtype=object),
    )
    return replace(plain, **changes)


def calibrated(n: int = 300, g: int = 200, seed: int = 0) -> Case:
    """Truths drawn from what is predicted, half of the variance being the truth's own noise."""
    rng = np.random.default_rng(seed)
    sigma2, v = rng.uniform(0.5, 2.0, size=(2, n, g))
    predicted = rng.normal(size=(n, g))
    truth = predicted + np.sqrt(sigma2 + v) * rng.normal(size=(n, g))
    return case_of(truth, predicted, variance_cg=sigma2, noise_cg=v)


# --- interval score --------------------------------------------------------------------------------


def test_an_interval_pays_its_width_and_a_fine_for_what_lies_outside():
    case = case_of([[0.0, Z90 + 0.5]])  # width 2 z each; the second truth is 0.5 beyond the end, fined 2 / 0.1 times
    assert interval_score(case, level=0.9, noise="ignored").value_c[0] == pytest.approx(2 * Z90 + 0.5 * 20 * 0.5)
    noisy = replace(case, noise_cg=np.full((1, 2), 3.0))  # W = 4: both inside, ends twice as far
    assert interval_score(noisy, level=0.9, noise="added").value_c[0] == pytest.approx(4 * Z90)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_a_right_interval_scores_four_sigma_phi_over_one_minus_level(level):
    case = calibrated()
    sigma = np.sqrt(case.variance_cg + case.noise_cg).mean()
    want = 4 * sigma * norm.pdf(norm.ppf(0.5 + level / 2)) / (1 - level)
    assert interval_score(case, level=level, noise="added").value_c.mean() == pytest.approx(want, rel=0.01)
    assert interval_score(case, level=level, noise="ignored").value_c.mean() > want


# --- pooled ----------------------------------------------------------------------------------------


def uneven() -> Case:
    """One condition with a single scored gene, inside; one with three, none of them inside."""
    scored = np.array([[True, False, False], [True, True, True]])
    return case_of([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], scored_cg=scored)


def test_pooled_weighs_genes_and_the_other_weighs_conditions():
    case = uneven()
    by_condition, pooled = (coverage(case, level=0.9, noise="ignored", pooled=p) for p in (False, True))
    assert by_condition.value_c.tolist() == pooled.value_c.tolist() == [1.0, 0.0]
    assert pooled.num_c.tolist() == [1.0, 0.0]
    assert pooled.den_c.tolist() == [1.0, 3.0]
    assert aggregates(by_condition, case)["micro"] == 0.5
    assert aggregates(pooled, case)["micro"] == 0.25
    wide = replace(case, variance_cg=np.array([[4.0] * 3, [1.0] * 3]))
    for pool, want in ((False, 3 * Z90), (True, (4 * Z90 + 3 * 2 * Z90) / 4)):
        found = aggregates(interval_width(wide, level=0.9, noise="ignored", pooled=pool), wide)["micro"]
        assert found == pytest.approx(want)


def test_pooled_leaves_out_conditions_in_which_nothing_is_scored():
    case = replace(uneven(), scored_cg=np.array([[False] * 3, [True] * 3]))
    stats = coverage(case, level=0.9, noise="ignored", pooled=True)
    assert stats.status_c.tolist() == ["not_applicable", "ok"]
    assert np.isnan(stats.num_c[0])
    assert np.isnan(stats.den_c[0])


# --- PIT -------------------------------------------------------------------------------------------


def test_pit_is_the_share_of_the_distribution_below_the_truth():
    case = case_of([[0.0, Z90, -Z90]], scored_cg=np.array([[True, True, False]]), noise_cg=np.full((1, 3), 3.0))
    ignored, added = (pit_values(case, noise=noise) for noise in ("ignored", "added"))
    np.testing.assert_allclose(ignored, [[0.5, 0.95, np.nan]])
    np.testing.assert_allclose(added, [[0.5, norm.cdf(Z90 / 2), np.nan]])


def test_bins_hold_their_lower_end_and_the_last_one_both():
    counts = pit_counts(np.array([[0.0, 0.1, 0.05, 1.0, 0.95, np.nan], [0.5] * 6]))
    assert counts[0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert counts[1].tolist() == [0, 0, 0, 0, 0, 6, 0, 0, 0, 0]
    with pytest.raises(BadValue, match="A histogram needs bins: given 1"):
        pit_counts(np.array([[0.5]]), 1)


def test_reliability_index_is_zero_if_flat_and_two_less_a_fifth_if_all_lie_in_one_bin():
    assert reliability_index(np.full(10, 0.1)) == pytest.approx(0.0, abs=1e-15)
    assert pit_reliability_index(case_of(np.zeros((1, 30))), noise="ignored").value_c[0] == pytest.approx(1.8)
    flat = norm.ppf((np.arange(30) + 0.5) / 30)[None]
    assert pit_reliability_index(case_of(flat), noise="ignored").value_c[0] == pytest.approx(0.0, abs=1e-12)


def test_a_right_histogram_is_as_uneven_as_chance_makes_it():
    found = pit_reliability_index(calibrated(), noise="added").value_c.mean()
    assert found == pytest.approx(np.sqrt(2 * 9 / (np.pi * 200)), rel=0.03)


def test_a_histogram_needs_as_many_genes_as_bins():
    stats = pit_reliability_index(case_of(np.zeros((2, 9))), noise="ignored")
    assert set(stats.status_c) == {"not_applicable"}
    assert "fewer than 10 scored genes" in stats.reason_c[0]


# --- draws -----------------------------------------------------------------------------------------


def drawn(truth, draws, **changes) -> Case:
    return case_of(truth, draws=lambda c: np.asarray(draws[c], dtype=float), **changes)


def test_two_draws_around_the_truth_by_hand():
    """Mean distance 1/2; the draws are 1 apart: V takes off 1/4, fair 1/2."""
    case = drawn([[0.5]], [[[0.0], [1.0]]])
    assert crps_draws(case, estimator="V", noise="ignored").value_c[0] == 0.25
    assert crps_draws(case, estimator="fair", noise="ignored").value_c[0] == 0.0


def test_one_draw_is_a_point_forecast_for_v_and_undefined_for_fair():
    case = drawn([[0.5], [2.0]], [[[0.0]], [[0.0], [1.0]]])
    assert crps_draws(case, estimator="V", noise="ignored").value_c[0] == 0.5
    fair = crps_draws(case, estimator="fair", noise="ignored")
    assert fair.status_c.tolist() == ["undefined", "ok"]
    assert "needs two" in fair.reason_c[0]
    assert np.isnan(crps_of_draws(np.array([0.5]), np.array([[0.0]]), "fair")[0])


def test_blurred_draws_score_as_the_integral_of_their_mixture():
    draws, truth, v = np.array([-1.0, 0.3, 2.0]), 0.7, 0.49

    def squared(x):
        return (norm.cdf((x - draws) / np.sqrt(v)).mean() - (x >= truth)) ** 2

    want = sum(quad(squared, a, b)[0] for a, b in ((-12, truth), (truth, 14)))
    got = crps_of_draws(np.array([truth]), draws[:, None], "V", np.array([v]))[0]
    assert got == pytest.approx(want, rel=1e-6)


def test_no_noise_to_add_changes_nothing():
    rng = np.random.default_rng(0)
    truth, draws = rng.normal(size=6), rng.normal(size=(9, 6))
    for estimator in ("fair", "V"):
        plain, blurred = (crps_of_draws(truth, draws, estimator, v) for v in (None, np.zeros(6)))
        np.testing.assert_allclose(plain, blurred, rtol=1e-12)


@pytest.mark.parametrize("noise", ["added", "ignored"])
def test_fair_is_free_of_the_number_of_draws_and_v_is_not(noise):
    """Five draws of N(0, 1) per gene, 40,000 genes: fair means the closed form, V lies above it by E|x - x'|/(2 m)."""
    rng = np.random.default_rng(1)
    truth, draws = rng.normal(size=(1, 40_000)), rng.normal(size=(5, 40_000))
    v = 0.5 if noise == "added" else 0.0
    case = drawn(truth, [draws], noise_cg=np.full(truth.shape, v))
    closed = crps_gaussian(case, noise=noise).value_c[0]
    fair, biased = (crps_draws(case, estimator=e, noise=noise).value_c[0] for e in ("fair", "V"))
    assert fair == pytest.approx(closed, abs=0.01)
    gap = 2 / np.sqrt(np.pi) * (np.sqrt(1 + v) - np.sqrt(v))  # of two different draws, beyond a draw and itself
    assert biased - fair == pytest.approx(gap / (2 * 5), rel=0.02)


def test_draws_that_are_missing_or_wrong_are_told():
    assert set(crps_draws(case_of([[0.0]]), estimator="V", noise="added").status_c) == {"not_applicable"}
    unknown = drawn([[0.0]], [[[0.0]]], noise_known=False)
    assert crps_draws(unknown, estimator="V", noise="added").reason_c[0] == "noise of the truth is unknown"
    unscored = drawn([[0.0]], [[[0.0]]], scored_cg=np.array([[False]]))
    assert crps_draws(unscored, estimator="V", noise="added").status_c.tolist() == ["not_applicable"]
    with pytest.raises(PredictionMismatch, match="Draws of condition 0 have the wrong shape"):
        crps_draws(drawn([[0.0]], [[[0.0, 1.0]]]), estimator="V", noise="added")
    with pytest.raises(PredictionMismatch, match="Draws of condition 0 have the wrong shape"):
        crps_draws(drawn([[0.0]], [np.zeros((0, 1))]), estimator="V", noise="added")
    with pytest.raises(ValuesNotFinite, match="Draws of condition 0 are not all numbers"):
        crps_draws(drawn([[0.0]], [[[np.nan]]]), estimator="V", noise="added")
    with pytest.raises(UnknownChoice, match="no such estimator of the CRPS of draws: given 'U'"):
        crps_draws(case_of([[0.0]]), estimator="U", noise="added")
    with pytest.raises(UnknownChoice, match="no such treatment of noise: given 'plus'"):
        crps_draws(case_of([[0.0]]), estimator="V", noise="plus")


# --- intervals without a distribution --------------------------------------------------------------


def test_an_interval_has_coverage_and_width_and_no_density():
    case = replace(calibrated(4, 20), distribution=INTERVAL)
    for stats in (
        nll_gaussian(case, noise="added"),
        crps_gaussian(case, noise="added"),
        pit_reliability_index(case, noise="added"),
    ):
        assert set(stats.status_c) == {"not_applicable"}
        assert set(stats.reason_c) == {"the prediction is an interval: it states no distribution"}
    for stats in (coverage(case, level=0.9, noise="added"), interval_width(case, level=0.9, noise="added")):
        assert stats.ok_c.all()
    found = reliability(case)["added"]
    assert found["status"] == "ok"
    assert found["pit"]["status"] == "not_applicable"


# --- reliability -----------------------------------------------------------------------------------


def test_a_right_variance_lies_on_the_diagonal_and_has_a_flat_histogram():
    found = reliability(calibrated())
    assert json.loads(json.dumps(found)) == found
    added, ignored = found["added"], found["ignored"]
    assert len(added["coverage"]["nominal"]) == 19
    np.testing.assert_allclose(added["coverage"]["observed"], added["coverage"]["nominal"], atol=0.006)
    np.testing.assert_allclose(added["pit"]["share"], 0.1, atol=0.005)
    assert sum(added["pit"]["counts"]) == added["n_entries"] == 60_000
    assert all(o < n for o, n in zip(ignored["coverage"]["observed"], ignored["coverage"]["nominal"], strict=True))
    assert ignored["pit"]["share"][0] > 0.13 < ignored["pit"]["share"][-1]
    assert added["coverage"]["mace"] < 0.004 < ignored["coverage"]["mace"]


def test_conditions_count_alike_in_the_diagram_and_entries_in_pooled():
    found = reliability(uneven(), levels=(0.9,))["ignored"]
    assert found["coverage"]["observed"] == [0.5]
    assert found["coverage"]["pooled"] == [0.25]
    assert (found["n_conditions"], found["n_entries"]) == (2, 4)
    assert found["pit"]["counts"] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert found["pit"]["share"] == [0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5]


def test_calibration_errors_by_hand():
    assert calibration_errors(np.array([0.2, 0.8]), np.array([0.3, 0.5])) == {
        "mace": pytest.approx(0.2),
        "rmsce": pytest.approx(np.sqrt(0.05)),
    }


def test_without_noise_or_genes_the_diagram_says_so():
    found = reliability(case_of([[0.0]], noise_known=False))
    assert found["added"] == {"status": "not_applicable", "reason": "noise of the truth is unknown"}
    assert found["ignored"]["status"] == "ok"
    nothing = reliability(case_of([[0.0]], scored_cg=np.array([[False]])))
    assert {e["status"] for e in nothing.values()} == {"not_applicable"}


# --- the lines of the panel ------------------------------------------------------------------------


def test_every_line_of_the_panel_gives_what_its_identifier_says():
    rng = np.random.default_rng(3)
    case = drawn(rng.normal(size=(3, 40)), rng.normal(size=(3, 7, 40)), noise_cg=np.full((3, 40), 0.3))
    seen = {}
    for metric in CALIBRATION:
        stats = metric.function(case)
        assert stats.ok_c.all(), metric.identifier
        assert (np.unique(stats.den_c).tolist() == [40.0]) == ("agg=pooled" in metric.identifier)
        assert metric.better in (HIGHER, LOWER, TARGET, NONE)
        assert set(metric.invariances) <= set(INVARIANCES)
        seen.setdefault(tuple(np.round(stats.value_c, 12)), []).append(metric.identifier.replace(",agg=pooled", ""))
    assert len({m.identifier for m in CALIBRATION}) == len(CALIBRATION) == 38
    assert all(len(set(names)) == 1 for names in seen.values())  # no two choices share a number


def test_the_reports_coverage_is_that_of_conditions_not_the_pooled_one():
    where = "target=mean_delta,obs_noise=added,genes=detected10"
    ids = [f"coverage[level=0.9,{where}]", f"coverage[level=0.9,{where},agg=pooled]"]
    entries = {i: {"status": "ok", "value": v} for i, v in zip(ids, (0.88, 0.11), strict=True)}
    (row,) = coverage_rows({"panel": {"metrics": ids}, "metrics": entries})
    assert row["coverage_added"] == 0.88
