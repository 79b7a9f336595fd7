"""Genes get one name each; ambiguity is refused."""

import numpy as np
import pytest

from perturbfm.data import load_file
from perturbfm.errors import BadValue, DuplicateNames, GeneNameAmbiguous, MissingColumn, UnreadableFile

ENSEMBL = ("ENSG1.2", "ENSG2", "ENSG3")
COUNTS = np.array([[1, 0, 2], [0, 3, 4], [5, 1, 0]], dtype=np.float32)


@pytest.fixture
def load(write):
    def load_genes(var=None, genes=ENSEMBL, x=None, scale="log1p", **options):
        path = write({"pert": ["control", "A", "B"]}, genes, x=x, var=var)
        given = {"pert_column": "pert", "context_column": None, "context": "k", "batch_column": None, "mode": "drug"}
        return load_file("small", path, scale, **{**given, **options})

    return load_genes


def test_genes_may_be_named_by_a_column(load):
    assert load({"gene_symbols": ["A", "B", "C"]}, gene_column="gene_symbols").genes == ("A", "B", "C")
    assert load({"gene_symbols": ["A", "B", "C"]}).genes == ENSEMBL


def test_a_missing_gene_column_lists_those_there_are(load):
    with pytest.raises(MissingColumn, match=r"Missing column 'symbol' in var: given columns gene_symbols"):
        load({"gene_symbols": ["A", "B", "C"]}, gene_column="symbol")


@pytest.mark.parametrize("empty", ["", "nan"])
def test_a_gene_without_a_name_is_refused(load, empty):
    with pytest.raises(GeneNameAmbiguous, match=r"Genes have no name: given 1 in column 's', first 'ENSG2'"):
        load({"s": ["A", empty, "C"]}, gene_column="s")


def test_repeated_names_are_refused_with_the_remedy(load):
    with pytest.raises(DuplicateNames, match=r"Repeated gene names: given 1 repeats, first 'A'.*duplicate_genes=sum"):
        load({"s": ["A", "A", "C"]}, gene_column="s")


def test_counts_of_repeated_names_may_be_summed(load):
    import scipy.sparse as sp

    for kind in (np.asarray, sp.csr_matrix, sp.csc_matrix):
        data = load({"s": ["A", "C", "A"]}, x=kind(COUNTS), scale="counts", gene_column="s", duplicate_genes="sum")
        assert data.genes == ("A", "C")
        np.testing.assert_array_equal(data.dense(slice(None)), [[3, 0], [4, 3], [5, 1]])
        assert data.declared.source == "counts of 1 repeated gene names summed"


@pytest.mark.parametrize(("way", "scale"), [("sum", "log1p"), ("mean", "counts")])
def test_other_ways_with_repeated_names_are_refused(load, way, scale):
    with pytest.raises(BadValue, match=rf"data\.duplicate_genes does not fit: given '{way}' with scale={scale}"):
        load(duplicate_genes=way, scale=scale)


def test_a_map_names_genes_and_drops_versions(load, tmp_path):
    (tmp_path / "map.tsv").write_text("# made here\nENSG1\tTP53\nENSG2\tATM\nENSG9\tKLF1\n")
    data = load(gene_map=str(tmp_path / "map.tsv"))
    assert data.genes == ("TP53", "ATM", "ENSG3")
    assert data.declared.source == "genes named by map.tsv: 2 of 3"


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("ENSG1\tTP53\nENSG1\tTP54\n", GeneNameAmbiguous, "gives an identifier two names: given ENSG1: TP53 and TP54"),
        ("ENSG1\tTP53\nENSG2\tTP53\n", DuplicateNames, "Repeated gene names: given 1 repeats, first 'TP53'"),
        ("TP53\tENSG1\n", GeneNameAmbiguous, "The gene map knows none of the genes"),
        ("ENSG1,TP53\n", UnreadableFile, r"has not two columns: given map\.tsv line 1"),
        (None, UnreadableFile, "A gene map cannot be read"),
    ],
)
def test_a_map_that_misleads_is_refused(load, tmp_path, text, error, told):
    if text is not None:
        (tmp_path / "map.tsv").write_text(text)
    with pytest.raises(error, match=told):
        load(gene_map=str(tmp_path / "map.tsv"))
