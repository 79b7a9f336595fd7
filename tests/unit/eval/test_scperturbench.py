"""Do scPerturBench's metrics give what arithmetic and brute force give, and refuse what has no value?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance, wasserstein_distance

from perturbfm.errors import BadValue, UnknownChoice
from perturbfm.eval.case import OK, UNDEFINED
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric import mean_profile
from perturbfm.eval.metric.common_genes import common_genes
from perturbfm.eval.metric.distribution import energy_distance_drawn, energy_distance_squared, mmd_gaussian
from perturbfm.eval.metric.divergence import gaussian_divergence
from perturbfm.eval.metric.drawn import drawn
from perturbfm.eval.metric.marginal import marginal_distance
from perturbfm.eval.metric.ranked_gene import gene_sets
from perturbfm.eval.metric.transport import sinkhorn, sinkhorn_cost
from perturbfm.eval.panel.metric import INVARIANCES
from perturbfm.eval.panel.scperturbench import CELLS, SCPERTURBENCH


def comparison_of(true, predicted, control, predicted_control=None) -> Comparison:
    """One context; lists of matrices of cells, one per condition."""
    theirs = control if predicted_control is None else predicted_control
    return Comparison(
        context_k=("k",),
        context_of_c=np.zeros(len(true), dtype=int),
        perturbation_c=np.array([f"p{i}" for i in range(len(true))], dtype=object),
        genes_g=tuple(f"g{i}" for i in range(np.shape(control)[1])),
        truth=Side(lambda c: np.asarray(true[c], float), lambda _: np.asarray(control, float), len(true), 1),
        predicted=Side(lambda c: np.asarray(predicted[c], float), lambda _: np.asarray(theirs, float), len(true), 1),
    )


@pytest.fixture
def some():
    rng = np.random.default_rng(3)

    def cells(n, up):
        return rng.poisson(0.6, size=(n, 12)) * rng.uniform(0.5, 1.5, size=(n, 12)) + up * (np.arange(12) < 4)

    return comparison_of([cells(30, 1.0), cells(20, 0.5)], [cells(25, 0.8), cells(40, 0.0)], cells(50, 0.0))


def pairs(comparison, condition, genes=slice(None)):
    return comparison.truth.cells(condition)[:, genes], comparison.predicted.cells(condition)[:, genes]


def test_genes_are_those_that_the_truth_moves():
    control = np.tile([[0.0], [1.0]], (10, 6))
    moved = control + np.array([0, 0.1, 0, -5, 3, 0])
    comparison = comparison_of([moved], [control + np.array([9, 0, 0, 0, 0, 9])], control)
    assert gene_sets(comparison, 2)[0].tolist() == [3, 4]
    assert gene_sets(comparison, 3)[0].tolist() == [1, 3, 4]
    assert gene_sets(comparison, None)[0].tolist() == gene_sets(comparison, 5000)[0].tolist() == list(range(6))


def test_large_groups_are_drawn_as_the_suite_draws_them():
    """One stream of the legacy generator at seed 42, predicted cells first, then true ones."""
    true, predicted = np.arange(2100.0)[:, None], np.arange(2500.0)[:, None]
    comparison = comparison_of([true], [predicted], true)
    stream = np.random.RandomState(42)
    want = [stream.permutation(n)[:2000] for n in (2500, 2100)]
    x, y = drawn(comparison, 0, 2000)
    assert (y[:, 0].tolist(), x[:, 0].tolist()) == (want[0].tolist(), want[1].tolist())
    x, y = drawn(comparison, 0, None)
    assert (len(x), len(y)) == (2100, 2500)


def test_a_group_under_the_cap_takes_nothing_from_the_stream():
    true, predicted = np.arange(2100.0)[:, None], np.arange(2000.0)[:, None]
    x, y = drawn(comparison_of([true], [predicted], true), 0, 2000)
    assert np.array_equal(y, predicted)
    assert x[:, 0].tolist() == np.random.RandomState(42).choice(2100, 2000, replace=False).tolist()


def test_distances_of_means_by_hand():
    """Means (1, 2, 3) in truth and (2, 2, 1) in the prediction."""
    true, predicted = [[0, 2, 3], [2, 2, 3]], [[2, 1, 1], [2, 3, 1]]
    comparison = comparison_of([true], [predicted], np.zeros((2, 3)))

    def value(metric, **options):
        return metric(comparison, top=None, decimals=None, **options).value_c[0]

    assert value(mean_profile.mean_squared) == pytest.approx(5 / 3)
    assert value(mean_profile.mean_absolute) == pytest.approx(1)
    assert value(mean_profile.euclidean, squared=False) == pytest.approx(5**0.5)
    assert value(mean_profile.euclidean, squared=True) == pytest.approx(5)
    assert value(mean_profile.cosine_distance) == pytest.approx(1 - 9 / (14**0.5 * 3))
    assert value(mean_profile.r2_distance) == pytest.approx(5 / 2)
    assert value(mean_profile.spearman_distance) == pytest.approx(1 + 3**0.5 / 2)
    assert mean_profile.mean_squared(comparison, top=None, decimals=4).value_c[0] == 1.6667


def test_correlation_of_deltas_does_not_see_their_size(some):
    control = some.truth.control(0)
    halved = comparison_of(
        [some.truth.cells(0)], [0.5 * some.truth.cells(0) + 0.5 * control.mean(axis=0)], some.truth.control(0)
    )
    assert mean_profile.pearson_shared(halved, top=5, decimals=None).value_c[0] == pytest.approx(1.0)
    value = mean_profile.pearson_shared(some, top=5, decimals=4).value_c
    assert np.array_equal(value, 1 - np.round(1 - value, 4))


def test_a_copy_of_the_controls_has_no_direction_and_no_genes(some):
    """Rows in another order, as float32: what is left of the delta is rounding."""
    control = some.truth.control(0)
    copy = comparison_of([some.truth.cells(0)], [control[::-1].astype(np.float32)], control)
    stats = mean_profile.pearson_shared(copy, top=None, decimals=4)
    assert (stats.status_c[0], stats.reason_c[0]) == (UNDEFINED, "predicted delta is constant over genes")
    copy = comparison_of([some.truth.cells(0)], [control], control)
    stats = common_genes(copy, top=4)
    assert (stats.status_c[0], stats.reason_c[0]) == (UNDEFINED, "no gene of the prediction differs from control")


def test_common_genes_of_a_planted_shift(some):
    """The prediction moves two of the four genes that the truth moves, and two others."""
    control = some.truth.control(0)
    true, predicted = control + 5.0 * (np.arange(12) < 4), control + 5.0 * np.isin(np.arange(12), [2, 3, 4, 5])
    stats = common_genes(comparison_of([true], [predicted], control), top=4)
    assert stats.value_c.tolist() == [0.5]
    few = common_genes(comparison_of([true], [predicted], control), top=12)
    assert (few.status_c[0], few.reason_c[0]) == (UNDEFINED, "no more than 12 genes")


@pytest.mark.parametrize("top", [None, 5])
def test_distances_of_cells_are_those_over_all_pairs(some, top):
    given = {"top": top, "cap": None}
    for c, genes in enumerate(gene_sets(some, top)):
        x, y = pairs(some, c, genes)
        n, m = len(x), len(y)
        for ground in ("euclidean", "sqeuclidean"):
            between, within_x, within_y = cdist(x, y, ground), cdist(x, x, ground), cdist(y, y, ground)
            v = 2 * between.mean() - within_x.mean() - within_y.mean()
            u = 2 * between.mean() - within_x.sum() / (n * (n - 1)) - within_y.sum() / (m * (m - 1))
            for statistic, want in (("V", v), ("U", u)):
                if ground == "sqeuclidean":
                    got = energy_distance_squared(some, statistic=statistic, top=top).value_c[c]
                else:
                    stats = energy_distance_drawn(some, statistic=statistic, half=False, decimals=None, **given)
                    got = stats.value_c[c]
                assert got == pytest.approx(want, rel=1e-9)
        half = energy_distance_drawn(some, statistic="V", half=True, decimals=4, **given).value_c[c]
        assert half == pytest.approx((2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()) / 2, abs=5.1e-5)
        kernel = [np.exp(-0.5 * cdist(a, b, "sqeuclidean")).mean() for a, b in ((x, x), (y, y), (x, y))]
        got = mmd_gaussian(some, gamma=0.5, **given).value_c[c]
        assert got == pytest.approx(kernel[0] + kernel[1] - 2 * kernel[2], rel=1e-9)


def test_distances_of_single_genes_are_those_of_scipy(some):
    for power, oracle in ((1, wasserstein_distance), (2, energy_distance)):
        got = marginal_distance(some, top=None, cap=None, power=power).value_c
        for c in range(2):
            x, y = pairs(some, c)
            want = np.mean([oracle(a, b) for a, b in zip(x.T, y.T, strict=True)])
            assert got[c] == pytest.approx(want, rel=1e-12)
    with pytest.raises(BadValue, match="A power has no distance"):
        marginal_distance(some, top=None, cap=None, power=3)


def test_divergence_by_hand():
    """Means 1 and 2, standard deviations 1 and 1: (1 + 1) / 2 twice, minus 1; the second gene adds nothing."""
    true, predicted = [[0, 5], [2, 7]], [[1, 7], [3, 5]]
    comparison = comparison_of([true], [predicted], np.zeros((2, 2)))
    for single in (True, False):
        stats = gaussian_divergence(comparison, top=None, cap=None, single=single, decimals=None)
        assert stats.value_c[0] == pytest.approx(np.log2(1.5), rel=1e-6)
    stats = gaussian_divergence(comparison, top=None, cap=None, single=False, decimals=0)
    assert stats.value_c[0] == 0.0  # 0.5 rounds half to even before the logarithm


def test_a_gene_that_varies_on_one_side_decides_the_divergence():
    """1 / (2 * 1e-16) of one gene in two."""
    true, predicted = [[0, 0], [2, 2]], [[0, 1], [2, 1]]
    comparison = comparison_of([true], [predicted], np.zeros((2, 2)))
    stats = gaussian_divergence(comparison, top=None, cap=None, single=False, decimals=4)
    assert 2.0 ** stats.value_c[0] == pytest.approx(0.25e16, rel=1e-6)


def test_one_cell_has_no_spread_and_no_unbiased_distance():
    comparison = comparison_of([[[1.0, 2.0]]], [[[2.0, 2.0], [3.0, 1.0]]], np.zeros((2, 2)))
    stats = gaussian_divergence(comparison, top=None, cap=None, single=False, decimals=None)
    assert (stats.status_c[0], stats.reason_c[0]) == (UNDEFINED, "one cell has no spread")
    for metric in (
        energy_distance_squared(comparison, statistic="U", top=None),
        energy_distance_drawn(comparison, statistic="U", top=None, cap=None, half=False, decimals=None),
    ):
        assert metric.reason_c[0] == "1 true and 2 predicted cells, 2 of each needed"
    assert energy_distance_squared(comparison, statistic="V", top=None).status_c[0] == OK


@pytest.mark.parametrize("epsilon", ["mean", "std"])
@pytest.mark.parametrize("apart", [0.0, 3.0, 1000.0])
def test_entropic_cost_lies_between_exact_transport_and_that_plus_entropy(epsilon, apart):
    """OT <= cost <= OT + epsilon ln n, up to the marginal error at which iterations stop."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) + apart
    cost = cdist(x, y, "sqeuclidean")
    exact = cost[linear_sum_assignment(cost)].mean()
    strength = 0.05 * getattr(cost, epsilon)()
    slack = 1e-3 * cost.max()
    got = sinkhorn_cost(x, y, epsilon)
    assert exact - slack <= got <= exact + strength * np.log(40) + slack
    assert got > exact + 1e-6 * strength


def test_entropic_cost_where_the_plan_is_known():
    """One cell against many: the plan is the product, so the cost is the mean cost."""
    x, y = np.array([[0.0, 1.0]]), np.array([[1.0, 1.0], [3.0, 1.0], [0.0, 3.0]])
    assert sinkhorn_cost(x, y, "std") == pytest.approx((1 + 9 + 4) / 3, rel=1e-9)


def test_a_far_cell_does_not_overflow_the_scalings():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(300, 4)), rng.normal(size=(20, 4))
    x[0] += 1e4
    assert np.isfinite([sinkhorn_cost(x, y, e) for e in ("mean", "std")]).all()


def test_equal_costs_leave_no_epsilon():
    comparison = comparison_of([np.ones((3, 2))], [np.full((4, 2), 2.0)], np.zeros((2, 2)))
    std = sinkhorn(comparison, top=None, cap=None, epsilon="std", decimals=4)
    assert (std.status_c[0], std.reason_c[0]) == (UNDEFINED, "all costs are equal")
    assert sinkhorn(comparison, top=None, cap=None, epsilon="mean", decimals=4).value_c[0] == 2.0
    same = comparison_of([np.ones((3, 2))], [np.ones((4, 2))], np.zeros((2, 2)))
    mean = sinkhorn(same, top=None, cap=None, epsilon="mean", decimals=4)
    assert (mean.status_c[0], mean.reason_c[0]) == (UNDEFINED, "all costs are zero")
    with pytest.raises(UnknownChoice, match="There is no such rule of epsilon"):
        sinkhorn_cost(np.ones((2, 2)), np.zeros((2, 2)), "median")


def test_lines_are_named_once_and_say_where_cells_come_from(some):
    identifiers = [m.identifier for m in SCPERTURBENCH]
    aliases = [a for m in SCPERTURBENCH for a in m.aliases]
    assert len(set(identifiers)) == len(identifiers)
    assert len(set(aliases)) == len(aliases)
    assert all(m.aliases and set(m.invariances) <= set(INVARIANCES) for m in SCPERTURBENCH)
    moved = comparison_of(
        [some.truth.cells(c) for c in range(2)],
        [some.predicted.cells(c).mean(axis=0) + np.zeros((3, 12)) for c in range(2)],
        some.truth.control(0),
    )
    for metric in SCPERTURBENCH:
        before, after = (metric.function.function(c).value_c for c in (some, moved))
        by_means = np.allclose(before, after, rtol=1e-6, atol=1e-4, equal_nan=True)
        assert by_means == (CELLS not in metric.identifier) or "de_overlap" in metric.identifier


def test_claimed_invariances_hold(some):
    """Dropping a condition, adding a vector to everything, and a larger predicted delta."""
    true, predicted = ([s.cells(c) for c in range(2)] for s in (some.truth, some.predicted))
    control, shift = some.truth.control(0), np.linspace(0.25, 3, 12)
    grown = [x + 1.5 * (x.mean(axis=0) - control.mean(axis=0)) for x in predicted]
    changed = {
        "subset_conditions": comparison_of(true[:1], predicted[:1], control),
        "shift_both": comparison_of([x + shift for x in true], [x + shift for x in predicted], control + shift),
        "scale_prediction": comparison_of(true, grown, control),
    }
    for metric in SCPERTURBENCH:
        before = metric.function.function(some).value_c
        for name in metric.invariances:
            after = metric.function.function(changed[name]).value_c
            np.testing.assert_allclose(after, before[: len(after)], rtol=1e-9, err_msg=f"{name} {metric.identifier}")
