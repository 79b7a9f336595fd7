"""Does a prediction that knows nothing correlate with nothing, when no cell stands on two sides?"""

from functools import partial

import anndata as ad
import numpy as np
import pytest

from perturbfm.eval.effort import Effort
from perturbfm.eval.metric.correlation import pearson_delta
from perturbfm.eval.redraw import redrawn_cases
from perturbfm.eval.resample import two_way_interval
from perturbfm.eval.truth import Truth
from perturbfm.types import Observed

LINES = ("k562", "A172", "T98G", "U87MG")
DIVISIONS = 6
PCC = partial(pearson_delta, reference="control")


@pytest.fixture(scope="module")
def devel(real_data):
    return ad.read_h5ad(real_data / "perturbench_devel" / "perturbench_devel.h5ad")


def _third(file, line, seed):
    """Controls in three: the prediction is the first against the second, the truth is taken against the third."""
    context, pert = (file.obs[c].astype(str).to_numpy() for c in ("cell_type", "condition"))
    controls = np.flatnonzero((context == line) & (pert == "control"))
    first, shown, kept = np.array_split(np.random.default_rng(seed).permutation(controls), 3)
    rows = np.flatnonzero((context == line) & (pert != "control"))

    def words(index, word=""):
        return np.full(len(index), word, dtype=object)

    truth = Truth(
        Observed(
            idx_n=rows,
            x_ng=file.X[rows],
            intervention_n=np.array([f"{p}@other" for p in pert[rows]], dtype=object),
            context_n=words(rows, line),
            batch_n=words(rows),
            input_mg=file.X[shown],
            input_context_m=words(shown, line),
            input_batch_m=words(shown),
            reference_rg=file.X[kept],
            reference_context_r=words(kept, line),
            reference_batch_r=words(kept),
            genes_g=tuple(file.var_names),
            scale="log1p",
            unit="cells",
            controls="cells",
            match_batch=False,
            fold="test",
        )
    )
    mean = [np.asarray(file.X[part].mean(axis=0), dtype=float).ravel() for part in (first, shown, kept)]
    return truth, mean[0] - mean[1], mean[0] - mean[2]


def _case(truth, delta_g):
    delta_cg = np.tile(delta_g, (len(truth.n_c), 1))
    return truth.case(delta_cg, np.ones_like(delta_cg), None, np.full(len(delta_cg), "powered", dtype=object))


def _measured(file, line, seed):
    truth, apart, shared = _third(file, line, seed)
    case = _case(truth, apart)
    draws, weight_bc = redrawn_cases(truth, [case], Effort(200, 10, 5, seed))
    found = two_way_interval(PCC, (d[0] for d in draws), weight_bc)
    return np.mean(PCC(case).value_c), found.low, found.high, np.mean(PCC(_case(truth, shared)).value_c)


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_a_third_set_of_controls_correlates_with_nothing_and_a_shared_one_does(devel, line):
    """Over divisions of the controls: 0 within the two-way interval, where sharing controls gives 0.2 to 0.6."""
    value, low, high, shared = np.mean([_measured(devel, line, seed) for seed in range(DIVISIONS)], axis=0)
    assert low < 0 < high
    assert abs(value) < 0.1
    assert shared > value + 0.15


def test_an_exactly_zero_delta_has_no_correlation(devel):
    truth, apart, _ = _third(devel, "T98G", 0)
    found = PCC(_case(truth, np.zeros_like(apart)))
    assert not found.ok_c.any()
    assert set(found.reason_c) == {"predicted delta is constant over genes"}
