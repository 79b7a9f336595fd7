"""Words seen in the field's files. They order proposals; they decide nothing."""

from __future__ import annotations

import re

PERT = (
    "condition", "perturbation", "pert_iname", "target_gene", "gene_target", "grna_target", "perturbed_gene_name",
    "condition2", "gene", "pert_id", "perturbation_name", "pert_name", "pert", "target", "sm_name", "drug",
    "product_name", "compound", "cytokine", "gene_id", "stim", "stimulation", "treatment", "label", "ligand",
    "guide_target", "knockout", "guide_identity", "guide_id", "grna_id", "sgrna", "guide", "perturbation_raw",
)  # fmt: skip
CONTEXT = (
    "cell_type", "celltype", "cell_line", "context_id", "context", "condition1", "cell_line_id", "cell_id",
    "cell_type_name", "celltype_name", "seurat_annotations", "cell", "line", "tissue", "tissue_type", "louvain",
)  # fmt: skip
BATCH = (
    "batch_id", "batch", "gem_group", "gemgroup", "bio_rep", "replicate", "rep", "plate", "plate_name", "det_plate",
    "lane", "hto", "library", "channel", "run", "sample", "sample_id", "orig.ident",
)  # fmt: skip
COVARIATE = (
    "donor", "donor_id", "patient", "patient_id", "individual", "subject", "ind", "dataset", "study", "experiment",
    "site", "sex", "treatment", "perturbation_2", "replicate", "stimulation_condition",
)  # fmt: skip
GUIDE = ("guide", "guide_id", "grna_id", "guide_identity", "sgrna", "sgrna_id", "guide_ids")
DOSE = (
    "dose", "dose_value", "dose_um", "pert_dose", "dosage", "concentration", "conc", "dose_val", "drug_dose",
    "dose_nm",
)  # fmt: skip
DOSE_LABEL = ("pert_idose", "dose_label", "dose_text")
DOSE_UNIT = ("dose_unit", "pert_dose_unit", "concentration_unit")
TIME = ("time", "pert_time", "timepoint", "time_point", "hours", "time_h", "day")
TIME_UNIT = ("time_unit", "pert_time_unit")
SIZE = (
    "response_n_umis", "n_counts", "ncounts", "ncount_rna", "total_counts", "n_umi", "n_umis", "umi_count",
    "library_size", "total_umis", "ncount_sct",
)  # fmt: skip
MODE = ("perturbation_type", "pert_type", "modality", "intervention", "perturbation_mode", "crispr_type")
N_PARTS = ("nperts", "n_perts", "n_perturbations")
SYMBOL = ("gene_symbol", "gene_symbols", "gene_name", "gene_names", "symbol", "feature_name", "gene_short_name")
COUNT_LAYERS = ("counts", "raw_counts", "raw", "count", "umi")

MODE_OF = {
    "crispra": "activation", "activation": "activation", "crispr_a": "activation", "overexpression": "activation",
    "orf": "activation", "crispri": "knockdown", "crispr_i": "knockdown", "knockdown": "knockdown", "kd": "knockdown",
    "shrna": "knockdown", "sirna": "knockdown", "rnai": "knockdown", "crispr": "knockout", "crispr_ko": "knockout",
    "crisprko": "knockout", "crispr_cas9": "knockout", "ko": "knockout", "knockout": "knockout", "cas9": "knockout",
    "drug": "drug", "compound": "drug", "chemical": "drug", "small_molecule": "drug", "trt_cp": "drug",
    "trt_poscon": "drug", "cytokine": "ligand", "ligand": "ligand", "trt_lig": "ligand", "stimulation": "ligand",
}  # fmt: skip

DELIMITERS = ("+", "_", ",", "|", ";", "&", "-", "/")

_CONTROL = re.compile(
    r"(?:non?[-_ ]?target\w*|neg(?:ative)?[-_ ]?(?:ctrl|control)\w*|ntc?|nt[-_ ]?control|ctrl|ctl|control|dmso(?:_tf)?"
    r"|dimethyl[-_ ]?sulfoxide|safe[-_ ]?(?:target\w*|harbou?r)|scrambled?|vehicle|untreated|unperturbed|mock|pbs"
    r"|unstim\w*|no[-_ ]?(?:treatment|guide)|wt|random|aavs1|ctl_vehicle)(?:[-_ ]?(?:g|sg)?\d+)?",
    re.IGNORECASE,
)
_MISSING = re.compile(r"(?:nan|na|n/a|none|null|unassigned|unknown|undetermined|multiplet|)", re.IGNORECASE)
_WEAK = re.compile(r"(?:random|wt|aavs1|none)(?:[-_ ]?\d+)?", re.IGNORECASE)


def is_control(label: str) -> bool:
    """Whether a label reads like one of untouched cells."""
    return _CONTROL.fullmatch(label.strip()) is not None


def is_weak_control(label: str) -> bool:
    """Whether a label may mean untouched cells, where nothing clearer is there."""
    return _WEAK.fullmatch(label.strip()) is not None


def is_missing(label: str) -> bool:
    """Whether a label says that there is none."""
    return _MISSING.fullmatch(label.strip()) is not None


def rank(name: str, words: tuple[str, ...]) -> int | None:
    """Place of a column's name among some words, whatever its case; None where it is not there."""
    plain = name.lower().replace(" ", "_")
    return words.index(plain) if plain in words else None
