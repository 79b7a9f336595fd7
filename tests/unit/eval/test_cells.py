"""Are a mean model's cells the controls that it moves, and its moments theirs to the last digit?"""

import numpy as np

from perturbfm.eval.cells import shifted
from perturbfm.eval.comparison import moments_of
from perturbfm.eval.truth import Truth
from perturbfm.types import Observed


def _observed(batches=("a", "b")):
    rng = np.random.default_rng(0)
    x, controls = np.log1p(rng.poisson(1.0, (40, 5))).astype(float), np.log1p(rng.poisson(1.0, (60, 5))).astype(float)
    words = {"input_context_m": np.full(60, "k", dtype=object), "reference_context_r": np.full(60, "k", dtype=object)}
    batch_m = np.resize(np.array(["a", "b", "b"], dtype=object), 60)
    return Observed(
        idx_n=np.arange(40),
        x_ng=x,
        intervention_n=np.repeat(np.array(["p@other", "q@other"], dtype=object), 20),
        context_n=np.full(40, "k", dtype=object),
        batch_n=np.concatenate([np.resize(np.array(["a", "b"], dtype=object), 20), np.full(20, "b", dtype=object)]),
        input_mg=controls,
        input_batch_m=batch_m,
        reference_rg=controls,
        reference_batch_r=batch_m,
        genes_g=tuple("vwxyz"),
        scale="log1p",
        unit="cells",
        controls="cells",
        match_batch=True,
        fold="test",
        **words,
    )


def test_known_moments_are_those_of_the_moved_controls_of_the_conditions_batches():
    truth = Truth(_observed())
    delta = np.random.default_rng(1).normal(size=(2, 5))
    side = shifted(truth, delta)
    counted = moments_of(side.cells, 2)
    assert counted.n_r.tolist() == [60, 40]
    np.testing.assert_allclose(side.moments.n_r, counted.n_r)
    np.testing.assert_allclose(side.moments.mean_rg, counted.mean_rg, rtol=1e-12)
    np.testing.assert_allclose(side.moments.var_rg, counted.var_rg, rtol=1e-10)
    np.testing.assert_allclose(side.moments.nonzero_rg, counted.nonzero_rg, rtol=1e-12)


def test_no_change_is_exactly_none_where_all_batches_are_used():
    truth = Truth(_observed())
    side = shifted(truth, np.zeros((2, 5)))
    assert np.array_equal(side.moments.mean_rg[0], side.control_moments.mean_rg[0])
    assert not np.array_equal(side.moments.mean_rg[1], side.control_moments.mean_rg[0])
