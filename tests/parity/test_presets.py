"""Learned on all cells, does a preset give what the project's own chain of scanpy calls gives on the same file?

The chains are written from what the projects' code does (the yamls name the files), with scanpy alone.
"""

import warnings

import anndata
import numpy as np
import pytest
import scanpy as sc

from perturbfm.config import build, compose_config
from perturbfm.data import load_composed
from perturbfm.train.preprocess import Preprocessor

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def path(real_data):
    return real_data / "kang18_ifnb1k_counts" / "kang18_ifnb1k_counts.h5ad"


def ours(path, *choice):
    """The genes and values of a preset that learns on every row."""
    cfg = compose_config(
        [
            "data=h5ad",
            "data.name=kang_counts",
            f"data.path={path}",
            "data.scale=counts",
            "data.pert_column=stim",
            "data.context_column=seurat_annotations",
            "data.control_labels=[CTRL]",
            "data.mode=ligand",
            *choice,
        ]
    )
    dataset = load_composed(cfg)
    stages = [build(stage) for stage in cfg.preprocess.stages]
    learned = Preprocessor.learn(stages, dataset, np.arange(dataset.n_obs), cfg.preprocess.name, "all")
    return learned.apply(dataset), learned


def raw(path):
    return anndata.read_h5ad(path)


def log_values(adata, **options):
    sc.pp.normalize_total(adata, **options)
    sc.pp.log1p(adata)


def test_perturbench(path):
    adata = raw(path)
    sc.pp.filter_genes(adata, min_cells=10)
    adata.layers["counts"] = adata.X.copy()
    log_values(adata)
    options = {"flavor": "seurat_v3", "layer": "counts", "batch_key": "seurat_annotations", "span": 0.75}
    sc.pp.highly_variable_genes(adata, n_top_genes=1500, **options)
    chosen = set(adata.var_names[adata.var["highly_variable"]])
    for context in adata.obs["seurat_annotations"].unique():
        part = adata[adata.obs["seurat_annotations"] == context].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sc.tl.rank_genes_groups(part, "stim", reference="CTRL", rankby_abs=True, n_genes=25)
        chosen |= set(part.uns["rank_genes_groups"]["names"]["STIM"])
    assert 1500 < len(chosen) < 1650
    found, _ = ours(path, "preprocess=perturbench", "preprocess.stages.3.n_top=1500", "preprocess.stages.3.span=0.75")
    assert set(found.genes) == chosen
    assert np.array_equal(found.adata.X.toarray(), adata[:, list(found.genes)].X.toarray())


@pytest.mark.parametrize(("name", "n_top"), [("gears", 5000), ("systema", 5000), ("state", 2000)])
def test_chains_of_three(path, name, n_top):
    adata = raw(path)
    log_values(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_top, subset=True)
    found, _ = ours(path, f"preprocess={name}")
    assert found.genes == tuple(adata.var_names)
    assert np.array_equal(found.adata.X.toarray(), adata.X.toarray())


def test_scperturbench_after_its_cells(path):
    adata = raw(path)
    sc.pp.filter_genes(adata, min_cells=10)
    log_values(adata, target_sum=1e4)
    choice = ["preprocess=scperturbench", "preprocess.cells.max_mito_fraction=null"]  # the file has no MT- genes
    found, learned = ours(path, *choice)
    assert found.n_obs == adata.n_obs  # every cell has 200 genes, every condition 30 cells
    assert found.genes == tuple(adata.var_names)
    assert np.array_equal(found.adata.X.toarray(), adata.X.toarray())
    for stage, n_top in zip(learned.learned[3:], (500, 1000, 2000, 5000), strict=True):
        sc.pp.highly_variable_genes(adata, n_top_genes=n_top)
        assert set(stage["variable"]) == set(adata.var_names[adata.var["highly_variable"]])
