"""Is the planted world what its formulas say, the same everywhere, and exact where it claims to be?"""

import hashlib
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from scipy.stats import nbinom

from perturbfm.data.frozen_random import log1p_moments, negative_binomial_counts, normals, order, uniforms
from perturbfm.data.synthetic import DEPTHS, make_world
from perturbfm.data.world_settings import PRESETS, WorldSettings, preset
from perturbfm.errors import BadValue

# The identity of the frozen generator, computed once from it: a change means that every planted world changed.
LABELS_SHA256 = "7612f942050f8c5fc97161b2ebeb5d8efacb10c227349b7e1c79193918dea902"
COUNTS_SHA256 = "f3ee6d0832ef6faa1dfd40e11f4e6bb35777761cd8f2b83edd3fa78c7bc59c5a"
MOMENTS = [3.151024845, 0.396444171, 1.415279259, 1.502827323]  # of condition 137, gene 60

SMALL = WorldSettings(n_genes=60, n_contexts=3, n_singles=8, n_nulls=2, n_doubles=6, n_cells=20, n_controls=40)


@pytest.fixture(scope="module")
def world():
    return make_world(preset("default"))


@pytest.fixture(scope="module")
def small():
    return make_world(SMALL)


def per_context(world, values_cg):
    return values_cg.reshape(world.settings.n_contexts, -1, world.settings.n_genes)


def parts(world, pert):
    """Rows of a double's two singles among one context's conditions."""
    names = world.conditions["pert_id"].tolist()[: len(world.shared_pg) + 1]
    return [names.index(part) for part in pert.split("+")]


def doubles_of(world, kind):
    first = world.conditions.iloc[: len(world.shared_pg) + 1]
    return [(i, name) for i, (name, k) in enumerate(zip(first["pert_id"], first["kind"], strict=True)) if k == kind]


# --- random numbers and counts ---------------------------------------------------------------------


def test_uniforms_are_the_documented_function_of_raw_bits():
    seed = int.from_bytes(hashlib.sha256(b"7/graph").digest()[:16], "big")
    raw = np.random.PCG64(seed).random_raw(6)
    expected = [((int(r) >> 11) + 0.5) / 2**53 for r in raw]
    np.testing.assert_array_equal(uniforms(7, "graph", (2, 3)).ravel(), expected)


def test_streams_of_other_names_and_seeds_differ_and_longer_draws_only_append():
    draws = [uniforms(s, p, (50,)) for s, p in ((0, "a"), (0, "b"), (1, "a"))]
    assert len({d.tobytes() for d in draws}) == 3
    np.testing.assert_array_equal(uniforms(0, "a", (80,))[:50], draws[0])


def test_uniforms_and_normals_have_their_moments():
    u, z = uniforms(3, "u", (100_000,)), normals(3, "z", (100_000,))
    assert 0 < u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    assert abs(z.mean()) < 5 / 1e5**0.5
    assert abs(z.var() - 1) < 5 * (2 / 1e5) ** 0.5


def test_order_is_a_permutation():
    assert sorted(order(5, "cards", 52).tolist()) == list(range(52))


@pytest.mark.parametrize("dispersion", [0.05, 0.3, 3.0])
@pytest.mark.parametrize("mean", [0.01, 0.4, 5.0, 80.0])
def test_counts_invert_the_negative_binomial_cdf(mean, dispersion):
    size = 1 / dispersion
    u = np.concatenate([uniforms(1, "u", (500,)), [1e-12, 1 - 1e-10, 1 - 2.0**-54]])
    found = negative_binomial_counts(u, np.full(len(u), mean), dispersion)
    expected = nbinom.ppf(u, size, size / (size + mean))
    np.testing.assert_array_equal(found[:-1], expected[:-1])
    assert nbinom.sf(found[-1], size, size / (size + mean)) < 1e-13  # the last u is within rounding of one


def test_rates_of_one_call_do_not_disturb_each_other():
    u, mean = uniforms(2, "u", (400,)), np.exp(2 * normals(2, "rates", (400,)))
    together = negative_binomial_counts(u, mean, 0.3)
    alone = [negative_binomial_counts(u[i : i + 1], mean[i : i + 1], 0.3)[0] for i in range(400)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("dispersion", [0.05, 0.3, 3.0])
def test_moments_equal_sums_over_scipys_pmf(dispersion):
    mean, size = np.array([30.0, 1e-3, 4.0, 0.5, 200.0]), 1 / dispersion
    first, second = log1p_moments(mean, 0.7, dispersion)
    k = np.arange(60_000)
    for i, mu in enumerate(mean):
        pmf, x = nbinom.pmf(k, size, size / (size + mu)), np.log1p(k / 0.7)
        np.testing.assert_allclose([first[i], second[i]], [pmf @ x, pmf @ x**2], rtol=1e-9, atol=1e-12)


# --- sizes, labels, identity -----------------------------------------------------------------------


def test_default_sizes(world):
    assert world.x_ng.shape == world.counts_ng.shape == (10_080, 200)
    assert world.x_ng.dtype == np.float32
    assert world.counts_ng.dtype == np.int32
    assert len(world.conditions) == len(world.delta_true_cg) == 6 * 25
    assert world.obs.index.is_unique
    assert world.var.index[0] == "G001"
    assert world.var.index[-1] == "G200"
    per_kind = world.conditions.iloc[:25]["kind"].value_counts().to_dict()
    doubles = {"double_additive": 3, "double_buffering": 3, "double_neomorphic": 2}
    assert per_kind == {"control": 1, "single": 13, "null": 3, **doubles}


def test_cells_are_ordered_and_balanced(world):
    obs = world.obs
    assert obs["context_id"].unique().tolist() == ["C1", "C2", "C3", "C4", "C5", "C6"]
    assert obs["pert_id"].unique().tolist()[:3] == ["control", "P01", "P02"]
    sizes = obs.groupby(["context_id", "pert_id", "batch_id", "depth"]).size().unstack(["batch_id", "depth"])
    assert (sizes.drop(index="control", level="pert_id") == 6).all(axis=None)
    assert (sizes.xs("control", level="pert_id") == 24).all(axis=None)
    assert sum(DEPTHS) / 5 == 1.0


def test_labels_say_what_is_unseen(world):
    obs = world.obs
    assert (obs["ood_context"] == (obs["context_id"] == "C6")).all()
    assert not obs["ood_perturbation"].any()
    is_double = obs["pert_id"].str.contains("+", regex=False)
    assert (obs["ood_combination"] == np.where(is_double, 2, -1)).all()
    assert (obs["is_control"] == (obs["pert_id"] == "control")).all()
    named = world.conditions.iloc[world.condition_n]
    assert (named["pert_id"].to_numpy() == obs["pert_id"].to_numpy()).all()
    assert (named["context_id"].to_numpy() == obs["context_id"].to_numpy()).all()


def test_sizes_that_depths_and_batches_do_not_divide_stay_within_one():
    obs = make_world(replace(SMALL, n_batches=3, n_cells=23, n_controls=41)).obs
    in_batch = obs.groupby(["context_id", "pert_id", "batch_id"]).size().unstack("batch_id")
    assert (in_batch.max(axis=1) - in_batch.min(axis=1)).max() == 1
    in_depth = obs.groupby(["context_id", "pert_id", "batch_id", "depth"]).size().unstack("depth", fill_value=0)
    assert (in_depth.max(axis=1) - in_depth.min(axis=1)).max() == 1
    assert abs(obs["depth"].mean() - 1) < 0.01


def test_ten_batches_keep_their_own_effects():
    world = make_world(replace(SMALL, n_batches=10, n_cells=200, n_controls=2000, batch_sd=1.0, umi=600.0))
    for b in range(10):
        rows = (world.obs["batch_id"] == f"B{b + 1:02d}").to_numpy() & world.obs["is_control"].to_numpy()
        depth, rate = world.obs["depth"].to_numpy()[rows].sum(), np.exp(world.base_kg + world.batch_bg[b]).sum(axis=0)
        seen = np.asarray(world.counts_ng[rows].sum(axis=0)).ravel() / depth * 3
        assert np.corrcoef(np.log(seen + 0.01), np.log(rate + 0.01))[0, 1] > 0.98


def test_the_generator_is_frozen(world):
    obs = world.obs
    labels = obs.reset_index().astype(str).apply("|".join, axis=1).str.cat(sep="\n")
    counts = np.ascontiguousarray(world.counts_ng.toarray().astype("<i4"))
    found = hashlib.sha256(labels.encode()).hexdigest(), hashlib.sha256(counts.tobytes()).hexdigest()
    assert found == (LABELS_SHA256, COUNTS_SHA256)


def test_same_seed_same_world_other_seed_other_world(small):
    again, other = make_world(SMALL), make_world(replace(SMALL, seed=1))
    assert (again.counts_ng != small.counts_ng).nnz == 0
    assert again.obs.equals(small.obs)
    np.testing.assert_array_equal(again.mean_true_cg, small.mean_true_cg)
    assert (other.counts_ng != small.counts_ng).nnz > 1000
    assert not np.allclose(other.shared_pg, small.shared_pg)


# --- truth -----------------------------------------------------------------------------------------


def test_expected_counts_are_those_asked_for(world):
    np.testing.assert_allclose(np.exp(world.base_kg).sum(axis=1), 400, rtol=1e-9)
    assert world.base_kg.max() <= np.log(25) + 1e-12


def test_nulls_carry_exactly_the_shift_and_controls_nothing(world):
    delta_kcg = per_context(world, world.delta_log_cg)
    kind = world.conditions["kind"].to_numpy()[:25]
    assert (delta_kcg[:, kind == "control"] == 0).all()
    np.testing.assert_array_equal(delta_kcg[:, kind == "null"], np.repeat(world.shift_kg[:, None], 3, axis=1))
    assert ((world.shift_kg != 0).sum(axis=1) == 20).all()


def test_effects_follow_gate_clip_and_shift_where_chance_is_off():
    world = make_world(replace(SMALL, tau=0.0))
    expected = np.clip(world.gate_kg[:, None] * world.shared_pg, -2, 2) + world.shift_kg[:, None]
    np.testing.assert_allclose(per_context(world, world.delta_log_cg)[:, 1:], expected, atol=1e-12)


def test_gate_follows_its_formula(world):
    away_kg = (world.base_kg - world.base_kg.mean(axis=0)) / 0.7
    np.testing.assert_allclose(world.gate_kg, 2 / (1 + np.exp(-1.5 * away_kg)), atol=1e-12)
    assert (make_world(replace(SMALL, kappa=0.0)).gate_kg == 1).all()


def test_doubles_follow_their_formula(world):
    for kind, factor in (("double_additive", 1.0), ("double_buffering", 0.6), ("double_neomorphic", 1.0)):
        for row, name in doubles_of(world, kind):
            a, b = parts(world, name)
            beyond_g = world.shared_pg[row - 1] - factor * (world.shared_pg[a - 1] + world.shared_pg[b - 1])
            assert (np.abs(beyond_g).max() > 0.1) == (kind == "double_neomorphic")
    assert all(len(doubles_of(world, f"double_{k}")) for k in ("additive", "buffering", "neomorphic"))


def test_doubles_join_different_families(world):
    for kind in ("additive", "buffering", "neomorphic"):
        for _, name in doubles_of(world, f"double_{kind}"):
            a, b = parts(world, name)
            assert (a - b) % 4
            assert max(a, b) <= 13  # no nulls


def test_effects_start_at_family_and_own_gene():
    bare = make_world(replace(SMALL, graph="absent", n_doubles=0)).shared_pg
    assert ((bare != 0).sum(axis=1) == [2] * 6 + [0, 0]).all()
    shared = [set(np.flatnonzero(row)) for row in bare[:6]]
    assert len(shared[0] & shared[4]) == len(shared[1] & shared[5]) == 1  # p mod 4 names the family
    assert not shared[0] & shared[1]
    alone = make_world(replace(SMALL, graph="absent", n_doubles=0, families=False)).shared_pg
    assert (alone != 0).sum(axis=0).max() == 1
    strength = np.sort(np.abs(bare[:6]), axis=1)[:, -2:]
    assert ((strength[:, 1] >= 0.8) & (strength[:, 1] <= 2.4)).all()
    assert ((strength[:, 0] / strength[:, 1] >= 0.35) & (strength[:, 0] <= strength[:, 1])).all()


def test_effects_spread_by_three_hops(small):
    """Against a dense inverse-free series in numpy."""
    bare = make_world(replace(SMALL, graph="absent")).shared_pg[:8]
    w = np.zeros((60, 60))
    w[small.true_edges.target_e, small.true_edges.source_e] = small.true_edges.weight_e
    k = sum(np.linalg.matrix_power(0.5 * w, i) for i in range(4))
    np.testing.assert_allclose(small.shared_pg[:8], bare @ k.T, atol=1e-12)


def test_batch_effects_sum_to_zero_and_have_their_spread(world):
    np.testing.assert_allclose(world.batch_bg.sum(axis=0), 0, atol=1e-12)
    assert abs(world.batch_bg.std() - 0.15) < 5 * 0.15 / 400**0.5
    assert (make_world(replace(SMALL, n_batches=1)).batch_bg == 0).all()


def test_graph_columns_have_absolute_sum_one(world):
    edges = world.edges
    assert (np.bincount(edges.source_e) == 3).all()
    np.testing.assert_allclose(np.bincount(edges.source_e, np.abs(edges.weight_e)), 1)
    assert (edges.source_e != edges.target_e).all()
    assert len(set(zip(edges.source_e, edges.target_e, strict=True))) == 600
    assert abs((edges.weight_e > 0).mean() - 0.7) < 5 * (0.21 / 600) ** 0.5
    assert np.bincount(edges.target_e, minlength=200).max() > 12  # hubs: far beyond a Poisson degree of 3


def test_moments_are_sums_over_depths_and_batches(small):
    """One condition, gene by gene, from scipy's pmf."""
    c, size, k = 4, 1 / 0.3, np.arange(20_000)
    for g in (0, 7, 31):
        first, second = np.zeros((2, 5)), np.zeros((2, 5))
        for b in range(2):
            for i, d in enumerate(DEPTHS):
                mu = d * np.exp(small.base_kg[0, g] + small.delta_log_cg[c, g] + small.batch_bg[b, g])
                pmf, x = nbinom.pmf(k, size, size / (size + mu)), np.log1p(k / d)
                first[b, i], second[b, i] = pmf @ x, pmf @ x**2
        per_batch = second.mean(axis=1) - first.mean(axis=1) ** 2
        expected = first.mean(), per_batch.mean(), second.mean() - first.mean() ** 2, (second - first**2).mean()
        fields = (small.mean_true_cg, small.var_true_cg, small.var_total_cg, small.var_stratum_cg)
        np.testing.assert_allclose([f[c, g] for f in fields], expected, atol=1e-10)


def test_cells_have_the_moments_they_claim(world):
    start_c = np.searchsorted(world.condition_n, np.arange(151))
    stratum_n = world.obs.groupby(["batch_id", "depth"]).ngroup().to_numpy()
    z, ratio = [], []
    for c in range(150):
        rows = slice(start_c[c], start_c[c + 1])
        x, n = world.x_ng[rows].astype(float), start_c[c + 1] - start_c[c]
        z.append((x.mean(axis=0) - world.mean_true_cg[c]) / np.sqrt(world.var_stratum_cg[c] / n))
        groups = [x[stratum_n[rows] == s] for s in range(10)]
        within = sum(((y - y.mean(axis=0)) ** 2).sum(axis=0) for y in groups) / (n - 10)
        ratio.append(within.sum() / world.var_stratum_cg[c].sum())
    z = np.array(z)
    often = world.mean_true_cg > 0.2  # rarer genes have means far from normal at this number of cells
    assert np.abs(z[often]).max() < 5
    assert abs(z.mean()) < 5 / z.size**0.5
    assert abs((z**2).mean() - 1) < 0.05
    assert abs(np.mean(ratio) - 1) < 5 * np.std(ratio) / 150**0.5


def test_delta_true_is_taken_against_the_context_s_own_control(world):
    mean_kcg = per_context(world, world.mean_true_cg)
    np.testing.assert_array_equal(per_context(world, world.delta_true_cg), mean_kcg - mean_kcg[:, :1])


def test_values_are_log1p_of_counts_over_known_depth(small):
    expected = np.log1p(small.counts_ng.toarray() / small.obs["depth"].to_numpy()[:, None])
    np.testing.assert_allclose(small.x_ng, expected, rtol=1e-6)


def test_moments_of_the_default_world_stay(world):
    """Identity of the generator again, for values: at any machine to 1e-6."""
    found = [a[137, 60] for a in (world.mean_true_cg, world.var_true_cg, world.delta_true_cg, world.delta_log_cg)]
    np.testing.assert_allclose(found, MOMENTS, atol=1e-6)


# --- presets ---------------------------------------------------------------------------------------


def control_counts(world):
    return world.counts_ng[world.obs["is_control"].to_numpy()].toarray()


@pytest.mark.parametrize("name", ["kappa_0", "tau_1", "omega_0", "no_interaction", "graph_absent", "graph_rewired"])
def test_presets_change_only_what_they_name(world, name):
    other = make_world(preset(name))
    np.testing.assert_array_equal(control_counts(other), control_counts(world))
    np.testing.assert_array_equal(other.obs["depth"], world.obs["depth"])
    np.testing.assert_array_equal(other.batch_bg, world.batch_bg)
    np.testing.assert_array_equal(other.true_edges.target_e, world.true_edges.target_e)
    changed = {
        "gate_kg": {"kappa_0"},
        "shift_kg": {"omega_0"},
        "shared_pg": {"no_interaction", "graph_absent"},
        "delta_log_cg": {"kappa_0", "tau_1", "omega_0", "no_interaction", "graph_absent"},
    }
    for field, by in changed.items():
        assert np.array_equal(getattr(other, field), getattr(world, field)) == (name not in by), field


def test_only_the_handed_out_graph_is_rewired(world):
    other = make_world(preset("graph_rewired"))
    assert (other.counts_ng != world.counts_ng).nnz == 0
    before, after = other.true_edges, other.edges
    assert (before.target_e != after.target_e).mean() > 0.8
    np.testing.assert_array_equal(np.bincount(before.target_e), np.bincount(after.target_e))
    np.testing.assert_array_equal(before.weight_e, after.weight_e)
    assert (after.source_e != after.target_e).all()
    assert len(set(zip(after.source_e, after.target_e, strict=True))) == 600


def test_no_interaction_makes_every_double_additive():
    world = make_world(preset("no_interaction"))
    kinds = set(world.conditions["kind"])
    assert kinds == {"control", "single", "null", "double_additive"}
    assert world.conditions["pert_id"].tolist() == make_world(preset("default")).conditions["pert_id"].tolist()


@pytest.mark.parametrize(
    ("name", "n_cells", "n_contexts"),
    [
        ("precise", 6 * (24 * 120 + 480), 6),
        ("many_contexts", 12 * (24 * 60 + 240), 12),
        ("noisy", 6 * (24 * 20 + 60), 6),
    ],
)
def test_sizes_of_presets(name, n_cells, n_contexts):
    settings = preset(name, seed=3)
    assert settings.seed == 3
    assert settings.n_contexts == n_contexts
    assert settings.n_contexts * (24 * settings.n_cells + settings.n_controls) == n_cells


def test_gaussian_twin_shares_effects_and_has_exact_moments(world):
    twin = make_world(preset("gaussian"))
    assert twin.counts_ng is None
    np.testing.assert_array_equal(twin.delta_log_cg, world.delta_log_cg)
    np.testing.assert_allclose(twin.delta_true_cg, twin.delta_log_cg, atol=1e-12)
    z = (twin.x_ng - twin.mean_true_cg[twin.condition_n]) / np.sqrt(twin.var_true_cg[twin.condition_n])
    assert abs(z.mean()) < 5 / z.size**0.5
    assert abs((z**2).mean() - 1) < 5 * (2 / z.size) ** 0.5


def test_gaussian_additive_doubles_are_sums_where_nothing_else_acts():
    world = make_world(replace(preset("gaussian"), omega=0.0, tau=0.0))
    delta_kcg = per_context(world, world.delta_true_cg)
    for row, name in doubles_of(world, "double_additive"):
        a, b = parts(world, name)
        sum_kg, clipped_kg = delta_kcg[:, a] + delta_kcg[:, b], np.abs(delta_kcg[:, [a, b, row]]).max(axis=1) >= 2
        assert clipped_kg.mean() < 0.05
        np.testing.assert_allclose(delta_kcg[:, row][~clipped_kg], sum_kg[~clipped_kg], atol=1e-9)


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_genes": 10}, "n_genes of the planted world is out of range: given 10, expected a whole number from 20"),
        ({"n_cells": 2.5}, "n_cells of the planted world is out of range: given 2.5, expected a whole number"),
        ({"n_contexts": True}, "n_contexts of the planted world is out of range: given True"),
        ({"kappa": -1.0}, "kappa of the planted world is out of range: given -1.0, expected a number from 0 to 20"),
        ({"tau": float("nan")}, "tau of the planted world is out of range: given nan"),
        ({"rho": 1.0}, "rho of the planted world is out of range: given 1.0, expected a number from 0 to 0.99"),
        (
            {"dispersion": 0.0},
            "dispersion of the planted world is out of range: given 0.0, expected a number from 0.01",
        ),
        ({"omega": "much"}, "omega of the planted world is out of range: given 'much'"),
        ({"seed": -1}, "seed of the planted world is out of range: given -1"),
        ({"graph": "rewire"}, "graph of the planted world is unknown: given 'rewire'.*Nearest: rewired"),
        ({"observation": "poisson"}, "observation of the planted world is unknown: given 'poisson'"),
        ({"n_nulls": 17}, "n_nulls of the planted world is too large: given 17, expected at most 16"),
        ({"n_families": 17}, "n_families of the planted world is too large: given 17, expected at most 16"),
        ({"n_doubles": 64}, "n_doubles of the planted world is too large: given 64, expected at most 63 .pairs"),
        ({"n_batches": 61}, "n_batches of the planted world is too large: given 61, expected at most 60"),
        ({"n_genes": 30}, "2 . n_singles of the planted world is too large: given 32, expected at most 30"),
        ({"umi": 2501.0}, "umi of the planted world is too large: given 2501, expected at most 2500"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(BadValue, match=message):
        replace(WorldSettings(), **change)


def test_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(BadValue, match=r"No preset .* given 'presise', expected default, precise.*Nearest: precise"):
        preset("presise")


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        PRESETS["default"].seed = 1  # type: ignore[misc]
