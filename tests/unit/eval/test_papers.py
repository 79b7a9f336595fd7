"""Do the metrics of papers give what their formulas give, by plain arithmetic and by the libraries the papers call?"""

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from sklearn.metrics import r2_score

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.centroid import centroid_accuracy
from perturbfm.eval.metric.gene_overlap import jaccard_top20
from perturbfm.eval.metric.gene_set import gene_set
from perturbfm.eval.metric.mean_correlation import pearson_of_means
from perturbfm.eval.metric.mean_error import distance_of_means, mse_of_means, rmse_of_means
from perturbfm.eval.metric.rest_weight import n_rest_genes, rest_test, squared_share, truth_test
from perturbfm.eval.metric.systematic import systematic_variation
from perturbfm.eval.metric.weighted import _halves, r2_of_means, weighted_mse, weighted_mse_disjoint
from perturbfm.eval.panel.papers import PAPERS


def side(cells, controls):
    return Side(lambda c: cells[c], lambda k: controls[k], len(cells), len(controls))


def compared(true, predicted, controls, context=None, centroid=None):
    """Cells by condition, and controls by context, the same on both sides."""
    context = np.zeros(len(true), dtype=int) if context is None else np.array(context)
    return Comparison(
        context_k=tuple(f"k{i}" for i in range(len(controls))),
        context_of_c=context,
        perturbation_c=np.array([f"p{i}" for i in range(len(true))], dtype=object),
        genes_g=tuple(f"g{i}" for i in range(true[0].shape[1])),
        truth=side(true, controls),
        predicted=side(predicted, controls),
        train_centroid_g=centroid,
    )


def means_only(true_cg, predicted_cg, control_g, **more):
    return compared([x[None] for x in true_cg], [x[None] for x in predicted_cg], [control_g[None]], **more)


def world(n_conditions=6, n_genes=60, seed=0, n_cells=30):
    """Sparse counts on a log scale, each condition with some genes moved, some genes lost."""
    rng = np.random.default_rng(seed)
    rate_g = rng.gamma(0.6, 1.0, n_genes)
    cells = []
    for c in range(n_conditions):
        rate = rate_g * np.where(rng.random(n_genes) < 0.3, rng.lognormal(0, 1.0, n_genes), 1.0)
        rate[rng.random(n_genes) < 0.15] = 0.0
        cells.append(np.log1p(rng.poisson(rate, (n_cells + c, n_genes))))
    control = np.log1p(rng.poisson(rate_g, (40, n_genes)))
    predicted = [x[rng.integers(0, len(x), 20)] for x in cells]
    return cells, predicted, control


def scanpy_table(cells, control, method, reference):
    rows = [*cells] if control is None else [*cells, control]
    names = [f"p{c}" for c in range(len(cells))] + ([] if control is None else ["control"])
    label = np.repeat(names, [len(x) for x in rows])
    data = anndata.AnnData(
        np.vstack(rows), obs=pd.DataFrame({"c": pd.Categorical(label)}, index=np.arange(len(label)).astype(str))
    )
    data.var_names = [f"g{i}" for i in range(data.n_vars)]
    scanpy.tl.rank_genes_groups(data, "c", method=method, reference=reference, rankby_abs=True)
    found = data.uns["rank_genes_groups"]
    return {
        n: pd.DataFrame({k: found[k][n] for k in ("names", "scores", "pvals_adj")}) for n in found["names"].dtype.names
    }


# --- gene sets -------------------------------------------------------------------------------------------


def test_the_top_20_are_those_of_scanpy_and_gears_skips_lost_genes():
    cells, predicted, control = world()
    comparison = compared(cells, predicted, [control])
    table = scanpy_table(cells, control, "t-test", "control")
    for c, x in enumerate(cells):
        ranked = [int(name[1:]) for name in table[f"p{c}"]["names"]]
        kept = set(np.flatnonzero(gene_set(comparison, "top20_ttest_abs").kept_cg[c]).tolist())
        assert kept == set(ranked[:20])
        alive = [g for g in ranked if x[:, g].mean() != 0 or control[:, g].mean() == 0]
        assert alive != ranked
        assert set(np.flatnonzero(gene_set(comparison, "top20_gears").kept_cg[c]).tolist()) == set(alive[:20])


def test_a_tie_at_the_last_place_is_no_gene_set():
    rng = np.random.default_rng(0)
    x, control = np.zeros((8, 40)), np.zeros((9, 40))
    x[:, :19], control[:, :19] = rng.normal(3, 1, (8, 19)), rng.normal(0, 1, (9, 19))
    stats = pearson_of_means(compared([x], [x + 1], [control]), reference="control", genes="top20_ttest_abs")
    assert stats.status_c.tolist() == [UNDEFINED]
    assert stats.reason_c[0] == "place 20 of the genes is tied, so they are no set"


def test_a_tie_that_rounding_hides_is_a_tie():
    """The same cells in another order give the same t but for the last digit."""
    rng = np.random.default_rng(1)
    x, control = rng.normal(1, 1, (30, 40)), rng.normal(0, 1, (30, 40))
    x[:, 20:], control[:, 20:] = x[:, [19]], control[:, [19]]
    x[:, :19] += np.arange(5, 24)
    x[:, 25], control[:, 25] = x[::-1, 25], control[::-1, 25]
    stats = pearson_of_means(compared([x], [x + 1], [control]), reference="control", genes="top20_ttest_abs")
    assert stats.reason_c[0] == "place 20 of the genes is tied, so they are no set"


def test_fewer_genes_than_asked_for_are_all_of_them():
    cells, predicted, control = world(n_genes=12)
    comparison = compared(cells, predicted, [control])
    assert gene_set(comparison, "top20_ttest_abs").kept_cg.all()
    assert gene_set(comparison, "top1000_ctrl_expr").kept_cg.all()


def test_the_1000_highest_genes_of_control_are_taken_per_context_and_ties_go_to_the_first():
    low, high = np.arange(1500.0), np.arange(1500.0)[::-1].copy()
    low[499:501] = 7777.0
    tied = np.where(np.arange(1500) < 400, 5.0, 1.0)
    true = [np.ones((1, 1500))] * 3
    comparison = compared(true, true, [low[None], high[None], tied[None]], context=[0, 1, 2])
    kept_cg = gene_set(comparison, "top1000_ctrl_expr").kept_cg
    assert np.flatnonzero(kept_cg[0]).tolist() == [499, 500, *range(502, 1500)]
    assert np.flatnonzero(kept_cg[1]).tolist() == list(range(1000))
    assert np.flatnonzero(kept_cg[2]).tolist() == list(range(1000))


def test_another_gene_set_or_reference_is_refused():
    comparison = means_only(np.eye(3), np.eye(3), np.zeros(3))
    with pytest.raises(UnknownChoice, match="No gene set 'top20'"):
        gene_set(comparison, "top20")
    with pytest.raises(UnknownChoice, match="There is no such reference of a mean"):
        pearson_of_means(comparison, reference="controls", genes="all")


# --- Ahlmann-Eltze et al. ---------------------------------------------------------------------------------


def test_l2_and_r2_delta_of_ahlmann_eltze():
    rng = np.random.default_rng(3)
    true, predicted, control = rng.normal(size=(4, 1200)), rng.normal(size=(4, 1200)), rng.normal(size=1200)
    comparison = means_only(true, predicted, control)
    top = sorted(range(1200), key=lambda g: (-control[g], g))[:1000]
    l2, r2 = (
        distance_of_means(comparison, genes="top1000_ctrl_expr").value_c,
        pearson_of_means(comparison, reference="control", genes="top1000_ctrl_expr").value_c,
    )
    for c in range(4):
        assert l2[c] == pytest.approx(np.sqrt(sum((predicted[c][g] - true[c][g]) ** 2 for g in top)), rel=1e-12)
        want = np.corrcoef([predicted[c][g] - control[g] for g in top], [true[c][g] - control[g] for g in top])[0, 1]
        assert r2[c] == pytest.approx(want, rel=1e-12)


def test_l2_is_a_sum_and_not_a_mean():
    comparison = means_only(np.zeros((1, 9)), np.full((1, 9), 2.0), np.zeros(9))
    assert distance_of_means(comparison, genes="all").value_c.tolist() == [6.0]
    assert mse_of_means(comparison, genes="all").value_c.tolist() == [4.0]
    assert rmse_of_means(comparison, genes="all").value_c.tolist() == [2.0]


# --- correlations and errors of means ----------------------------------------------------------------------


def test_no_change_has_no_correlation_against_control():
    cells, _, control = world()
    comparison = compared(cells, [control] * len(cells), [control])
    for genes in ("all", "top20_gears", "top1000_ctrl_expr"):
        stats = pearson_of_means(comparison, reference="control", genes=genes)
        assert set(stats.status_c) == {UNDEFINED}
        assert set(stats.reason_c) == {"predicted delta is constant over the genes"}
    assert set(jaccard_top20(comparison, genes="top20_gears").reason_c) == {"predicted delta is zero"}


def test_no_change_in_float32_has_no_correlation_either():
    cells, _, control = world()
    rounded = control.astype(np.float32).astype(float)
    assert np.abs(rounded - control).max() > 0
    stats = pearson_of_means(
        replace(compared(cells, cells, [control]), predicted=side([rounded] * len(cells), [control])),
        reference="control",
        genes="all",
    )
    assert set(stats.status_c) == {UNDEFINED}


def test_a_prediction_and_its_mirror_image():
    cells, _, control = world()
    mirror = [np.tile(2 * control.mean(0) - x.mean(0), (2, 1)) for x in cells]
    for genes in ("all", "top20_gears", "top20_ttest_abs"):
        for predicted, want in ((cells, 1.0), (mirror, -1.0)):
            stats = pearson_of_means(compared(cells, predicted, [control]), reference="control", genes=genes)
            np.testing.assert_allclose(stats.value_c, want, rtol=1e-12)


def test_the_centroid_is_that_of_train_and_without_it_nothing_applies():
    rng = np.random.default_rng(0)
    true, predicted, control, centroid = (rng.normal(size=s) for s in ((3, 20), (3, 20), 20, 20))
    comparison = means_only(true, predicted, control, centroid=centroid)
    found = pearson_of_means(comparison, reference="train_centroid", genes="all").value_c
    want = [np.corrcoef(predicted[c] - centroid, true[c] - centroid)[0, 1] for c in range(3)]
    np.testing.assert_allclose(found, want, rtol=1e-12)
    unknown = replace(comparison, train_centroid_g=None)
    for stats in (
        pearson_of_means(unknown, reference="train_centroid", genes="all"),
        r2_of_means(unknown, reference="train_centroid", weighted=False),
    ):
        assert set(stats.status_c) == {NOT_APPLICABLE}
    same = means_only(true, np.tile(centroid, (3, 1)), control, centroid=centroid)
    assert set(pearson_of_means(same, reference="train_centroid", genes="all").status_c) == {UNDEFINED}


def test_errors_over_the_top_20_are_those_of_20_genes():
    cells, predicted, control = world()
    comparison = compared(cells, predicted, [control])
    found = mse_of_means(comparison, genes="top20_gears").value_c
    kept_cg = gene_set(comparison, "top20_gears").kept_cg
    for c, (x, y) in enumerate(zip(cells, predicted, strict=True)):
        want = np.mean([(y[:, g].mean() - x[:, g].mean()) ** 2 for g in np.flatnonzero(kept_cg[c])])
        assert found[c] == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(rmse_of_means(comparison, genes="top20_gears").value_c ** 2, found, rtol=1e-12)


def test_jaccard_counts_the_genes_that_the_prediction_moves_most():
    cells, _, control = world()
    comparison = compared(cells, cells, [control])
    true = np.flatnonzero(gene_set(comparison, "top20_gears").kept_cg[0])
    others = np.setdiff1d(np.arange(60), true)
    for right in (0, 5, 20):
        moved = np.concatenate([true[:right], others[: 20 - right]])
        guess = control.mean(0).copy()
        guess[moved] += 1 + np.arange(20)
        guess[np.setdiff1d(np.arange(60), moved)] -= 0.01 * (1 + np.arange(40)) / 40
        predicted = [guess[None], *cells[1:]]
        found = jaccard_top20(compared(cells, predicted, [control]), genes="top20_gears").value_c[0]
        assert found == pytest.approx(right / (40 - right))


# --- ranks and systematic variation -------------------------------------------------------------------------


def test_centroid_accuracy_by_hand_with_ties_lost_and_within_context():
    true = np.array([[0.0, 0], [2, 0], [10, 0], [0, 0], [5, 5]])
    predicted = np.array([[1.0, 0], [2.1, 0], [0, 0], [3, 0], [4, 4]])
    comparison = compared(
        [x[None] for x in true],
        [x[None] for x in predicted],
        [np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2))],
        context=[0, 0, 0, 1, 2],
    )
    stats = centroid_accuracy(comparison)
    # p0 is as far from its own as from p1: the tie is lost; p2 is farther from its own than from both others
    np.testing.assert_array_equal(stats.value_c, [0.5, 1.0, 0.0, np.nan, np.nan])
    assert stats.status_c.tolist() == [OK, OK, OK, NOT_APPLICABLE, NOT_APPLICABLE]


def test_one_prediction_for_all_ranks_at_one_half_on_average():
    cells, _, control = world(n_conditions=9)
    stats = centroid_accuracy(compared(cells, [control] * 9, [control]))
    assert stats.value_c.mean() == pytest.approx(0.5)
    assert sorted(stats.value_c) == [i / 8 for i in range(9)]


def test_systematic_variation_by_hand():
    control = np.array([1.0, 1.0])
    true = np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    stats = systematic_variation(means_only(true, true, control))
    np.testing.assert_allclose(stats.value_c, [np.sqrt(0.5), np.sqrt(0.5), np.nan])
    assert stats.reason_c[2] == "true delta is zero"
    opposite = systematic_variation(means_only(np.array([[2.0, 1], [0.0, 1]]), true[:2], control))
    assert set(opposite.reason_c) == {"the average delta is zero"}
    alone = systematic_variation(means_only(true[:1], true[:1], control))
    assert alone.status_c.tolist() == [NOT_APPLICABLE]


# --- Shift Bioscience ---------------------------------------------------------------------------------------


def test_weights_are_those_of_scanpy_scores_against_the_rest():
    cells, predicted, control = world()
    comparison = compared(cells, predicted, [control])
    weight_cg = squared_share(truth_test(comparison).t_cg)
    counted = n_rest_genes(comparison).value_c
    table = scanpy_table(cells, None, "t-test_overestim_var", "rest")
    for c in range(len(cells)):
        of = table[f"p{c}"].assign(g=lambda t: t["names"].str[1:].astype(int)).sort_values("g")
        size = of["scores"].abs().to_numpy(float)
        want = ((size - size.min()) / (size.max() - size.min())) ** 2
        np.testing.assert_allclose(weight_cg[c], want, rtol=1e-6, atol=1e-9)
        assert counted[c] == (of["pvals_adj"] < 0.05).sum()
    assert counted.sum() > 0


def test_wmse_and_r2_are_those_of_numpy_and_scikit_learn():
    cells, predicted, control = world()
    centroid = np.random.default_rng(1).random(60)
    comparison = compared(cells, predicted, [control], centroid=centroid)
    weight_cg = squared_share(truth_test(comparison).t_cg)
    wmse = weighted_mse(comparison).value_c
    for reference, ref in (("control", control.mean(0)), ("train_centroid", centroid)):
        plain, weighed = (r2_of_means(comparison, reference=reference, weighted=w) for w in (False, True))
        for c, (x, y) in enumerate(zip(cells, predicted, strict=True)):
            true, guess = x.mean(0) - ref, y.mean(0) - ref
            assert plain.value_c[c] == pytest.approx(r2_score(true, guess), rel=1e-10)
            assert weighed.value_c[c] == pytest.approx(r2_score(true, guess, sample_weight=weight_cg[c]), rel=1e-10)
            assert wmse[c] == pytest.approx(np.average((guess - true) ** 2, weights=weight_cg[c]), rel=1e-10)
        assert set(weighed.reason_c) == {""}


def test_conditions_of_few_cells_neither_weigh_nor_stand_among_the_rest():
    cells, predicted, control = world(n_conditions=5)
    full = weighted_mse(compared(cells, predicted, [control]))
    few = weighted_mse(compared([*cells, cells[0][:3]], [*predicted, predicted[0]], [control]))
    np.testing.assert_allclose(few.value_c[:5], full.value_c, rtol=1e-12)
    assert few.reason_c[5] == "fewer than 4 cells to learn weights from"
    assert few.status_c[5] == UNDEFINED


def test_without_weights_wmse_is_undefined_and_r2_says_that_it_is_unweighted():
    cells, predicted, control = world(n_conditions=3)
    lonely = compared(cells[:1], predicted[:1], [control])
    assert weighted_mse(lonely).reason_c[0] == "no other perturbation to learn weights against"
    alike = compared([cells[0]] * 2, predicted[:2], [control])
    stats = weighted_mse(alike)
    assert (stats.status_c[0], stats.reason_c[0]) == (UNDEFINED, "all weights are zero")
    for comparison in (lonely, alike):
        weighed = r2_of_means(comparison, reference="control", weighted=True)
        unweighed = r2_of_means(comparison, reference="control", weighted=False)
        np.testing.assert_allclose(weighed.value_c, unweighed.value_c, rtol=1e-12)
        assert set(weighed.status_c) == {OK}
        assert set(weighed.reason_c) == {"weights are all zero: unweighted, as the suite falls back to"}


def test_a_constant_truth_has_no_r2():
    control = np.zeros(4)
    stats = r2_of_means(means_only(np.ones((2, 4)), np.eye(4)[:2], control), reference="control", weighted=False)
    assert set(stats.reason_c) == {"true delta is constant over the weighted genes"}


def test_no_change_explains_less_than_nothing():
    cells, _, control = world()
    stats = r2_of_means(compared(cells, [control] * 6, [control]), reference="control", weighted=False)
    for c, x in enumerate(cells):
        true = x.mean(0) - control.mean(0)
        assert stats.value_c[c] == pytest.approx(1 - np.sum(true**2) / np.sum((true - true.mean()) ** 2))
    assert (stats.value_c <= 0).all()


def test_disjoint_weights_score_what_they_were_not_learned_on():
    """Two perturbations of pure noise: on their own cells the heaviest genes are the worst; on others they are not."""
    rng = np.random.default_rng(5)
    cells = [rng.normal(size=(40, 300)) for _ in range(8)]
    still = [np.zeros((4, 300))] * 8
    comparison = compared(cells, still, [rng.normal(size=(40, 300))])
    own, disjoint = weighted_mse(comparison).value_c.mean(), weighted_mse_disjoint(comparison, seed=0).value_c.mean()
    assert own > 2 * 1 / 40
    assert disjoint == pytest.approx(1 / 20, rel=0.15)


def test_disjoint_weights_by_hand_do_not_depend_on_the_order_of_cells_and_need_eight():
    rng = np.random.default_rng(2)
    cells = [rng.normal(size=(9, 5)), rng.normal(size=(12, 5)), rng.normal(size=(7, 5))]
    predicted = [rng.normal(size=(2, 5)) for _ in cells]
    stats = weighted_mse_disjoint(compared(cells, predicted, [cells[0]]), seed=0)
    moved = [x[rng.permutation(len(x))] for x in cells]
    again = weighted_mse_disjoint(compared(moved, predicted, [cells[0]]), seed=0)
    np.testing.assert_allclose(stats.value_c, again.value_c, rtol=1e-12)
    other = weighted_mse_disjoint(compared(cells, predicted, [cells[0]]), seed=1)
    assert not np.allclose(stats.value_c[:2], other.value_c[:2])
    assert stats.reason_c.tolist()[:2] == ["", ""]
    assert stats.reason_c[2] == "fewer than 4 cells in a half"


def test_disjoint_halves_hold_every_cell_once_and_each_is_scored_by_the_weights_of_the_other():
    cells, predicted, control = world(n_conditions=4)
    comparison = compared(cells, predicted, [control])
    value_c = weighted_mse_disjoint(comparison, seed=0).value_c
    first, second = _halves(comparison, 0)
    np.testing.assert_array_equal(first.n_r + second.n_r, [30, 31, 32, 33])
    whole = (first.mean_rg * first.n_r[:, None] + second.mean_rg * second.n_r[:, None]) / np.array(
        [[30], [31], [32], [33]]
    )
    np.testing.assert_allclose(whole, [x.mean(0) for x in cells], rtol=1e-12, atol=1e-12)
    guess = np.array([y.mean(0) for y in predicted])
    want = [
        np.average(
            (guess - scored.mean_rg) ** 2, axis=1, weights=squared_share(rest_test(learned, [np.arange(4)]).t_cg)
        )
        for learned, scored in ((first, second), (second, first))
    ]
    np.testing.assert_allclose(value_c, np.mean(want, axis=0), rtol=1e-12)


# --- the panel's lines --------------------------------------------------------------------------------------


def test_lines_of_papers_have_names_of_their_own():
    names = [m.identifier for m in PAPERS]
    aliases = [a for m in PAPERS for a in m.aliases]
    assert len(set(names)) == len(names)
    assert len(set(aliases)) == len(aliases)
    assert {"systema.corr_all_allpert", "systema.jaccard", "ahlmann_eltze.l2", "shift.wmse", "shift.nir"} <= set(
        aliases
    )
    assert all(m.aliases or m.identifier.startswith("pfm.") for m in PAPERS)


@pytest.mark.parametrize("metric", [m for m in PAPERS if m.aliases], ids=lambda m: m.identifier)
def test_a_case_without_cells_has_no_value(metric):
    class Bare:
        incomparable = "the file has no cells"
        comparison, n_conditions = None, 3

    assert set(metric.function(Bare()).status_c) == {NOT_APPLICABLE}
