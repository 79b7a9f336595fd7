"""Is the truth what arithmetic on the cells says it is, and does it refuse predictions of something else?

Judged cells: context u (batches 1, 2 unbalanced) with A (3 + 1 cells), B (2 + 2); context v (batch 1 only) with A, C.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from perturbfm.errors import PredictionMismatch, TooFewControls
from perturbfm.eval import moments as moments_module
from perturbfm.eval.comparison import dense
from perturbfm.eval.moments import GroupMoments, moments
from perturbfm.eval.truth import TrainCentroids, Truth, halve
from perturbfm.types import Observed, Prediction

G = 4
CELLS = [("u", "A", "1", 3), ("u", "A", "2", 1), ("u", "B", "1", 2), ("u", "B", "2", 2), ("v", "A", "1", 3)]
CELLS += [("v", "C", "1", 5)]
INPUT = [("u", "1", 4), ("u", "2", 6), ("v", "1", 10)]
REFERENCE = [("u", "1", 5), ("u", "2", 3), ("v", "1", 4)]
NAMES = [("u", "A"), ("u", "B"), ("v", "A"), ("v", "C")]


def expanded(rows):
    """Label columns of rows given as (label, ..., how often)."""
    return [np.array([r[i] for r in rows for _ in range(r[-1])], dtype=object) for i in range(len(rows[0]) - 1)]


def numbers(n, seed):
    """Numbers of a log scale, a quarter of them zero."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, G)) < 0.25, 0.0, rng.gamma(2.0, size=(n, G)))


def small(seed=0, as_sparse=False, **changes):
    context_n, intervention_n, batch_n = expanded(CELLS)
    (input_context, input_batch), (reference_context, reference_batch) = expanded(INPUT), expanded(REFERENCE)
    order = np.random.default_rng(9).permutation(len(context_n))
    x = [numbers(n, seed + i) for i, n in enumerate((len(context_n), len(input_context), len(reference_context)))]
    x[1][:, 3] = 0.0
    x[1][0, 3] = 5.0  # one of 10 input cells of u, none of v, detects gene 3
    x = [sparse.csr_matrix(a) for a in x] if as_sparse else x
    observed = Observed(
        idx_n=np.arange(100, 100 + len(order)),
        x_ng=x[0],
        intervention_n=intervention_n[order],
        context_n=context_n[order],
        batch_n=batch_n[order],
        input_mg=x[1],
        input_context_m=input_context,
        input_batch_m=input_batch,
        reference_rg=x[2],
        reference_context_r=reference_context,
        reference_batch_r=reference_batch,
        genes_g=tuple("abcd"),
        scale="log1p",
        unit="cells",
        controls="cells",
        match_batch=True,
        fold="test",
    )
    return replace(observed, **changes)


def rows_of(o, context, intervention, batch=None):
    same = (o.context_n == context) & (o.intervention_n == intervention)
    return dense(o.x_ng)[same if batch is None else same & (o.batch_n == batch)]


def controls_of(o, side, context, batch=None):
    x, c, b = {
        "input": (o.input_mg, o.input_context_m, o.input_batch_m),
        "reference": (o.reference_rg, o.reference_context_r, o.reference_batch_r),
    }[side]
    return dense(x)[(c == context) if batch is None else (c == context) & (b == batch)]


def matched(o, side, context, intervention):
    """Control mean weighted by the condition's cells per batch."""
    counts = {b: len(rows_of(o, context, intervention, b)) for b in ("1", "2")}
    total = sum(counts.values())
    return sum(n / total * controls_of(o, side, context, b).mean(0) for b, n in counts.items() if n)


def prediction(o, **changes):
    n = len(o.idx_n)
    values = {
        "mean_qg": np.arange(3.0)[:, None] + np.arange(G) / 10,
        "var_qg": 1.0 + np.arange(3.0)[:, None] + np.zeros(G),
        "query_n": np.arange(n) % 3,
        "idx_n": o.idx_n,
        "genes_g": o.genes_g,
        "scale": o.scale,
        "fold": o.fold,
        "model": "m",
        "split_hash": "h",
        "fingerprint": "f",
    }
    return Prediction(**(values | changes))


# --- means, T and V --------------------------------------------------------------------------------


@pytest.mark.parametrize("as_sparse", [False, True])
def test_mean_is_over_all_cells_of_the_condition_and_t_subtracts_batch_matched_reference(as_sparse):
    o = small(as_sparse=as_sparse)
    truth = Truth(o)
    assert list(zip(truth.context_c, truth.intervention_c, strict=True)) == NAMES
    assert truth.n_c.tolist() == [4, 4, 3, 5]
    for i, (k, p) in enumerate(NAMES):
        mean = rows_of(o, k, p).mean(0)
        np.testing.assert_allclose(truth.mean_cg[i], mean, atol=1e-12)
        np.testing.assert_allclose(truth.delta_cg[i], mean - matched(o, "reference", k, p), atol=1e-12)
        np.testing.assert_allclose(truth.input_cg[i], matched(o, "input", k, p), atol=1e-12)


def test_t_of_u_a_takes_three_quarters_of_batch_1():
    o = small()
    by_hand = 0.75 * controls_of(o, "reference", "u", "1").mean(0) + 0.25 * controls_of(o, "reference", "u", "2").mean(
        0
    )
    np.testing.assert_allclose(Truth(o).delta_cg[0], rows_of(o, "u", "A").mean(0) - by_hand, atol=1e-12)


def test_v_is_pooled_within_batches_over_n_plus_squared_weights_times_control_noise():
    o = small()
    truth = Truth(o)
    for i, (k, p) in enumerate(NAMES):
        parts = [rows_of(o, k, p, b) for b in ("1", "2")]
        parts = [x for x in parts if len(x)]
        n = sum(map(len, parts))
        pooled = sum(((x - x.mean(0)) ** 2).sum(0) for x in parts) / (n - len(parts))
        expected = pooled / n
        for b in ("1", "2"):
            share = len(rows_of(o, k, p, b)) / n
            if share:
                r = controls_of(o, "reference", k, b)
                expected = expected + share**2 * r.var(0, ddof=1) / len(r)
        np.testing.assert_allclose(truth.noise_cg[i], expected, atol=1e-12)


def test_without_batches_v_is_the_protocols_formula():
    o = small(match_batch=False)
    truth = Truth(o)
    for i, (k, p) in enumerate(NAMES):
        x, r = rows_of(o, k, p), controls_of(o, "reference", k)
        np.testing.assert_allclose(truth.delta_cg[i], x.mean(0) - r.mean(0), atol=1e-12)
        np.testing.assert_allclose(truth.noise_cg[i], x.var(0, ddof=1) / len(x) + r.var(0, ddof=1) / len(r), atol=1e-12)
        np.testing.assert_allclose(truth.input_cg[i], controls_of(o, "input", k).mean(0), atol=1e-12)
        np.testing.assert_allclose(truth.input_var_cg[i], controls_of(o, "input", k).var(0, ddof=1), atol=1e-12)


def test_t_and_v_do_not_read_input_controls():
    o = small()
    other = replace(o, input_mg=o.input_mg * 3 + 1)
    a, b = Truth(o), Truth(other)
    np.testing.assert_array_equal(a.delta_cg, b.delta_cg)
    np.testing.assert_array_equal(a.noise_cg, b.noise_cg)
    assert not np.allclose(a.input_cg, b.input_cg)


def test_expected_v_is_the_variance_of_t_over_redrawn_cells():
    """10,000 worlds of independent standard normal cells: V averages to the variance of T over worlds."""
    rng, n_worlds = np.random.default_rng(3), 10_000
    o = small()
    shapes = [o.x_ng.shape[0], o.input_mg.shape[0], o.reference_rg.shape[0]]
    x, i, r = (rng.normal(size=(n, n_worlds)) for n in shapes)
    genes = tuple(map(str, range(n_worlds)))  # each gene is a world of its own
    truth = Truth(replace(o, x_ng=x, input_mg=i, reference_rg=r, genes_g=genes))
    np.testing.assert_allclose(truth.noise_cg.mean(1), truth.delta_cg.var(1), rtol=0.06)
    # 4 cells in two batches, 5 and 3 controls: 1/4 + (3/4)^2/5 + (1/4)^2/3
    assert truth.noise_cg[0].mean() == pytest.approx(1 / 4 + 9 / 80 + 1 / 48, rel=0.05)


# --- what rests on input controls ------------------------------------------------------------------


def test_input_variance_is_within_batches_of_the_context():
    o = small()
    truth = Truth(o)
    for i, (k, _) in enumerate(NAMES):
        parts = [x for b in ("1", "2") if len(x := controls_of(o, "input", k, b))]
        free = sum(len(x) - 1 for x in parts)
        np.testing.assert_allclose(truth.input_var_cg[i], sum(((x - x.mean(0)) ** 2).sum(0) for x in parts) / free)


def test_a_batch_shift_of_controls_does_not_enter_the_input_variance():
    o = small()
    shifted = o.input_mg + 50.0 * (o.input_batch_m == "2")[:, None]
    np.testing.assert_allclose(Truth(replace(o, input_mg=shifted)).input_var_cg, Truth(o).input_var_cg, atol=1e-9)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_a_gene_is_scored_from_ten_percent_of_the_contexts_input_controls(as_sparse):
    scored = Truth(small(as_sparse=as_sparse)).scored_cg
    assert scored[:2, 3].all()  # 1 of 10 input cells of u
    assert not scored[2:, 3].any()  # 0 of 10 of v
    assert scored[:, :3].all()


def test_nine_percent_is_not_enough():
    """11 input controls, one of which detects the gene; an explicit zero is no detection."""
    o = small()
    x = sparse.csr_matrix(np.vstack([o.input_mg, np.zeros((1, G))]))
    x.data[0] = 0.0
    labels = {"input_context_m": np.append(o.input_context_m, "u"), "input_batch_m": np.append(o.input_batch_m, "1")}
    o = replace(o, input_mg=x, **labels)
    assert not Truth(o).scored_cg[:2, 3].any()


# --- parts of a truth ------------------------------------------------------------------------------


def test_only_keeps_the_numbers_of_the_conditions_it_keeps():
    o = small()
    whole, keep = Truth(o), np.array([False, True, False, True])
    part = whole.only(keep)
    assert part.intervention_c.tolist() == ["B", "C"]
    for name in ("context_c", "n_c", "mean_cg", "delta_cg", "noise_cg", "input_cg", "input_var_cg", "scored_cg"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[keep])
    assert set(part.observed.idx_n) == set(o.idx_n[np.isin(o.intervention_n, ["B", "C"])])


def test_halves_are_disjoint_cover_all_rows_and_are_stratified_by_batch():
    truth = Truth(small())
    for seed in range(20):
        a, b = halve(truth, seed)
        assert not set(a.rows) & set(b.rows)
        assert sorted([*a.rows, *b.rows]) == list(range(len(truth.rows)))
        cell = truth.condition_n * len(truth.group_names) + truth.group_n
        n = len(truth.n_c) * len(truth.group_names)
        counts = [np.bincount(cell[h.rows], minlength=n) for h in (a, b)]
        assert np.abs(counts[0] - counts[1]).max() <= 1
        assert a.n_c.tolist() == [2, 2, 2, 3]  # 3 + 1 cells: the first half gets the odd row of batch 1, not of 2
        assert b.n_c.tolist() == [2, 2, 1, 2]


def test_halves_alternate_the_odd_row_over_batches():
    """Five batches of three cells: 2 + 1 + 2 + 1 + 2 against 1 + 2 + 1 + 2 + 1."""
    batch = np.repeat(np.array(list("12345"), dtype=object), 3)
    n = len(batch)
    word = lambda w: np.full(n, w, dtype=object)  # noqa: E731
    o = replace(
        baked_in(), idx_n=np.arange(n), x_ng=numbers(n, 0), intervention_n=word("A"), context_n=word("u"), batch_n=batch
    )
    a, b = halve(Truth(o), 0)
    assert np.bincount(a.group_n, minlength=5).tolist() == [2, 1, 2, 1, 2]
    assert np.bincount(b.group_n, minlength=5).tolist() == [1, 2, 1, 2, 1]


def test_a_half_has_the_moments_of_its_rows_and_the_controls_of_the_whole():
    o = small()
    truth = Truth(o)
    a, b = halve(truth, 1)
    for half in (a, b):
        alone = Truth(replace(o, **{k: getattr(o, k)[half.rows] for k in _ROWS}))
        for name in ("mean_cg", "delta_cg", "noise_cg", "input_cg", "input_var_cg", "scored_cg"):
            np.testing.assert_allclose(getattr(half, name), getattr(alone, name), atol=1e-12, err_msg=name)
    both = (a.n_c[:, None] * a.mean_cg + b.n_c[:, None] * b.mean_cg) / truth.n_c[:, None]
    np.testing.assert_allclose(both, truth.mean_cg, atol=1e-12)


_ROWS = ("idx_n", "x_ng", "intervention_n", "context_n", "batch_n")


def test_halving_depends_on_the_seed_and_on_nothing_else():
    truth = Truth(small())
    assert halve(truth, 1)[0].rows.tolist() == halve(truth, 1)[0].rows.tolist()
    assert any(halve(truth, 1)[0].rows.tolist() != halve(truth, s)[0].rows.tolist() for s in range(2, 6))


# --- files without cells ---------------------------------------------------------------------------


def baked_in():
    none = np.array([], dtype=object)
    return small(
        unit="pseudobulk",
        controls="baked_in",
        scale="delta",
        input_mg=np.zeros((0, G)),
        input_context_m=none,
        input_batch_m=none,
        reference_rg=np.zeros((0, G)),
        reference_context_r=none,
        reference_batch_r=none,
    )


def test_baked_in_deltas_are_the_values_themselves_and_their_noise_is_unknown():
    o = baked_in()
    truth = Truth(o)
    assert not truth.has_cells
    for i, (k, p) in enumerate(NAMES):
        np.testing.assert_allclose(truth.delta_cg[i], rows_of(o, k, p).mean(0), atol=1e-12)
    assert not truth.noise_cg.any()
    assert not truth.input_cg.any()
    assert not truth.input_var_cg.any()
    assert truth.scored_cg.all()
    case = truth.case(*truth.predicted(prediction(o)), None, np.full(4, "unknown", dtype=object))
    assert case.cells is None
    assert not case.noise_known


@pytest.mark.parametrize(("unit", "controls"), [("pseudobulk", "cells"), ("cells", "baked_in")])
def test_noise_needs_cells_on_both_sides(unit, controls):
    truth = Truth(small(unit=unit, controls=controls))
    assert not truth.has_cells
    assert not truth.noise_cg.any()


@pytest.mark.parametrize(("side", "letter"), [("reference", "r"), ("input", "m")])
def test_judged_rows_without_a_control_to_compare_with_are_refused(side, letter):
    """Otherwise their whole expression would pass for an effect."""
    o = small()
    x, context, batch = f"{side}_{letter}g", f"{side}_context_{letter}", f"{side}_batch_{letter}"
    keep = ~((getattr(o, context) == "u") & (getattr(o, batch) == "2"))
    truth = Truth(replace(o, **{k: getattr(o, k)[keep] for k in (x, context, batch)}))
    with pytest.raises(TooFewControls, match=f"Judged rows have no {side} controls"):
        getattr(truth, side)


def test_controls_of_batches_that_nothing_is_judged_in_are_not_needed():
    o = small()
    one = o.batch_n == "1"
    keep = o.reference_batch_r == "1"
    rows = {k: getattr(o, k)[one] for k in _ROWS}
    controls = {k: getattr(o, k)[keep] for k in ("reference_rg", "reference_context_r", "reference_batch_r")}
    np.testing.assert_array_equal(Truth(replace(o, **rows, **controls)).delta_cg, Truth(replace(o, **rows)).delta_cg)


# --- moments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_sparse", [False, True])
def test_moments_in_chunks_equal_numpy(monkeypatch, as_sparse):
    monkeypatch.setattr(moments_module, "CHUNK", 7)
    x, group = numbers(40, 5) + 100.0, np.arange(40) % 3
    n, mean, scatter = moments(sparse.csr_matrix(x) if as_sparse else x, group, 4)
    assert n.tolist() == [14, 13, 13, 0]
    for k in range(3):
        np.testing.assert_allclose(mean[k], x[group == k].mean(0), rtol=1e-13)
        np.testing.assert_allclose(scatter[k], ((x[group == k] - x[group == k].mean(0)) ** 2).sum(0), rtol=1e-9)
    assert not mean[3].any()
    assert not scatter[3].any()


def test_moments_of_float32_are_summed_in_float64():
    x = np.full((100_000, 1), 0.1, dtype=np.float32)
    _, mean, scatter = moments(x, np.zeros(len(x), dtype=int), 1)
    assert mean[0, 0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert scatter[0, 0] < 1e-9


def test_two_ranks_merged_as_torchmetrics_syncs_them_equal_the_whole():
    x, group = numbers(31, 6), np.arange(31) % 4
    whole, ranks = GroupMoments(4, G), [GroupMoments(4, G) for _ in range(2)]
    whole.update(x, group)
    ranks[0].update(x[:11], group[:11])
    ranks[1].update(x[11:], group[11:])
    merged = GroupMoments(4, G)
    for name, reduce in merged._reductions.items():
        setattr(merged, name, reduce(torch.stack([getattr(r, name) for r in ranks])))
    merged._update_count = 1
    for a, b in zip(whole.compute(), merged.compute(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# --- predictions -----------------------------------------------------------------------------------


def test_predicted_is_the_average_over_the_conditions_rows():
    o = small()
    truth, p = Truth(o), prediction(o)
    mean_cg, var_cg = truth.predicted(p)
    for i, (k, name) in enumerate(NAMES):
        mine = (o.context_n == k) & (o.intervention_n == name)
        np.testing.assert_allclose(mean_cg[i], p.mean_ng()[mine].mean(0))
        np.testing.assert_allclose(var_cg[i], p.var_ng()[mine].mean(0))


def test_predicted_of_a_half_averages_over_the_rows_of_the_half():
    o = small()
    a, _ = halve(Truth(o), 2)
    mean_cg, _ = a.predicted(p := prediction(o))
    mine = a.rows[(o.context_n == "u")[a.rows] & (o.intervention_n == "A")[a.rows]]
    np.testing.assert_allclose(mean_cg[0], p.mean_ng()[mine].mean(0))


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("rows", {"idx_n": np.arange(16), "query_n": np.zeros(16, dtype=int)}),
        ("rows", {"idx_n": np.arange(100, 115), "query_n": np.zeros(15, dtype=int)}),
        ("rows", {"idx_n": np.arange(100, 116)[::-1]}),
        ("genes", {"genes_g": tuple("abdc")}),
        ("genes", {"genes_g": ("a",), "mean_qg": np.zeros((3, 1)), "var_qg": np.ones((3, 1))}),
        ("scale", {"scale": "counts"}),
        ("fold", {"fold": "calib"}),
    ],
)
def test_a_prediction_of_something_else_is_refused(what, changes):
    o = small()
    with pytest.raises(PredictionMismatch, match=f"The prediction has other {what} than the truth"):
        Truth(o).predicted(prediction(o, **changes))


def test_shifted_controls_are_the_matched_input_cells_each_once_plus_the_prediction():
    o = small(as_sparse=True)
    truth = Truth(o)
    mean = np.arange(16.0).reshape(4, G)
    case = truth.case(mean, np.ones((4, G)), TrainCentroids(np.zeros(G), np.ones(G)), np.full(4, "weak", dtype=object))
    true, cells = case.cells(2)  # v, A: batch 1 only
    assert sorted(map(tuple, true)) == sorted(map(tuple, rows_of(o, "v", "A")))
    np.testing.assert_array_equal(cells, controls_of(o, "input", "v", "1") + mean[2])
    assert len(case.cells(0)[1]) == 10  # u, both batches
    assert case.train_delta_g.tolist() == [1.0] * G


def test_a_condition_of_one_row_takes_the_spread_of_its_context():
    """Rows 0 and 2 spread by variance 2 around their mean; a lone row knows no spread, and zero would be a lie."""
    observed = Observed(
        idx_n=np.arange(3),
        x_ng=np.array([[0.0], [2.0], [5.0]]),
        intervention_n=np.array(["a@drug", "a@drug", "b@drug"], dtype=object),
        context_n=np.array(["k"] * 3, dtype=object),
        batch_n=np.array(["one"] * 3, dtype=object),
        input_mg=np.array([[0.0], [1.0]]),
        input_context_m=np.array(["k", "k"], dtype=object),
        input_batch_m=np.array(["one", "one"], dtype=object),
        reference_rg=np.array([[0.0], [0.0]]),
        reference_context_r=np.array(["k", "k"], dtype=object),
        reference_batch_r=np.array(["one", "one"], dtype=object),
        genes_g=("g",),
        scale="log1p",
        unit="cells",
        controls="cells",
        match_batch=False,
        fold="test",
    )
    np.testing.assert_allclose(Truth(observed).noise_cg[:, 0], [2.0 / 2, 2.0 / 1])
