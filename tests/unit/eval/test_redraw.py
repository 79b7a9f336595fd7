"""Doses of one perturbation are no independent conditions: they are redrawn together."""

import numpy as np

from perturbfm.eval.effort import Effort
from perturbfm.eval.redraw import redrawn_cases
from perturbfm.eval.truth import Truth
from perturbfm.types import Observed


def test_doses_and_times_of_one_perturbation_are_one_cluster():
    labels = ["A@drug;dose=1;time=6", "A@drug;dose=10", "B@drug;dose=1", "B@ligand;dose=1"]
    rng = np.random.default_rng(0)
    n = 3 * len(labels)
    one = np.full(8, "k", dtype=object)
    observed = Observed(
        idx_n=np.arange(n),
        x_ng=rng.random((n, 2)),
        intervention_n=np.repeat(np.array(labels, dtype=object), 3),
        context_n=np.full(n, "k", dtype=object),
        batch_n=np.full(n, "1", dtype=object),
        input_mg=rng.random((8, 2)),
        input_context_m=one,
        input_batch_m=np.full(8, "1", dtype=object),
        reference_rg=rng.random((8, 2)),
        reference_context_r=one,
        reference_batch_r=np.full(8, "1", dtype=object),
        genes_g=("a", "b"),
        scale="log1p",
        unit="cells",
        controls="cells",
        match_batch=False,
        fold="test",
    )
    truth = Truth(observed)
    assert truth.intervention_c.tolist() == sorted(labels)
    _, weight_bc = redrawn_cases(truth, [], Effort(bootstrap_draws=200))
    np.testing.assert_array_equal(weight_bc[:, 0], weight_bc[:, 1])
    assert (weight_bc[:, 2] != weight_bc[:, 0]).any()
    assert (weight_bc[:, 2] != weight_bc[:, 3]).any()
    np.testing.assert_array_equal(weight_bc[:, 1] + weight_bc[:, 2] + weight_bc[:, 3], np.full(200, 3))
