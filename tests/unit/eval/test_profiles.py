"""Do the numbers on profiles of cells (PerturBench) come out as arithmetic says?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import NOT_APPLICABLE, UNDEFINED
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.half_energy import half_energy
from perturbfm.eval.metric.profile import profiles, t_scores
from perturbfm.eval.metric.profile_distance import profile_error, profile_similarity
from perturbfm.eval.metric.profile_rank import profile_rank
from perturbfm.eval.metric.rank_test import counted, ranked_controls
from perturbfm.eval.metric.ranksum import against_shared_control
from perturbfm.eval.metric.topk_recall import topk_recall


def side(cells, control) -> Side:
    return Side(lambda c: cells[c], lambda k: control[k], len(cells), len(control))


def comparison(true, predicted, control, contexts=None, genes=None) -> Comparison:
    """Lists of matrices [n, g] per condition and per context; controls are shared."""
    true, predicted, control = ([np.array(x, dtype=float) for x in part] for part in (true, predicted, control))
    contexts = np.zeros(len(true), dtype=int) if contexts is None else np.array(contexts)
    return Comparison(
        context_k=tuple(f"k{i}" for i in range(len(control))),
        context_of_c=contexts,
        perturbation_c=np.array([f"p{i}" for i in range(len(true))], dtype=object),
        genes_g=tuple(f"g{i}" for i in range(true[0].shape[1])) if genes is None else genes,
        truth=side(true, control),
        predicted=side(predicted, control),
    )


def random(n: int = 6, g: int = 8, seed: int = 0, cells: int = 9) -> tuple[list, list, list]:
    rng = np.random.default_rng(seed)
    draw = [rng.gamma(2.0, size=(n, cells, g)) * (rng.random((n, cells, g)) < 0.7) for _ in range(2)]
    return list(draw[0]), list(draw[1]), [rng.gamma(2.0, size=(11, g))]


# --- errors and similarities of means --------------------------------------------------------------


def test_errors_of_means_are_those_of_a_worked_example():
    c = comparison([[[0, 0, 2], [2, 0, 2]]], [[[4, 0, 1], [2, 2, 1]]], [[[1, 1, 1]]])  # means (1, 0, 2) and (3, 1, 1)
    assert profile_error(c, space="mean", error="mse").value_c == pytest.approx([(4 + 1 + 1) / 3])
    assert profile_error(c, space="mean", error="rmse").value_c == pytest.approx([np.sqrt(2)])
    assert profile_error(c, space="mean", error="mae").value_c == pytest.approx([4 / 3])
    assert profile_similarity(c, space="mean", similarity="cosine").value_c == pytest.approx([5 / np.sqrt(5 * 11)])
    # predicted minus its mean (5/3): (4, -2, -2)/3, square 24/9; true minus 1: (0, -1, 1): product 0
    assert profile_similarity(c, space="mean", similarity="pearson").value_c == pytest.approx([0.0], abs=1e-15)


def test_r2_divides_by_the_spread_of_the_prediction():
    c = comparison([[[1, 0, 2]]], [[[3, 1, 1]]], [[[1, 1, 1]]])
    assert profile_similarity(c, space="mean", similarity="r2").value_c == pytest.approx([1 - 6 / (24 / 9)])


def test_log_fold_change_is_base_two_of_means_plus_a_tenth():
    c = comparison([[[0.3, 0.1, 0.0], [0.3, 0.1, 0.0]]], [[[0.7, 0.0, 0.0]]], [[[0.1, 0.0, 0.4], [0.1, 0.2, 0.4]]])
    both = profiles(c, "logfc")  # plus 0.1: true (.4, .2, .1), predicted (.8, .1, .1), control (.2, .2, .5)
    assert both.true_cg[0] == pytest.approx([1.0, 0.0, np.log2(0.2)])
    assert both.predicted_cg[0] == pytest.approx([2.0, -1.0, np.log2(0.2)])


def test_a_mean_without_a_logarithm_counts_as_no_change():
    c = comparison([[[0.3, 0.1]]], [[[-0.5, 0.3]]], [[[0.1, 0.1]]])
    assert profiles(c, "logfc").predicted_cg[0] == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(("space", "word"), [("logfc", "log fold change"), ("t", "t-score"), ("logq_t", "log p-value")])
def test_a_copy_of_the_controls_points_nowhere(space, word):
    true, _, control = random(n=2)
    c = comparison(true, [control[0][::-1], control[0]], control)
    stats = profile_similarity(c, space=space, similarity="cosine")
    assert np.isnan(stats.value_c).all()
    assert (stats.status_c == UNDEFINED).all()
    assert set(stats.reason_c) <= {f"predicted {word} is zero on every gene"}
    r2 = profile_similarity(c, space=space, similarity="r2")
    assert set(r2.reason_c) == {f"predicted {word} is constant over genes"}


# --- scaled, variation -----------------------------------------------------------------------------


def test_scaled_means_use_all_cells_of_the_side_and_clip_at_ten():
    many = np.zeros((200, 2))
    one = np.array([[1.0, 0.0]])  # z of the first gene is far above 10 among 200 zeros
    c = comparison([one], [one + 5.0], [many])
    x = np.concatenate([one[:, 0], many[:, 0]])
    assert (1.0 - x.mean()) / x.std(ddof=1) > 10
    true = profiles(c, "scaled").true_cg[0]
    assert true == pytest.approx([10.0, 0.0])  # a gene that never varies is left at 0
    c = comparison([one, 2 * one], [one, one], [np.array([[0.0, 0.0], [1.0, 0.0]])])
    sd = np.std([1, 2, 0, 1], ddof=1)
    assert profiles(c, "scaled").true_cg[:, 0] == pytest.approx([0.0, 1.0 / sd])


def test_variation_is_standard_deviation_over_mean_and_zero_where_nothing_is_expressed():
    c = comparison([[[1.0, 0.0], [3.0, 0.0]]], [[[1.0, 0.0], [1.0, 2.0]]], [[[1.0, 1.0]]])
    both = profiles(c, "cv")
    assert both.true_cg[0] == pytest.approx([0.5, 0.0])
    assert both.predicted_cg[0] == pytest.approx([0.0, 1.0])


# --- tests -----------------------------------------------------------------------------------------


def test_rank_sums_count_pairs_with_ties_as_half():
    true, predicted, control = random()
    c = comparison([x.round(0) for x in true], predicted, [control[0].round(0)])  # many ties
    scores = against_shared_control(c, c.truth)
    n, m = 9, 11
    for g, z in enumerate(scores.t_rg[0]):
        x, y = c.truth.cells(0)[:, g], c.truth.control(0)[:, g]
        u = mannwhitneyu(x, y).statistic
        assert z == pytest.approx((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12), abs=1e-12)


def test_pairs_are_counted_at_the_edges():
    x, y = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]), np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    # first gene: each 0 ties one (1/2), 1 beats one and ties one (3/2); second: nothing; third: all six tie
    assert list(counted(x.T, ranked_controls(y.T))[0]) == [2.5, 0.0, 3.0]


def test_a_gene_of_one_value_has_no_rank_sum():
    c = comparison([[[0.0, 1.0], [0.0, 2.0]]], [[[0.0, 1.0], [0.0, 1.0]]], [[[0.0, 0.5], [0.0, 0.0]]])
    scores = against_shared_control(c, c.truth)
    assert (scores.t_rg[0, 0], scores.p_rg[0, 0]) == (0.0, 1.0)
    assert profiles(c, "logp_ranksum").true_cg[0, 0] == 0.0


def test_t_counts_the_group_on_both_sides():
    x, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    c = comparison([x[:, None]], [x[:, None]], [y[:, None]])
    want = (2.0 - 0.5) / np.sqrt(x.var(ddof=1) / 3 + y.var(ddof=1) / 3)
    assert t_scores(c)[1].t_cg[0] == pytest.approx([want])


def test_a_gene_that_is_constant_in_both_groups_is_decided_by_float32_squares():
    # 0.5 is exact in float32, so its variance is 0, t infinite and counted 0; 0.001 and 0.013 leave rounding
    cells = np.tile([0.5, 0.001, 0.013], (100, 1))
    c = comparison([cells], [cells], [np.zeros((100, 3))])
    t = t_scores(c)[0].t_cg[0]
    square = np.square(np.float32([0.001, 0.013])).astype(float) - np.float32([0.001, 0.013]).astype(float) ** 2
    assert t[0] == 0.0
    assert [v > 0 for v in t[1:]] == [v > 0 for v in square]


@pytest.mark.parametrize("space", ["logp_ranksum", "t", "p", "logq_t"])
def test_one_cell_cannot_be_tested(space):
    true, predicted, control = random(n=3)
    c = comparison([true[0][:1], *true[1:]], [predicted[0], predicted[1][:1], predicted[2]], control)
    reasons = profile_similarity(c, space=space, similarity="pearson").reason_c
    assert list(reasons) == ["1 true cells, 2 needed for a test", "1 predicted cells, 2 needed for a test", ""]


# --- top genes -------------------------------------------------------------------------------------


def _scored(predicted_t, true_t, names=None) -> Comparison:
    """A comparison whose t-scores are given."""
    one = [np.ones((2, len(true_t)))]
    c = comparison(one, one, one, genes=names)
    predicted, true = (replace(t_scores(c)[0], t_cg=np.array([t], dtype=float)) for t in (predicted_t, true_t))
    c._made["t_overestimated"] = (predicted, true)
    return c


def test_recall_of_the_largest_absolute_scores():
    c = _scored([3, -2, 1, 0.5], [-9, 1, 2, 0.1])
    for ties in ("argsort", "expected"):
        assert topk_recall(c, k=2, ties=ties).value_c == pytest.approx([0.5])
        assert topk_recall(c, k=3, ties=ties).value_c == pytest.approx([1.0])


def test_tied_genes_share_their_places_in_expectation():
    c = _scored([3, 1, 1, 1], [3, 2, 0.5, 0.1])  # second place is one of three: 1 + 1/3 of 2
    assert topk_recall(c, k=2, ties="expected").value_c == pytest.approx([(1 + 1 / 3) / 2])


def test_the_order_of_genes_decides_nothing():
    rng = np.random.default_rng(0)
    predicted, true = rng.integers(1, 4, size=40), rng.integers(1, 4, size=40)
    names = np.array([f"g{i:02}" for i in range(40)])
    order = rng.permutation(40)
    values = [
        topk_recall(c, k=10, ties="argsort").value_c[0]
        for c in (_scored(predicted, true, tuple(names)), _scored(predicted[order], true[order], tuple(names[order])))
    ]
    assert values[0] == values[1]


def test_without_enough_scores_there_is_no_recall():
    c = _scored([0, 0, 0, 0], [3, 2, 1, 1])
    stats = topk_recall(c, k=2, ties="argsort")
    assert stats.reason_c[0] == "0 genes have a predicted t-score other than 0, 2 needed"
    assert topk_recall(_scored([3, 2, 1, 1], [1, 0, 0, 0]), k=2, ties="argsort").status_c[0] == UNDEFINED


# --- ranks -----------------------------------------------------------------------------------------


def _means(true, predicted, **more) -> Comparison:
    return comparison([[t] for t in true], [[p] for p in predicted], more.pop("control", [[[1.0, 1.0]]]), **more)


def test_the_query_is_the_truth_or_the_prediction():
    # distances prediction -> truth: p0 (0): 0, 4; p1 (1): 1, 3
    c = _means([[0.0, 0.0], [4.0, 4.0]], [[0.0, 0.0], [1.0, 1.0]])
    rank = {q: profile_rank(c, space="mean", distance="rmse", query=q, norm="n-1") for q in ("reference", "prediction")}
    assert list(rank["reference"].value_c) == [0.0, 0.0]  # truth 1 is nearest to prediction 1
    assert list(rank["prediction"].value_c) == [0.0, 1.0]  # prediction 1 is nearer to truth 0
    half = profile_rank(c, space="mean", distance="rmse", query="prediction", norm="n")
    assert list(half.value_c) == [0.0, 0.5]


@pytest.mark.parametrize(("norm", "want"), [("n", 4 / 10), ("n-1", 0.5)])
@pytest.mark.parametrize("distance", ["rmse", "pearson", "cosine"])
def test_one_prediction_for_all_is_chance(norm, want, distance):
    rng = np.random.default_rng(1)
    c = comparison(rng.random((5, 3, 7)), [rng.random((2, 7))] * 5, [rng.random((3, 7))])
    stats = profile_rank(c, space="mean", distance=distance, query="reference", norm=norm)
    assert stats.value_c == pytest.approx([want] * 5)


def test_a_prediction_without_a_direction_stands_last():
    c = _means([[1.0, 3.0], [3.0, 1.0], [2.0, 9.0]], [[1.0, 3.0], [5.0, 5.0], [2.0, 9.0]])
    stats = profile_rank(c, space="mean", distance="pearson", query="reference", norm="n-1")
    assert stats.value_c[1] == 1.0
    turned = profile_rank(c, space="mean", distance="pearson", query="prediction", norm="n-1")
    assert turned.value_c[1] == 0.5  # no truth is nearer to it than another


def test_a_truth_without_a_direction_has_no_rank():
    c = _means([[1.0, 1.0], [3.0, 1.0]], [[1.0, 3.0], [5.0, 1.0]])
    stats = profile_rank(c, space="mean", distance="pearson", query="reference", norm="n")
    assert list(stats.reason_c) == ["true mean has no direction", ""]


def test_one_condition_of_a_context_is_not_ranked():
    c = _means(
        [[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]],
        [[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]],
        control=[[[1.0, 1.0]], [[1.0, 1.0]]],
        contexts=[0, 1, 1],
    )
    stats = profile_rank(c, space="mean", distance="rmse", query="reference", norm="n-1")
    assert list(stats.status_c) == [NOT_APPLICABLE, "ok", "ok"]
    assert stats.reason_c[0] == "one perturbation to rank"


# --- energy ----------------------------------------------------------------------------------------


def test_half_energy_of_four_points_on_a_line():
    # true 0, 2; predicted 1, 5: between (1 + 5 + 1 + 3) / 4; within (0 + 2 + 2 + 0) / 4 and (0 + 4 + 4 + 0) / 4
    c = comparison([[[0.0], [2.0]]], [[[1.0], [5.0]]], [[[0.0]]])
    assert half_energy(c).value_c == pytest.approx([2.5 - 0.5 - 1.0])


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["mean", "logfc", "cv", "logp_ranksum", "t", "p", "logq_t"])
def test_a_prediction_with_nan_has_no_number(space):
    true, predicted, control = random(n=3)
    predicted[1][0, 0] = np.nan
    c = comparison(true, predicted, control)
    for stats in (
        profile_error(c, space=space, error="rmse"),
        profile_similarity(c, space=space, similarity="cosine"),
        profile_rank(c, space=space, distance="rmse", query="reference", norm="n"),
    ):
        assert list(stats.reason_c) == ["", "prediction is not finite", ""]
        assert np.isnan(stats.value_c[1])
    assert half_energy(c).reason_c[1] == "a cell is not finite"


def test_another_word_is_refused():
    c = _means([[1.0, 3.0]], [[1.0, 3.0]])
    with pytest.raises(UnknownChoice, match="no such profile"):
        profile_error(c, space="logfold", error="rmse")
    with pytest.raises(UnknownChoice, match="no such comparison of profiles"):
        profile_similarity(c, space="mean", similarity="spearman")
    with pytest.raises(UnknownChoice, match="no such way to rank"):
        profile_rank(c, space="mean", distance="rmse", query="truth", norm="n")
    with pytest.raises(UnknownChoice, match="no such rule for tied genes"):
        topk_recall(c, k=1, ties="random")
