"""Is a combination answered from its parts alone?"""

import pytest
import torch

from perturbfm.model.baseline.additive import Additive
from perturbfm.model.baseline.statistics import ConditionTable
from perturbfm.types import Dims

DIMS = Dims(n_genes=2, n_interventions=4, n_parts=3, n_contexts=2, n_batches=1)
PARTS = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1]]  # a in two contexts, b, and a+c: c was never seen alone
DELTA = [[1.0, 0.0], [3.0, 0.0], [0.0, 4.0], [100.0, 100.0]]
NOISE = [[0.2, 0.2], [0.2, 0.2], [0.4, 0.4], [9.0, 9.0]]


def table(parts=PARTS, delta=DELTA, noise=NOISE):
    n = len(parts)
    ones = torch.ones(n, 2, dtype=torch.float64)
    return ConditionTable(
        delta_cg=torch.tensor(delta, dtype=torch.float64),
        noise_cg=torch.tensor(noise, dtype=torch.float64),
        x_cg=ones,
        x_var_cg=ones,
        x_count_c=torch.ones(n).double(),
        n_c=torch.ones(n).double(),
        intervention_c=torch.arange(n),
        context_c=torch.zeros(n, dtype=torch.long),
        parts_cp=torch.tensor(parts, dtype=torch.float32),
    )


def asked(parts):
    return table([parts], [[0.0, 0.0]], [[0.0, 0.0]]).as_batch()


def fitted(average=False, **given):
    model = Additive(DIMS, average)
    model.fit(table(**given))
    return model


# singles: a is the mean of (1, 0) and (3, 0), b is (0, 4); their mean over the three conditions is (4/3, 4/3)
@pytest.mark.parametrize(
    ("parts", "total", "mean"),
    [
        ([1, 1, 0], [2.0, 4.0], [1.0, 2.0]),
        ([1, 0, 0], [2.0, 0.0], [2.0, 0.0]),
        ([0, 1, 1], [4 / 3, 16 / 3], [2 / 3, 8 / 3]),
        ([0, 0, 0], [4 / 3, 4 / 3], [4 / 3, 4 / 3]),
    ],
)
def test_the_sum_and_the_mean_of_single_effects(parts, total, mean):
    for average, expected in ((False, total), (True, mean)):
        torch.testing.assert_close(fitted(average).mean(asked(parts))[0], torch.tensor(expected, dtype=torch.float64))


def test_the_noise_is_that_of_the_averages():
    # a: (0.2 + 0.2) / 2^2 = 0.1, b: 0.4; the mean halves both before they are added
    torch.testing.assert_close(fitted().noise(asked([1, 1, 0]))[0], torch.full((2,), 0.5).double())
    torch.testing.assert_close(fitted(True).noise(asked([1, 1, 0]))[0], torch.full((2,), 0.125).double())


def test_without_singles_the_mean_over_all_conditions_stands_in():
    given = {"parts": [[1, 1, 0], [0, 1, 1]], "delta": [[1.0, 0.0], [3.0, 2.0]], "noise": [[1.0, 1.0]] * 2}
    torch.testing.assert_close(fitted(True, **given).mean(asked([1, 0, 1]))[0], torch.tensor([2.0, 1.0]).double())
