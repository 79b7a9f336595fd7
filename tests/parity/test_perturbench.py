"""Is all of PerturBench's file owned, and do its random ranks have the mean that ties have?"""

import numpy as np
import pytest

from perturbfm.eval.aggregate import pooled
from perturbfm.eval.panel.perturbench import PERTURBENCH
from perturbfm.parity.perturbench import FILES, _name
from perturbfm.parity.reference import PREDICTIONS, References

OWNER = {alias: m.function.function for m in PERTURBENCH for alias in m.aliases}


@pytest.fixture(scope="module")
def references(parity_folder):
    return References(parity_folder)


def test_every_key_of_the_files_has_one_owner_and_every_alias_a_key(references):
    keys = []
    for version, path in FILES.items():
        file = references.values(path)
        keys += [f"perturbench_{version}.{_name(k)}" for k in file["values"]]
        keys += [f"perturbench_{version}.{r}_{_name(k)}" for r in ("rank", "rank_transpose") for k in file[r]]
    assert sorted(keys) == sorted(a for m in PERTURBENCH for a in m.aliases)


@pytest.mark.parametrize("prediction", ["control_copy", "mean_shift"])
@pytest.mark.parametrize("metric", ["rmse_average", "pearson_average", "cosine_logfc"])
def test_one_prediction_for_all_has_the_rank_of_chance(references, prediction, metric):
    """README of the references: (n - 1) / (2 n) in v1, 1/2 in v3."""
    comparison = references.comparison(prediction)
    n_c = np.array([(comparison.context_of_c == k).sum() for k in comparison.context_of_c])
    assert OWNER[f"perturbench_v1.rank_{metric}"](comparison).value_c == pytest.approx((n_c - 1) / (2 * n_c))
    assert OWNER[f"perturbench_v3.rank_{metric}"](comparison).value_c == pytest.approx(0.5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_micro_mean_is_the_printed_summary(references, prediction):
    """4 significant digits of the mean over context-perturbations that are not NaN; `mmd` is float32 rounding there."""
    n = 0
    for version, path in FILES.items():
        file = references.values(path)
        for key, means in file["mean_over_context_perturbations_nan_skipped"].items():
            stats = OWNER[f"perturbench_{version}.{_name(key)}"](references.comparison(prediction))
            ours = pooled(stats, np.ones(len(stats.num_c)))
            if ours is not None and key != "none/mmd":
                assert f"{ours:.4g}" == f"{means[prediction]:.4g}", (version, key)
                n += 1
    assert n >= 14
