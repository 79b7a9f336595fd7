"""Are guides told from genes, and genes left alone?"""

import pytest
from toy_labels import crossed, labels_of

from perturbfm.errors import GuidesNotGenes
from perturbfm.split.rule import several_axes, unseen_perturbation
from perturbfm.split.rule.perturbation import guide_stem

KINASES = [
    "MAP2K1",
    "MAP2K3",
    "MAP2K6",
    "MAP4K3",
    "MAP4K5",
    "MAPK1",
    "MAPK8",
    "CDK1",
    "CDK2",
    "CDK4",
    "CDK6",
    "AKT1",
    "AKT2",
]
GENES = {
    "kinases": KINASES,
    "hla": ["HLA-A", "HLA-B", "HLA-C", "HLA-DRB1", "HLA-DRB5", "HLA-DQA1", "HLA-DQB1"],
    "keratins": ["KRT8", "KRT18", "KRT19", "KRTAP5-1", "KRTAP5-2", "KRTAP10-4", "KRTAP10-5"],
    "mouse": [
        "Atg5",
        "Atg7",
        "Pla2g4",
        "Pla2g6",
        "Eif4g1",
        "Eif4g2",
        "Atp6v1g1",
        "Atp6v1g2",
        "H2-K1",
        "H2-K2",
        "H2-D1",
    ],
    "cebp": ["CEBPA", "CEBPB", "CEBPE"],
    "homeobox": ["NKX2-1", "NKX2-5", "NKX6-1", "NKX6-2", "NKX6-3", "NKX3-1", "NKX3-2"],
    "mouse homeobox": ["Nkx2-1", "Nkx2-5", "Nkx6-1", "Nkx6-2"],
    "receptor segments": ["TRAV1-1", "TRAV1-2", "IGHV3-7", "IGHV3-9", "TRBV6-1", "TRBV6-2"],
    "micro RNA": ["MIR17", "MIR18A", "MIR19A", "MIR124-1", "MIR124-2", "MIR9-1", "MIR9-2"],
    "mitochondrial": ["MT-ND1", "MT-ND2", "MT-CO1", "MT-CO2", "MT-ATP6", "MT-ATP8"],
    "worm": ["daf-2", "daf-16", "unc-13", "unc-54", "lin-4", "lin-28"],
    "clones": ["RP11-34P13.7", "RP11-34P13.8", "AC010342.1", "AC010342.2", "C1orf112", "C1orf43"],
    "numbered": ["gene_1", "gene_2", "gene_3", "gene_4", "gene_5"],
    "planted": ["P0", "P1", "P2", "P10", "P11", "P12"],
}
GUIDES = {
    "underscore": ["ZAP70_1", "ZAP70_2", "LCK_1", "LCK_2", "CD3E"],
    "dash": ["STAT1-1", "STAT1-2", "JAK2-1", "JAK2-2"],
    "glued": ["STAT1g1", "STAT1g2", "JAK2g1", "JAK2g2", "HLA-DRAg1", "HLA-DRAg2"],
    "sg": ["Atg5_sg1", "Atg5_sg2", "Stat1_sg1", "Stat1_sg2"],
    "guide": ["JAK2-guide1", "JAK2-guide2", "STAT1.gRNA1", "STAT1.gRNA2"],
    "families": ["TRAF6-1", "TRAF6-2", "MAP2K3-1", "MAP2K3-2"],
    "sequence": [f"{g}_{s}" for g in ("A2M", "JAK2") for s in ("ACGTACGTACGTACGTACGT", "TTTTACGTACGTACGTACGT")],
    "strand": ["AARS_+_70323216.23-P1P2", "AARS_-_70323332.23-P1P2", "AATF_+_35306264.23", "AATF_-_35306200.23"],
}


def world(labels, mode="knockdown", delimiter=None):
    return labels_of(crossed(["k1", "k2"], labels, mode=mode), delimiter=delimiter)


@pytest.mark.parametrize("name", GENES)
def test_genes_are_dealt(name):
    split = unseen_perturbation(world(GENES[name] + ([] if len(GENES[name]) > 4 else ["SPI1"])))
    assert split.params["n_conditions"]["test"] >= 2


@pytest.mark.parametrize("name", GUIDES)
def test_guides_are_refused(name):
    with pytest.raises(GuidesNotGenes, match=r"look like guides, not genes: given \d+ of \d+ labels share a stem"):
        unseen_perturbation(world(GUIDES[name]))
    with pytest.raises(GuidesNotGenes, match=r"Set data\.guide_pattern, or data\.pert_column to the column of target"):
        several_axes(world(GUIDES[name]), ["k1"])


def test_guides_in_combinations_are_refused():
    with pytest.raises(GuidesNotGenes, match="given 4 of 4 labels share a stem: JAK2g1, JAK2g2, STAT1g1, STAT1g2"):
        unseen_perturbation(world(["STAT1g1+JAK2g1", "STAT1g2+JAK2g2"], delimiter="+"))


def test_compounds_and_ligands_are_no_guides():
    assert unseen_perturbation(world(["IL-1", "IL-2", "IL-6", "BI-1", "BI-2", "BI-3"], mode="ligand")).ood_axes
    assert unseen_perturbation(world(["cpd_1", "cpd_2", "x_1", "x_2", "y_1", "y_2"], mode="drug")).ood_axes


def test_what_the_gene_would_be():
    assert guide_stem("STAT1g2") == guide_stem("STAT1_3") == guide_stem("STAT1-sg2") == "STAT1"
    assert guide_stem("NKX2-5") is guide_stem("Atg5") is guide_stem("MAP2K3") is None
