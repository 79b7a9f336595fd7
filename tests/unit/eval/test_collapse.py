"""Do the diagnostics of collapse tell a model that repeats itself from one that does not?"""

from dataclasses import replace

import numpy as np
import pytest

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, Case
from perturbfm.eval.metric.collapse import effective_rank, pairwise_cosine, tied_rows, variance_ratio


def case_of(truth, predicted, context=None, noise=0.0):
    truth, predicted = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    one = np.ones_like(truth)
    return Case(
        context_c=np.array(["k"] * len(truth) if context is None else context, dtype=object),
        intervention_c=np.array([f"p{i}" for i in range(len(truth))], dtype=object),
        n_c=np.full(len(truth), 50),
        genes_g=tuple(f"g{i}" for i in range(truth.shape[1])),
        truth_cg=truth,
        noise_cg=noise * one,
        noise_known=True,
        predicted_cg=predicted,
        variance_cg=one,
        mean_cg=truth + 1,
        input_cg=one,
        input_var_cg=one,
        scored_cg=one > 0,
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(len(truth), "powered", dtype=object),
    )


@pytest.fixture
def random():
    rng = np.random.default_rng(0)
    return case_of(rng.normal(size=(12, 30)), rng.normal(size=(12, 30)))


def test_a_collapsed_model_is_found(random):
    collapsed = replace(random, predicted_cg=np.tile(random.predicted_cg[0], (12, 1)))
    for stats, want in (
        (variance_ratio(collapsed), 0.0),
        (effective_rank(collapsed, of="predicted"), 1.0),
        (pairwise_cosine(collapsed, of="predicted"), 1.0),
        (tied_rows(collapsed), 1.0),
    ):
        assert set(stats.status_c) == {OK}
        np.testing.assert_allclose(stats.value_c, want, atol=1e-9)


def test_orthogonal_deltas_are_as_many_as_they_are():
    case = case_of(np.eye(4, 7), 3 * np.eye(4, 7))
    np.testing.assert_allclose(effective_rank(case, of="predicted").value_c, 4.0)
    np.testing.assert_allclose(pairwise_cosine(case, of="predicted").value_c, 0.0, atol=1e-12)
    np.testing.assert_allclose(tied_rows(case).value_c, 0.0)


def test_effective_rank_by_hand():
    case = case_of(np.eye(3), np.diag([2.0, 1.0, 1.0]))
    share = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(effective_rank(case, of="predicted").value_c, np.prod(share**-share))
    np.testing.assert_allclose(effective_rank(case, of="truth").value_c, 3.0)


def test_pairwise_cosine_is_the_mean_over_pairs(random):
    unit = random.predicted_cg / np.linalg.norm(random.predicted_cg, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i in range(12) for j in range(i)]
    np.testing.assert_allclose(pairwise_cosine(random, of="predicted").value_c, np.mean(pairs))
    assert not np.isclose(pairwise_cosine(random, of="truth").value_c[0], np.mean(pairs))


def test_a_zero_delta_has_no_cosine_and_takes_no_part_in_that_of_others(random):
    zeroed = random.predicted_cg.copy()
    zeroed[3] = 0.0
    stats = pairwise_cosine(replace(random, predicted_cg=zeroed), of="predicted")
    rest = np.delete(np.arange(12), 3)
    fewer = case_of(random.truth_cg[rest], random.predicted_cg[rest])
    np.testing.assert_allclose(stats.value_c[rest], pairwise_cosine(fewer, of="predicted").value_c)
    assert (stats.status_c[3], stats.reason_c[3]) == (UNDEFINED, "predicted delta is zero")


def test_the_variance_ratio_is_a_median_over_genes_that_are_above_noise():
    truth = np.array([[-1.0, -1, -1, -0.1], [0, 0, 0, 0], [1, 1, 1, 0.1]])
    case = case_of(truth, truth * [1.0, 2.0, 3.0, 100.0], noise=0.5)
    np.testing.assert_allclose(variance_ratio(case).value_c, 4.0)
    deaf = variance_ratio(case_of(truth, truth, noise=1.0))
    assert set(deaf.reason_c) == {"no gene varies more between perturbations than noise"}
    unknown = variance_ratio(replace(case, noise_known=False))
    assert set(unknown.status_c) == {NOT_APPLICABLE}


def test_two_equal_predictions_tie_and_the_others_do_not(random):
    twins = random.predicted_cg.copy()
    twins[5] = twins[2]
    np.testing.assert_allclose(tied_rows(replace(random, predicted_cg=twins)).value_c, 2 / 12)
    np.testing.assert_allclose(tied_rows(random).value_c, 0.0)


@pytest.mark.parametrize(
    "metric",
    [
        variance_ratio,
        lambda case: effective_rank(case, of="truth"),
        lambda case: pairwise_cosine(case, of="truth"),
        tied_rows,
    ],
)
def test_each_context_has_its_own_value_and_needs_three_conditions(random, metric):
    split = replace(random, context_c=np.array(["a"] * 7 + ["b"] * 3 + ["c"] * 2, dtype=object))
    stats = metric(split)
    for member in (range(7), range(7, 10)):
        alone = metric(case_of(random.truth_cg[list(member)], random.predicted_cg[list(member)]))
        np.testing.assert_allclose(stats.value_c[list(member)], alone.value_c)
    assert set(stats.reason_c[10:]) == {"2 conditions in the context, 3 needed"}
    assert set(stats.status_c[10:]) == {UNDEFINED}


def test_no_change_has_neither_rank_nor_cosine(random):
    still = replace(random, predicted_cg=np.zeros((12, 30)))
    assert set(effective_rank(still, of="predicted").reason_c) == {"all predicted deltas are zero"}
    assert set(pairwise_cosine(still, of="predicted").status_c) == {UNDEFINED}
    np.testing.assert_allclose(variance_ratio(still).value_c, 0.0)
    np.testing.assert_allclose(tied_rows(still).value_c, 1.0)


def test_another_side_is_refused(random):
    with pytest.raises(UnknownChoice, match="A case has no such side"):
        effective_rank(random, of="true")
