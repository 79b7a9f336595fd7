"""Words seen in the field's files. They order proposals; they decide nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

PERT = (
    "condition", "perturbation", "pert_iname", "target_gene", "gene_target", "grna_target", "perturbed_gene_name",
    "condition2", "gene", "pert_id", "perturbation_name", "pert_name", "pert", "target", "sm_name", "drug",
    "product_name", "compound", "cytokine", "gene_id", "stim", "stimulation", "treatment", "label", "ligand",
    "drug_name", "compound_name", "perturbed_gene", "gene_name", "treatment_group", "intervention",
    "guide_target", "knockout", "guide_identity", "guide_id", "grna_id", "sgrna", "guide", "perturbation_raw",
)  # fmt: skip
CONTEXT = (
    "cell_type", "cell_line", "context_id", "context", "condition1", "cell_line_id", "cell_id", "cell_type_name",
    "cell_line_name", "celltype_name", "seurat_annotations", "cell", "line", "tissue", "tissue_type", "cell_name",
    "cell_state", "annotation", "louvain", "leiden", "seurat_clusters", "cluster",
    "file_name",
)  # fmt: skip
CLUSTER = ("louvain", "leiden", "seurat_clusters", "cluster", "clusters")
BATCH = (
    "batch_id", "batch", "gem_group", "gemgroup", "bio_rep", "replicate", "rep", "plate", "plate_name", "plate_id",
    "det_plate", "lane", "hto", "library", "channel", "run", "sample", "sample_id", "orig.ident",
)  # fmt: skip
COVARIATE = (
    "donor", "donor_id", "patient", "patient_id", "individual", "subject", "ind", "dataset", "study", "experiment",
    "site", "sex", "replicate",
)  # fmt: skip
SETTING = (
    "treatment", "perturbation_2", "stimulation_condition", "stimulation", "stim", "cytokine", "growth_condition",
    "medium", "culture_condition", "culture",
)  # fmt: skip
"""Columns of what was done to the cells beside the perturbation: under another of its levels an effect is another."""

GUIDE = ("guide", "guide_id", "grna_id", "guide_identity", "sgrna", "sgrna_id", "guide_ids", "sgid_ab")
DOSE = (
    "dose", "dose_value", "pert_dose", "dosage", "concentration", "conc", "dose_val", "drug_dose", "drug_conc",
    "drug_concentration", "compound_concentration", "drugname_drugconc", "dosage_value",
)  # fmt: skip
DOSE_LABEL = ("pert_idose", "dose_label", "dose_text")
DOSE_UNIT = ("dose_unit", "pert_dose_unit", "concentration_unit")
TIME = ("time", "pert_time", "timepoint", "time_point", "hours", "day", "treatment_time")
TIME_UNIT = ("time_unit", "pert_time_unit")
SIZE = (
    "response_n_umis", "n_counts", "ncount_rna", "total_counts", "n_umi", "umi_count", "library_size", "total_umis",
    "n_umis", "ncount_sct",
)  # fmt: skip
MODE = ("perturbation_type", "pert_type", "modality", "intervention_type", "perturbation_mode", "crispr_type")
N_PARTS = ("nperts", "n_perts", "n_perturbations")
SYMBOL = ("gene_symbol", "gene_symbols", "gene_name", "gene_names", "symbol", "feature_name", "gene_short_name")
COUNT_LAYERS = ("counts", "raw_counts", "raw", "count", "umi")
LOG_LAYERS = (
    "logcounts", "log_counts", "lognorm", "log_norm", "log_normalized", "lognormalized", "log1p", "log1p_norm",
    "log_normalised", "log_data", "normalized", "normalised", "norm", "data",
)  # fmt: skip
N_LAYERS = len(COUNT_LAYERS) + len(LOG_LAYERS)
FLAG = (
    "control", "is_control", "ctrl", "is_ctrl", "control_cell", "is_ntc", "ntc", "is_non_targeting", "non_targeting",
    "is_negative_control", "negative_control", "is_vehicle",
)  # fmt: skip
"""Columns that say yes or no to: is this cell a control?"""

MODE_OF = {
    "crispra": "activation", "activation": "activation", "crispr_a": "activation", "overexpression": "activation",
    "orf": "activation", "crispri": "knockdown", "crispr_i": "knockdown", "knockdown": "knockdown", "kd": "knockdown",
    "shrna": "knockdown", "sirna": "knockdown", "rnai": "knockdown", "crispr_ko": "knockout",
    "crisprko": "knockout", "crispr_cas9": "knockout", "ko": "knockout", "knockout": "knockout", "cas9": "knockout",
    "drug": "drug", "compound": "drug", "chemical": "drug", "small_molecule": "drug", "trt_cp": "drug",
    "trt_poscon": "drug", "cytokine": "ligand", "ligand": "ligand", "trt_lig": "ligand", "stimulation": "ligand",
}  # fmt: skip

DELIMITERS = ("+", "_", ",", "|", ";", "&", "-", "/")

YES, NO = ("true", "1", "yes", "y", "t", "1.0"), ("false", "0", "no", "n", "f", "0.0")

_HINT = re.compile(r"pert|target|treat|condition|drug|guide|grna|stim|cytokine|compound|molecule|knock|inhibit")
_OF_NUMBERS = re.compile(r"dose|conc|time|count|umi|size|frac|percent|purity|score|unit|type|efficiency|idose|filter")
_UNITS = {
    "um": "uM", "µm": "uM", "μm": "uM", "nm": "nM", "mm": "mM", "pm": "pM", "ngml": "ng/ml", "ugml": "ug/ml",
    "h": "h", "hr": "h", "hrs": "h", "hours": "h", "min": "min", "days": "d", "d": "d",
}  # fmt: skip
_CONTROL = re.compile(
    r"(?:non?[-_ ]?target\w*|neg(?:ative)?[-_ ]?(?:ctrl|control)\w*|ntc?|nt[-_ ]?control|ctrl|ctl|controls?"
    r"|dmso(?:_tf)?|dimethyl[-_ ]?sulfoxide|safe[-_ ]?(?:target\w*|harbou?r)|scrambled?|vehicle|untreated|unperturbed"
    r"|mock|pbs|unstim\w*|no[-_ ]?(?:treatment|guide|drug|stim\w*)|wt|wild[-_ ]?type|random|aavs1|ctl_vehicle"
    r"|sg(?:ntc?|ctrl)|luciferase|lacz|egfp|gfp)(?:[-_ ]?(?:g|sg)?\d+)?",
    re.IGNORECASE,
)
_MISSING = re.compile(r"(?:nan|na|n/a|none|null|unassigned|unknown|undetermined|multiplet|)", re.IGNORECASE)
_VEHICLE = re.compile(
    r"(?:dmso|dimethyl[-_ ]?sulfoxide|vehicle|ctl_vehicle|pbs|water|saline|untreated|unstim|mock|no[-_ ]?treatment).*",
    re.IGNORECASE,
)
_NO_TARGET = re.compile(
    r"(?:non?[-_ ]?target|ntc?(?:[-_ ]?(?:g|sg)?\d+)?$|nt[-_ ]?control|safe|scramble|sg(?:ntc?|ctrl)).*", re.IGNORECASE
)
_ONLY_PERTURBED = re.compile(
    r"perturbed|perturbation|targeting|targeted|treated|treatment|edited|infected|transduced|non[-_ ]?control|ko|kd"
    r"|true|yes|case",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"(?:random|wt|wild[-_ ]?type|aavs1|none|luciferase|lacz|egfp|gfp)(?:[-_ ]?(?:g|sg)?\d+)?", re.IGNORECASE
)


def is_control(label: str) -> bool:
    """Whether a label reads like one of untouched cells."""
    return _CONTROL.fullmatch(label.strip()) is not None


def is_vehicle(label: str) -> bool:
    """Whether a label of untouched cells reads like a vehicle or like no treatment, as in screens of drugs."""
    return _VEHICLE.fullmatch(label.strip()) is not None


def is_no_target(label: str) -> bool:
    """Whether a label of untouched cells reads like a guide without a target."""
    return _NO_TARGET.match(label.strip()) is not None


def is_weak_control(label: str) -> bool:
    """Whether a label may mean untouched cells, where nothing clearer is there."""
    return _WEAK.fullmatch(label.strip()) is not None


def is_missing(label: str) -> bool:
    """Whether a label says that there is none."""
    return _MISSING.fullmatch(label.strip()) is not None


def plain(name: str) -> str:
    """A column's name without case, spaces, dots, underscores: `Cell.Line`, `cellLine` and `cell_line` are one."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).lower())


def layer_rank(name: str) -> int:
    """Place of a layer: counts first, then logarithms, then what is unknown."""
    known = [plain(word) for word in (*COUNT_LAYERS, *LOG_LAYERS)]
    return known.index(plain(name)) if plain(name) in known else N_LAYERS


def unit_word(text: str) -> str:
    """The unit that a text names, spelt one way; nothing where it is no known unit."""
    return _UNITS.get(re.sub(r"[\W_]+", "", text).lower(), "")


def says_only_perturbed(label: str) -> bool:
    """Whether a label says that something was done, and not what."""
    return _ONLY_PERTURBED.fullmatch(label.strip()) is not None


def unit_of(name: str) -> tuple[str, str]:
    """A plain name without a unit at its end, and the unit: `concentration_uM` is `concentration` in `uM`."""
    parts = re.findall(r"[^\W_]+", name)
    last = parts[-1].lower() if len(parts) > 1 else ""
    return (plain("".join(parts[:-1])), _UNITS[last]) if last in _UNITS else (plain(name), "")


def hints_at_perturbation(name: str) -> bool:
    """Whether an unlisted name speaks of perturbations, and not of their doses, times or kinds."""
    return _HINT.search(name.lower()) is not None and _OF_NUMBERS.search(name.lower()) is None


def rank(name: str, words: Sequence[str]) -> int | None:
    """Place of a column's name among some words, however it is spelt; None where it is not there."""
    known = _plain_places(tuple(words))
    found = known.get(plain(name))
    return known.get(unit_of(name)[0]) if found is None else found


@lru_cache(maxsize=64)
def _plain_places(words: tuple[str, ...]) -> dict[str, int]:
    places: dict[str, int] = {}
    for i, word in enumerate(words):
        places.setdefault(plain(word), i)
    return places
