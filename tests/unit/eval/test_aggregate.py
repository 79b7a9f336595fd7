"""Do aggregates weigh contexts, perturbations, conditions and cells as their names say? All numbers by hand.

Four conditions: context u has A (10 cells), B (30); context v has A (20), and C (40).
"""

from types import SimpleNamespace

import numpy as np
import pytest

from perturbfm.eval.aggregate import aggregates, pooled, reasons, strict, summary
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, PerCondition, nowhere, plain, ratio
from perturbfm.eval.panel.metric import HIGHER, Metric


def words(*w):
    return np.array(w, dtype=object)


CASE = SimpleNamespace(
    context_c=words("u", "u", "v", "v"),
    intervention_c=words("A", "B", "A", "C"),
    n_c=np.array([10, 30, 20, 40]),
    n_conditions=4,
)


def metric(**changes):
    return Metric("m", lambda case: None, HIGHER, "A metric.", **changes)


def lacking(*value_reason):
    """Statistics with some conditions undefined: a number, or a reason."""
    return plain(
        np.array([np.nan if isinstance(v, str) else v for v in value_reason]),
        words(*(v if isinstance(v, str) else "" for v in value_reason)),
    )


# --- the six aggregates ----------------------------------------------------------------------------


def test_a_plain_metric_is_averaged_as_each_name_says():
    found = aggregates(plain([1.0, 2.0, 3.0, 8.0]), CASE)
    assert found["per_context"] == {"u": 1.5, "v": 5.5}
    assert found["per_perturbation"] == {"A": 2.0, "B": 2.0, "C": 8.0}
    assert found["macro_context"] == 3.5
    assert found["macro_perturbation"] == 4.0
    assert found["micro"] == 3.5
    assert found["cell_weighted"] == pytest.approx((10 + 60 + 60 + 320) / 100)


def test_macro_over_contexts_differs_from_micro_where_contexts_are_unequal():
    case = SimpleNamespace(
        context_c=words("u", "v", "v", "v"), intervention_c=CASE.intervention_c, n_c=CASE.n_c, n_conditions=4
    )
    found = aggregates(plain([0.0, 3.0, 3.0, 3.0]), case)
    assert found["macro_context"] == 1.5
    assert found["micro"] == 2.25


def test_a_ratio_is_pooled_as_sums_and_not_as_a_mean_of_ratios():
    """EV: num 1, 6, 2, 0 over den 2, 4, 8, -3; the last condition takes part although it has no value of its own."""
    stats = ratio(np.array([1.0, 6.0, 2.0, 0.0]), np.array([2.0, 4.0, 8.0, -3.0]))
    np.testing.assert_array_equal(stats.value_c, [0.5, 1.5, 0.25, np.nan])
    found = aggregates(stats, CASE)
    assert found["per_context"] == {"u": pytest.approx(7 / 6), "v": pytest.approx(2 / 5)}
    assert found["per_perturbation"] == {"A": pytest.approx(3 / 10), "B": 1.5, "C": None}
    assert found["macro_context"] == pytest.approx((7 / 6 + 2 / 5) / 2)
    assert found["macro_perturbation"] == pytest.approx((0.3 + 1.5) / 2)
    assert found["micro"] == pytest.approx(9 / 11)
    assert found["cell_weighted"] == pytest.approx((10 + 180 + 40) / (20 + 120 + 160 - 120))


def test_undefined_conditions_are_left_out_of_every_average():
    found = aggregates(lacking(1.0, "flat", 3.0, 8.0), CASE)
    assert found["per_context"] == {"u": 1.0, "v": 5.5}
    assert found["per_perturbation"] == {"A": 2.0, "B": None, "C": 8.0}
    assert found["macro_context"] == 3.25
    assert found["micro"] == 4.0
    assert found["cell_weighted"] == pytest.approx((10 + 60 + 320) / 70)


def test_a_context_without_a_value_is_left_out_of_the_macro_mean():
    assert aggregates(lacking("flat", "flat", 3.0, 8.0), CASE)["macro_context"] == 5.5


@pytest.mark.parametrize("den", [[0.0, 0.0, 0.0, 0.0], [-1.0, -2.0, 1.0, 1.0]])
def test_a_ratio_without_a_positive_denominator_has_no_value(den):
    assert pooled(ratio(np.ones(4), np.array(den)), np.ones(4)) is None


# --- strict ----------------------------------------------------------------------------------------


def test_strict_charges_the_worst_value_for_undefined_conditions():
    stats = lacking(0.5, "flat", 0.2, 0.4)
    assert strict(metric(worst=0.0), stats, CASE) == pytest.approx((0.25 + 0.3) / 2)
    assert strict(metric(worst=0.5), stats, CASE) == pytest.approx((0.5 + 0.3) / 2)


def test_strict_of_nothing_but_undefined_conditions_is_the_worst_value():
    stats = nowhere(4, "flat", UNDEFINED)
    assert strict(metric(worst=0.0), stats, CASE) == 0.0
    assert strict(metric(worst=0.5), stats, CASE) == 0.5


def test_strict_does_not_charge_what_is_not_applicable():
    reason = words("", "flat", "", "")
    status = words(OK, UNDEFINED, OK, NOT_APPLICABLE)
    value = np.array([0.5, np.nan, 0.2, np.nan])
    one = np.where(np.isnan(value), np.nan, 1.0)
    assert strict(metric(worst=0.0), PerCondition(value, one, status, reason), CASE) == pytest.approx(0.225)
    assert strict(metric(worst=0.0), nowhere(4, "one perturbation"), CASE) is None


def test_strict_is_none_where_no_worst_value_is_named():
    assert strict(metric(), plain([1.0, 2.0, 3.0, 4.0]), CASE) is None


def test_strict_equals_the_value_where_everything_is_defined():
    entry = summary(metric(worst=0.0), plain([0.1, 0.2, 0.3, 0.8]), CASE)
    assert entry["strict"] == entry["value"] == pytest.approx(0.35)


# --- the entry -------------------------------------------------------------------------------------


def test_an_entry_counts_what_it_covers_and_says_why_the_rest_is_missing():
    entry = summary(metric(), lacking(1.0, "flat", "flat", 8.0), CASE)
    assert (entry["status"], entry["value"], entry["reason"]) == (OK, 4.5, "")
    assert (entry["n_scored"], entry["n_total"]) == (2, 4)
    assert entry["unscored"] == {"flat": 2}


def test_the_reason_of_an_undefined_entry_is_the_most_frequent_one():
    stats = lacking("flat", "tied", "tied", "other")
    entry = summary(metric(), stats, CASE)
    assert (entry["status"], entry["value"], entry["reason"], entry["n_scored"]) == (UNDEFINED, None, "tied", 0)
    assert entry["aggregates"] is None
    assert reasons(stats) == {"flat": 1, "other": 1, "tied": 2}


def test_an_entry_that_nothing_could_have_is_not_applicable():
    entry = summary(metric(), nowhere(4, "the file has no cells"), CASE)
    assert (entry["status"], entry["reason"]) == (NOT_APPLICABLE, "the file has no cells")


def test_a_ratio_whose_contexts_have_no_energy_is_undefined_with_a_reason():
    entry = summary(metric(), ratio(np.ones(4), -np.ones(4)), CASE)
    assert (entry["status"], entry["value"], entry["n_scored"]) == (UNDEFINED, None, 0)
    assert "no positive signal energy" in entry["reason"]


def test_a_context_whose_ratio_has_no_value_is_not_counted_as_scored():
    """Context v pools to a negative energy, so the value is that of u alone: two conditions of four."""
    entry = summary(metric(), ratio(np.array([1.0, 2.0, 1.0, 1.0]), np.array([2.0, 2.0, 1.0, -4.0])), CASE)
    assert entry["value"] == 0.75
    assert (entry["n_scored"], entry["n_total"]) == (2, 4)
    assert entry["unscored"] == {"the truth holds no positive signal energy": 2}


def test_a_refusal_takes_the_value_the_strict_value_and_the_count():
    entry = summary(metric(worst=0.0), plain([1.0, 2.0, 3.0, 4.0]), CASE, "no measurable effect")
    assert (entry["status"], entry["reason"]) == (UNDEFINED, "no measurable effect")
    assert entry["value"] is entry["strict"] is entry["aggregates"] is None
    assert (entry["n_scored"], entry["n_total"]) == (0, 4)
