"""Do intervals know where chance comes from?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse, stats

from perturbfm.errors import BadValue, ShapeMismatch, TooFewControls, ValuesNotFinite
from perturbfm.eval.case import Case, plain, ratio
from perturbfm.eval.metric.error import mean_squared_error
from perturbfm.eval.metric.explained import explained_variance
from perturbfm.eval.resample import (
    Interval,
    aggregate_draws,
    cluster_draws,
    double_weights,
    interval_rule,
    paired_two_way,
    reference_draws,
    rescaled,
    sign_flip_p,
    small_sample,
    two_way_interval,
)


def case_of(truth_cg, predicted_cg, noise_cg=None) -> Case:
    n, g = truth_cg.shape
    zero = np.zeros((n, g))
    return Case(
        context_c=np.full(n, "k", dtype=object),
        intervention_c=np.array([f"p{i}@knockout" for i in range(n)], dtype=object),
        n_c=np.full(n, 50),
        genes_g=tuple(f"g{i}" for i in range(g)),
        truth_cg=truth_cg,
        noise_cg=zero if noise_cg is None else noise_cg,
        noise_known=True,
        predicted_cg=predicted_cg,
        variance_cg=zero + 1.0,
        mean_cg=truth_cg,
        input_cg=zero,
        input_var_cg=zero + 1.0,
        scored_cg=zero == 0,
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(n, "powered", dtype=object),
    )


# --- draws -----------------------------------------------------------------------------------------


def test_reference_draws_have_the_moments_of_the_bootstrap():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(70, 5)) * [1, 2, 3, 4, 5]
    context = np.repeat(["a", "b"], [40, 30])
    batch = np.array(["0"] * 20 + ["1"] * 20 + ["0"] * 30)
    draws = reference_draws(x, context, batch, 4000, seed=1)
    assert draws.groups == (("a", "0"), ("a", "1"), ("b", "0"))
    assert len(draws) == 4000
    mean = np.stack([d.mean_kg for d in draws])
    noise = np.stack([d.noise_kg for d in draws])
    assert mean.shape == noise.shape == (4000, 3, 5)
    for k, row in enumerate((slice(0, 20), slice(20, 40), slice(40, 70))):
        n = row.stop - row.start
        variance = x[row].var(axis=0) / n
        np.testing.assert_allclose(mean[:, k].mean(0), x[row].mean(0), atol=4 * np.sqrt(variance.max() / 4000))
        np.testing.assert_allclose(mean[:, k].var(0), variance, rtol=0.1)
        np.testing.assert_allclose(noise[:, k].mean(0), variance, rtol=0.05)


def test_groups_are_drawn_independently():
    x = np.tile(np.random.default_rng(0).normal(size=(30, 1)), (2, 1))
    draws = reference_draws(x, np.repeat(["a", "b"], 30), np.full(60, "0"), 2000, seed=0)
    mean = np.stack([d.mean_kg[:, 0] for d in draws])
    assert abs(np.corrcoef(mean.T)[0, 1]) < 0.08


def test_draws_are_the_same_each_time_and_sparse_or_dense():
    x = np.random.default_rng(0).poisson(0.5, size=(40, 6)).astype(float)
    label = np.full(40, "a")
    dense, csr = (reference_draws(m, label, label, 30, seed=3) for m in (x, sparse.csr_matrix(x)))
    for first, again, other in zip(dense, dense, csr, strict=True):
        assert (first.mean_kg == again.mean_kg).all()
        np.testing.assert_allclose(first.mean_kg, other.mean_kg, rtol=1e-12)
        np.testing.assert_allclose(first.noise_kg, other.noise_kg, rtol=1e-9, atol=1e-15)


def test_one_seed_draws_controls_and_conditions_independently():
    x, label = np.arange(20.0)[:, None], np.full(20, "a")
    mean = [d.mean_kg[0, 0] for d in reference_draws(x, label, label, 2000, seed=5)]
    for weight in (cluster_draws(np.arange(20), 2000, seed=5), double_weights(np.arange(20).astype(str), 2000, seed=5)):
        assert abs(np.corrcoef(mean, weight @ np.arange(20.0))[0, 1]) < 0.08


def test_clusters_come_and_go_together():
    weight = cluster_draws(["A", "B", "A", "C"], 3000, seed=0)
    assert weight.shape == (3000, 4)
    assert (weight[:, 0] == weight[:, 2]).all()
    assert (weight[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weight[:, 1].mean() == pytest.approx(1.0, abs=0.06)
    assert weight[:, 1].var() == pytest.approx(2 / 3, abs=0.06)


def test_doubles_weigh_as_the_product_of_their_genes():
    labels = ["A+B@activation", "A@activation", "B@activation", "A+C@activation", "C@activation"]
    weight = double_weights(labels, 500, seed=0)
    assert (weight[:, 0] == weight[:, 1] * weight[:, 2]).all()
    assert (weight[:, 3] == weight[:, 1] * weight[:, 4]).all()
    assert (weight[:, [1, 2, 4]].sum(axis=1) == 3).all()
    assert (double_weights(["A_B@x", "A@x", "B@x"], 50, seed=0, delimiter="_")[:, 0] <= 1).all()


# --- intervals -------------------------------------------------------------------------------------


def test_interval_by_hand():
    case = case_of(np.array([[1.0], [2.0]]), np.zeros((2, 1)))
    weight = np.array([[2, 0], [1, 1], [0, 2], [1, 1]])
    got = two_way_interval(mean_squared_error, [case] * 4, weight, level=0.5)
    values = [1.0, 2.5, 4.0, 2.5]
    assert (got.low, got.high) == tuple(np.quantile(values, [0.25, 0.75]))
    assert got.se == pytest.approx(np.std(values, ddof=1))
    assert got.mean == 2.5
    assert got.n_draws == 4


def test_aggregate_is_a_ratio_of_sums():
    case = case_of(np.ones((2, 1)), np.ones((2, 1)))
    num, den = aggregate_draws(lambda _: ratio(np.array([1.0, 4.0]), np.array([2.0, 2.0])), [case], np.array([[3, 1]]))
    assert (num[0], den[0]) == (7.0, 8.0)


def test_undefined_conditions_and_empty_draws_do_not_count():
    case = case_of(np.ones((2, 1)), np.zeros((2, 1)))
    stats_of = lambda _: plain(np.array([5.0, np.nan]), np.array(["", "no"], dtype=object))  # noqa: E731
    got = two_way_interval(stats_of, [case] * 3, np.array([[1, 1], [0, 2], [2, 0]]))
    assert (got.low, got.high, got.n_draws) == (5.0, 5.0, 2)
    none = two_way_interval(stats_of, [case], np.array([[0, 2]]))
    assert np.isnan(none.low)
    assert none.n_draws == 0


def test_difference_takes_only_what_both_have():
    case = case_of(np.ones((2, 1)), np.zeros((2, 1)))
    other = replace(case, noise_known=False)

    def stat(c):
        if c.noise_known:
            return plain(np.array([3.0, 100.0]))
        return plain(np.array([1.0, np.nan]), np.array(["", "no"], dtype=object))

    got = paired_two_way(stat, [(case, other)] * 2, np.array([[1, 1], [2, 0]]))
    assert (got.low, got.high) == (2.0, 2.0)


def planted(rng, n, cells, controls, genes, spread):
    effect = spread * rng.normal(size=(n, genes))
    mean = effect + rng.normal(size=(n, genes)) / np.sqrt(cells)
    return effect, mean, rng.normal(size=(controls, genes))


def redrawn(case, mean, own_noise, reference, n_draws, seed, twice=True):
    label = np.full(len(reference), "k")
    for draw in reference_draws(reference, label, label, n_draws, seed):
        yield case.with_truth(mean - draw.mean_kg[0], own_noise + (1 + twice) * draw.noise_kg[0], mean)


def test_interval_of_explained_variance_is_centred_only_if_the_draws_noise_is_counted():
    genes, n, found = 25, 25, {True: [], False: []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        effect, mean, reference = planted(rng, n, 60, 50, genes, 0.4)
        own = np.full((n, genes), 1 / 60)
        case = case_of(mean - reference.mean(0), 0.5 * effect, own + reference.var(0, ddof=1) / 50)
        weight = cluster_draws(case.intervention_c, 150, seed)
        for twice, intervals in found.items():
            draws = redrawn(case, mean, own, reference, 150, seed, twice)
            intervals.append(two_way_interval(explained_variance, draws, weight))
    right, wrong = found[True], found[False]
    truth = 1 - 0.5**2
    assert np.mean([i.mean for i in right]) == pytest.approx(truth, abs=0.02)
    assert np.mean([i.low <= truth <= i.high for i in right]) >= 0.9
    assert np.mean([i.low <= truth <= i.high for i in wrong]) < 0.8


def test_common_shift_is_not_taken_for_a_better_model():
    """Model 2 = model 1 + a common shift, equally good: only the shared controls tell them apart, by chance."""
    two_way, naive, genes, n, n_draws = [], [], 20, 33, 150
    shift = np.full(genes, 0.1)
    for seed in range(250):
        rng = np.random.default_rng(1000 + seed)
        _, mean, reference = planted(rng, n, 60, 50, genes, 0.15)
        own = np.full((n, genes), 1 / 60)
        case = case_of(mean - reference.mean(0), np.tile(shift, (n, 1)))
        other = np.tile(-shift, (n, 1))
        draws = redrawn(case, mean, own, reference, n_draws, seed)
        pairs = ((c, replace(c, predicted_cg=other)) for c in draws)
        got = paired_two_way(mean_squared_error, pairs, cluster_draws(case.intervention_c, n_draws, seed))
        two_way.append(not got.low <= 0 <= got.high)
        plain_difference = (
            mean_squared_error(case).value_c - mean_squared_error(replace(case, predicted_cg=other)).value_c
        )
        naive.append(stats.ttest_1samp(plain_difference, 0.0).pvalue < 0.05)
    assert 0.02 <= np.mean(two_way) <= 0.12  # 0.073 (sd 0.016) expected from 150 draws
    assert np.mean(naive) > 0.2


# --- few conditions --------------------------------------------------------------------------------


def test_sign_flip_by_counting():
    assert sign_flip_p(np.ones(9)) == 2**-8
    assert sign_flip_p(np.array([1.0, 1, 1, 1, -1])) == 12 / 32
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert sign_flip_p(np.array([16.0, 8, 4, 2, -1])) == 4 / 32


def test_sign_flip_is_exact_under_the_null():
    rng = np.random.default_rng(0)
    p = np.array([sign_flip_p(rng.normal(size=8)) for _ in range(1500)])
    assert np.mean(p <= 0.0625) == pytest.approx(0.0625, abs=0.02)


@pytest.mark.parametrize("n", [4, 10])
def test_sign_flip_is_for_five_to_nine(n):
    with pytest.raises(BadValue, match=rf"sign-flip test is for 5 to 9 conditions: given {n} differences"):
        sign_flip_p(np.ones(n))


def test_sign_flip_refuses_missing_differences():
    with pytest.raises(ValuesNotFinite, match=r"paired difference is not a number: given 1 of 5"):
        sign_flip_p(np.array([1.0, 1, 1, 1, np.nan]))


@pytest.mark.parametrize(
    ("n", "rule"),
    [(0, "values_only"), (4, "values_only"), (5, "sign_flip"), (9, "sign_flip"), (10, "bootstrap"), (99, "bootstrap")],
)
def test_rule(n, rule):
    assert interval_rule(n) == rule


# --- refusals --------------------------------------------------------------------------------------


def test_draws_and_weights_must_pair_up():
    case = case_of(np.ones((2, 1)), np.zeros((2, 1)))
    for cases in ([case], [case] * 3):
        with pytest.raises(ShapeMismatch, match=rf"do not pair up: given {len(cases)} cases and 2 rows of weights"):
            two_way_interval(mean_squared_error, cases, np.ones((2, 2)))
    with pytest.raises(ShapeMismatch, match=r"Weights and conditions do not pair up: given 3 weights and 2 conditions"):
        two_way_interval(mean_squared_error, [case], np.ones((1, 3)))
    with pytest.raises(BadValue, match=r"level is not a probability: given 95"):
        two_way_interval(mean_squared_error, [case], np.ones((1, 2)), level=95)


def test_reference_cells_must_be_usable():
    x = np.ones((3, 2))
    with pytest.raises(ShapeMismatch, match=r"given 3 cells, 2 contexts, 3 batches"):
        reference_draws(x, np.full(2, "a"), np.full(3, "0"), 5, seed=0)
    with pytest.raises(TooFewControls, match=r"cannot be resampled: given 1 cell in context 'b', batch '0'"):
        reference_draws(x, np.array(["a", "a", "b"]), np.full(3, "0"), 5, seed=0)
    for make in (
        lambda: reference_draws(x, np.full(3, "a"), np.full(3, "0"), 0, seed=0),
        lambda: cluster_draws(["a"], 0, seed=0),
        lambda: double_weights(["a@x"], 0, seed=0),
    ):
        with pytest.raises(BadValue, match=r"Resampling needs draws: given 0, expected at least 1"):
            make()


def test_intervals_of_few_units_are_wider_than_their_percentiles():
    """Student's 2.262 over the normal 1.960, times sqrt(10 / 9)."""
    assert small_sample(10, 0.95) == pytest.approx(2.2622 / 1.9600 * (10 / 9) ** 0.5, rel=1e-4)
    assert small_sample(10_000, 0.95) == pytest.approx(1.0, abs=1e-3)
    assert small_sample(1, 0.95) == float("inf")


def test_a_rescaled_interval_keeps_its_centre_and_its_lean():
    got = rescaled(Interval(1.0, 5.0, 1.0, 2.0, 9), 2.0, 2.0)
    assert (got.low, got.high, got.se, got.n_draws) == (0.0, 8.0, 1.0, 9)
