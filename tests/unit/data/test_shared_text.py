"""Columns of text cost a pointer per row: rows of equal labels hold one object."""

import numpy as np
import pandas as pd
import pytest

from perturbfm.data.label import LabelRules
from perturbfm.data.obs_map import ObsMap, label_rows

N = 12


def word(name, n):
    """A string of its own each time."""
    return "".join([name, "_", str(n % 3)])


@pytest.mark.parametrize("kind", [object, "category"])
@pytest.mark.parametrize("context", ["line", ["line", "donor"]])
def test_rows_of_equal_labels_hold_one_string(kind, context):
    names = ("line", "plate", "donor", "dose")
    written = {name: [word(name, n) for n in range(N)] for name in names[:3]}
    written |= {"dose": ["".join(["1", str(n % 3)]) for n in range(N)], "pert": [word("p", n) for n in range(N)]}
    table = pd.DataFrame(written, index=[f"c{n}" for n in range(N)], dtype=object).astype(kind)
    columns = ObsMap(
        "pert", context, "plate", LabelRules(["p_0"]), mode="drug", covariates=["donor"], dose_column="dose"
    )
    obs, _, _ = label_rows(table, columns)
    for name in ("pert_id", "context_id", "batch_id", "mode", "dose", "donor"):
        held = {id(value) for value in obs[name].to_numpy(dtype=object)}
        assert len(held) == obs[name].nunique() <= 3, name
    assert obs["batch_id"].tolist() == written["plate"]


def test_a_missing_value_stays_missing_among_shared_ones():
    table = pd.DataFrame({"pert": ["a", "p_0", "a"], "line": ["x", None, "x"]}, index=["c0", "c1", "c2"], dtype=object)
    columns = ObsMap("pert", "line", None, LabelRules(["p_0"]), mode="drug")
    obs, _, _ = label_rows(table, columns)
    np.testing.assert_array_equal(obs["context_id"].isna(), [False, True, False])
