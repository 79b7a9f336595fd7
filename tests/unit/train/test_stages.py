"""Does each stage do what scanpy does to the same rows?"""

import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from perturbfm.errors import (
    BadValue,
    GenesAbsent,
    MissingColumn,
    NothingLeft,
    PackageAbsent,
    SizeNotPositive,
    StageCannotLearn,
    StageOutOfPlace,
)
from perturbfm.train.stage.differential import differential_genes
from perturbfm.train.stage.filter_genes import FilterGenes
from perturbfm.train.stage.highly_variable import HighlyVariable
from perturbfm.train.stage.log1p import Log1p
from perturbfm.train.stage.normalise_total import NormaliseTotal
from perturbfm.train.stage.rows import Rows
from perturbfm.train.stage.scale import Scale

GENES = tuple(f"gene{g}" for g in range(400))
CELLS = 600


def counts(seed=0):
    """Counts of two contexts, two perturbations and controls; depths differ, some genes are rare."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(-1.0, 1.5, len(GENES))
    depth = rng.lognormal(0.0, 0.4, (CELLS, 1))
    return sparse.csr_matrix(rng.poisson(depth * mean * rng.gamma(2.0, 0.5, (CELLS, len(GENES)))).astype(np.float32))


def rows(x=None):
    context = np.array(["A", "B"] * (CELLS // 2), dtype=object)
    pert = np.array((["control"] * 2 + ["gene3"] * 2 + ["gene5+gene7"] * 2) * (CELLS // 6), dtype=object)
    obs = pd.DataFrame(
        {"pert_id": pert, "context_id": context, "batch_id": "all", "is_control": pert == "control"},
        index=[f"c{i}" for i in range(CELLS)],
    )
    raw = counts() if x is None else x
    return Rows(raw, GENES, obs, np.array([f"{p}@knockout" for p in pert], dtype=object), "+", raw)


@pytest.fixture(scope="module")
def raw():
    return rows()


@pytest.fixture(scope="module")
def logged(raw):
    part = raw
    for stage in (NormaliseTotal(), Log1p()):
        part = stage.apply(part, stage.learn(part))
    return part


def theirs(part):
    return AnnData(part.x_ng.copy(), obs=part.obs.copy(), var=pd.DataFrame(index=list(part.genes)))


def scanpy_log(raw, **options):
    adata = theirs(raw)
    sc.pp.normalize_total(adata, **options)
    sc.pp.log1p(adata)
    return adata


# --- genes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"min_cells": 200}, {"min_counts": 300}])
def test_the_filter_keeps_the_genes_that_scanpy_keeps(raw, limit):
    adata, stage = theirs(raw), FilterGenes(**limit)
    sc.pp.filter_genes(adata, **limit)
    learned = stage.learn(raw)
    assert 0 < len(learned["genes"]) < len(GENES)
    assert learned["genes"] == list(adata.var_names)
    out = stage.apply(raw, learned)
    assert (out.x_ng != adata.X).nnz == 0
    assert (out.counts_ng != adata.X).nnz == 0


def test_a_filter_without_a_limit_or_survivors_is_refused(raw):
    with pytest.raises(BadValue, match="FilterGenes has no limit: given min_cells=None, min_counts=None"):
        FilterGenes()
    with pytest.raises(BadValue, match="FilterGenes has no limit: given min_cells=0"):
        FilterGenes(min_cells=0)
    stage = FilterGenes(min_cells=CELLS + 1)
    with pytest.raises(NothingLeft, match="No gene is left: given a filter of 400 genes that keeps none"):
        stage.apply(raw, stage.learn(raw))


def test_genes_are_taken_by_name(raw):
    out = raw.take(["gene7", "gene1"])
    assert out.genes == ("gene7", "gene1")
    assert (out.x_ng != raw.x_ng[:, [7, 1]]).nnz == 0
    with pytest.raises(GenesAbsent, match="given 2 of 3 genes absent, first 'other'"):
        raw.take(["gene1", "other", "more"])


# --- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "options"),
    [
        (NormaliseTotal(), {}),
        (NormaliseTotal(target=1e4), {"target_sum": 1e4}),
        (
            NormaliseTotal(exclude_highly_expressed=True, max_fraction=0.04),
            {"exclude_highly_expressed": True, "max_fraction": 0.04},
        ),
    ],
)
def test_values_are_those_of_scanpy_to_the_last_bit(raw, ours, options):
    learned = ours.learn(raw)
    out = Log1p().apply(ours.apply(raw, learned), {})
    expected = scanpy_log(raw, **options).X
    assert out.x_ng.dtype == np.float32
    assert np.array_equal(out.x_ng.toarray(), expected.toarray())
    assert bool(learned.get("excluded")) == ("exclude_highly_expressed" in options)


def test_the_median_is_kept_for_other_rows(raw):
    stage, few = NormaliseTotal(), replace(raw, x_ng=raw.x_ng[:100], obs=raw.obs.iloc[:100])
    learned = stage.learn(few)
    assert learned["target"] == np.median(raw.x_ng[:100].toarray().sum(1))
    total = stage.apply(raw, learned).x_ng.toarray().sum(1)
    np.testing.assert_allclose(total, learned["target"], rtol=1e-5)


def test_a_fixed_target_learns_nothing(raw):
    assert NormaliseTotal(target=1e4).learn(raw) == {}


def test_library_sizes_of_a_column_take_the_place_of_row_sums(raw):
    size = np.linspace(1000, 3000, CELLS)
    part = replace(raw, obs=raw.obs.assign(library_size=size))
    stage = NormaliseTotal()
    learned = stage.learn(part)
    assert learned["target"] == pytest.approx(2000, abs=0.01)
    out = stage.apply(part, learned)
    expected = raw.x_ng.toarray() * (2000 / size)[:, None]
    np.testing.assert_allclose(out.x_ng.toarray(), expected, rtol=1e-5)
    with pytest.raises(BadValue, match="Library sizes of a column cannot leave genes out"):
        NormaliseTotal(exclude_highly_expressed=True).learn(part)


def test_a_cell_without_counts_is_refused(raw):
    x = raw.x_ng.tolil()
    x[5] = 0
    part = rows(x.tocsr())
    for call in (NormaliseTotal().learn, lambda p: NormaliseTotal(target=10.0).apply(p, {})):
        with pytest.raises(
            SizeNotPositive, match="no library size after the genes were filtered: given 1 cells, first 'c5'"
        ):
            call(part)


@pytest.mark.parametrize("options", [{"target": "mean"}, {"target": 0.0}, {"max_fraction": 1.0}])
def test_an_impossible_normalisation_is_refused(options):
    with pytest.raises(BadValue, match="NormaliseTotal has an impossible option"):
        NormaliseTotal(**options)


def test_values_stay_sparse(logged):
    assert sparse.issparse(logged.x_ng)
    assert logged.x_ng.nnz == logged.counts_ng.nnz


# --- order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "scale", "match"),
    [
        (
            Log1p(),
            "log1p",
            "Log1p cannot work on values of the scale log1p: .* expected counts or normalised. .*log_hvg",
        ),
        (NormaliseTotal(), "log1p", "logarithms already: choose preprocess=log_hvg"),
        (NormaliseTotal(), "normalised", "expected counts"),
        (FilterGenes(min_counts=3), "normalised", "expected counts"),
        (FilterGenes(min_cells=3), "delta", "Set preprocess=none"),
        (HighlyVariable(), "counts", "Choose a preset for counts"),
        (HighlyVariable(flavor="seurat_v3", plus_de=1), "normalised", "Put Log1p before this stage"),
        (Scale(), "counts", "expected log1p"),
    ],
)
def test_a_stage_refuses_a_scale_that_it_does_not_take(stage, scale, match):
    with pytest.raises(StageOutOfPlace, match=match):
        stage.after(scale)


def test_scales_follow_each_other():
    assert NormaliseTotal().after("counts") == "normalised"
    assert Log1p().after("normalised") == Log1p().after("counts") == "log1p"
    assert HighlyVariable(flavor="seurat_v3").after("counts") == "counts"
    assert Scale().after("log1p") == "log1p"


# --- highly variable -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_by", [[], ["context_id"]], ids=["together", "by context"])
@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger", "seurat_v3", "seurat_v3_paper", "pearson_residuals"])
def test_the_genes_are_those_of_scanpy(raw, logged, flavor, batch_by):
    stage = HighlyVariable(n_top=60, flavor=flavor, batch_by=batch_by)
    learned = stage.learn(logged)
    key = "context_id" if batch_by else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if flavor == "pearson_residuals":
            table = sc.experimental.pp.highly_variable_genes(theirs(raw), n_top_genes=60, batch_key=key, inplace=False)
        else:
            adata = theirs(raw) if flavor.startswith("seurat_v3") else scanpy_log(raw)
            adata.obs["context_id"] = adata.obs["context_id"].astype("category")
            table = sc.pp.highly_variable_genes(adata, n_top_genes=60, flavor=flavor, batch_key=key, inplace=False)
    expected = set(table.index[table["highly_variable"].astype(bool)])
    assert 60 <= len(expected) < 70  # scanpy keeps all that tie at the last place
    assert set(learned["variable"]) == expected
    assert learned["genes"] == [g for g in GENES if g in expected]
    assert stage.apply(logged, learned).genes == tuple(learned["genes"])


def test_genes_that_are_perturbed_are_kept_too(logged):
    learned = HighlyVariable(n_top=1, plus_perturbed=True).learn(logged)
    assert learned["perturbed"] == ["gene3", "gene5", "gene7"]
    assert set(learned["genes"]) == {*learned["variable"], "gene3", "gene5", "gene7"}
    alone = replace(logged, delimiter=None)
    assert HighlyVariable(n_top=1, plus_perturbed=True).learn(alone)["perturbed"] == ["gene3"]


@pytest.mark.parametrize("test", ["t-test", "wilcoxon"])
def test_differential_genes_are_those_of_scanpy_in_each_context(logged, test):
    expected = set()
    for context in ("A", "B"):
        adata = theirs(logged)[(logged.obs["context_id"] == context).to_numpy()].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sc.tl.rank_genes_groups(adata, "pert_id", reference="control", rankby_abs=True, n_genes=5, method=test)
        names = adata.uns["rank_genes_groups"]["names"]
        expected |= {g for p in names.dtype.names for g in names[p]}
    assert differential_genes(logged, 5, test) == (expected, 0)
    learned = HighlyVariable(n_top=1, plus_de=5, de_test=test).learn(logged)
    assert set(learned["differential"]) == expected <= set(learned["genes"])


def test_a_planted_gene_is_found():
    x = counts().toarray()
    part = rows()
    x[(part.obs["pert_id"] == "gene3").to_numpy() & (part.obs["context_id"] == "B").to_numpy(), 11] += 200
    part = Log1p().apply(rows(sparse.csr_matrix(x)), {})
    found, _ = differential_genes(part, 1, "t-test")
    assert "gene11" in found


def test_a_condition_of_one_cell_is_left_out_and_counted(logged):
    names = logged.intervention_n.copy()
    names[2] = "lonely@knockout"
    found, left_out = differential_genes(replace(logged, intervention_n=names), 5, "t-test")
    assert left_out == 1
    assert found


def test_a_context_without_controls_has_no_differential_genes(logged):
    keep = ~(logged.obs["is_control"] & (logged.obs["context_id"] == "B")).to_numpy()
    part = replace(
        logged, x_ng=logged.x_ng[keep], obs=logged.obs[keep], intervention_n=logged.intervention_n[keep], counts_ng=None
    )
    with pytest.raises(
        StageCannotLearn, match="no controls to find differential genes against: given 0 input controls in 'B'"
    ):
        HighlyVariable(plus_de=5).learn(part)


def test_lists_may_be_recorded_without_dropping_a_gene(logged):
    stage = HighlyVariable(n_top=10, subset=False)
    learned = stage.learn(logged)
    assert len(learned["variable"]) == 10
    assert stage.apply(logged, learned) is logged


def test_counts_are_asked_for_where_a_flavor_needs_them(logged):
    with pytest.raises(StageOutOfPlace, match="HighlyVariable with flavor=seurat_v3 needs counts"):
        HighlyVariable(flavor="seurat_v3").learn(replace(logged, counts_ng=None))


def test_an_absent_package_is_named(logged, monkeypatch):
    monkeypatch.setitem(sys.modules, "skmisc.loess", None)
    with pytest.raises(PackageAbsent, match=r"flavor=seurat_v3 needs the package scikit-misc.*perturbfm\[hvg\]"):
        HighlyVariable(flavor="seurat_v3").learn(logged)


def test_too_few_cells_for_a_fit_are_said_with_the_way_out(logged):
    few = replace(
        logged,
        x_ng=logged.x_ng[:8],
        obs=logged.obs[:8],
        intervention_n=logged.intervention_n[:8],
        counts_ng=logged.counts_ng[:8],
    )
    with pytest.raises(StageCannotLearn, match=r"given groups of 4 \(A\), 4 \(B\); scanpy says: .*span=0\.75"):
        HighlyVariable(flavor="seurat_v3", batch_by=["context_id"]).learn(few)


def test_an_unknown_column_is_refused(logged):
    with pytest.raises(MissingColumn, match="No label column 'donor' to rank genes within"):
        HighlyVariable(batch_by=["donor"]).learn(logged)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"flavor": "seurat3"}, "Unknown flavor of HighlyVariable: given seurat3, .* Did you mean seurat"),
        ({"de_test": "anova"}, "Unknown de_test of HighlyVariable"),
        ({"n_top": 0}, "HighlyVariable has an option out of range: given n_top=0"),
        ({"span": 0.0}, "span=0.0"),
        ({"plus_de": -1}, "plus_de=-1"),
    ],
)
def test_an_option_outside_its_range_is_refused(options, match):
    with pytest.raises(BadValue, match=match):
        HighlyVariable(**options)


# --- scale ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zero_centre", "max_value"), [(True, None), (True, 2.0), (False, 2.0), (False, None)])
def test_the_view_of_single_cells_is_that_of_scanpy(logged, zero_centre, max_value):
    stage = Scale(zero_centre, max_value)
    found = stage.view(logged.x_ng.toarray(), logged.genes, stage.learn(logged))
    adata = theirs(logged)
    adata.X = adata.X.toarray()
    sc.pp.scale(adata, zero_center=zero_centre, max_value=max_value)
    np.testing.assert_allclose(found, adata.X, rtol=1e-4, atol=1e-5)


def test_scaling_leaves_the_values_alone_and_finds_genes_by_name(logged):
    stage = Scale()
    learned = stage.learn(logged)
    assert stage.apply(logged, learned) is logged
    x = logged.x_ng[:3].toarray()
    whole = stage.view(x, logged.genes, learned)
    part = stage.view(x[:, [9, 2]], ("gene9", "gene2"), learned)
    assert np.array_equal(part, whole[:, [9, 2]])


def test_a_gene_that_does_not_vary_is_not_blown_up(logged):
    x = logged.x_ng.toarray()
    x[:, 4] = 0.1
    learned = Scale().learn(replace(logged, x_ng=sparse.csr_matrix(x)))
    assert learned["sd"][4] == 1.0


def test_clipping_at_nothing_is_refused():
    with pytest.raises(BadValue, match="Scale clips at nothing: given max_value=0"):
        Scale(max_value=0.0)
