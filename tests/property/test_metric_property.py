"""What holds for all inputs of a metric?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perturbfm.eval.case import Case
from perturbfm.eval.metric.correlation import pearson_delta
from perturbfm.eval.metric.distribution import energy_distance_cells
from perturbfm.eval.metric.error import mean_squared_error, root_mean_squared_error
from perturbfm.eval.metric.explained import explained_variance
from perturbfm.eval.metric.ood import auroc
from perturbfm.eval.metric.retrieval import retrieval
from perturbfm.eval.metric.uncertainty import (
    coverage,
    crps_gaussian,
    interval_width,
    nll_gaussian,
    observation_share,
)

always = settings(derandomize=True, deadline=None, max_examples=60)

METRICS = {
    "mse": mean_squared_error,
    "rmse": root_mean_squared_error,
    "ev": explained_variance,
    **{
        f"pcc_{r}": partial(pearson_delta, reference=r)
        for r in ("control", "train_centroid", "control_plus_train_mean", "panel")
    },
    "retrieval": partial(retrieval, centred=False),
    "retrieval_centred": partial(retrieval, centred=True),
    "coverage": partial(coverage, level=0.8, noise="added"),
    "width": partial(interval_width, level=0.8, noise="ignored"),
    "nll": partial(nll_gaussian, noise="added"),
    "crps": partial(crps_gaussian, noise="added"),
    "share": observation_share,
}
BY_CONDITION = ("context_c", "intervention_c", "n_c", "powered_c")
BY_BOTH = ("truth_cg", "noise_cg", "predicted_cg", "variance_cg", "mean_cg", "input_cg", "input_var_cg", "scored_cg")


@st.composite
def cases(draw, least: int = 1) -> Case:
    n, g = draw(st.integers(least, 24)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 10.0 ** draw(st.integers(-4, 4))
    n_contexts = draw(st.integers(1, 3))
    return Case(
        context_c=np.array([f"k{i}" for i in rng.integers(0, n_contexts, size=n)], dtype=object),
        intervention_c=np.array([f"p{i}@drug" for i in range(n)], dtype=object),
        n_c=rng.integers(2, 90, size=n),
        genes_g=tuple(f"g{i}" for i in range(g)),
        truth_cg=size * rng.normal(size=(n, g)),
        noise_cg=size**2 * rng.uniform(0, 0.5, size=(n, g)),
        noise_known=True,
        predicted_cg=size * rng.normal(size=(n, g)),
        variance_cg=size**2 * rng.uniform(0.01, 2, size=(n, g)),
        mean_cg=size * rng.normal(size=(n, g)),
        input_cg=size * rng.normal(size=(n, g)),
        input_var_cg=size**2 * rng.uniform(0, 1, size=(n, g)),
        scored_cg=rng.random((n, g)) < 0.8,
        train_centroid_g=size * rng.normal(size=g),
        train_delta_g=size * rng.normal(size=g),
        cells=None,
        powered_c=np.full(n, "powered", dtype=object),
    )


def reordered(case: Case, condition: np.ndarray, gene: np.ndarray) -> Case:
    return replace(
        case,
        genes_g=tuple(case.genes_g[i] for i in gene),
        train_centroid_g=case.train_centroid_g[gene],
        train_delta_g=case.train_delta_g[gene],
        **{name: getattr(case, name)[condition] for name in BY_CONDITION},
        **{name: getattr(case, name)[np.ix_(condition, gene)] for name in BY_BOTH},
    )


@pytest.mark.parametrize("name", METRICS)
@always
@given(case=cases(), seed=st.integers(0, 10**6))
def test_order_of_conditions_and_genes_does_not_matter(name, case, seed):
    rng = np.random.default_rng(seed)
    condition, gene = rng.permutation(case.n_conditions), rng.permutation(len(case.genes_g))
    before, after = METRICS[name](case), METRICS[name](reordered(case, condition, gene))
    assert before.reason_c[condition].tolist() == after.reason_c.tolist()
    np.testing.assert_allclose(before.num_c[condition], after.num_c, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(before.den_c[condition], after.den_c, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", METRICS)
@always
@given(case=cases())
def test_a_value_stands_exactly_where_the_status_is_ok(name, case):
    stats = METRICS[name](case)
    assert len(stats.num_c) == len(stats.den_c) == len(stats.status_c) == len(stats.reason_c) == case.n_conditions
    assert set(stats.status_c) <= {"ok", "undefined", "not_applicable"}
    assert ((stats.reason_c == "") == stats.ok_c).all()
    assert (np.isfinite(stats.num_c) == stats.ok_c).all()
    assert (np.isfinite(stats.den_c) == stats.ok_c).all()


@always
@given(case=cases())
def test_no_change_explains_exactly_nothing(case):
    stats = explained_variance(replace(case, predicted_cg=np.zeros_like(case.predicted_cg)))
    assert (stats.num_c == 0.0).all()


@always
@given(case=cases())
def test_truth_is_the_best_prediction(case):
    right = replace(case, predicted_cg=case.truth_cg.copy())
    assert (mean_squared_error(right).value_c == 0.0).all()
    assert (mean_squared_error(case).value_c >= 0.0).all()
    for name, best in (("pcc_control", 1.0), ("pcc_panel", 1.0), ("retrieval", 1.0), ("retrieval_centred", 1.0)):
        stats = METRICS[name](right)
        np.testing.assert_allclose(stats.value_c[stats.ok_c], best, atol=1e-9)


@always
@given(case=cases(least=8))
def test_one_answer_for_all_is_at_chance_or_undefined(case):
    same = replace(case, predicted_cg=np.tile(case.predicted_cg[0], (case.n_conditions, 1)))
    raw, centred = retrieval(same, centred=False), retrieval(same, centred=True)
    for member in same.members():
        if len(member) > 1:
            assert raw.value_c[member].mean() == pytest.approx(0.5, abs=1e-12)
    assert not centred.ok_c.any()
    assert not pearson_delta(same, reference="panel").ok_c.any()


@always
@given(case=cases(), seed=st.integers(0, 10**6))
def test_centred_metrics_do_not_see_a_common_shift(case, seed):
    shift = np.abs(case.truth_cg).max() * np.random.default_rng(seed).normal(size=len(case.genes_g))
    moved = replace(case, predicted_cg=case.predicted_cg + shift)
    np.testing.assert_allclose(METRICS["pcc_panel"](moved).num_c, METRICS["pcc_panel"](case).num_c, atol=1e-6)
    np.testing.assert_array_equal(METRICS["retrieval_centred"](moved).num_c, METRICS["retrieval_centred"](case).num_c)


@always
@given(case=cases(), level=st.floats(0.05, 0.9), more=st.floats(0.01, 0.09))
def test_intervals_nest_with_level(case, level, more):
    for metric in (coverage, interval_width):
        narrow, wide = (metric(case, level=x, noise="added") for x in (level, level + more))
        assert (narrow.num_c <= wide.num_c)[narrow.ok_c].all()
        assert (narrow.num_c <= metric(case, level=level, noise="added").num_c)[narrow.ok_c].all()
    ignored = coverage(case, level=level, noise="ignored")
    assert (ignored.num_c <= coverage(case, level=level, noise="added").num_c)[ignored.ok_c].all()


@st.composite
def groups(draw) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    n, m, g = draw(st.integers(2, 15)), draw(st.integers(2, 15)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "sparse", "counts"]))
    make = {
        "normal": lambda k: rng.normal(size=(k, g)),
        "sparse": lambda k: np.maximum(rng.normal(size=(k, g)), 0),
        "counts": lambda k: rng.poisson(0.3, size=(k, g)).astype(float),
    }[kind]
    return make(n), make(m), rng


@always
@given(groups())
def test_energy_distance_obeys_its_axioms(drawn):
    x, y, rng = drawn
    for statistic in ("U", "V"):
        d = energy_distance_cells(x, y, statistic)
        assert energy_distance_cells(y, x, statistic) == pytest.approx(d, abs=1e-10)
        again = energy_distance_cells(rng.permutation(x), rng.permutation(y), statistic)
        assert again == pytest.approx(d, abs=1e-10)
        gene = rng.permutation(x.shape[1])
        assert energy_distance_cells(x[:, gene] + 3.0, y[:, gene] + 3.0, statistic) == pytest.approx(d, abs=1e-10)
        assert energy_distance_cells(2 * x, 2 * y, statistic) == pytest.approx(2 * d, abs=1e-10)
    assert d >= -1e-10
    assert energy_distance_cells(x, x.copy(), "V") == pytest.approx(0.0, abs=1e-10)
    assert energy_distance_cells(x, y, "U") <= d + 1e-10


@always
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_auroc_is_the_share_of_pairs_and_mirrors(inside, outside):
    a, b = np.array(inside), np.array(outside)
    by_pairs = np.mean([(o > i) + 0.5 * (o == i) for o in outside for i in inside])
    assert auroc(a, b)[0] == pytest.approx(by_pairs)
    assert auroc(a, b)[0] + auroc(b, a)[0] == pytest.approx(1.0)
