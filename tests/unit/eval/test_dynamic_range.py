"""Is the dynamic range that of the paper's formula, and the interpolated duplicate that of its definition?"""

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy

from perturbfm.errors import ShapeMismatch
from perturbfm.eval.comparison import moments_of
from perturbfm.eval.dynamic_range import adjusted_p_against_rest, dynamic_range, interpolated_duplicate


@pytest.mark.parametrize(
    ("base", "duplicate", "perfect", "higher", "want"),
    [
        (0.807, 0.012, 0.0, False, 0.99),  # WMSE
        (0.0050, 0.0006, 0.0, False, 0.88),  # MSE
        (0.0608, 0.0235, 0.0, False, 0.61),  # RMSE
        (0.0093, 0.0066, 0.0, False, 0.29),  # MAE
        (0.50, 0.026, 0.0, False, 0.95),  # retrieval, query = reference
        (0.50, 0.97, 1.0, True, 0.94),  # PDS L1
        (-0.58, 0.80, 1.0, True, 0.87),  # R2w around the perturbed mean, baseline control
        (0.19, 0.83, 1.0, True, 0.79),  # PCC-delta around the perturbed mean, baseline control
        (0.33, 0.81, 1.0, True, 0.71),  # PCC-delta against control
    ],
)
def test_the_worked_table_of_the_definitions(base, duplicate, perfect, higher, want):
    found = dynamic_range(np.array([duplicate]), np.array([base]), perfect=perfect, higher=higher)
    assert found[0] == pytest.approx(want, abs=0.0101)


def test_clipped_and_undefined():
    found = dynamic_range(
        np.array([0.0, 0.5, 9.0, 0.1, np.nan, 0.1, -0.1]),
        np.array([0.5, 0.5, 1.0, 0.0, 1.0, np.nan, -0.05]),
        perfect=0.0,
        higher=False,
    )
    np.testing.assert_array_equal(found, [1.0, 0.0, -1.0, np.nan, np.nan, np.nan, np.nan])
    perfect_base = dynamic_range(np.array([0.9, 0.9]), np.array([1.0, 0.5]), perfect=1.0, higher=True)
    np.testing.assert_allclose(perfect_base, [np.nan, 0.8])


def test_the_guard_is_that_of_the_script():
    found = dynamic_range(np.array([0.0]), np.array([1e-6]), perfect=0.0, higher=False, guard=1e-6)
    assert found[0] == pytest.approx(0.5)


def test_interpolation_keeps_what_is_significant():
    duplicate, mean = np.array([[10.0, 10.0, 10.0, 10.0]]), np.array([0.0, 0.0, 4.0, 7.0])
    found = interpolated_duplicate(duplicate, mean, np.array([[0.0, 1.0, 0.25, np.nan]]))
    np.testing.assert_allclose(found, [[10.0, 0.0, 8.5, 7.0]])


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ShapeMismatch, match="Duplicate, train mean and p do not fit together"):
        interpolated_duplicate(np.ones((2, 3)), np.ones(3), np.ones((3, 2)))
    with pytest.raises(ShapeMismatch, match="Duplicate, train mean and p do not fit together"):
        interpolated_duplicate(np.ones((2, 3)), np.ones(2), np.ones((2, 3)))


def test_p_is_that_of_scanpy_against_the_rest():
    rng = np.random.default_rng(0)
    cells = [np.log1p(rng.poisson(rng.gamma(1.0, 1.0, 25), (10 + c, 25))) for c in range(4)]
    label = np.repeat(["a", "b", "c", "d"], [len(x) for x in cells])
    obs = pd.DataFrame({"c": pd.Categorical(label)}, index=np.arange(len(label)).astype(str))
    data = anndata.AnnData(np.vstack(cells), obs=obs)
    data.var_names = [f"{g:02d}" for g in range(25)]
    scanpy.tl.rank_genes_groups(data, "c", method="t-test_overestim_var", reference="rest")
    found = adjusted_p_against_rest(moments_of(lambda r: cells[r], 4))
    for r, name in enumerate("abcd"):
        table = scanpy.get.rank_genes_groups_df(data, name).sort_values("names")
        np.testing.assert_allclose(found[r], table["pvals_adj"], rtol=1e-9)
    assert (found < 0.05).any()
