from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from perturbfm.errors import BadValue
from perturbfm.model.baseline.global_mean import GlobalMean
from perturbfm.model.baseline.no_change import NoChange
from perturbfm.model.baseline.per_perturbation_context_mean import PerPerturbationContextMean
from perturbfm.model.baseline.per_perturbation_mean import PerPerturbationMean
from perturbfm.model.baseline.ridge import Ridge
from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.types import VARIANCE_FLOOR, Batch, Dims

MODELS = (NoChange, GlobalMean, PerPerturbationMean, PerPerturbationContextMean, Ridge)
G, K, P = 6, 4, 5


def a_table(seed=0, contexts=K, interventions=P, genes=G, missing=((0, 1), (2, 3), (2, 0))):
    """Conditions with one control profile per context; some pairs are not measured."""
    rng = np.random.default_rng(seed)
    pairs = [(i, k) for i in range(interventions) for k in range(contexts) if (i, k) not in missing]
    n, profile = len(pairs), rng.normal(size=(contexts, genes))
    spread = rng.uniform(0.5, 2.0, (contexts, genes))
    context = np.array([k for _, k in pairs])
    t = torch.from_numpy
    return ConditionTable(
        delta_cg=t(rng.normal(size=(n, genes))),
        noise_cg=t(rng.uniform(0.01, 0.1, (n, genes))),
        x_cg=t(profile[context]),
        x_var_cg=t(spread[context]),
        x_count_c=torch.full((n,), 30.0, dtype=torch.float64),
        n_c=t(rng.integers(5, 500, n).astype(float)),
        intervention_c=torch.tensor([i for i, _ in pairs]),
        context_c=t(context),
        parts_cp=torch.eye(interventions)[[i for i, _ in pairs]],
    )


def dims_of(table):
    k, p = int(table.context_c.max()) + 1, int(table.intervention_c.max()) + 1
    return Dims(table.delta_cg.shape[1], p, p, k, 1)


def ask(interventions, contexts, x=None, x_var=None, count=30.0, genes=G):
    n = len(interventions)
    return Batch(
        x_ng=torch.zeros(n, genes) if x is None else torch.as_tensor(x),
        x_var_ng=torch.ones(n, genes) if x_var is None else torch.as_tensor(x_var),
        x_count_n=torch.full((n,), count),
        intervention_n=torch.tensor(interventions),
        parts_np=torch.zeros(n, 1),
        context_n=torch.tensor(contexts),
        batch_n=torch.full((n,), -1),
        row_n=torch.arange(n),
    )


def fitted(kind, table, **options):
    model = kind(dims_of(table), **options)
    model.fit(table)
    return model


def arrays(table):
    return table.delta_cg.numpy(), table.noise_cg.numpy(), table.intervention_c.numpy(), table.context_c.numpy()


def test_no_change_says_nothing_changes_and_knows_it_exactly():
    model = fitted(NoChange, a_table())
    assert (model.mean(ask([0, -1], [0, -1])) == 0).all()
    assert (model.noise(ask([0, -1], [0, -1])) == 0).all()


def test_no_change_learns_how_large_effects_are():
    table = a_table()
    model = NoChange(dims_of(table))
    model.solve(table)
    delta, noise, _, _ = arrays(table)
    assert float(model.tau2) == pytest.approx((delta**2 - noise).sum() / table.x_var_cg.numpy().sum())


def test_global_mean_counts_conditions_and_not_cells():
    table = a_table()
    model = fitted(GlobalMean, table)
    delta, noise, _, _ = arrays(table)
    np.testing.assert_allclose(model.mean(ask([0, -1], [1, -1]))[1], delta.mean(0))
    np.testing.assert_allclose(model.noise(ask([0], [1]))[0], noise.sum(0) / len(delta) ** 2)
    other = fitted(GlobalMean, replace(table, n_c=table.n_c * 3 + 1))
    torch.testing.assert_close(other.mean_g, model.mean_g)


def test_per_perturbation_mean_counts_contexts_once_each():
    table = a_table()
    model = fitted(PerPerturbationMean, table)
    delta, noise, intervention, _ = arrays(table)
    for i in range(P):
        mine = intervention == i
        np.testing.assert_allclose(model.mean(ask([i], [-1]))[0], delta[mine].mean(0))
        np.testing.assert_allclose(model.noise(ask([i], [-1]))[0], noise[mine].sum(0) / mine.sum() ** 2)


def test_per_perturbation_mean_of_an_unknown_intervention_is_the_global_mean():
    table = a_table()
    delta, noise, _, _ = arrays(table)
    model = fitted(PerPerturbationMean, table)
    np.testing.assert_allclose(model.mean(ask([-1], [0]))[0], delta.mean(0))
    np.testing.assert_allclose(model.noise(ask([-1], [0]))[0], noise.sum(0) / len(delta) ** 2)


def test_per_perturbation_mean_of_an_intervention_that_lost_its_conditions_is_the_global_mean():
    table = a_table()
    kept = table.take(table.intervention_c != 2)
    model = PerPerturbationMean(dims_of(table))
    model.fit(kept)
    np.testing.assert_allclose(model.mean(ask([2], [0]))[0], kept.delta_cg.mean(0))


def test_per_perturbation_context_mean_repeats_what_it_has_seen():
    table = a_table()
    model = PerPerturbationContextMean(dims_of(table))
    model.solve(table)
    delta, noise, intervention, context = arrays(table)
    batch = ask(intervention.tolist(), context.tolist())
    np.testing.assert_allclose(model.mean(batch), delta)
    np.testing.assert_allclose(model.noise(batch), noise)
    assert float(model.tau2) > 0
    assert (model.excess(batch) == 0).all()


@pytest.mark.parametrize(("intervention", "context"), [(0, 1), (2, 3), (1, -1), (-1, 0), (-1, -1)])
def test_per_perturbation_context_mean_falls_back_where_it_has_not(intervention, context):
    table = a_table()
    model, other = PerPerturbationContextMean(dims_of(table)), PerPerturbationMean(dims_of(table))
    model.solve(table)
    other.solve(table)
    delta, noise, intervention_c, _ = arrays(table)
    mine = intervention_c == intervention if intervention >= 0 else np.ones(len(delta), bool)
    batch = ask([intervention], [context])
    np.testing.assert_allclose(model.mean(batch)[0], delta[mine].mean(0))
    np.testing.assert_allclose(model.noise(batch)[0], noise[mine].sum(0) / mine.sum() ** 2)
    torch.testing.assert_close(model(batch).var_ng, other(batch).var_ng)


def primal_ridge(table, penalty, x):
    """Weighted ridge in gene space with a free intercept: one equation per condition."""
    delta, _, _, context = arrays(table)
    xs = table.x_cg.numpy()
    x_mean, y_mean = xs.mean(0), delta.mean(0)
    xc = xs - x_mean
    trace = (xc**2).sum()
    strength = penalty * trace / len(np.unique(context))
    beta = np.linalg.solve(xc.T @ xc + strength * np.eye(xs.shape[1]), xc.T @ (delta - y_mean))
    return y_mean + (x - x_mean) @ beta


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_ridge_is_the_primal_solution(penalty):
    table = a_table()
    model = fitted(Ridge, table, penalty=penalty)
    x = np.random.default_rng(5).normal(size=(8, G))
    np.testing.assert_allclose(
        model.mean(ask([0] * 8, [-1] * 8, x=x)), primal_ridge(table, penalty, x), rtol=1e-8, atol=1e-10
    )


def test_ridge_without_one_of_its_contexts_is_the_primal_solution_too():
    table = a_table()
    kept = table.take(table.context_c != 1)
    model = Ridge(dims_of(table))
    model.fit(kept)
    x = np.random.default_rng(5).normal(size=(3, G))
    np.testing.assert_allclose(model.mean(ask([0] * 3, [-1] * 3, x=x)), primal_ridge(kept, 1.0, x), rtol=1e-8)


def test_ridge_weights_sum_to_one():
    """A response that is one everywhere must be predicted as one everywhere, whatever is asked."""
    table = a_table()
    model = fitted(Ridge, replace(table, delta_cg=torch.ones_like(table.delta_cg)))
    x = np.random.default_rng(6).normal(size=(20, G)) * 10
    np.testing.assert_allclose(model.mean(ask([0] * 20, [-1] * 20, x=x)), 1.0, rtol=1e-9)


def test_ridge_noise_is_that_of_its_weighted_sum():
    """The prediction is linear in the table: its weights are read off by answering with unit responses."""
    table = a_table()
    x = np.random.default_rng(7).normal(size=(3, G))
    weights = []
    for c in range(len(table)):
        unit = torch.zeros_like(table.delta_cg)
        unit[c] = 1.0
        weights.append(fitted(Ridge, replace(table, delta_cg=unit)).mean(ask([0] * 3, [-1] * 3, x=x))[:, 0].numpy())
    expected = np.array(weights).T ** 2 @ table.noise_cg.numpy()
    np.testing.assert_allclose(fitted(Ridge, table).noise(ask([0] * 3, [-1] * 3, x=x)), expected, rtol=1e-8)


def test_ridge_with_an_infinite_penalty_is_the_mean_over_conditions():
    table = a_table()
    model = fitted(Ridge, table, penalty=1e12)
    x = np.random.default_rng(8).normal(size=(4, G))
    np.testing.assert_allclose(model.mean(ask([0] * 4, [0] * 4, x=x)), table.delta_cg.mean(0).expand(4, -1), atol=1e-9)


def test_ridge_with_almost_no_penalty_passes_through_the_contexts():
    table = a_table()
    model = fitted(Ridge, table, penalty=1e-10)
    delta, _, _, context = arrays(table)
    for k in range(K):
        x = table.x_cg[table.context_c == k][:1]
        np.testing.assert_allclose(model.mean(ask([0], [k], x=x))[0], delta[context == k].mean(0), atol=1e-6)


def test_ridge_of_a_single_context_is_the_mean():
    table = a_table(contexts=1, missing=())
    model = Ridge(dims_of(table))
    model.solve(table)
    x = np.random.default_rng(9).normal(size=(2, G))
    np.testing.assert_allclose(model.mean(ask([0, 1], [0, -1], x=x)), table.delta_cg.mean(0).expand(2, -1))
    assert torch.isfinite(model(ask([0, 1], [0, -1], x=x)).var_ng).all()


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.most = max([self.most, *(t.numel() for t in tree_iter(out) if isinstance(t, torch.Tensor))])
        return out


@pytest.mark.parametrize("kind", MODELS)
def test_five_thousand_genes_never_meet_each_other(kind):
    genes = 5000
    table = a_table(genes=genes)
    model = kind(dims_of(table))
    with Largest() as largest:
        model.solve(table)
        model(ask([0, 1], [0, -1], genes=genes))
    assert genes < largest.most < genes * genes / 10
    assert max(b.numel() for b in model.buffers()) <= genes * (P + 1) * (K + 1)


def test_excess_is_what_residuals_of_left_out_contexts_have_beyond_their_noise():
    table = a_table()
    delta, noise, intervention, context = arrays(table)
    s2 = table.x_var_cg.numpy()
    top = bottom = 0.0
    for k in range(K):
        kept, left = context != k, np.flatnonzero(context == k)
        for c in left:
            same = kept & (intervention == intervention[c])
            mean, n = (delta[same].mean(0), noise[same].sum(0) / same.sum() ** 2)
            top += ((delta[c] - mean) ** 2 - noise[c] - n).sum()
            bottom += s2[c].sum()
    model = PerPerturbationMean(dims_of(table))
    model.solve(table)
    assert float(model.tau2) == pytest.approx(top / bottom, rel=1e-9)


def test_excess_of_left_out_interventions_in_a_single_context():
    table = a_table(contexts=1, missing=())
    delta, noise, _, _ = arrays(table)
    n = len(delta)
    top = 0.0
    for c in range(n):
        kept = np.arange(n) != c
        top += ((delta[c] - delta[kept].mean(0)) ** 2 - noise[c] - noise[kept].sum(0) / (n - 1) ** 2).sum()
    model = GlobalMean(dims_of(table))
    model.solve(table)
    assert float(model.tau2) == pytest.approx(top / table.x_var_cg.numpy().sum(), rel=1e-9)


def test_excess_of_a_single_condition_is_its_own_size():
    table = a_table(contexts=1, interventions=1, missing=())
    delta, noise, _, _ = arrays(table)
    model = GlobalMean(dims_of(table))
    model.solve(table)
    assert float(model.tau2) == pytest.approx(max(0.0, (delta**2 - noise).sum() / table.x_var_cg.numpy().sum()))


def test_excess_is_never_negative():
    table = a_table()
    model = GlobalMean(dims_of(table))
    model.solve(replace(table, noise_cg=table.noise_cg + 1e3))
    assert float(model.tau2) == 0.0


def test_learning_the_variance_leaves_the_model_fitted_on_everything():
    table = a_table()
    model = PerPerturbationMean(dims_of(table))
    model.solve(table)
    torch.testing.assert_close(model.mean_pg, fitted(PerPerturbationMean, table).mean_pg)


def test_variance_is_noise_plus_excess_times_spread_above_a_floor():
    table = a_table()
    model = PerPerturbationMean(dims_of(table))
    model.solve(table)
    spread = np.random.default_rng(3).uniform(0.1, 3.0, (2, G))
    batch = ask([1, -1], [0, -1], x_var=spread)
    expected = model.noise(batch).numpy() + float(model.tau2) * spread
    answer = model(batch)
    np.testing.assert_allclose(answer.var_ng, expected, rtol=1e-6)
    assert answer.mean_ng.dtype == answer.var_ng.dtype == torch.float32


def test_variance_never_falls_below_its_floor():
    table = a_table()
    model = NoChange(dims_of(table))
    model.solve(replace(table, noise_cg=table.noise_cg + 1e3))
    assert (model(ask([0], [0])).var_ng == np.float32(VARIANCE_FLOOR)).all()


def test_spread_is_one_where_a_file_has_no_cells():
    table = a_table()
    model = NoChange(dims_of(table))
    model.solve(table)
    var = model(ask([0], [0], x_var=torch.zeros(1, G), count=0.0)).var_ng
    np.testing.assert_allclose(var, float(model.tau2), rtol=1e-6)


def test_spread_is_the_contexts_own_even_where_a_batch_has_a_single_control():
    table = a_table()
    model = NoChange(dims_of(table))
    model.solve(table)
    var = model(ask([0], [0], x_var=torch.full((1, G), 0.01), count=1.0)).var_ng
    np.testing.assert_allclose(var, max(0.01 * float(model.tau2), VARIANCE_FLOOR), rtol=1e-6)


def simulated(tau2, contexts, interventions, genes, shared):
    """Conditions drawn from the model that the variance assumes, with spread and noise that differ."""
    rng = np.random.default_rng(11)
    table = a_table(contexts=contexts, interventions=interventions, genes=genes, missing=())
    s2, v, i = table.x_var_cg.numpy(), table.noise_cg.numpy(), table.intervention_c.numpy()
    truth = rng.normal(size=(interventions, genes))[i] if shared else 0.0
    delta = truth + np.sqrt(tau2 * s2) * rng.normal(size=s2.shape) + np.sqrt(v) * rng.normal(size=s2.shape)
    return replace(table, delta_cg=torch.from_numpy(delta))


@pytest.mark.parametrize("tau2", [0.05, 0.5])
def test_the_learned_excess_is_the_planted_one(tau2):
    table = simulated(tau2, contexts=6, interventions=40, genes=60, shared=False)
    model = NoChange(dims_of(table))
    model.solve(table)
    assert float(model.tau2) == pytest.approx(tau2, rel=0.08)


@pytest.mark.parametrize("tau2", [0.05, 0.5])
def test_the_learned_excess_of_a_mean_over_contexts_includes_their_own(tau2):
    """A mean of k - 1 contexts has tau2 / (k - 1) of transfer in itself; spreads are alike on average."""
    table = simulated(tau2, contexts=6, interventions=40, genes=60, shared=True)
    model = PerPerturbationMean(dims_of(table))
    model.solve(table)
    assert float(model.tau2) == pytest.approx(tau2 * (1 + 1 / 5), rel=0.08)


def test_there_is_no_excess_where_none_was_planted():
    table = simulated(0.0, contexts=6, interventions=40, genes=60, shared=True)
    model = PerPerturbationMean(dims_of(table))
    model.solve(table)
    assert float(model.tau2) < 0.003


@pytest.mark.parametrize("kind", MODELS)
def test_answers_of_one_query_do_not_depend_on_the_others(kind):
    table = a_table()
    model = kind(dims_of(table))
    model.solve(table)
    rng = np.random.default_rng(2)
    batch = ask([0, 1, -1, 3], [0, -1, 2, 1], x=rng.normal(size=(4, G)), x_var=rng.uniform(0.1, 1, (4, G)))
    whole = model(batch)
    for n in range(4):
        one = Batch(**{k: v[n : n + 1] for k, v in vars(batch).items() if v is not None})
        torch.testing.assert_close(model(one).mean_ng[0], whole.mean_ng[n])
        torch.testing.assert_close(model(one).var_ng[0], whole.var_ng[n])


@pytest.mark.parametrize("kind", MODELS)
def test_everything_a_solved_model_knows_is_in_its_state(kind):
    table = a_table()
    model, copy = kind(dims_of(table)), kind(dims_of(table))
    model.solve(table)
    copy.load_state_dict(model.state_dict())
    batch = ask([0, -1], [1, -1], x=np.random.default_rng(4).normal(size=(2, G)))
    torch.testing.assert_close(copy(batch).mean_ng, model(batch).mean_ng, rtol=0, atol=0)
    torch.testing.assert_close(copy(batch).var_ng, model(batch).var_ng, rtol=0, atol=0)


def test_negative_penalty_is_refused():
    with pytest.raises(BadValue, match="A ridge penalty is negative: given -1"):
        Ridge(Dims(3, 2, 2, 2, 1), penalty=-1)
