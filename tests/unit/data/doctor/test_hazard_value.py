"""Hazards 4 to 8 and 10 of real files: scales, doses, unmeasured genes, small groups, confounding, gene ids."""

import numpy as np
import pytest

from perturbfm.data.doctor import examine

from .conftest import GENES, contexts_of, counts, logged, rows, turns

N = 70
PER = {"control": N, "KLF1": N, "AHR": N}
PLAIN = {"perturbation": rows(PER), "cell_type": ["K562"] * 3 * N, "perturbation_type": ["CRISPRi"] * 3 * N}


def test_a_clean_file_gives_no_warning(examined):
    per = {**PER, "MYC": N}
    columns = {"perturbation": rows(per, "AB"), "cell_type": contexts_of(per, "AB"), "replicate": turns("12", 8 * N)}
    found = examined({**columns, "perturbation_type": ["CRISPRi"] * 8 * N})
    assert [f for f in found.findings if f.level != "note"] == []
    assert found.can_be_read
    assert found.proposal.keys == {
        "name": "made",
        "path": str(found.survey.path),
        "scale": "counts",
        "target_sum": 10000.0,
        "pert_column": "perturbation",
        "control_labels": ["control"],
        "context_column": "cell_type",
        "batch_column": "replicate",
        "mode": "knockdown",
    }
    assert set(found.proposal.keys) - {"name", "path"} == set(found.proposal.reasons)


# --- 4: scales ---------------------------------------------------------------------------------------


def log2(n):
    return 8 + np.random.default_rng(0).normal(0, 1, (n, len(GENES))).astype(np.float32)


def differences(n):
    x = np.random.default_rng(0).normal(0, 1, (n, len(GENES))).astype(np.float32)
    x[: n // 3] = 0
    return x


@pytest.mark.parametrize(
    ("make", "scale"), [(counts, "counts"), (logged, "log1p"), (log2, "log2"), (differences, "delta")]
)
def test_each_scale_is_told(examined, make, scale):
    keys = examined(PLAIN, x=make(3 * N)).proposal.keys
    assert keys["scale"] == scale
    assert ("target_sum" in keys) == (scale == "counts")
    assert keys.get("controls") == ("baked_in" if scale == "delta" else None)


def test_scaled_values_stop(examined, expect):
    x = log2(3 * N)
    found = examined(PLAIN, x=(x - x.mean(0)) / x.std(0))
    assert found.proposal.keys["scale"] == "???"
    expect(found, "scale", "stop", "scaled per gene", "Save the counts or the logged values before scaling")


def test_normalised_values_without_a_logarithm_stop(examined, expect):
    x = counts(3 * N)
    found = examined(PLAIN, x=1e4 * x / x.sum(1, keepdims=True))
    expect(found, "scale", "stop", "normalised, not logged", "log1p")
    assert not found.can_be_read


@pytest.mark.parametrize("layer", ["counts", "raw_counts"])
def test_a_layer_of_counts_is_taken_where_x_fits_no_scale(examined, expect, layer):
    x = counts(3 * N)
    found = examined(PLAIN, x=1e4 * x / x.sum(1, keepdims=True), layers={layer: x})
    assert (found.proposal.keys["layer"], found.proposal.keys["scale"]) == (layer, "counts")
    expect(found, "scale", "warn", "Use the layer of counts")


def test_counts_in_a_layer_or_in_raw_are_told(examined, expect):
    x = logged(3 * N)
    expect(examined(PLAIN, x=x, layers={"counts": counts(3 * N)}), "counts_in_layer", "note", "layer: counts")
    expect(examined(PLAIN, x=x, raw=counts(3 * N, 12)), "counts_in_layer", "note", "layer: raw")
    expect(examined(PLAIN, x=x), "no_counts", "note", "no counts", "Never normalise them again")


def test_a_given_layer_is_the_one_examined(examined):
    found = examined(PLAIN, {"layer": "counts"}, x=logged(3 * N), layers={"counts": counts(3 * N)})
    assert (found.proposal.keys["layer"], found.proposal.keys["scale"]) == ("counts", "counts")
    found = examined(PLAIN, {"layer": "raw"}, x=logged(3 * N), raw=counts(3 * N, 12))
    assert (found.proposal.keys["scale"], len(found.survey.genes)) == ("counts", 12)


def test_counts_stored_as_floats_are_counts(examined, expect):
    expect(examined(PLAIN), "counts_as_float", "note", "counts, stored as floats")
    found = examined(PLAIN, x=counts(3 * N).astype(np.int32))
    assert found.proposal.keys["scale"] == "counts"
    assert "counts_as_float" not in [f.name for f in found.findings]


@pytest.mark.parametrize("name", ["n_counts", "nCount_RNA", "total_counts", "UMI count", "response_n_umis"])
def test_a_part_of_the_genes_needs_the_column_of_library_sizes(examined, name):
    x = counts(3 * N)
    found = examined({**PLAIN, name: 50 * x.sum(1)}, x=x)
    assert found.proposal.keys["size_column"] == name
    assert found.proposal.reasons["size_column"].startswith("row sums are 2% of it")
    assert "size_column" not in examined({**PLAIN, name: x.sum(1)}, x=x).proposal.keys


def test_values_that_are_not_finite_stop(examined, expect):
    x = logged(3 * N)
    x[3, 3] = np.nan
    expect(examined(PLAIN, x=x), "values_not_finite", "stop", "NaN or infinite")


# --- 5: doses ---------------------------------------------------------------------------------------

DRUGS = rows({"DMSO": N, "neratinib": N, "afatinib": N})
LINE = {"cell_line": ["A375"] * 3 * N}


def dosed(values, control=0.0, **columns):
    return {"drug": DRUGS, **LINE, "dose": [control] * N + turns(values, 2 * N), **columns}


@pytest.mark.parametrize(
    ("name", "unit"), [("dose", None), ("concentration_uM", "uM"), ("dose_nM", "nM"), ("Drug.Dose (µM)", "uM")]
)
def test_doses_are_found_under_any_spelling(examined, name, unit):
    columns = dosed([0.1, 1.0])
    columns[name] = columns.pop("dose")
    keys = examined(columns).proposal.keys
    assert (keys["dose_column"], keys.get("dose_unit"), keys["mode"]) == (name, unit, "drug")


def test_one_dose_per_perturbation_says_nothing(examined, expect):
    labels = rows({"control": N, "KLF1": N, "AHR": N, "KLF1+AHR": N})
    columns = {"condition": labels, "cell_type": ["K562"] * 4 * N, "dose": ["1"] * 3 * N + ["1+1"] * N}
    found = examined(columns)
    assert "dose_column" not in found.proposal.keys
    expect(found, "dose_says_nothing", "note", "dose has one value per perturbation")


def test_doses_of_combinations_are_text(examined):
    labels = rows({"control": N, "A": N, "B": N, "A+B": N})
    columns = {"condition": labels, "cell_type": ["K562"] * 4 * N}
    columns["dose"] = ["0"] * N + turns(["1", "2"], 2 * N) + turns(["1+1", "2+2"], N)
    assert examined(columns).proposal.keys["dose_column"] == "dose"


def test_codes_for_no_dose_are_told(examined, expect):
    found = examined(dosed([0.1, 1.0], control=-666))
    assert found.proposal.keys["missing_doses"] == ["-666.0"]
    expect(found, "dose_codes", "warn", "-666.0 in 70 rows", "missing_doses reads them as none")
    assert found.can_be_read


@pytest.mark.parametrize("value", [np.nan, 0.0, -666.0])
def test_treated_rows_without_a_dose_stop(examined, expect, value):
    found = examined(dosed([0.1, 1.0, value]))
    expect(found, "dose_missing", "stop", "46 perturbed rows have no dose above zero", "Give them a dose")


def test_doses_of_controls_are_told(examined, expect):
    expect(examined(dosed([0.1, 1.0], control=14.1)), "dose_of_controls", "note", "a control has no dose")


def test_numbers_as_of_nm_are_told(examined, expect):
    found = examined(dosed([10.0, 10000.0]))
    expect(found, "dose_unit", "warn", "goes up to 10000, as nM would", "dose_factor: 0.001")
    told = examined(dosed([10.0, 10000.0], dose_unit=["nM"] * 3 * N))
    assert told.proposal.keys["dose_unit"] == "nM"
    assert "dose_unit" not in [f.name for f in told.findings]


def test_a_dose_and_its_label_must_agree(examined, expect):
    label = ["-666"] * N + turns(["0.1 um", "3 um"], 2 * N)
    expect(examined(dosed([0.1, 1.0], pert_idose=label)), "dose_disagrees", "stop", "disagree in 70 rows")
    fine = examined(dosed([0.1, 1.0], pert_idose=["-666"] * N + turns(["0.1 um", "1 um"], 2 * N)))
    assert "dose_disagrees" not in [f.name for f in fine.findings]


def test_doses_in_words_are_told(examined, expect):
    words = turns(["low", "high"], 3 * N)
    found = examined({"drug": DRUGS, **LINE, "drugname_drugconc": words})
    expect(found, "dose_in_words", "warn", "drugname_drugconc holds doses in words", "a column of numbers")


# --- 6: genes that are not measured -----------------------------------------------------------------


def test_perturbed_genes_that_are_not_measured_are_told(examined, expect):
    per = {"control": N, "KLF1": N, "ZAP70": N, "LCK": N}
    found = examined({"perturbation": rows(per), "cell_type": ["K562"] * 4 * N})
    expect(found, "perturbed_not_measured", "note", "1 of 3 perturbed genes are among the 10 measured ones")
    per = {"control": N, "ZAP70": N, "LCK": N, "LAT": N}
    found = examined({"perturbation": rows(per), "cell_type": ["K562"] * 4 * N})
    expect(found, "perturbed_not_measured", "warn", "0 of 3", "by name, not by column")


def test_another_species_spelling_is_told(examined, expect):
    per = {"control": N, "Klf1": N, "Jak2": N, "Stat1": N}
    found = examined({"perturbation": rows(per), "cell_type": ["K562"] * 4 * N})
    expect(found, "perturbed_not_measured", "warn", "3 agree if case is ignored")


# --- 7: small groups --------------------------------------------------------------------------------


def test_small_groups_and_rare_controls_are_told(examined, expect):
    per = {"control": 15, "KLF1": 190, "AHR": 12}
    found = examined({"perturbation": rows(per), "cell_type": ["K562"] * 217})
    expect(found, "few_cells", "warn", "1 of 2 conditions have fewer than 20 cells (smallest 12)")
    expect(found, "few_controls", "warn", "K562 15", "lower min_controls")
    expect(found, "controls_rarer", "note", "controls (15 at most) are rarer than the largest treatment (190)")


def test_a_context_without_controls_stops(examined, expect):
    columns = {"perturbation": [*rows(PER), *["KLF1"] * 30], "cell_type": ["K562"] * 3 * N + ["A549"] * 30}
    expect(examined(columns), "context_without_controls", "stop", "no control in A549", "drop: {cell_type: [A549]}")


def test_only_controls_stop(examined, expect):
    found = examined({"perturbation": rows({"control": N, "nan": N}), "cell_type": ["K562"] * 2 * N})
    expect(found, "nothing_perturbed", "stop", "no row is perturbed")


def test_rows_that_are_conditions_are_told(examined, expect):
    labels = ["control", *(f"G{i}X" for i in range(40))]
    found = examined({"perturbation": labels, "cell_type": ["K562"] * 41}, x=logged(41))
    assert found.proposal.keys["unit"] == "pseudobulk"
    expect(found, "pseudobulk", "note", "one row per condition")


# --- 8: confounding ---------------------------------------------------------------------------------


def test_a_context_that_is_one_study_and_one_modality_is_told(examined, expect):
    per = {"control": N, "KLF1": N}
    kinds = {"k562": "CRISPRa", "A172": "CRISPRi", "T98G": "CRISPRi"}
    line = contexts_of(per, kinds)
    columns = {
        "condition": rows(per, kinds),
        "cell_type": line,
        "perturbation_type": [kinds[x] for x in line],
        "dataset": ["norman19" if x == "k562" else "mcfaline23" for x in line],
    }
    found = examined(columns)
    assert found.proposal.keys["mode_values"] == {"CRISPRa": "activation", "CRISPRi": "knockdown"}
    expect(found, "context_confounded", "warn", "CRISPRa only in k562", "norman19 only in k562")


def test_what_else_was_done_to_the_cells_is_a_part_of_the_context(examined, expect):
    per = {"NT": N, "JAK2": N, "STAT1": N}
    columns = {"gene": rows(per, "ABAB"), "cell_type": contexts_of(per, "ABAB")}
    columns["treatment"] = contexts_of(per, ["IFNB", "IFNB", "TNFA", "TNFA"])
    found = examined(columns)
    assert found.proposal.keys["context_column"] == ["cell_type", "treatment"]
    expect(found, "joined_context", "note", "A::IFNB", "Set context_column: cell_type")


def test_a_second_treatment_without_controls_is_told(examined, expect):
    per = {"NT": N, "JAK2": N}
    columns = {
        "gene": [*rows(per), *["JAK2"] * N],
        "cell_type": ["A"] * 3 * N,
        "treatment": ["none"] * 2 * N + ["TNFA"] * N,
    }
    found = examined(columns)
    assert found.proposal.keys["context_column"] == "cell_type"
    expect(found, "second_treatment", "warn", "none, TNFA; they are pooled", "[cell_type, treatment]")


def test_clusters_as_context_are_told(examined, expect):
    columns = {"perturbation": rows(PER), "leiden": turns("012", 3 * N)}
    expect(examined(columns), "context_of_clusters", "warn", "clusters of expression")


# --- 10: gene identifiers ----------------------------------------------------------------------------

ENSEMBL = [f"ENSG{i:011d}" for i in range(len(GENES))]


def test_ensembl_ids_are_told_with_the_column_of_symbols(examined, expect):
    found = examined(PLAIN, genes=ENSEMBL, var={"gene_symbol": list(GENES)})
    expect(found, "ensembl_ids", "note", "10 of 10 genes are Ensembl ids", "gene_column: gene_symbol")
    repeated = examined(PLAIN, genes=ENSEMBL, var={"gene_symbol": ["A", "A", *GENES[2:]]})
    expect(repeated, "ensembl_ids", "warn", "gene_symbol has 1 repeats", "duplicate_genes: sum")
    expect(examined(PLAIN, genes=ENSEMBL), "ensembl_ids", "warn", "gene_map")


def test_mixed_ids_are_told(examined, expect):
    expect(examined(PLAIN, genes=[*GENES[:8], *ENSEMBL[8:]]), "mixed_ids", "warn", "2 of 10 genes are Ensembl ids")


def test_repeated_genes_stop_until_something_is_said(examined, expect):
    genes = ["TP53", "TP53", *GENES[2:]]
    expect(examined(PLAIN, genes=genes), "repeated_genes", "stop", "1 gene names repeat, first 'TP53'")
    said = examined(PLAIN, {"duplicate_genes": "sum"}, genes=genes)
    expect(said, "repeated_genes", "warn", "TP53")
    assert said.can_be_read


def test_dates_for_genes_are_told(examined, expect):
    expect(examined(PLAIN, genes=["1-Mar", "2-Sep", *GENES[2:]]), "dates_for_genes", "warn", "2 gene names")


def test_old_symbols_are_perturbed_genes_that_are_not_measured(examined, expect):
    per = {"control": N, "KLF1": N, "AHR": N, "KIAA1804": N}
    found = examined({"perturbation": rows(per), "cell_type": ["K562"] * 4 * N})
    expect(found, "perturbed_not_measured", "note", "KIAA1804", "aliases")


# --- the rest ---------------------------------------------------------------------------------------


def test_repeated_cells_long_texts_statistics_and_flags_are_told(write, examined, expect):
    x = {"rank_genes_groups_cov": "x"}
    columns = {**PLAIN, "note": ["y" * 20_000] * 3 * N, "pass_guide_filter": turns([True, True, False], 3 * N)}
    found = examined(columns, uns=x)
    expect(found, "long_text", "warn", "20,000 signs")
    expect(found, "statistics_in_uns", "warn", "rank_genes_groups_cov")
    expect(found, "quality_flag", "note", "pass_guide_filter says False in 70 of 210 rows")
    same = examine(write(PLAIN, index=["c"] * 3 * N), "made")
    expect(same, "cell_ids", "stop", "209 cell ids are repeated")
