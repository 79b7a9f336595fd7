"""Does the auditor see what a data set holds and what a run learned?"""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from perturbfm import config
from perturbfm.auditing import evidence_of, flat, identifiers_of, with_learned
from perturbfm.data.cells import keep_cells
from perturbfm.data.planted import load_synthetic
from perturbfm.errors import SplitLeaks
from perturbfm.split import audit, context_ood
from perturbfm.split.audit.finding import Audit, Finding
from perturbfm.split.rule import unseen_perturbation
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


def test_a_graph_between_cells_is_never_made_dense():
    n = 1_000_000
    graph = sparse.csr_matrix((np.ones(2), ([0, 1], [1, 0])), (n, n))
    small = sparse.csr_matrix(np.eye(3))
    found = dict(flat("uns", {"neighbors": {"connectivities": graph, "small": small}}))
    assert found["uns/neighbors/connectivities"] == "sparse"
    np.testing.assert_array_equal(found["uns/neighbors/small"], np.eye(3))


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
    return read_again(folder)


def read_again(folder, name="f.h5ad", *more):
    """What a run reads of the file, or files."""
    overrides = [
        "pert_column=pert",
        "context_column=cell",
        "mode=knockdown",
        "scale=log1p",
        "covariates=[donor]",
        *more,
    ]
    choice = ["data=h5ad", f"data.path={folder / name}", "data.name=f", *(f"data.{o}" for o in overrides)]
    return config.build(config.compose_config(choice).data)


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"uns": lambda mean: {"deep": {"er": mean}}},
        {"uns": lambda mean: pd.DataFrame({"m": mean, "other": 0.0})},
        {"varm": lambda mean: np.stack([mean, 0 * mean], axis=1)},
        {"var": lambda mean: mean},
    ],
)
@pytest.mark.parametrize("filtered", [False, True])
def test_statistics_of_the_test_in_a_file_reach_the_audit_of_a_run(tmp_path, beside, filtered):
    dataset = leaky_file(tmp_path, **beside)
    if filtered:
        dataset = keep_cells(dataset, min_genes=1)
        assert "min_genes" in dataset.declared.source
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


def test_a_layer_or_embedding_of_a_file_with_the_name_of_a_test_condition_is_warned_of(tmp_path):
    """Nothing reads them here, and yet whoever made the file kept what is asked for."""
    dataset = leaky_file(tmp_path)
    again = anndata.read_h5ad(tmp_path / "f.h5ad")
    again.layers["k1_A"], again.obsm["B"] = again.X.copy(), again.X[:, :2].copy()
    again.write_h5ad(tmp_path / "f.h5ad")
    dataset = read_again(tmp_path)
    found = audit(context_ood(dataset.labels(), ["k1"], min_controls=4), dataset.labels(), evidence_of(dataset))
    (finding,) = found.of("target_statistics_in_uns")
    assert (finding.verdict, finding.examples) == ("warn", ("layers/k1_A", "obsm/B"))
    assert "k1_A" not in dataset.adata.layers


def test_several_files_show_what_each_of_them_stores(tmp_path):
    leaky_file(tmp_path, varm=lambda mean: np.stack([mean, 0 * mean], axis=1))
    whole = anndata.read_h5ad(tmp_path / "f.h5ad")
    for name, rows in (("one", whole.obs["cell"] == "k0"), ("two", whole.obs["cell"] == "k1")):
        part = whole[rows].copy()
        part.obs_names = [f"{name}{i}" for i in range(part.n_obs)]
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    (tmp_path / "f.h5ad").unlink()
    dataset = read_again(tmp_path, "*.h5ad")
    found = audit(context_ood(dataset.labels(), ["k1"], min_controls=4), dataset.labels(), evidence_of(dataset))
    (finding,) = found.of("target_statistics_in_uns")
    assert finding.verdict == "refuse"
    assert set(finding.examples) == {"uns/one.h5ad/varm/kept", "uns/two.h5ad/varm/kept"}


def test_identifiers_in_the_table_of_genes_are_other_names_of_its_genes(tmp_path):
    """One perturbation as a symbol in train and as an Ensembl id in the test: no table of aliases needed."""
    leaky_file(tmp_path)
    again = anndata.read_h5ad(tmp_path / "f.h5ad")
    again.var["ensembl"] = [f"ENSG{i:011d}.2" for i in range(again.n_vars)]
    again.var["kind"] = "Gene Expression"
    again.var.loc["g1", "kind"] = "g2"  # a word that occurs once is no identifier
    old = again.obs["pert"].astype(str)
    again.obs["pert"] = old.replace({"A": "g0"}).where((old != "A") | (again.obs["cell"] != "k1"), "ENSG00000000000")
    again.write_h5ad(tmp_path / "f.h5ad")
    for options, names in (([], {}), (["gene_column=ensembl"], {"g0": "ENSG00000000000.2"})):
        dataset = read_again(tmp_path, "f.h5ad", *options)
        evidence = evidence_of(dataset)
        assert evidence.identifiers.get("g1") != "g2"
        assert names.items() <= evidence.identifiers.items()
        split = unseen_perturbation(dataset.labels(), holdout=["g0"], min_controls=4)
        (finding,) = audit(split, dataset.labels(), evidence).of("perturbation_under_two_labels")
        assert finding.verdict == "refuse"
        assert finding.examples == ("ENSG00000000000 = g0",)


def test_identifiers_are_columns_of_text_with_an_entry_for_each_gene():
    columns = {
        "id": np.array(["ENSG1.3", "ENSG2.1", "x"], dtype=object),
        "number": np.arange(3),
        "twice": np.array([["a", "b"]] * 3, dtype=object),  # two columns of one name
        "kind": np.array(["gene", "gene", "spike"], dtype=object),
    }
    found = identifiers_of(columns, ("A", "B", "x"))
    assert found == {"ENSG1.3": "A", "ENSG2.1": "B", "ENSG1": "A", "ENSG2": "B"}


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
