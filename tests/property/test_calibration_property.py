"""What holds for all inputs of the scores of uncertainty and of selective risk?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from perturbfm.eval.case import Case
from perturbfm.eval.metric.crps_draws import crps_draws, crps_of_draws
from perturbfm.eval.metric.interval_score import interval_score
from perturbfm.eval.metric.pit import pit_reliability_index
from perturbfm.eval.metric.uncertainty import coverage, crps_gaussian, interval_width, nll_gaussian
from perturbfm.eval.panel.calibration import CALIBRATION
from perturbfm.eval.reliability import reliability
from perturbfm.eval.risk import generalised_risks, selective_risks, selective_values

always = settings(derandomize=True, deadline=None, max_examples=60)

BY_CONDITION = ("context_c", "intervention_c", "n_c", "powered_c")
BY_BOTH = ("truth_cg", "noise_cg", "predicted_cg", "variance_cg", "mean_cg", "input_cg", "input_var_cg", "scored_cg")
IN_UNITS = {
    "crps": partial(crps_gaussian, noise="added"),
    "crps_ignored": partial(crps_gaussian, noise="ignored"),
    "width": partial(interval_width, level=0.8, noise="added"),
    "interval_score": partial(interval_score, level=0.8, noise="added"),
    **{
        f"draws_{e}_{n}": partial(crps_draws, estimator=e, noise=n) for e in ("fair", "V") for n in ("added", "ignored")
    },
}
WITHOUT_UNIT = {
    "coverage": partial(coverage, level=0.8, noise="added"),
    "coverage_pooled": partial(coverage, level=0.5, noise="ignored", pooled=True),
    "pit": partial(pit_reliability_index, noise="added"),
}


def with_draws(case: Case, draws_csg: np.ndarray) -> Case:
    return replace(case, draws=lambda c: draws_csg[c])


@st.composite
def cases(draw) -> tuple[Case, np.ndarray]:
    n, g, m = draw(st.integers(1, 8)), draw(st.integers(2, 24)), draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 10.0 ** draw(st.integers(-3, 3))
    case = Case(
        context_c=np.array([f"k{i}" for i in rng.integers(0, 2, size=n)], dtype=object),
        intervention_c=np.array([f"p{i}@drug" for i in range(n)], dtype=object),
        n_c=rng.integers(2, 90, size=n),
        genes_g=tuple(f"g{i}" for i in range(g)),
        truth_cg=size * rng.normal(size=(n, g)),
        noise_cg=size**2 * rng.uniform(0, 0.5, size=(n, g)) * (rng.random((n, g)) < 0.8),
        noise_known=True,
        predicted_cg=size * rng.normal(size=(n, g)),
        variance_cg=size**2 * rng.uniform(0.01, 2, size=(n, g)),
        mean_cg=size * rng.normal(size=(n, g)),
        input_cg=size * rng.normal(size=(n, g)),
        input_var_cg=size**2 * rng.uniform(0, 1, size=(n, g)),
        scored_cg=rng.random((n, g)) < 0.8,
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(n, "powered", dtype=object),
    )
    draws = size * rng.normal(size=(n, m, g))
    return with_draws(case, draws), draws


# --- order and scale -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", CALIBRATION, ids=lambda m: m.identifier)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(drawn=cases(), seed=st.integers(0, 10**6))
def test_order_of_conditions_genes_and_draws_does_not_matter(metric, drawn, seed):
    case, draws = drawn
    rng = np.random.default_rng(seed)
    condition, gene = rng.permutation(case.n_conditions), rng.permutation(len(case.genes_g))
    changed = replace(
        case,
        genes_g=tuple(case.genes_g[i] for i in gene),
        **{name: getattr(case, name)[condition] for name in BY_CONDITION},
        **{name: getattr(case, name)[np.ix_(condition, gene)] for name in BY_BOTH},
    )
    changed = with_draws(changed, draws[np.ix_(condition, rng.permutation(draws.shape[1]), gene)])
    before, after = metric.function(case), metric.function(changed)
    assert before.reason_c[condition].tolist() == after.reason_c.tolist()
    np.testing.assert_allclose(before.num_c[condition], after.num_c, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(before.den_c[condition], after.den_c)


def scaled(case: Case, draws: np.ndarray, by: float) -> Case:
    linear = {name: by * getattr(case, name) for name in ("truth_cg", "predicted_cg", "mean_cg", "input_cg")}
    square = {name: by**2 * getattr(case, name) for name in ("noise_cg", "variance_cg", "input_var_cg")}
    return with_draws(replace(case, **linear, **square), by * draws)


@always
@given(drawn=cases(), power=st.integers(-6, 6))
def test_scores_scale_with_the_unit_and_likelihood_moves_by_its_logarithm(drawn, power):
    """By powers of two, so that not even rounding differs."""
    case, draws = drawn
    by = 2.0**power
    other = scaled(case, draws, by)
    for name, metric in IN_UNITS.items():
        np.testing.assert_allclose(metric(other).num_c, by * metric(case).num_c, rtol=1e-9, err_msg=name)
    for name, metric in WITHOUT_UNIT.items():
        np.testing.assert_array_equal(metric(other).num_c, metric(case).num_c, err_msg=name)
    np.testing.assert_allclose(
        nll_gaussian(other, noise="added").num_c, nll_gaussian(case, noise="added").num_c + np.log(by), atol=1e-9
    )


@always
@given(drawn=cases())
def test_no_score_is_below_what_it_can_be(drawn):
    case, _ = drawn
    for name, metric in IN_UNITS.items():
        stats = metric(case)
        if "fair" not in name:  # unbiased, so below zero by chance
            assert (stats.num_c[stats.ok_c] >= -1e-12 * np.abs(case.truth_cg).max()).all(), name
    fair, v = (crps_draws(case, estimator=e, noise="added") for e in ("fair", "V"))
    assert (fair.num_c <= v.num_c + 1e-9 * np.abs(case.truth_cg).max())[v.ok_c].all()
    width = interval_width(case, level=0.8, noise="added").num_c
    score = interval_score(case, level=0.8, noise="added").num_c
    assert (score >= width * (1 - 1e-12))[np.isfinite(width)].all()
    index = pit_reliability_index(case, noise="added")
    assert ((index.num_c >= 0) & (index.num_c <= 1.8 + 1e-12))[index.ok_c].all()


@always
@given(drawn=cases())
def test_the_reliability_diagram_is_coverage_at_its_levels_and_rises(drawn):
    case, _ = drawn
    for noise, found in reliability(case).items():
        if found["status"] != "ok":
            assert not case.scored_cg.any()
            continue
        observed = found["coverage"]["observed"]
        assert observed == sorted(observed)
        for level in (0.5, 0.8, 0.9):
            want = np.nanmean(coverage(case, level=level, noise=noise).value_c)
            assert observed[found["coverage"]["nominal"].index(level)] == pytest.approx(want, abs=1e-12)
        assert sum(found["pit"]["counts"]) == found["n_entries"] == case.scored_cg.sum()


# --- propriety -------------------------------------------------------------------------------------

QUANTILES = (np.arange(4000) + 0.5) / 4000
PROPER = {
    "nll": nll_gaussian,
    "crps": crps_gaussian,
    "interval_score": partial(interval_score, level=0.8),
    "interval_score_95": partial(interval_score, level=0.95),
}


def expected(metric, mean: float, sd: float, stated_mean: float, stated_sd: float) -> float:
    """Expected score of a statement, over truths at the quantiles of the right distribution."""
    truth = norm.ppf(QUANTILES, mean, sd)[None]
    same = np.ones_like(truth)
    case = Case(
        context_c=np.array(["k"], dtype=object),
        intervention_c=np.array(["p@drug"], dtype=object),
        n_c=np.ones(1, dtype=int),
        genes_g=tuple(map(str, range(truth.shape[1]))),
        truth_cg=truth,
        noise_cg=0 * same,
        noise_known=True,
        predicted_cg=stated_mean * same,
        variance_cg=stated_sd**2 * same,
        mean_cg=truth,
        input_cg=same,
        input_var_cg=same,
        scored_cg=same.astype(bool),
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.array(["powered"], dtype=object),
    )
    return float(metric(case, noise="ignored").value_c[0])


@pytest.mark.parametrize("name", PROPER)
@always
@given(
    mean=st.floats(-3, 3),
    sd=st.floats(0.2, 4),
    off=st.sampled_from([-1.0, -0.3, 0.0, 0.2, 2.0]),
    wide=st.sampled_from([0.3, 0.8, 1.0, 1.25, 3.0]),
)
def test_no_statement_is_expected_to_score_better_than_the_right_one(name, mean, sd, off, wide):
    right = expected(PROPER[name], mean, sd, mean, sd)
    stated = expected(PROPER[name], mean, sd, mean + off * sd, wide * sd)
    if (off, wide) == (0.0, 1.0):
        assert stated == pytest.approx(right)
    else:
        assert stated > right + 1e-3 * sd


@always
@given(seed=st.integers(0, 10**6), off=st.sampled_from([-1.0, 0.0, 1.0]), wide=st.sampled_from([0.4, 1.0, 2.5]))
def test_fair_draws_from_the_right_distribution_are_expected_to_score_best(seed, off, wide):
    rng = np.random.default_rng(seed)
    truth, draws = rng.normal(size=20_000), rng.normal(size=(4, 20_000))
    right = crps_of_draws(truth, draws, "fair").mean()
    stated = crps_of_draws(truth, off + wide * draws, "fair").mean()
    assert stated == pytest.approx(right) if (off, wide) == (0.0, 1.0) else stated > right


# --- selective risk --------------------------------------------------------------------------------

units = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=2, max_size=30)


@always
@given(units)
def test_areas_lie_between_the_best_and_the_worst_order(drawn):
    u, e = np.array(drawn, dtype=float).T
    found, worst = selective_values(u, e), selective_values(-e, e)
    assert e.min() - 1e-12 <= found["aurc_oracle"] <= found["mean_risk"] + 1e-12
    assert found["aurc_oracle"] - 1e-12 <= found["aurc"] <= worst["aurc"] + 1e-12
    assert 0.0 <= found["e_aurc"] <= e.max() - e.min() + 1e-12
    assert 0.0 <= found["augrc"] <= found["mean_risk"] + 1e-12
    assert selective_values(e, e)["e_aurc"] == 0.0
    assert selective_risks(u, e)[-1] == pytest.approx(e.mean())
    assert (np.diff(generalised_risks(u, e)) >= -1e-12).all()
    assert (np.diff(selective_risks(e, e)) >= -1e-12).all()


@always
@given(units, st.integers(0, 10**6))
def test_areas_do_not_read_the_order_of_rows_or_the_unit_of_uncertainty(drawn, seed):
    u, e = np.array(drawn, dtype=float).T
    order = np.random.default_rng(seed).permutation(len(u))
    for other in (selective_values(u[order], e[order]), selective_values(np.exp(u), e)):
        assert other == {k: v if v is None else pytest.approx(v, abs=1e-9) for k, v in selective_values(u, e).items()}


@always
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=2, max_size=6))
def test_ties_give_the_mean_over_all_orders_that_break_them(drawn):
    u, e = np.array(drawn, dtype=float).T
    orders = [p for p in map(list, permutations(range(len(u)))) if (np.diff(u[p]) >= 0).all()]
    by_order = np.mean([np.cumsum(e[p]) / np.arange(1, len(e) + 1) for p in orders], axis=0)
    np.testing.assert_allclose(selective_risks(u, e), by_order, atol=1e-12)
