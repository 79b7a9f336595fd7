"""Does selective risk follow the order of uncertainty, and nothing else?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from perturbfm.errors import PredictionMismatch, ShapeMismatch, ValuesNotFinite
from perturbfm.eval.case import Case
from perturbfm.eval.risk import generalised_risks, risk_coverage, selective_risks, selective_values

RISE = np.arange(1.0, 6.0)


def case_of(sd_c, risk_c, context_c=None, spread_c=1.0) -> Case:
    """Conditions of four genes with a given mean variance and a given mean squared error."""
    n, g = len(risk_c), 4
    same = np.ones((n, g))
    return Case(
        context_c=np.full(n, "k", dtype=object) if context_c is None else np.array(context_c, dtype=object),
        intervention_c=np.array([f"p{i}@knockout" for i in range(n)], dtype=object),
        n_c=np.full(n, 50),
        genes_g=tuple("abcd"),
        truth_cg=np.sqrt(np.asarray(risk_c, dtype=float))[:, None] * same,
        noise_cg=np.zeros((n, g)),
        noise_known=True,
        predicted_cg=np.zeros((n, g)),
        variance_cg=np.asarray(sd_c, dtype=float)[:, None] ** 2 * same,
        mean_cg=same,
        input_cg=same,
        input_var_cg=np.broadcast_to(spread_c, n)[:, None] * same,
        scored_cg=np.ones((n, g), dtype=bool),
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(n, "powered", dtype=object),
    )


def test_five_conditions_by_hand():
    """Risks 1 to 5 in their own order: running means 1, 1.5, 2, 2.5, 3; over all five 0.2, 0.6, 1.2, 2, 3."""
    np.testing.assert_allclose(selective_risks(RISE, RISE), [1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(generalised_risks(RISE, RISE), [0.2, 0.6, 1.2, 2, 3])
    right, wrong = selective_values(RISE, RISE), selective_values(-RISE, RISE)
    assert (right["aurc"], right["e_aurc"], right["spearman"]) == (2.0, 0.0, pytest.approx(1.0))
    assert (wrong["aurc"], wrong["e_aurc"], wrong["spearman"]) == (4.0, 2.0, pytest.approx(-1.0))
    assert right["augrc"] == pytest.approx(1.4)
    assert right["mean_risk"] == wrong["mean_risk"] == 3.0


def test_ties_share_their_mean_risk_whatever_the_order_of_rows():
    u, e = np.array([1.0, 2, 2, 2, 3]), np.array([5.0, 0, 3, 6, 1])
    np.testing.assert_allclose(selective_risks(u, e), [5, 4, 11 / 3, 14 / 4, 3])
    for order in ([0, 3, 2, 1, 4], [4, 1, 0, 3, 2]):
        assert selective_values(u[order], e[order]) == selective_values(u, e)


def test_all_tied_gives_the_mean_risk_and_no_order():
    found = selective_values(np.ones(5), RISE)
    assert found["aurc"] == found["mean_risk"] == 3.0
    assert found["spearman"] is None


def test_uncertainties_and_risks_must_pair_up():
    with pytest.raises(ShapeMismatch, match="Uncertainties and risks do not pair up: given 2 and 3"):
        selective_risks(np.ones(2), np.ones(3))
    with pytest.raises(ShapeMismatch, match="Uncertainties and risks do not pair up: given 0 and 0"):
        selective_values(np.ones(0), np.ones(0))


def test_a_case_has_both_scores_and_a_curve():
    found = risk_coverage(case_of(RISE, RISE))
    assert json.loads(json.dumps(found)) == found
    for name, score in found["scores"].items():
        assert name in score["identifier"]
        pooled = score["pooled"]
        assert (pooled["status"], pooled["n_scored"], pooled["n_total"]) == ("ok", 5, 5)
        assert pooled["aurc"] == pytest.approx(2.0)
        np.testing.assert_allclose(pooled["curve"]["coverage"], [0.2, 0.4, 0.6, 0.8, 1.0])
        np.testing.assert_allclose(pooled["curve"]["risk"], pooled["curve"]["oracle"])


def test_the_scale_free_score_does_not_read_the_spread_of_the_context():
    """Context b has ten times the spread and no larger risk: raw variance is fooled, the other is not."""
    sd = np.concatenate([RISE, 10 * RISE])
    context = ["a"] * 5 + ["b"] * 5
    found = risk_coverage(case_of(sd, np.tile(RISE, 2), context, np.repeat([1.0, 100.0], 5)))["scores"]
    raw, free = found["mean_var"], found["mean_var_over_control_var"]
    assert free["pooled"]["e_aurc"] == pytest.approx(0.0, abs=1e-12)
    assert raw["pooled"]["e_aurc"] > 0.3
    for score in (raw, free):
        assert score["macro_context"]["aurc"] == pytest.approx(2.0)
        assert score["macro_context"]["n_contexts"] == 2


def test_few_conditions_are_not_ordered():
    found = risk_coverage(case_of([1, 2, 3, 4], [1, 2, 3, 4]))["scores"]["mean_var"]
    assert (found["pooled"]["status"], found["pooled"]["aurc"], found["pooled"]["curve"]) == ("undefined", None, None)
    assert found["pooled"]["reason"] == "4 conditions with a score: at least 5 needed to judge an order"
    assert found["macro_context"]["status"] == "undefined"
    assert found["macro_context"]["reason"] == found["pooled"]["reason"]


def test_a_small_context_is_left_out_of_the_mean_over_contexts_and_counted():
    context = ["a"] * 5 + ["b"] * 2
    found = risk_coverage(case_of(np.arange(1.0, 8), np.arange(1.0, 8), context))["scores"]["mean_var"]
    assert found["per_context"]["b"]["status"] == "undefined"
    assert (found["macro_context"]["n_contexts"], found["macro_context"]["n_contexts_total"]) == (1, 2)
    assert found["macro_context"]["aurc"] == pytest.approx(2.0)
    assert found["pooled"]["n_scored"] == 7


def test_constant_uncertainty_is_undefined_and_names_the_mean_risk():
    for sd in (np.ones(5), 1.0 + 1e-8 * RISE):  # rounding is no order
        found = risk_coverage(case_of(sd, RISE))["scores"]["mean_var"]["pooled"]
        assert (found["status"], found["aurc"], found["spearman"]) == ("undefined", None, None)
        assert found["reason"].endswith("AURC equals the mean risk 3")
        assert found["mean_risk"] == pytest.approx(3.0)


def test_equal_risks_are_no_perfect_order():
    found = risk_coverage(case_of(RISE, np.ones(5)))["scores"]["mean_var"]["pooled"]
    assert (found["status"], found["e_aurc"]) == ("undefined", None)
    assert "no order is better" in found["reason"]


def test_conditions_without_a_scored_gene_are_counted_out():
    case = case_of(np.arange(1.0, 8), np.arange(1.0, 8))
    scored = case.scored_cg.copy()
    scored[6] = False
    found = risk_coverage(replace(case, scored_cg=scored))["scores"]["mean_var"]["pooled"]
    assert (found["n_scored"], found["n_total"], sum(found["unscored"].values())) == (6, 7, 1)
    assert found["mean_risk"] == pytest.approx(3.5)
    nothing = risk_coverage(replace(case, scored_cg=np.zeros_like(scored)))["scores"]["mean_var"]["pooled"]
    assert (nothing["status"], nothing["reason"]) == (
        "undefined",
        "no scored gene has an uncertainty that can be compared",
    )


def test_a_prediction_that_is_no_number_is_refused():
    case = case_of(RISE, RISE)
    lost = case.predicted_cg.copy()
    lost[0, 0] = np.nan
    with pytest.raises(ValuesNotFinite, match="The error of a condition is not a number"):
        risk_coverage(replace(case, predicted_cg=lost))
    with pytest.raises(PredictionMismatch, match="A predictive variance is not positive"):
        risk_coverage(replace(case, variance_cg=0 * case.variance_cg))


def test_a_long_curve_is_thinned_and_keeps_both_ends():
    rng = np.random.default_rng(0)
    risk = rng.random(1000)
    found = risk_coverage(case_of(1 + rng.random(1000), risk))["scores"]["mean_var"]["pooled"]
    curve = found["curve"]
    assert len(curve["coverage"]) == len(curve["risk"]) == len(curve["oracle"]) == 200
    assert (curve["coverage"][0], curve["coverage"][-1]) == (0.001, 1.0)
    assert curve["risk"][-1] == pytest.approx(risk.mean())
