"""Hazards 1, 2, 3 and 9 of real files: control labels, delimiters, guides, missing labels, wrong numbers of parts."""

import numpy as np
import pytest

from perturbfm.data.doctor import examine
from perturbfm.data.doctor.column import GUIDE_PATTERN

from .conftest import contexts_of, rows, turns

N = 70


@pytest.mark.parametrize(
    ("column", "label", "treated"),
    [
        ("perturbation", "control", "KLF1"),
        ("condition", "ctrl", "KLF1+ctrl"),
        ("stim", "CTRL", "STIM"),
        ("gene", "NT", "JAK2"),
        ("gene", "non-targeting", "JAK2"),
        ("gene_target", "Non-Targeting", "JAK2"),
        ("gene_id", "NTC", "JAK2"),
        ("sm_name", "Dimethyl Sulfoxide", "Belinostat"),
        ("drug", "DMSO_TF", "Afatinib"),
        ("pert_iname", "DMSO", "neratinib"),
        ("Drug Name", "Vehicle", "neratinib"),
        ("treatment_group", "untreated", "IFN-beta"),
        ("target", "NegCtrl0", "JAK2"),
        ("guide_target", "safe-targeting", "JAK2"),
    ],
)
def test_each_control_label_of_a_real_file_is_proposed(examined, column, label, treated):
    found = examined({column: rows({label: N, treated: N}), "cell_type": ["K562"] * 2 * N})
    assert (found.proposal.keys["pert_column"], found.proposal.keys["control_labels"]) == (column, [label])
    assert found.can_be_read


def test_gears_writes_singles_with_a_control_part(examined, expect):
    labels = rows({"ctrl": N, "KLF1+ctrl": N, "ctrl+AHR": N, "KLF1+AHR": N})
    found = examined({"condition": labels, "cell_type": ["A549"] * len(labels)})
    keys = found.proposal.keys
    assert (keys["control_labels"], keys["delimiter"], keys["drop_control_parts"]) == (["ctrl"], "+", True)
    expect(found, "gears_form", "warn", "A549", "context: K562")
    expect(found, "combinations", "note", "1 of 3 labels are combinations joined by '+', e.g. KLF1+AHR")


def test_mcfaline_joins_by_commas_and_has_three_words_that_may_be_controls(examined, expect):
    labels = rows({"NTC": N, "NA": 30, "random": 30, "JAK2": N, "STAT1": N, "JAK2,STAT1": N, "JAK2,NTC": N})
    found = examined({"gene_id": labels, "cell_type": ["A172"] * len(labels)})
    keys = found.proposal.keys
    assert (keys["control_labels"], keys["delimiter"], keys["drop_control_parts"]) == (["NTC"], ",", True)
    assert (keys["drop_missing"], keys["missing_labels"]) == (True, ["NA"])
    expect(found, "missing_labels", "warn", "'NA' 30", "move it to control_labels")
    expect(found, "perhaps_controls", "warn", "random", "Add them to control_labels")


def test_what_is_known_is_kept_and_the_rest_read_in_its_light(examined):
    labels = rows({"NTC": N, "NA": 30, "random": 30, "JAK2": N})
    given = {"control_labels": ["NTC", "NA", "random"], "mode": "knockdown"}
    found = examined({"gene_id": labels, "cell_type": ["A172"] * len(labels)}, given)
    assert "drop_missing" not in found.proposal.keys
    assert found.proposal.keys["mode"] == "knockdown"
    assert found.proposal.is_control_n.sum() == N + 60


def test_several_control_labels_are_told(examined, expect):
    labels = rows({"DMSO": N, "untreated": 12, "Afatinib": N})
    found = examined({"drug": labels, "cell_line": ["A549"] * len(labels)})
    assert found.proposal.keys["control_labels"] == ["DMSO", "untreated"]
    expect(found, "several_controls", "warn", "DMSO 70, untreated 12", "Take out of control_labels")


def test_no_label_that_reads_like_a_control_is_open(examined, expect):
    found = examined({"perturbation": rows({"JAK2": N, "STAT1": N, "KLF1": N}), "cell_type": ["K562"] * 3 * N})
    assert found.proposal.keys["control_labels"] == "???"
    assert not found.can_be_read
    expect(found, "open_control_labels", "stop", "none of JAK2, STAT1, KLF1", "Fill in control_labels")


def test_no_column_of_perturbations_is_open(examined, expect):
    found = examined({"cell_type": turns(["B", "NK"], N), "size": np.arange(N)})
    assert found.proposal.keys["pert_column"] == "???"
    expect(found, "open_pert_column", "stop", "no column reads like perturbations: cell_type, size")


@pytest.mark.parametrize("sign", ["+", "_", ",", "|"])
def test_delimiters_are_seen_where_parts_recur(examined, expect, sign):
    labels = rows({"control": N, "KLF1": N, "AHR": N, f"KLF1{sign}AHR": N, f"AHR{sign}KLF1": N, f"FEV{sign}AHR": N})
    found = examined({"perturbation": labels, "cell_line": ["K562"] * len(labels)})
    assert found.proposal.keys["delimiter"] == sign
    expect(found, "order_of_parts", "note", "1 combinations occur in both orders")
    expect(found, "parts_not_alone", "note", "1 of 3 parts never occur alone, e.g. FEV")


@pytest.mark.parametrize("label", ["CP-724714", "HLA-A", "BRD_K123", "MT.CO1", "1,2-diol"])
def test_signs_in_names_are_no_delimiters(examined, label):
    labels = rows({"DMSO": N, label: N, "neratinib": N})
    assert "delimiter" not in examined({"drug": labels, "cell_line": ["A549"] * 3 * N}).proposal.keys


def test_a_plus_in_a_name_is_told(examined, expect):
    labels = rows({"DMSO": N, "(+)-JQ1": N, "neratinib": N})
    found = examined({"drug": labels, "cell_line": ["A549"] * 3 * N})
    assert "delimiter" not in found.proposal.keys
    expect(found, "sign_in_names", "note", "1 labels contain '+', e.g. (+)-JQ1")


def test_a_plus_in_a_name_beside_combinations_stops(examined, expect):
    labels = rows({"DMSO": N, "(+)-JQ1": N, "A": N, "B": N, "A+B": N, "B+A": N})
    found = examined({"drug": labels, "cell_line": ["A549"] * 6 * N})
    assert found.proposal.keys["delimiter"] == "+"
    expect(found, "delimiter_in_name", "stop", "(+)-JQ1", "aliases")


@pytest.mark.parametrize("form", ["{}_{}", "{}g{}", "{}-{}", "{}_sg{}"])
def test_guides_are_told_from_genes(examined, expect, form):
    guides = [form.format(g, i) for g in ("ZAP70", "STAT1", "JAK2") for i in (1, 2)]
    labels = rows({"control": N, **dict.fromkeys(guides, 30)})
    found = examined({"perturbation": labels, "cell_line": ["THP-1"] * len(labels)})
    assert found.proposal.keys["guide_pattern"] == GUIDE_PATTERN
    assert "delimiter" not in found.proposal.keys
    expect(found, "guide_labels", "warn", "7 labels of perturbation look like several guides of a gene")


def test_cytokines_with_numbers_are_no_guides(examined):
    labels = rows({"PBS": N, **dict.fromkeys(["IL-2", "IL-4", "IL-6", "IL-10"], 30)})
    found = examined({"cytokine": labels, "cell_type": ["B"] * len(labels)})
    assert "guide_pattern" not in found.proposal.keys
    assert "guide_labels" not in [f.name for f in found.findings]


def test_guides_beside_other_labels_are_told_and_not_cut(examined, expect):
    guides = [f"{g}g{i}" for g in ("ZAP70", "STAT1", "JAK2") for i in (1, 2)]
    labels = rows({"control": N, "MYC": 30, **dict.fromkeys(guides, 30)})
    found = examined({"perturbation": labels, "cell_line": ["THP-1"] * len(labels)})
    assert "guide_pattern" not in found.proposal.keys
    expect(found, "guide_labels", "warn", "and some do not", "Set guide_pattern")
    assert found.can_be_read


def test_a_column_of_targets_comes_before_one_of_guides(examined, expect):
    guides = ["ntg1", "ntg2", *(f"{g}g{i}" for g in ("STAT1", "JAK2") for i in (1, 2))]
    target = {"ntg1": "NT", "ntg2": "NT", **{g: g[:-2] for g in guides[2:]}}
    label = rows(dict.fromkeys(guides, 40))
    found = examined(
        {"guide_id": label, "gene_target": [target[g] for g in label], "cell_line": ["THP-1"] * len(label)}
    )
    assert (found.proposal.keys["pert_column"], found.proposal.keys["control_labels"]) == ("gene_target", ["NT"])
    expect(found, "guide_column", "note", "guide_id names 6 guides", "guide_column: guide_id")


@pytest.mark.parametrize("missing", ["nan", "", None, "unassigned"])
def test_missing_labels_are_no_controls(examined, expect, missing):
    labels = [*rows({"control": N, "KLF1": N}), *[missing] * 9]
    found = examined({"perturbation": labels, "cell_line": ["K562"] * len(labels)})
    assert found.proposal.keys["drop_missing"] is True
    assert found.proposal.is_control_n.sum() == N
    assert found.proposal.keys.get("missing_labels", []) == (["unassigned"] if missing == "unassigned" else [])
    expect(found, "missing_labels", "warn", " 9", "drop_missing leaves them out")


def test_wrong_numbers_of_parts_are_told(examined, expect):
    labels = rows({"control": N, "KLF1": N, "AHR": N, "KLF1_AHR": N})
    n = [0] * N + [1] * N + [2] * N + [2] * N
    found = examined({"perturbation": labels, "nperts": n, "cell_line": ["K562"] * len(labels)})
    expect(found, "number_of_parts", "warn", "nperts disagrees with the label in 70 rows, e.g. AHR has 2")


def test_two_spellings_of_a_label_are_told(examined, expect):
    labels = rows({"control": N, "IFN-beta": N, "IFN beta": N, "ifnbeta": 30})
    found = examined({"cytokine": labels, "cell_type": ["B"] * len(labels)})
    expect(found, "label_variants", "warn", "1 labels in several spellings", "Set aliases")


def test_categories_without_rows_are_told(write, expect):
    import pandas as pd

    kinds = pd.Categorical(rows({"control": N, "KLF1": N}), categories=["control", "KLF1", "GONE"])
    found = examine(write({"perturbation": kinds, "cell_type": ["K562"] * 2 * N}), "made")
    expect(found, "unused_categories", "note", "perturbation has 1 categories without rows, e.g. GONE")


# --- control flags ----------------------------------------------------------------------------------


def test_a_flag_gives_the_control_labels_where_no_label_reads_so(examined, expect):
    labels = rows({"sgOR1A1": N, "JAK2": N, "STAT1": N})
    columns = {"Perturbation": labels, "is_control": [x == "sgOR1A1" for x in labels], "cellType": ["T"] * 3 * N}
    found = examined(columns)
    assert (found.proposal.keys["pert_column"], found.proposal.keys["control_labels"]) == ("Perturbation", ["sgOR1A1"])
    expect(found, "controls_by_flag", "note", "sgOR1A1 were read off is_control")


@pytest.mark.parametrize("label", [None, "JAK2"])
def test_flagged_rows_without_a_label_of_their_own_stop(examined, expect, label):
    labels = [*[label] * N, *rows({"JAK2": N, "STAT1": N})]
    columns = {"perturbation": labels, "is_control": [True] * N + [False] * 2 * N, "cell_type": ["T"] * 3 * N}
    found = examined(columns)
    assert not found.can_be_read
    expect(found, "controls_without_label", "stop", "is_control marks 70 rows", "Write a label of their own")


def test_a_flag_that_disagrees_is_told(examined, expect):
    labels = rows({"Dimethyl Sulfoxide": N, "Belinostat": 20, "Afatinib": N})
    columns = {"sm_name": labels, "control": [x != "Afatinib" for x in labels], "cell_type": ["B"] * len(labels)}
    expect(examined(columns), "control_flag", "warn", "disagrees with the labels in 20 rows: Belinostat")


def test_contexts_are_found_in_every_context(examined):
    per = {"control": N, "KLF1": N}
    found = examined({"perturbation": rows(per, "AB"), "cell_type": contexts_of(per, "AB")})
    assert found.proposal.keys["context_column"] == "cell_type"
