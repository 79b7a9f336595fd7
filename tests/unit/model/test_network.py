import numpy as np
import pytest
import torch

from perturbfm.errors import BadValue
from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.model.perturbfm.small_network import SmallNetwork
from perturbfm.types import VARIANCE_FLOOR, Batch, Dims

DIMS = Dims(n_genes=9, n_interventions=4, n_parts=3, n_contexts=2, n_batches=2)


def a_batch(n=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        x_ng=torch.randn(n, 9, generator=rng),
        x_var_ng=torch.rand(n, 9, generator=rng) + 0.1,
        x_count_n=torch.full((n,), 30.0),
        intervention_n=torch.arange(n) % 4,
        parts_np=(torch.rand(n, 3, generator=rng) > 0.5).float(),
        context_n=torch.arange(n) % 2,
        batch_n=torch.zeros(n, dtype=torch.long),
        row_n=torch.arange(n),
    )


def a_network(seed=0, **options):
    torch.manual_seed(seed)
    return SmallNetwork(DIMS, hidden=8, latent=4, **options)


def a_table(delta, noise=0.0):
    batch = a_batch(len(delta))
    return ConditionTable(
        delta_cg=delta.double(),
        noise_cg=torch.full_like(delta, noise, dtype=torch.float64),
        x_cg=batch.x_ng.double(),
        x_var_cg=batch.x_var_ng.double(),
        x_count_c=batch.x_count_n,
        n_c=torch.ones(len(delta)),
        intervention_c=batch.intervention_n,
        context_c=batch.context_n,
        parts_cp=batch.parts_np,
    )


@pytest.mark.parametrize("use_control", [True, False])
def test_every_row_and_gene_gets_a_mean_and_a_positive_variance(use_control):
    answer = a_network(use_control=use_control)(a_batch())
    assert answer.mean_ng.shape == answer.var_ng.shape == (5, 9)
    assert answer.mean_ng.dtype == answer.var_ng.dtype == torch.float32
    assert torch.isfinite(answer.mean_ng).all()
    assert (answer.var_ng >= np.float32(VARIANCE_FLOOR)).all()


def test_the_variance_of_cells_is_positive():
    network = a_network()
    with torch.no_grad():
        network.log_var_g.fill_(-20.0)
    variance = network.cell_variance(a_batch())
    assert variance.shape == (5, 9)
    assert (variance > 0).all()


def test_without_control_the_control_profile_does_not_matter():
    network, batch, other = a_network(use_control=False), a_batch(), a_batch()
    other.x_ng = other.x_ng * 3 + 1
    torch.testing.assert_close(network.mean(batch), network.mean(other), rtol=0, atol=0)


def test_with_control_the_control_profile_matters():
    network, batch, other = a_network(), a_batch(), a_batch()
    other.x_ng = other.x_ng * 3 + 1
    assert (network.mean(batch) - network.mean(other)).abs().max() > 1e-3


def test_rows_do_not_see_each_other():
    network, batch = a_network(), a_batch()
    whole = network(batch)
    for n in range(5):
        one = Batch(**{k: v[n : n + 1] for k, v in vars(batch).items() if v is not None})
        torch.testing.assert_close(network(one).mean_ng[0], whole.mean_ng[n])
        torch.testing.assert_close(network(one).var_ng[0], whole.var_ng[n])


def test_an_unknown_part_adds_nothing():
    network, batch = a_network(use_control=False), a_batch()
    batch.parts_np = torch.zeros_like(batch.parts_np)
    mean = network.mean(batch)
    torch.testing.assert_close(mean, mean[:1].expand_as(mean))


def test_labels_it_does_not_use_do_not_matter():
    network, batch, other = a_network(), a_batch(), a_batch()
    other.context_n, other.batch_n, other.intervention_n = (torch.full((5,), -1) for _ in range(3))
    torch.testing.assert_close(network.mean(batch), network.mean(other), rtol=0, atol=0)


def test_the_excess_is_learned_from_residuals_of_conditions():
    network = a_network()
    batch = a_batch(6)
    error = torch.randn(6, 9, generator=torch.Generator().manual_seed(3))
    network.learn_variance(a_table(network.mean(batch).detach() + error, noise=0.2))
    expected = (error.double().numpy() ** 2 - 0.2).sum() / batch.x_var_ng.double().numpy().sum()
    assert float(network.tau2) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(network(batch).var_ng.detach(), expected * batch.x_var_ng, rtol=1e-5)


def test_parameters_follow_the_seed():
    assert torch.equal(a_network(1).part_pd, a_network(1).part_pd)
    assert not torch.equal(a_network(1).part_pd, a_network(2).part_pd)


def test_width_of_nothing_is_refused():
    with pytest.raises(BadValue, match="A width of the network is not positive: given hidden=0, latent=16"):
        SmallNetwork(Dims(3, 2, 2, 2, 1), hidden=0)
