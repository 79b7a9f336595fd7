"""Does the auditor see what a data set holds and what a run learned?"""

import anndata
import numpy as np
import pandas as pd
import pytest

from perturbfm import config
from perturbfm.auditing import evidence_of, flat, with_learned
from perturbfm.data.planted import load_synthetic
from perturbfm.errors import SplitLeaks
from perturbfm.split import audit, context_ood
from perturbfm.split.audit.finding import Audit, Finding
from perturbfm.types import Learned


def test_nested_values_become_key_paths_with_plain_arrays():
    groups = np.array([(1.0, 2.0), (3.0, 4.0)], dtype=[("A", "f8"), ("B", "f8")])
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [3, 4]}, index=["A", "B"])
    mixed = pd.DataFrame({"gene": ["g", "h"], "score": [1.0, 2.0]})
    stored = {"de": {"scores": groups, "params": {"method": "t"}}, "table": table, "mixed": mixed, "none": None}
    found = dict(flat("uns", stored))
    assert set(found) == {
        *("uns/de/scores/A", "uns/de/scores/B", "uns/de/params/method", "uns/table", "uns/table/index"),
        *("uns/table/columns", "uns/mixed/index", "uns/mixed/gene", "uns/mixed/score"),
    }
    assert found["uns/de/scores/B"].tolist() == [2.0, 4.0]
    assert found["uns/table"].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert found["uns/table/index"].tolist() == ["A", "B"]


def leaky_file(folder, **beside):
    """An h5ad of two contexts with four genes knocked down, and something stored beside its matrix."""
    rng = np.random.Generator(np.random.PCG64(0))
    names = [("control", 8), *((p, 6) for p in ("A", "B", "C", "D"))]
    rows = [(c, p) for c in ("k0", "k1") for p, n in names for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["cell", "pert"], index=[f"c{i}" for i in range(len(rows))])
    obs["donor"] = "d0"
    x_ng = np.abs(rng.normal(size=(len(rows), 30))).astype(np.float32)
    adata = anndata.AnnData(X=x_ng, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(30)]))
    test = (obs["cell"] == "k1") & (obs["pert"] == "A")
    for key, value in beside.items():
        getattr(adata, key)["kept"] = value(x_ng[test.to_numpy()].mean(axis=0).astype(np.float64))
    adata.write_h5ad(folder / "f.h5ad")
    overrides = ["pert_column=pert", "context_column=cell", "mode=knockdown", "scale=log1p", "covariates=[donor]"]
    choice = ["data=h5ad", f"data.path={folder / 'f.h5ad'}", "data.name=f", *(f"data.{o}" for o in overrides)]
    return config.build(config.compose_config(choice).data)


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"uns": lambda mean: {"deep": {"er": mean}}},
        {"uns": lambda mean: pd.DataFrame({"m": mean, "other": 0.0})},
        {"varm": lambda mean: np.stack([mean, 0 * mean], axis=1)},
    ],
)
def test_statistics_of_the_test_in_a_file_reach_the_audit_of_a_run(tmp_path, beside):
    dataset = leaky_file(tmp_path, **beside)
    labels = dataset.labels()
    assert set(labels.covariates) == {"donor"}
    split = context_ood(labels, ["k1"], min_controls=4)
    found = audit(split, labels, evidence_of(dataset, priors=()))
    assert found.verdict == ("refuse" if beside else "pass")
    if beside:
        with pytest.raises(
            SplitLeaks, match="The file stores means or deltas of test conditions: given 1 arrays, first"
        ):
            found.assert_no_leak()


def test_what_a_run_learned_is_held_against_the_split():
    dataset = load_synthetic()
    split = context_ood(dataset.labels(), ["C6"])
    first = audit(split, dataset.labels(), evidence_of(dataset, priors=()))
    assert [f.verdict for f in first.of("learned_outside_train")] == ["not_checked"]
    fine = with_learned(first, dataset, split, (Learned("vocabulary", split.train_idx),), ())
    assert (fine.verdict, fine.with_verdict("not_checked")) == ("pass", ())
    leaky = with_learned(first, dataset, split, (Learned("genes", np.arange(dataset.n_obs)),), ())
    with pytest.raises(SplitLeaks, match="genes was learned outside train: given .* rows of test"):
        leaky.assert_no_leak()


def test_a_leak_that_was_allowed_by_name_is_a_warning_and_says_so():
    refusals = Audit((Finding("learned_outside_train", "refuse", "HVG was learned outside train", n=3),))
    tolerated = refusals.tolerating(["learned_outside_train"])
    assert tolerated.verdict == "warn"
    assert tolerated.findings[0].message == "HVG was learned outside train; allowed by name"
    assert refusals.tolerating(["graph_from_test_rows"]).verdict == "refuse"
