"""Are Arc's differential expression, retrieval and errors as they define them, and undefined where they break?"""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import false_discovery_control, mannwhitneyu

from perturbfm.errors import UnknownChoice, ValuesNotFinite
from perturbfm.eval.case import NOT_APPLICABLE, UNDEFINED
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.metric.de_count import de_count, de_count_spearman
from perturbfm.eval.metric.de_curve import de_curve_area
from perturbfm.eval.metric.de_direction import (
    de_direction_match,
    de_direction_of_delta,
    de_direction_reach,
    de_direction_share,
)
from perturbfm.eval.metric.de_magnitude import de_lfc_nmae, de_lfc_spearman
from perturbfm.eval.metric.de_overlap import de_jaccard, de_overlap, de_recall
from perturbfm.eval.metric.differential import CELL_EVAL2, PANEL, PDEX_01, PDEX_03, Calls, Recipe, calls
from perturbfm.eval.metric.discrimination import discrimination, discrimination_midrank
from perturbfm.eval.metric.effect_size import effect_size_pearson
from perturbfm.eval.metric.mann_whitney import mann_whitney
from perturbfm.eval.metric.profile_distance import profile_error
from perturbfm.eval.metric.pseudobulk import change_error, pearson_change
from perturbfm.eval.metric.rank_test import ranked_controls
from perturbfm.eval.panel.cell_eval import CELL_EVAL
from perturbfm.eval.panel.metric import OnCells

ON_CELLS = [m for m in CELL_EVAL if isinstance(m.function, OnCells) and not m.function.whole_case]


def compare(true, predicted, controls, predicted_controls=None, *, contexts=None, names=None, targets=None, genes=None):
    """A comparison of lists of matrices; one context unless told."""
    own = controls if predicted_controls is None else predicted_controls
    number = np.zeros(len(true), dtype=int) if contexts is None else np.array(contexts)
    names = names or [f"p{i}" for i in range(len(true))]
    return Comparison(
        context_k=tuple(f"k{i}" for i in range(len(controls))),
        context_of_c=number,
        perturbation_c=np.array(names, dtype=object),
        genes_g=tuple(genes or (f"g{i:02d}" for i in range(true[0].shape[1]))),
        truth=Side(lambda c: true[c], lambda k: controls[k], len(true), len(controls)),
        predicted=Side(lambda c: predicted[c], lambda k: own[k], len(true), len(controls)),
        targets_cg=targets,
    )


def said(fdr_true, fdr_predicted, lfc_true, lfc_predicted, targets=None, p=None):
    """A comparison whose tests have been made already, for every recipe that metrics are asked with here."""
    made = compare(*[[np.zeros((2, len(fdr_true[0])))] * len(fdr_true)] * 2, [np.zeros((2, len(fdr_true[0])))])
    for side, fdr, lfc in (("truth", fdr_true, lfc_true), ("predicted", fdr_predicted, lfc_predicted)):
        fdr, lfc = np.array(fdr, dtype=float), np.array(lfc, dtype=float)
        p = p if p is None else np.array(p, dtype=float)
        for recipe in (PDEX_03, CELL_EVAL2):
            made._made[("calls", side, recipe)] = Calls(fdr if p is None else p, fdr, lfc, fdr < 0.05)
    if targets is not None:
        object.__setattr__(made, "targets_cg", np.array(targets, dtype=bool))
    return made


# --- the test ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(40, 60), (3, 200), (1, 1), (7, 2), (9, 1)])
@pytest.mark.parametrize("kind", ["sparse", "tied", "continuous", "negative"])
def test_p_is_scipys_whatever_ties_there_are(n, m, kind):
    rng = np.random.default_rng(n * m)
    x, y = rng.normal(size=(n, 25)), rng.normal(size=(m, 25))
    if kind == "sparse":
        x, y = np.maximum(x - 0.8, 0), np.maximum(y - 0.8, 0)
    elif kind in ("tied", "negative"):
        x, y = np.round(x) - (kind == "negative"), np.round(y)
    y[:, 1] = x[0, 1]
    known = mannwhitneyu(x, y, method="asymptotic", use_continuity=True).pvalue
    np.testing.assert_allclose(mann_whitney(x, ranked_controls(y)), np.where(np.isnan(known), 1.0, known), rtol=1e-12)


def test_p_of_six_cells_by_hand():
    # U = 9 of 9, mean 4.5, variance 9 / 12 * 7 = 5.25: z = (9 - 4.5 - 0.5) / 2.29129 = 1.74574
    p = mann_whitney(np.array([[4.0], [5.0], [6.0]]), ranked_controls(np.array([[1.0], [2.0], [3.0]])))
    assert p[0] == pytest.approx(0.0808556, abs=1e-7)


def test_a_gene_that_is_the_same_in_all_cells_has_p_1():
    assert mann_whitney(np.zeros((5, 1)), ranked_controls(np.zeros((9, 1)))).tolist() == [1.0]


def test_values_split_over_groups_keep_their_ties():
    # one value is shared by all but one cell: ties of both sides count together
    x, y = np.array([[1.0], [1.0], [2.0]]), np.array([[1.0], [1.0], [1.0]])
    known = mannwhitneyu(x[:, 0], y[:, 0], method="asymptotic").pvalue
    assert mann_whitney(x, ranked_controls(y))[0] == pytest.approx(known, rel=1e-12)


@pytest.fixture
def strong():
    """Two contexts of two conditions; controls of the sides differ."""
    rng = np.random.default_rng(5)

    def cells(n, shift):
        return np.maximum(rng.normal(size=(n, 12)) + shift, 0)

    shifts = [rng.normal(size=12) for _ in range(4)]
    true, predicted = [cells(30, s) for s in shifts], [cells(25, s) for s in shifts]
    return compare(true, predicted, [cells(40, 0), cells(35, 0)], [cells(40, 0), cells(35, 0)], contexts=[0, 1, 0, 1])


@pytest.mark.parametrize(("control", "other"), [("own", "predicted"), ("true", "truth")])
def test_a_side_is_tested_against_the_controls_of_its_context(strong, control, other):
    found = calls(strong, "predicted", Recipe(control=control, single=False))
    for c in range(4):
        base = getattr(strong, other).control(int(strong.context_of_c[c]))
        known = mannwhitneyu(strong.predicted.cells(c), base, method="asymptotic").pvalue
        np.testing.assert_allclose(found.p_cg[c], known, rtol=1e-12)
        np.testing.assert_allclose(found.fdr_cg[c], false_discovery_control(known), rtol=1e-12)


def test_correction_over_a_context_takes_its_tests_together(strong):
    found = calls(strong, "truth", Recipe(fdr="context", single=False))
    for k in (0, 1):
        mine = strong.context_of_c == k
        np.testing.assert_allclose(found.fdr_cg[mine].ravel(), false_discovery_control(found.p_cg[mine].ravel()))


def test_fold_changes_of_one_sided_zeros():
    control = np.log1p(np.array([[0.0, 4.0, 0.0, 1.0]] * 5))
    group = np.log1p(np.array([[2.0, 0.0, 0.0, 8.0]] * 5))
    made = compare([group], [group], [control])
    assert calls(made, "truth", PDEX_03).lfc_cg[0].tolist() == [np.inf, -np.inf, 0.0, 3.0]
    np.testing.assert_allclose(calls(made, "truth", PDEX_01).lfc_cg[0], [np.log2(20), -np.log2(20), 0.0, 3.0])
    np.testing.assert_allclose(
        calls(made, "truth", CELL_EVAL2).lfc_cg[0], [np.log2(2e9 + 1), -np.log2(4e9 + 1), 0.0, 3.0], rtol=1e-7
    )


def test_a_geometric_and_an_arithmetic_mean_differ():
    control, group = np.log1p(np.array([[1.0], [1.0]])), np.log1p(np.array([[0.0], [8.0]]))
    made = compare([group], [group], [control])
    assert calls(made, "truth", PDEX_03).lfc_cg[0, 0] == pytest.approx(1.0)
    assert calls(made, "truth", CELL_EVAL2).lfc_cg[0, 0] == pytest.approx(2.0)
    assert calls(made, "truth", PANEL).lfc_cg[0, 0] == pytest.approx(np.log2(1.5))


def test_a_mean_below_zero_has_a_direction_in_the_panel_and_none_in_the_suites():
    control, group = np.full((3, 1), 0.5), np.full((3, 1), -0.5)
    made = compare([control], [group], [control])
    assert calls(made, "predicted", PDEX_03).lfc_cg[0, 0] == 0.0
    assert np.isnan(calls(made, "predicted", CELL_EVAL2).lfc_cg[0, 0])
    assert not calls(made, "predicted", CELL_EVAL2).called_cg.any()
    assert calls(made, "predicted", PANEL).lfc_cg[0, 0] < 0


# --- agreement of calls --------------------------------------------------------------------------------

YES, NO = 0.01, 0.5


def test_overlap_takes_as_many_as_are_true_from_the_top_of_both():
    made = said([[YES, YES, NO, NO]], [[NO, YES, YES, YES]], [[5, 4, 3, 2]], [[9, 1, 8, -7]])
    assert de_overlap(made, recipe=PDEX_03, k=None, of="truth").value_c.tolist() == [0.0]
    assert de_overlap(made, recipe=PDEX_03, k=None, of="prediction").value_c[0] == pytest.approx(1 / 3)
    made = said([[YES, YES, NO, NO]], [[NO, YES, YES, NO]], [[5, 4, 3, 2]], [[9, 1, 8, -7]])
    assert de_overlap(made, recipe=PDEX_03, k=50, of="truth").value_c.tolist() == [0.5]
    assert de_overlap(made, recipe=PDEX_03, k=1, of="truth").value_c.tolist() == [0.0]


def test_ties_of_the_fold_change_go_by_the_order_of_genes():
    inf = np.inf
    made = said([[YES, NO, NO]], [[YES, YES, YES]], [[inf, 0, 0]], [[-inf, inf, inf]])
    assert de_overlap(made, recipe=PDEX_03, k=None, of="truth").value_c.tolist() == [1.0]
    made = said([[NO, NO, YES]], [[YES, YES, YES]], [[0, 0, inf]], [[-inf, inf, inf]])
    assert de_overlap(made, recipe=PDEX_03, k=None, of="truth").value_c.tolist() == [0.0]


def test_jaccard_and_recall_with_and_without_the_own_gene():
    args = ([[YES, YES, NO]], [[YES, NO, YES]], [[1, 1, 1]], [[1, 1, 1]])
    assert de_jaccard(said(*args), recipe=CELL_EVAL2).value_c[0] == pytest.approx(1 / 3)
    assert de_jaccard(said(*args, targets=[[True, False, False]]), recipe=CELL_EVAL2).value_c[0] == 0.0
    assert de_recall(said(*args), recipe=PDEX_03).value_c[0] == 0.5


def test_direction_counts_a_prediction_of_no_change_as_a_miss():
    made = said([[YES, YES, YES, NO]], [[NO] * 4], [[1, -1, 2, 1]], [[3, -np.inf, 0, 1]])
    assert de_direction_match(made, recipe=PDEX_03).value_c[0] == pytest.approx(2 / 3)


def test_shares_of_right_calls():
    # called: four genes, one of which does not change in truth; two of the other three are right; truth calls five
    made = said(
        [[YES, YES, NO, NO, YES, YES, YES]],
        [[YES, YES, YES, YES, NO, NO, NO]],
        [[1, -1, 1, 0, 1, 1, 1]],
        [[1, 1, 1, 1, 1, 1, 1]],
    )
    found = {of: de_direction_share(made, recipe=CELL_EVAL2, of=of).value_c[0] for of in ("called", "true", "larger")}
    assert found == pytest.approx({"called": 2 / 3, "true": 2 / 5, "larger": 2 / 5})
    assert de_direction_share(made, recipe=CELL_EVAL2, of="coverage").value_c[0] == pytest.approx(3 / 5)


def test_calling_everything_costs_the_yield():
    made = said([[YES, NO, NO, NO]], [[YES] * 4], [[1, -1, -1, 1]], [[1, 1, 1, 1]])
    assert de_direction_share(made, recipe=CELL_EVAL2, of="larger").value_c[0] == 0.5
    assert de_direction_share(made, recipe=CELL_EVAL2, of="true").value_c[0] == 2.0


def test_reach_ranks_by_adjusted_p_then_p_then_size_then_name():
    made = said([[YES] * 4], [[0.5] * 4], [[1.0] * 4], [[-1.0, 1.0, 2.0, 1.0]])
    # all tie but for their size: the larger one leads, and of the others the first name, which is wrong
    assert de_direction_reach(made, recipe=CELL_EVAL2).value_c[0] == 0.25
    made = said([[YES] * 4], [[0.5] * 4], [[1.0] * 4], [[-1.0, 1.0, 2.0, 1.0]], p=[[0.4, 0.1, 0.2, 0.3]])
    assert de_direction_reach(made, recipe=CELL_EVAL2).value_c[0] == 0.75
    made = said([[YES] * 4], [[YES, NO, NO, NO]], [[1.0] * 4], [[-1.0, 1.0, 2.0, 1.0]], p=[[0.4, 0.1, 0.2, 0.3]])
    assert de_direction_reach(made, recipe=CELL_EVAL2).value_c[0] == 0.0


def test_reach_takes_the_deepest_prefix_that_is_pure_again():
    # nine right ones after a wrong one: 9 of 10 are right at depth 10, so all of it counts; eight are not enough
    fdr, true = [[YES] * 10], [[1.0] * 10]
    made = said(fdr, [np.linspace(0.001, 0.04, 10)], true, [[-1.0] + [1.0] * 9])
    assert de_direction_reach(made, recipe=CELL_EVAL2).value_c[0] == 1.0
    made = said(fdr, [np.linspace(0.001, 0.04, 10)], true, [[-1.0, -1.0] + [1.0] * 8])
    assert de_direction_reach(made, recipe=CELL_EVAL2).value_c[0] == 0.0
    made = said(fdr, [np.linspace(0.001, 0.04, 10)], true, [[1.0] * 4 + [-1.0] * 6])
    assert de_direction_reach(made, recipe=CELL_EVAL2).value_c[0] == pytest.approx(0.4)


def test_no_change_has_a_magnitude_error_of_one_and_a_doubled_one_too():
    fdr = [[YES] * 10 + [NO]]
    lfc = [np.append(np.arange(1.0, 11.0), 50.0)]
    zero, twice, right = (said(fdr, fdr, lfc, [f * lfc[0]]) for f in (0.0, 2.0, 1.0))
    found = [de_lfc_nmae(made, recipe=CELL_EVAL2).value_c[0] for made in (zero, twice, right)]
    assert found == pytest.approx([1.0, 1.0, 0.0])


def test_infinite_fold_changes_leave_the_magnitude_error_in_truth_and_count_as_none_in_a_prediction():
    fdr = [[YES] * 11]
    made = said(fdr, fdr, [[np.inf] + [1.0] * 10], [[1.0] * 10 + [np.inf]])
    assert de_lfc_nmae(made, recipe=CELL_EVAL2).value_c[0] == pytest.approx(0.1)


def test_curves_of_a_right_a_reversed_and_an_undecided_prediction():
    fdr_true = [[YES, YES, NO, NO]]
    for fdr, roc in (([YES, YES, NO, 1.0], 1.0), ([1.0, 1.0, YES, YES], 0.0), ([NO] * 4, 0.5)):
        made = said(fdr_true, [fdr], [[1] * 4], [[1] * 4])
        assert de_curve_area(made, recipe=PDEX_03, curve="roc", floor="clip").value_c[0] == pytest.approx(roc)


def test_the_floor_decides_what_an_exact_zero_is_worth():
    made = said([[YES, NO, NO]], [[0.0, 1e-30, 0.5]], [[1] * 3], [[1] * 3])
    found = [
        de_curve_area(made, recipe=PDEX_03, curve="roc", floor=floor).value_c[0] for floor in ("clip", "zero", "least")
    ]
    assert found == pytest.approx([0.75, 0.5, 0.75])


def test_counts_correlate_over_perturbations_that_have_any():
    made = said(
        [[YES, NO, NO], [YES, YES, NO], [YES, YES, YES], [NO, NO, NO]],
        [[YES, YES, YES], [YES, YES, NO], [YES, NO, NO], [YES, YES, YES]],
        np.ones((4, 3)),
        np.ones((4, 3)),
    )
    assert de_count_spearman(made, recipe=PDEX_03).value_c.tolist() == pytest.approx([-1.0] * 4)
    assert de_count(made, recipe=PDEX_03, side="truth").value_c.tolist() == [1, 2, 3, 0]


GATED = {
    "overlap": lambda c: de_overlap(c, recipe=PDEX_03, k=None, of="truth"),
    "precision": lambda c: de_overlap(c, recipe=PDEX_03, k=50, of="prediction"),
    "recall": lambda c: de_recall(c, recipe=PDEX_03),
    "jaccard": lambda c: de_jaccard(c, recipe=CELL_EVAL2),
    "match": lambda c: de_direction_match(c, recipe=PDEX_03),
    "lfc": lambda c: de_lfc_spearman(c, recipe=PDEX_03),
    "nmae": lambda c: de_lfc_nmae(c, recipe=CELL_EVAL2),
    "reach": lambda c: de_direction_reach(c, recipe=CELL_EVAL2),
    "yield": lambda c: de_direction_share(c, recipe=CELL_EVAL2, of="larger"),
    "fidelity": lambda c: de_direction_share(c, recipe=CELL_EVAL2, of="called"),
    "roc": lambda c: de_curve_area(c, recipe=PDEX_03, curve="roc", floor="clip"),
    "count": lambda c: de_count_spearman(c, recipe=PDEX_03),
}


@pytest.mark.parametrize("name", GATED)
def test_without_a_significant_gene_on_either_side_nothing_has_a_value(name):
    made = said([[NO, NO]] * 3, [[NO, NO]] * 3, np.ones((3, 2)), np.ones((3, 2)))
    found = GATED[name](made)
    assert set(found.status_c) == {UNDEFINED}
    assert all(found.reason_c)


@pytest.mark.parametrize("name", [n for n in GATED if n != "fidelity"])
def test_a_prediction_that_calls_nothing_where_truth_does_never_looks_good(name):
    made = said([[YES] * 12 + [NO]] * 3, [[1.0] * 13] * 3, np.ones((3, 13)), np.zeros((3, 13)))
    value_c = GATED[name](made).value_c
    chance = {"roc": 0.5, "nmae": 1.0}.get(name, 0.0)
    assert all(np.isnan(value_c) | (value_c == chance))


def test_the_headline_needs_ten_significant_genes():
    for n, status in ((9, UNDEFINED), (10, "ok")):
        made = said([[YES] * n + [NO] * 5], [[YES] * (n + 5)], np.ones((1, n + 5)), np.ones((1, n + 5)))
        assert de_direction_match(made, recipe=PDEX_03, least=10).status_c[0] == status
        assert de_jaccard(made, recipe=CELL_EVAL2, least=10).status_c[0] == status


def delta_case(made, predicted, true):
    """A case of given deltas beside tests that have been made already."""
    predicted_cg, true_cg = np.array(predicted, dtype=float), np.array(true, dtype=float)
    zero_cg = np.zeros_like(true_cg)
    return SimpleNamespace(
        comparison=made, predicted_cg=predicted_cg, truth_cg=true_cg, input_cg=zero_cg, n_conditions=len(true_cg)
    )


def test_direction_is_that_of_the_deltas_over_genes_called_in_truth_without_the_own_gene():
    made = said([[YES, YES, YES, NO]], [[NO] * 4], np.ones((1, 4)), np.zeros((1, 4)), targets=[[True] + [False] * 3])
    case = delta_case(made, [[-9.0, 2.0, -1.0, 5.0]], [[1.0, 1.0, 1.0, -1.0]])
    assert de_direction_of_delta(case, recipe=PDEX_03, least=2).value_c.tolist() == [0.5]
    assert de_direction_of_delta(case, recipe=PDEX_03, least=3).status_c.tolist() == [UNDEFINED]


def test_a_delta_of_zero_or_of_rounding_has_no_direction():
    made = said([[YES] * 12] * 2, [[NO] * 12] * 2, np.ones((2, 12)), np.zeros((2, 12)))
    case = delta_case(made, [[0.0] * 12, [1e-18] * 12], np.ones((2, 12)))
    case.input_cg = np.ones((2, 12))
    found = de_direction_of_delta(case, recipe=PDEX_03, least=10)
    assert found.reason_c.tolist() == ["the predicted delta is zero"] * 2


# --- retrieval, errors, effect sizes -------------------------------------------------------------------


def means(true, predicted, **kwargs):
    """A comparison of one-cell groups, with controls at zero."""
    true, predicted = np.array(true, dtype=float), np.array(predicted, dtype=float)
    return compare([x[None] for x in true], [x[None] for x in predicted], [np.zeros((1, true.shape[1]))], **kwargs)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_positions_of_a_right_a_swapped_and_a_half_right_prediction(distance):
    true = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    right, turned = means(true, true), means(true, true[[1, 2, 0]] + 0.1 * true[[2, 0, 1]])
    assert discrimination(right, distance=distance).value_c.tolist() == [1.0] * 3
    assert discrimination(turned, distance=distance).value_c == pytest.approx([1 / 3] * 3)
    assert discrimination_midrank(right, distance=distance).value_c.tolist() == [1.0] * 3
    assert discrimination_midrank(turned, distance=distance).value_c.tolist() == [0.0] * 3


def test_the_gene_named_as_the_perturbation_is_left_out_and_those_of_a_pair_are_not():
    true, predicted = [[9.0, 0, 1], [0, 1, 0]], [[9.0, 1, 0], [0, 1, 0]]
    kept = means(true, predicted, names=["A+B", "C"], genes=["A", "B", "D"])
    left = means(true, predicted, names=["A", "C"], genes=["A", "B", "D"])
    assert discrimination(kept, distance="l1").value_c[0] == 1.0
    assert discrimination(left, distance="l1").value_c[0] == 0.5


def test_panel_targets_are_left_out_for_everyone():
    true, predicted = [[9.0, 0, 1], [0, 1, 0]], [[9.0, 1, 0], [0, 1, 0]]
    targets = np.array([[True, False, False], [False, False, False]])
    assert discrimination_midrank(means(true, predicted), distance="l1").value_c.tolist() == [1.0, 1.0]
    told = means(true, predicted, targets=targets)
    assert discrimination_midrank(told, distance="l1").value_c.tolist() == [0.0, 1.0]


def test_no_change_is_chance_by_mid_ranks_and_undefined_by_position():
    true = np.random.default_rng(0).normal(size=(5, 4))
    still = means(true, np.zeros((5, 4)))
    assert discrimination_midrank(still, distance="cosine").value_c.tolist() == [0.5] * 5
    assert set(discrimination(still, distance="cosine").status_c) == {UNDEFINED}


def test_a_prediction_that_is_the_same_for_all_is_chance_on_average():
    true = np.random.default_rng(1).normal(size=(7, 5))
    same = means(true, np.tile(true.mean(0), (7, 1)))
    for distance in ("l1", "l2", "cosine"):
        assert discrimination_midrank(same, distance=distance).value_c.mean() == pytest.approx(0.5)
        assert discrimination(same, distance=distance).value_c.mean() == pytest.approx((7 + 1) / 14)


def test_ranks_stay_within_a_context_and_one_perturbation_is_not_ranked():
    true = np.array([[1.0, 0], [1.1, 0], [0, 1.0]])
    made = compare(
        [x[None] for x in true], [x[None] for x in true[[0, 0, 2]]], [np.zeros((1, 2))] * 2, contexts=[0, 0, 1]
    )
    for metric in (discrimination, discrimination_midrank):
        found = metric(made, distance="l1")
        assert found.status_c.tolist() == ["ok", "ok", NOT_APPLICABLE]
        assert found.value_c[0] == 1.0
        assert found.value_c[1] < 1.0


def test_each_side_has_its_own_origin_or_both_have_the_true_one():
    true, predicted = [np.array([[2.0, 1.0, 0.0]])], [np.array([[3.0, 2.0, 1.0]])]
    made = compare(true, predicted, [np.zeros((1, 3))], [np.ones((1, 3))])
    assert profile_error(made, space="mean", error="mae").value_c[0] == 1.0
    assert change_error(made, power=2, control="own").value_c[0] == 0.0
    assert change_error(made, power=2, control="true").value_c[0] == 1.0
    assert pearson_change(made).value_c[0] == pytest.approx(1.0)


def test_correlation_of_no_change_is_undefined():
    made = means([[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]])
    assert set(pearson_change(made).status_c) == {UNDEFINED}


def test_strong_perturbations_predicted_strong():
    rng = np.random.default_rng(2)
    control = rng.normal(size=(30, 4))
    true = [control + s for s in (0.2, 1.0, 2.0, 4.0)]
    assert effect_size_pearson(compare(true, true, [control])).value_c == pytest.approx([1.0] * 4)
    weak = effect_size_pearson(compare(true, true[::-1], [control])).value_c
    assert (weak < 0).all()
    flat = effect_size_pearson(compare(true, [control[::-1]] * 4, [control]))
    assert set(flat.status_c) == {UNDEFINED}


def test_distance_to_controls_is_the_biased_energy_distance():
    made = compare([np.array([[0.0], [2.0]]), np.array([[5.0]])], [np.array([[1.0]])] * 2, [np.array([[0.0], [1.0]])])
    effect_size_pearson(made)
    # 2 * (0 + 1 + 2 + 1) / 4 - (2 + 2) / 4 - (1 + 1) / 4, and 2 * (5 + 4) / 2 - 0 - 1/2
    np.testing.assert_allclose(made.truth._made["energy_to_control"], [0.5, 8.5])


# --- the panel -----------------------------------------------------------------------------------------


def test_no_two_lines_share_a_name():
    identifiers = [m.identifier for m in CELL_EVAL]
    aliases = [a for m in CELL_EVAL for a in m.aliases]
    assert len(set(identifiers)) == len(identifiers)
    assert len(set(aliases)) == len(aliases)


def test_the_challenge_of_2025_is_three_of_the_aliases():
    aliases = {a for m in CELL_EVAL for a in m.aliases}
    for suite in ("cell_eval_0.8.2", "cell_eval_0.6.8"):
        assert {f"{suite}.{name}" for name in ("mae", "discrimination_score_l1", "overlap_at_N")} <= aliases


def test_every_line_has_a_value_or_a_reason_on_cells(strong):
    for metric in ON_CELLS:
        found = metric.function.function(strong)
        assert all((found.status_c == "ok") | (found.reason_c != "")), metric.identifier
        assert not np.isnan(found.value_c[found.ok_c]).any(), metric.identifier


@pytest.mark.parametrize(
    "asked",
    [
        lambda c: calls(c, "real", PDEX_03),
        lambda c: calls(c, "truth", Recipe(fdr="all")),
        lambda c: calls(c, "truth", Recipe(fold_change="median")),
        lambda c: calls(c, "truth", Recipe(control="none")),
        lambda c: de_overlap(c, recipe=PDEX_03, k=1, of="both"),
        lambda c: de_curve_area(c, recipe=PDEX_03, curve="lift", floor="clip"),
        lambda c: de_curve_area(c, recipe=PDEX_03, curve="roc", floor="none"),
        lambda c: de_direction_share(c, recipe=PDEX_03, of="half"),
        lambda c: discrimination(c, distance="l3"),
    ],
)
def test_a_choice_that_nobody_makes_is_refused(strong, asked):
    with pytest.raises(UnknownChoice, match="There is no such"):
        asked(strong)


def _degenerate(kind):
    rng = np.random.default_rng(8)
    group, control = [rng.random((6, 5)) for _ in range(3)], rng.random((7, 5))
    return {
        "below zero": lambda: compare(group, [x - 2.0 for x in group], [control]),
        "all zero": lambda: compare([np.zeros((4, 5))] * 3, [np.zeros((4, 5))] * 3, [np.zeros((4, 5))]),
        "one cell": lambda: compare([x[:1] for x in group], [x[1:2] for x in group], [control[:1]]),
        "one condition": lambda: compare(group[:1], group[:1], [control]),
        "one gene": lambda: compare([x[:, :1] for x in group], [x[:, 1:2] for x in group], [control[:, :1]]),
        "controls again": lambda: compare(group, [control] * 3, [control]),
        "truth again": lambda: compare(group, group, [control]),
    }[kind]()


@pytest.mark.parametrize(
    "kind", ["below zero", "all zero", "one cell", "one condition", "one gene", "controls again", "truth again"]
)
def test_degenerate_cells_give_a_value_or_a_reason_and_no_warning(kind):
    made = _degenerate(kind)
    for metric in ON_CELLS:
        found = metric.function.function(made)
        assert all((found.status_c == "ok") == (found.reason_c == "")), metric.identifier
        assert np.isfinite(found.value_c[found.ok_c]).all(), metric.identifier


def test_cells_that_are_all_zero_are_never_perfect():
    made = _degenerate("all zero")
    for metric in ON_CELLS:
        if metric.better == "higher":
            found = metric.function.function(made)
            chance = 0.5 if "ties=mid" in metric.identifier else np.nan
            np.testing.assert_array_equal(found.value_c, chance, err_msg=metric.identifier)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ValuesNotFinite, match="given NaN in 1 of 2 genes"):
        mann_whitney(np.array([[1.0, np.nan], [0.0, 1.0]]), ranked_controls(np.ones((3, 2))))
