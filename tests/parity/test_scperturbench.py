"""Are the genes that a condition is scored on those that scPerturBench's own code, or scanpy, lists?"""

import warnings

import numpy as np
import pytest

from perturbfm.eval.metric.ranked_gene import gene_sets, ranking
from perturbfm.parity.reference import References
from perturbfm.parity.scperturbench import SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_first_hundred_genes(parity_folder, script):
    references = References(parity_folder)
    file = references.values(f"scperturbench/{script}.json")
    comparison = references.comparison("noisy_truth", (file["context"],))
    assert len(comparison.perturbation_c) == len(file["top100_degs"])
    for name, genes in zip(comparison.perturbation_c, gene_sets(comparison, 100), strict=True):
        assert {comparison.genes_g[g] for g in genes} == set(file["top100_degs"][name])


@pytest.mark.parametrize("prediction", ["mean_shift", "noisy_truth"])
def test_all_genes_stand_in_the_order_of_scanpy(parity_folder, prediction):
    """Ties and genes without variance too: most of the 500 genes are silent, and a shift moves some as one."""
    import scanpy as sc

    references = References(parity_folder)
    file = references.cells(f"pred_{prediction}")
    file = file[file.obs["cell_type"].astype(str) == "k562"].copy()
    file.obs["condition"] = file.obs["condition"].astype(str).astype("category")
    file.uns["log1p"] = {"base": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.tl.rank_genes_groups(file, "condition", reference="control", method="t-test")
    found = file.uns["rank_genes_groups"]
    comparison = references.comparison(prediction, ("k562",))
    genes, ours = np.array(comparison.genes_g), ranking(comparison, predicted=True, top=500).first_ck
    for name, first in zip(comparison.perturbation_c, ours, strict=True):
        size = np.abs(found["scores"][name])
        want = found["names"][name][::-1][np.argsort(size[::-1])][::-1]
        assert genes[first].tolist() == want.tolist()
