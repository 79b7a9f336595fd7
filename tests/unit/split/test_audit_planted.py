"""Every named check finds the leak that is planted for it, and nothing in a world without leaks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from perturbfm.auditing import evidence_of, flat
from perturbfm.data.planted import load_synthetic
from perturbfm.errors import SplitLeaks
from perturbfm.split import Split, audit, context_ood
from perturbfm.split.audit import CHECKS, DeGenes, Evidence, Prior
from perturbfm.split.audit.label import _n_seen, undeclared_parts
from perturbfm.types import Labels, Learned

FOLDS = {"A": "train", "B": "train", "C": "train", "A+B": "train", "D": "val", "E": "calib", "F": "test", "G": "test"}
"""Perturbations are held out: each is in one fold, in all contexts."""

GENES = tuple(f"gene{i}" for i in range(40))


class Toy:
    """Two contexts and two batches, six cells per condition and batch, expression of 40 genes without repeats."""

    def __init__(self, folds=FOLDS, axes=("perturbation",), params=None, rule="by_hand", mode="knockdown"):
        rows = [
            (context, pert, batch, place)
            for context in ("k0", "k1")
            for batch in ("b0", "b1")
            for pert, place in [("control", "input"), ("control", "reference"), *folds.items()]
            for _ in range(6)
        ]
        context, pert, batch, place = (np.array(c, dtype=object) for c in zip(*rows, strict=True))
        n = len(rows)
        cell = np.array([f"cell{i}" for i in range(n)], dtype=object)
        is_control = pert == "control"
        mode_n = np.full(n, mode, dtype=object)
        self.place = place
        self.labels = Labels(cell, pert, context, batch, mode_n, is_control, "f" * 64, "toy", delimiter="+")
        self.x_ng = np.exp(np.random.Generator(np.random.PCG64(3)).normal(size=(n, len(GENES)))).astype(np.float32)
        self.axes, self.params, self.rule = axes, params or {}, rule

    def rows(self, place, **wanted):
        keep = self.place == place
        for column, value in wanted.items():
            keep = keep & (getattr(self.labels, f"{column}_n") == value)
        return np.flatnonzero(keep)

    def split(self, **changes):
        names = {"train": "train", "val": "val", "calib": "calib", "test": "test"}
        names |= {"input_control": "input", "reference_control": "reference"}
        idx = {f"{name}_idx": self.rows(place) for name, place in names.items()}
        return Split(
            **{**idx, **changes},
            fingerprint=self.labels.fingerprint,
            data_name="toy",
            rule=self.rule,
            params=self.params,
            ood_axes=self.axes,
            seed=0,
            n_obs=self.labels.n_obs,
            unit="cells",
        )

    def evidence(self, **more):
        given = {"x_ng": self.x_ng, "genes": GENES, "uns": {}, "learned": (), "priors": (), "aliases": {}}
        return Evidence(**{**given, **more})

    def relabelled(self, column, old, new):
        values = getattr(self.labels, f"{column}_n").copy()
        values[values == old] = new
        self.labels = replace(self.labels, **{f"{column}_n": values})
        return self

    def with_covariate(self, name, values):
        self.labels = replace(self.labels, covariates={**self.labels.covariates, name: np.array(values, dtype=object)})
        return self

    def audit(self, split=None, **evidence):
        return audit(split or self.split(), self.labels, self.evidence(**evidence))


def only(found, check):
    """The findings of a check that are neither a pass nor unmade; the check is the only one to refuse."""
    refusing = {f.check for f in found.with_verdict("refuse")}
    assert refusing <= {check}, refusing
    return [f for f in found.of(check) if f.verdict in ("warn", "refuse")]


def all_of(found, check):
    return [f for f in found.of(check) if f.verdict in ("warn", "refuse")]


def said(finding):
    return f"{finding.verdict}: {finding.message}: {finding.given}"


# --- worlds without leaks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic():
    dataset = load_synthetic()
    return dataset, context_ood(dataset.labels(), ["C6"])


def test_the_planted_world_is_clean(synthetic):
    dataset, split = synthetic
    learned = (Learned("vocabulary", split.train_idx),)
    found = audit(split, dataset.labels(), evidence_of(dataset, priors=(), aliases={}, learned=learned))
    assert found.verdict == "pass"
    assert {f.verdict for f in found.findings} == {"pass"}
    assert [f.check for f in found.findings] == [c.__name__ for c in CHECKS]
    found.assert_no_leak()


@pytest.mark.parametrize("axes", [("perturbation",), ("combination_seen_2",), ("context",), ("donor",)])
def test_a_toy_without_leaks_passes(axes):
    toy = Toy(axes=axes)
    if axes == ("combination_seen_2",):
        toy = Toy({"A": "train", "B": "train", "D": "val", "E": "calib", "A+B": "test"}, axes)
    if axes == ("context",):
        toy = Toy({**dict.fromkeys("ABC", "train"), "D": "val", "E": "calib"}, axes)
        toy.place[(toy.labels.context_n == "k1") & ~toy.labels.is_control_n] = "test"
    toy.with_covariate("donor", np.where(toy.place == "test", "d1", "d0"))
    found = toy.audit()
    assert found.verdict == "pass"
    assert not found.with_verdict("not_checked")


def test_what_nobody_looked_at_is_said():
    found = audit(Toy().split(), Toy().labels)
    (spelling,) = found.of("perturbation_under_two_labels")
    assert (spelling.verdict, "aliases were not compared" in spelling.message) == ("pass", True)
    unseen = {f.check: f.message for f in found.with_verdict("not_checked")}
    assert set(unseen) == {
        "duplicated_expression",
        "learned_outside_train",
        "de_genes_chosen_on_test",
        "graph_from_test_rows",
        "prior_trained_on_test",
        "target_statistics_in_uns",
    }
    assert all(unseen.values())
    assert found.verdict == "pass"
    plain = found.to_plain()
    assert sorted(plain["checks"]["not_checked"]) == sorted(unseen)
    assert {f["verdict"] for f in plain["findings"]} == {"pass", "not_checked"}


# --- cells ---------------------------------------------------------------------------------------------


def test_a_row_in_two_folds_is_found():
    toy = Toy()
    split = toy.split()
    object.__setattr__(split, "val_idx", np.append(split.val_idx, split.test_idx[0]))  # past the constructor
    found = all_of(toy.audit(split), "same_cell_in_two_folds")
    assert said(found[0]) == f"refuse: Rows are in two folds or roles: 1 of them, first {split.test_idx[0]}"


def test_a_cell_id_in_two_folds_is_found():
    toy = Toy()
    toy.labels.cell_n[toy.rows("train")[0]] = toy.labels.cell_n[toy.rows("test")[0]]
    (finding,) = only(toy.audit(), "same_cell_in_two_folds")
    assert said(finding).startswith("refuse: Cell ids are in two folds or roles: 1 of them, first cell")


@pytest.mark.parametrize("names", [("{}-1", "{}-0"), ("{}", "{}-1"), ("run1_{}-1", "run2_{}-1"), ("a#{}", "b#{}")])
def test_a_barcode_under_another_suffix_is_warned_of_within_one_batch(names):
    toy = Toy()
    train, test = toy.rows("train", batch="b0")[0], toy.rows("test", batch="b0")[0]
    for row, name in zip((train, test), names, strict=True):
        toy.labels.cell_n[row] = name.format("ACGTACGTACGTACGT")
    (finding,) = only(toy.audit(), "same_cell_in_two_folds")
    assert said(finding).startswith("warn: Barcodes of one batch are in two folds or roles under ids that differ in")
    toy.labels.batch_n[test] = "b1"
    assert not only(toy.audit(), "same_cell_in_two_folds")


def test_numbered_ids_and_chance_barcodes_are_no_finding():
    toy = Toy()
    toy.labels.cell_n[:] = [f"cell-{i}" for i in range(toy.labels.n_obs)]
    assert not only(toy.audit(), "same_cell_in_two_folds")


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_a_cell_copied_under_another_id_is_found(form):
    toy = Toy()
    train, test = toy.rows("train")[5], toy.rows("test")[7]
    toy.x_ng[test] = toy.x_ng[train]
    (finding,) = only(toy.audit(x_ng=form(toy.x_ng)), "duplicated_expression")
    assert said(finding).startswith("refuse: Rows of different folds have the same expression: 2 rows in 1 groups, in")
    assert "test, train" in finding.given


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize(
    "again",
    [lambda x: x * 3, lambda x: np.log1p(1e4 * x / x.sum()), lambda x: np.log2(1 + x)],
    ids=["scaled", "normalised", "logged"],
)
@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("calib", "test"), ("val", "calib"), ("train", "val")])
def test_a_cell_copied_after_another_normalisation_is_found(form, again, one, other):
    toy = Toy()
    first, second = toy.rows(one)[5], toy.rows(other)[7]
    toy.x_ng[:, ::3] = 0
    toy.x_ng[second] = again(toy.x_ng[first])
    (finding,) = only(toy.audit(x_ng=form(toy.x_ng)), "duplicated_expression")
    words = "refuse: Rows of different folds have the same expression but for a normalisation: 2 rows in 1 groups, in "
    assert said(finding).startswith(words + ", ".join(sorted((one, other))))


def test_a_control_that_is_truth_after_another_normalisation_is_found():
    toy = Toy()
    toy.x_ng[toy.rows("reference")[0]] = 2 * toy.x_ng[toy.rows("input")[0]]
    (finding,) = only(toy.audit(), "controls_shared")
    assert said(finding).startswith(
        "refuse: Input and reference controls have the same expression but for a normalisation"
    )


def test_counts_of_the_same_genes_in_another_order_of_size_are_another_cell():
    toy = Toy()
    toy.x_ng = np.random.Generator(np.random.PCG64(1)).poisson(3, toy.x_ng.shape).astype(np.float32)
    train, test = toy.rows("train")[5], toy.rows("test")[7]
    toy.x_ng[test] = 2 * toy.x_ng[train]
    assert only(toy.audit(), "duplicated_expression")[0].verdict == "warn"  # fewer than ten values: may be chance
    low, high = np.argsort(toy.x_ng[test])[[-3, -1]]
    toy.x_ng[test, [low, high]] = toy.x_ng[test, [high, low]]
    assert not only(toy.audit(), "duplicated_expression")


def test_nearly_empty_cells_of_one_gene_are_no_copies_of_each_other():
    toy = Toy()
    toy.x_ng[:, 5:] = 0
    assert not only(toy.audit(), "duplicated_expression")


def test_equal_rows_of_few_genes_are_counted_apart():
    toy = Toy()
    toy.x_ng[[toy.rows("train")[5], toy.rows("test")[7]], 12:] = 0
    toy.x_ng[toy.rows("test")[7]] = toy.x_ng[toy.rows("train")[5]]
    (finding,) = only(toy.audit(), "duplicated_expression")
    assert finding.verdict == "warn"
    assert finding.message == "Rows of few genes have the same expression"


def test_equal_rows_within_a_fold_and_other_values_are_no_finding():
    toy = Toy()
    a, b = toy.rows("test")[:2]
    toy.x_ng[a] = toy.x_ng[b]
    c, d = toy.rows("train")[0], toy.rows("test")[5]
    toy.x_ng[c] = toy.x_ng[d]
    toy.x_ng[c, 3] = toy.x_ng[c].max() + 1
    assert not only(toy.audit(), "duplicated_expression")


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f", " F", "ctrl+F", "F+control", "F_CTRL"])
def test_a_perturbation_under_another_spelling_is_found(name):
    toy = Toy({**FOLDS, name: "train"})
    (finding,) = only(toy.audit(), "perturbation_under_two_labels")
    assert finding.message == "Perturbations stand in different folds under two labels"
    assert sorted(finding.examples[0].split(" = ")) == sorted(["F", name])


@pytest.mark.parametrize(
    ("one", "other"),
    [("TNF-a", "TNF\u2010a"), ("Caf\u00e9", "Cafe\u0301"), ("IL 2", "IL\u00a02"), ("\u00b5X", "\u03bcX")],
    ids=["hyphen", "accent", "space", "micro"],
)
def test_one_name_in_two_encodings_is_found(one, other):
    assert one != other
    (finding,) = only(Toy({**FOLDS, one: "train", other: "test"}).audit(), "perturbation_under_two_labels")
    assert finding.verdict == "refuse"


LIKE = [
    *(("HLA-A", "HLA_A"), ("HLA-A", "HLAA"), ("IL-2", "IL2"), ("IFN-\u03b2", "IFN-beta"), ("sgTP53", "TP53")),
    *(("TP53_KO", "TP53"), ("TP53-OE", "tp53"), ("A+C-D", "c_d+A")),
]


@pytest.mark.parametrize(("one", "other"), LIKE)
@pytest.mark.parametrize("place", ["train", "val", "calib"])
def test_names_that_differ_in_separators_or_in_how_a_gene_was_hit_are_warned_of(one, other, place):
    found = all_of(Toy({**FOLDS, one: place, other: "test"}).audit(), "perturbation_under_two_labels")
    assert [(f.verdict, f.examples) for f in found] == [("warn", (" = ".join(sorted((one, other))),))]
    assert said(found[0]).startswith("warn: Perturbations of different folds may be one under two labels")


@pytest.mark.parametrize(
    ("one", "other"),
    [("IGHV1-24", "IGHV12-4"), ("A+B", "A+C"), ("drug_1.0", "drug_10"), ("sgK1", "K1"), ("MAPK1", "MAPK3")],
)
def test_names_that_differ_in_more_than_that_are_two(one, other):
    aliases = {"sgK1": "SGK1"}
    found = Toy({**FOLDS, one: "train", other: "test"}).audit(aliases=aliases)
    assert not all_of(found, "perturbation_under_two_labels")


def test_parts_in_another_order_or_under_another_delimiter_are_found():
    toy = Toy({**FOLDS, "A_B": "test", "B,A": "test"})
    found = all_of(toy.audit(), "perturbation_under_two_labels")
    assert [f.examples for f in found] == [("A+B = A_B = B,A",)]


def test_an_alias_is_found_where_a_table_is_given():
    folds = {**FOLDS, "KIAA1804": "train", "MAP3K21": "test"}
    (finding,) = only(Toy(folds).audit(aliases={"KIAA1804": "MAP3K21"}), "perturbation_under_two_labels")
    assert said(finding).endswith("1 of them, first KIAA1804 = MAP3K21")
    assert not only(Toy(folds).audit(), "perturbation_under_two_labels")


def test_two_labels_where_contexts_are_held_out_are_warned_of():
    toy = Toy({**FOLDS, "f": "train", "F": "val"}, axes=("covariate_transfer",))
    toy.place[(toy.labels.context_n == "k1") & (toy.labels.pert_n == "f")] = "unused"
    toy.place[(toy.labels.context_n == "k0") & (toy.labels.pert_n == "F")] = "unused"
    (finding,) = only(toy.audit(), "perturbation_under_two_labels")
    assert finding.verdict == "warn"
    assert only(Toy({**FOLDS, "f": "train", "F": "val"}, axes=("covariate_transfer",)).audit(), finding.check)


@pytest.mark.parametrize("fold", ["train", "val", "calib"])
def test_a_combination_of_a_held_out_gene_is_found(fold):
    found = only(Toy({**FOLDS, "A+F": fold}).audit(), "combination_parts_held_out")
    assert [said(f) for f in found] == [
        f"refuse: Combinations in {fold} hold a gene that is held out: 1 combinations, first A+F"
    ]


def test_a_combination_of_another_class_than_stated_is_found():
    folds = {"A": "train", "C": "train", "D": "val", "E": "calib", "A+B": "test", "A+C": "test", "X+Y": "test"}
    found = all_of(Toy(folds, axes=("combination_seen_1",)).audit(), "combination_parts_held_out")
    assert [(f.verdict, f.examples) for f in found] == [("refuse", ("A+C",)), ("warn", ("X+Y",))]
    assert "(combination_seen_1)" in found[0].message


@pytest.mark.parametrize("fold", ["train", "val", "calib"])
def test_a_held_out_perturbation_in_another_fold_is_found(fold):
    toy = Toy()
    toy.place[(toy.labels.pert_n == "F") & (toy.labels.context_n == "k1")] = fold
    found = all_of(toy.audit(), "held_out_perturbation_elsewhere")
    assert [said(f) for f in found] == [f"refuse: Held-out perturbations are in {fold}: 1 of 2, first F@knockdown"]


@pytest.mark.parametrize(
    ("fold", "params", "verdict"),
    [
        ("val", {}, "warn"),
        ("val", {"validation": "conditions of the official train"}, "refuse"),  # dealt here: no excuse
        ("train", {}, "refuse"),
        ("calib", {}, "refuse"),
    ],
)
def test_what_an_official_split_validates_on_is_warned_of(fold, params, verdict):
    toy = Toy(rule="official", params=params)
    toy.place[(toy.labels.pert_n == "F") & (toy.labels.context_n == "k1")] = fold
    assert {f.verdict for f in all_of(toy.audit(), "held_out_perturbation_elsewhere")} == {verdict}
    combined = Toy({**FOLDS, "A+F": fold}, rule="official", params=params)
    (finding,) = all_of(combined.audit(), "combination_parts_held_out")
    assert finding.verdict == verdict
    assert ("the official split validates so" in finding.message) == (verdict == "warn")
    guides = Toy({**FOLDS, "gene3_1": fold, "gene3_2": "test"}, rule="official", params=params)
    assert {f.verdict for f in all_of(guides.audit(), "guides_of_one_gene_split")} == {verdict}
    contexts = Toy({"A": "train", "C": "calib", "D": "test"}, ("context",), params, "official")
    contexts.place[(contexts.labels.context_n == "k1") & (contexts.labels.pert_n != "control")] = "test"
    contexts.place[(contexts.labels.context_n == "k1") & (contexts.labels.pert_n == "A")] = fold
    contexts.place[(contexts.labels.context_n == "k0") & (contexts.labels.pert_n == "D")] = "val"
    assert {f.verdict for f in all_of(contexts.audit(), "held_out_context_elsewhere")} == {verdict}


def test_guides_of_one_gene_in_two_folds_are_found_by_their_labels():
    toy = Toy({**FOLDS, "gene3_1": "train", "gene3_2": "test", "STAT1g1": "train", "STAT1g2": "test"})
    found = only(toy.audit(), "guides_of_one_gene_split")
    assert [(f.verdict, f.examples) for f in found] == [("refuse", ("gene3",)), ("warn", ("STAT1",))]
    assert found[0].message == "Guides of one gene are in different folds (labels)"


def test_guides_numbered_behind_a_dash_are_found_where_the_gene_is_known():
    toy = Toy({**FOLDS, "gene3-1": "train", "gene3-2": "test", "ABC-1": "train", "ABC-2": "test"})
    (finding,) = only(toy.audit(), "guides_of_one_gene_split")
    assert (finding.verdict, finding.examples) == ("refuse", ("gene3",))
    measured = tuple({*GENES, "gene3-1"})
    assert not only(toy.audit(genes=measured), "guides_of_one_gene_split")  # a gene of that name is measured


def test_guides_of_one_gene_in_two_folds_are_found_by_a_target_column():
    toy = Toy({**FOLDS, "guideX": "train", "guideY": "test"})
    target = [{"guideX": "TP53", "guideY": "TP53"}.get(p, p) for p in toy.labels.pert_n]
    (finding,) = only(toy.with_covariate("target_gene", target).audit(), "guides_of_one_gene_split")
    assert said(finding).endswith("(column target_gene): 1 genes, first TP53")
    assert finding.verdict == "refuse"


def test_families_of_genes_and_compounds_are_no_guides():
    names = {"NKX2-1": "train", "NKX2-5": "test", "MAPK1": "train", "MAPK3": "test", "Stag1": "train", "Stag2": "test"}
    assert not only(Toy({**FOLDS, **names}).audit(), "guides_of_one_gene_split")
    compounds = Toy({**FOLDS, "compound_1": "train", "compound_2": "test"}, mode="drug")
    assert not only(compounds.audit(), "guides_of_one_gene_split")


@pytest.mark.parametrize(("axis", "column"), [("donor", "patient_id"), ("batch", None), ("time", None)])
def test_a_held_out_donor_or_batch_or_time_in_another_fold_is_found(axis, column):
    toy = Toy(axes=(axis,))
    values = np.where(toy.place == "test", "d1", "d0").astype(object)
    values[toy.rows("calib")[0]] = "d1"
    if column:
        toy.with_covariate(column, values)
    else:
        toy.labels = replace(toy.labels, **{f"{axis}_n": values})
    found = all_of(toy.audit(), "donor_in_two_folds")
    assert [said(f) for f in found] == [f"refuse: Held out by {axis}, and in calib as well: 1 values, first d1"]


def test_the_column_that_the_split_names_says_who_the_donor_is():
    toy = Toy(axes=("donor",), params={"column": "who"})
    toy.with_covariate("who", ["same"] * toy.labels.n_obs)
    assert "and in train as well" in all_of(toy.audit(), "donor_in_two_folds")[0].message


def test_a_donor_that_no_column_tells_is_not_checked():
    (finding,) = Toy(axes=("donor",)).audit().of("donor_in_two_folds")
    assert finding.verdict == "not_checked"
    assert finding.message == "no column among the labels says which donor a row is of"


# --- controls ------------------------------------------------------------------------------------------


def test_a_control_that_is_shown_and_truth_is_found_by_id_and_by_expression():
    toy = Toy()
    shown, truth = toy.rows("input")[0], toy.rows("reference")[0]
    toy.x_ng[truth] = toy.x_ng[shown]
    (finding,) = only(toy.audit(), "controls_shared")
    assert said(finding).startswith("refuse: Input and reference controls have the same expression: 2 rows in 1 groups")
    toy.labels.cell_n[truth] = toy.labels.cell_n[shown]
    found = all_of(toy.audit(), "controls_shared")
    assert said(found[0]) == "refuse: Controls are shown to models and part of the truth: 1 cells, first cell0"


def test_nearly_empty_equal_controls_are_warned_of():
    toy = Toy()
    toy.x_ng[[toy.rows("input")[0], toy.rows("reference")[0]]] = 0
    (finding,) = only(toy.audit(), "controls_shared")
    assert (finding.verdict, finding.message) == ("warn", "Nearly empty controls have the same expression")


def test_a_batch_whose_controls_have_one_role_is_warned_of():
    toy = Toy()
    toy.place[toy.rows("reference", context="k1", batch="b1")] = "input"
    (finding,) = only(toy.audit(), "control_halves_by_batch")
    assert said(finding) == "warn: All controls of a batch have one role: 1 batches (context / batch), first k1 / b1"


# --- folds ---------------------------------------------------------------------------------------------


def test_calibration_that_shares_conditions_or_interventions_with_the_test_is_found():
    toy = Toy()
    toy.place[toy.rows("test", pert="F", context="k1")] = "calib"
    found = all_of(toy.audit(), "calibration_overlaps_test")
    assert [said(f) for f in found] == [
        "refuse: Calibration and test share interventions: 1 interventions, first F@knockdown"
    ]
    toy.place[toy.rows("test", pert="G")[:1]] = "calib"
    found = all_of(toy.audit(), "calibration_overlaps_test")
    assert found[0].message == "Calibration and test share conditions"


def test_validation_that_shares_conditions_with_calibration_is_found():
    toy = Toy()
    toy.place[toy.rows("val", pert="D", context="k1")] = "calib"
    (finding,) = only(toy.audit(), "validation_overlaps_calibration")
    assert said(finding) == "warn: Validation and calibration share interventions: 1 interventions, first D@knockdown"
    toy.place[toy.rows("val", pert="D")[:1]] = "calib"
    found = all_of(toy.audit(), "validation_overlaps_calibration")
    assert said(found[0]).startswith("refuse: Validation and calibration share conditions")


def test_a_within_condition_split_is_named():
    toy = Toy(dict.fromkeys("AB", "train"), axes=("few_shot",), params={"folds": "cells"})
    for k, place in enumerate(("train", "val", "calib", "test")):
        toy.place[np.flatnonzero(~toy.labels.is_control_n)[k::4]] = place
    found = toy.audit()
    assert found.verdict == "warn"
    assert all_of(found, "condition_in_two_folds")[0].message.startswith("This is a within-condition split: conditions")
    found.assert_no_leak()


def test_a_mode_that_only_the_test_has_is_warned_of():
    toy = Toy()
    toy.labels.mode_n[toy.rows("test", pert="G")] = "knockout"
    (finding,) = only(toy.audit(), "mode_transfer")
    assert said(finding) == "warn: The test has a mode that train lacks: knockout"


@pytest.mark.parametrize(
    ("rule", "axes", "words"),
    [
        ("random_cells", ("perturbation",), "The folds were dealt at random"),
        ("by_hand", ("none",), "Nothing is held out"),
    ],
)
def test_a_random_split_is_named(rule, axes, words):
    (finding,) = only(Toy(rule=rule, axes=axes).audit(), "random_split")
    assert said(finding).startswith(f"warn: {words}: rule")


def test_a_class_counts_parts_in_any_form_and_two_stands_for_all_of_them():
    assert _n_seen([("A",), ("B",), ("C",)], {("A",), ("B",), ("C",)}) == 2
    assert _n_seen([("A",), ("B",)], {("B",)}) == 1


# --- what was learned ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["test", "val", "calib", "reference"])
def test_what_was_learned_outside_train_is_found(place):
    toy = Toy()
    rows = np.append(toy.rows("train"), toy.rows(place)[:3])
    (finding,) = only(toy.audit(learned=(Learned("highly variable genes", rows),)), "learned_outside_train")
    name = {"reference": "reference_control"}.get(place, place)
    assert said(finding) == f"refuse: highly variable genes was learned outside train: 3 rows of {name}"


def test_a_mask_over_all_cells_is_read_as_rows():
    toy = Toy()
    everything = Learned("scaler", np.ones(toy.labels.n_obs, dtype=bool))
    (finding,) = only(toy.audit(learned=(everything,)), "learned_outside_train")
    assert finding.n == toy.labels.n_obs - len(toy.rows("train")) - len(toy.rows("input"))


def test_train_and_its_input_controls_may_be_learned_from_but_not_those_of_a_held_out_context(synthetic):
    dataset, split = synthetic
    labels = dataset.labels()
    shown = split.input_control_idx
    seen = shown[np.isin(labels.context_n[shown].astype(str), list(set(labels.context_n[split.train_idx])))]
    for rows, verdict in ((seen, "pass"), (shown, "refuse")):
        learned = (Learned("median", np.append(split.train_idx, rows)),)
        found = audit(split, labels, Evidence(learned=learned), only=("learned_outside_train",))
        assert found.verdict == verdict


def test_rows_in_no_fold_are_warned_of_and_rows_that_are_not_there_refused():
    toy = Toy()
    toy.place[toy.rows("train")[:1]] = "unused"
    (finding,) = only(toy.audit(learned=(Learned("scaler", np.flatnonzero(toy.place == "unused")),)), LEARNED)
    assert said(finding) == "warn: scaler was learned outside train: 1 rows of left out"
    (finding,) = only(toy.audit(learned=(Learned("scaler", np.array([10**6])),)), LEARNED)
    assert said(finding) == "refuse: scaler names rows that the data do not have: 1 row numbers, first 1000000"


LEARNED = "learned_outside_train"


@pytest.mark.parametrize("kind", [Learned, DeGenes])
def test_differential_genes_of_test_cells_are_found(kind):
    toy = Toy()
    (finding,) = only(toy.audit(learned=(kind("de_genes of F", toy.rows("test")),)), "de_genes_chosen_on_test")
    assert said(finding).startswith("refuse: de_genes of F was computed outside train: ")
    assert not only(toy.audit(learned=(kind("de_genes of A", toy.rows("train")),)), "de_genes_chosen_on_test")
    (none,) = toy.audit(learned=()).of("de_genes_chosen_on_test")
    assert (none.verdict, none.message) == ("pass", "Does not apply: no differential genes were computed")


def test_a_graph_from_test_rows_is_found():
    toy = Toy()
    (finding,) = only(toy.audit(learned=(Learned("graph of co-expression", toy.rows("test")),)), "graph_from_test_rows")
    assert "has edges derived from rows outside train" in finding.message
    rows = tuple(toy.rows("test")[:2].tolist())
    prior = Prior("coexpression", "graph", fingerprints=(toy.labels.fingerprint,), rows=rows)
    (finding,) = only(toy.audit(priors=(prior,)), "graph_from_test_rows")
    assert said(finding) == "refuse: coexpression was made from rows outside train: 2 rows of test"
    fine = replace(prior, rows=tuple(toy.rows("train").tolist()))
    assert not only(toy.audit(priors=(fine,)), "graph_from_test_rows")


# --- priors --------------------------------------------------------------------------------------------

DECLARED = {
    "data": {"fingerprints": ("f" * 64,)},
    "the data set": {"data_sets": ("TOY",)},
    "perturbations": {"perturbations": ("x", "f")},
    "folds": {"folds": ("train", "test")},
    "cells": {"cell_ids": ("cell70", "other")},
}


@pytest.mark.parametrize("kind", ["embedding", "weights", "gene_list"])
@pytest.mark.parametrize("what", DECLARED)
def test_a_prior_whose_origin_names_the_test_is_found(what, kind):
    toy = Toy()
    toy.labels.cell_n[toy.rows("test")[0]] = "cell70"
    toy.labels.cell_n[70] = "seventy"
    (finding,) = only(toy.audit(priors=(Prior("scgpt", kind, **DECLARED[what]),)), "prior_trained_on_test")
    assert finding.verdict == "refuse"
    assert finding.message.startswith(f"scgpt ({kind}) was made from {what.split()[-1] if ' ' not in what else 'data'}")


@pytest.mark.parametrize(
    "declared",
    [
        {"data_sets": ()},
        {"data_sets": ("replogle22_k562",), "perturbations": ("A", "B"), "contexts": ("k1",)},
        {"fingerprints": ("f" * 64,), "folds": ("train", "input_control")},
        {"fingerprints": ("e" * 64,), "cell_ids": ("AAACATACCAGAAA-1",)},
    ],
)
def test_a_prior_from_elsewhere_or_from_train_passes(declared):
    found = Toy().audit(priors=(Prior("go", "embedding", **declared),))
    assert found.verdict == "pass"


def test_an_undeclared_origin_and_a_like_name_are_warned_of():
    toy = Toy()
    for prior in (Prior("w", "weights"), Prior("w", "weights", data_sets=("x",), unknown=True)):
        (finding,) = only(toy.audit(priors=(prior,)), "prior_trained_on_test")
        assert said(finding) == "warn: Nobody declares what w was made from: an unknown origin"
    toy.labels = replace(toy.labels, data_name="kang18_pbmc")
    (finding,) = only(toy.audit(priors=(Prior("w", "weights", data_sets=("Kang 2018",)),)), "prior_trained_on_test")
    assert said(finding) == "warn: w was made from data of a like name: Kang 2018"


def test_a_prior_that_knows_a_held_out_context_is_found(synthetic):
    dataset, split = synthetic
    for perturbations, verdict in ((None, "refuse"), (("x",), "refuse"), ((), "warn")):
        prior = Prior("state", "weights", contexts=("c6",), perturbations=perturbations)
        found = audit(split, dataset.labels(), Evidence(priors=(prior,)), only=("prior_trained_on_test",))
        assert found.verdict == verdict
    assert said(found.findings[0]) == "warn: state (weights) was made from unperturbed cells of held-out contexts: C6"


# --- what the file stores ------------------------------------------------------------------------------


def truth_of(toy, pert="F"):
    test = toy.rows("test", pert=pert, context="k0")
    controls = np.flatnonzero(toy.labels.is_control_n & (toy.labels.context_n == "k0"))
    return toy.x_ng[test].mean(axis=0), toy.x_ng[test].mean(axis=0) - toy.x_ng[controls].mean(axis=0)


@pytest.mark.parametrize("shape", ["vector", "matrix", "transposed", "scaled"])
@pytest.mark.parametrize("which", [0, 1])
def test_means_and_deltas_of_the_test_are_found_under_any_name(which, shape):
    toy = Toy()
    vector = truth_of(toy)[which].astype(np.float64)
    noise = np.random.Generator(np.random.PCG64(0)).normal(size=(3, len(GENES)))
    stored = {
        "vector": vector,
        "matrix": np.vstack([noise, vector]),
        "transposed": np.vstack([noise, vector]).T,
        "scaled": 10 * vector + 2,
    }[shape]
    (finding,) = only(toy.audit(uns={"uns/x/y": stored}), "target_statistics_in_uns")
    assert said(finding) == "refuse: The file stores means or deltas of test conditions: 1 arrays, first uns/x/y"


def test_control_means_train_means_and_names_are_no_finding():
    toy = Toy()
    controls = np.flatnonzero(toy.labels.is_control_n)
    stored = {
        "var/means": toy.x_ng.mean(axis=0),
        "uns/ctrl": toy.x_ng[controls].mean(axis=0),
        "uns/train": toy.x_ng[toy.rows("train", pert="A")].mean(axis=0),
        "uns/log1p/base": 2.7,
        "uns/grna_targets": np.array(["A", "F", "G"], dtype=object),
        "uns/n_cells/F": 12,
    }
    assert not only(toy.audit(uns=stored), "target_statistics_in_uns")


@pytest.mark.parametrize(
    ("path", "value", "verdict"),
    [
        ("uns/rank_genes_groups/logfoldchanges/F", np.ones(3), "refuse"),
        ("uns/effect/k0_F+ctrl_1+1", np.ones(3), "refuse"),
        ("uns/rank_genes_groups_cov_all/k0_F+ctrl_1+1", np.array(["gene1"], dtype=object), "warn"),
        ("uns/non_zeros_gene_idx/k1_G+ctrl_1+1", np.arange(3), "warn"),
        ("uns/top_non_dropout_de_20/other", np.arange(3), "warn"),
        ("uns/effect/A", np.ones(3), None),
    ],
)
def test_statistics_under_the_name_of_a_test_condition_are_found(path, value, verdict):
    found = only(Toy().audit(uns={path: value}), "target_statistics_in_uns")
    assert [f.verdict for f in found] == ([verdict] if verdict else [])


def test_a_layer_with_the_name_of_a_test_condition_is_warned_of():
    names = {"layers": ("counts", "k0_F"), "obsm": ("X_pca",), "varm": ("G",)}
    (finding,) = only(Toy().audit(names=names), "target_statistics_in_uns")
    assert (finding.verdict, finding.examples) == ("warn", ("layers/k0_F",))


def test_a_table_by_perturbation_is_found():
    table = {"uns/de": np.ones((2, 4)), "uns/de/index": np.array(["A", "F"], dtype=object)}
    (finding,) = only(Toy().audit(uns=table), "target_statistics_in_uns")
    assert said(finding).startswith("refuse: The file stores statistics under names of test conditions: 1 entries, fi")


LONG = pd.DataFrame({"group": ["A", "F"], "names": ["gene1", "gene2"], "logfoldchanges": [1.0, 2.0]})
GENE_LIST = pd.DataFrame({"group": ["A", "F"], "names": ["gene1", "gene2"]})
WIDE = pd.DataFrame({"A": [1.0, 2.0], "F": [3.0, 4.0]}, index=["gene1", "gene2"])


@pytest.mark.parametrize(
    ("stored", "verdict"),
    [
        (LONG, "refuse"),  # as scanpy's rank_genes_groups_df gives it
        (LONG[LONG["group"] == "A"], None),
        (WIDE, "refuse"),
        (WIDE[["A"]], None),
        (GENE_LIST, "warn"),
        ({"perturbations": ["A", "F"], "effect": [0.1, 0.2]}, "refuse"),
        ({"perturbations": ["A", "F"], "n_cells": [10, 20]}, None),
        ({"perturbations": ["A", "F"], "effect": [0.1, 0.2, 0.3]}, None),
    ],
    ids=["long", "long-train", "wide", "wide-train", "genes", "arrays", "counts", "other-length"],
)
def test_statistics_beside_the_names_of_test_conditions_are_found(stored, verdict):
    found = only(Toy().audit(uns=dict(flat("uns", {"kept": stored}))), "target_statistics_in_uns")
    assert next((f.verdict for f in found), None) == verdict


def test_a_table_by_gene_is_no_table_by_perturbation_though_perturbed_genes_are_measured():
    """Else every screen whose targets are measured would be refused for its table of gene means."""
    toy = Toy({**FOLDS, "gene3": "train", "gene5": "test"})
    table = pd.DataFrame({"means": np.arange(40.0), "symbol": list(GENES)}, index=list(GENES))
    per_gene = {"index": np.array(GENES, dtype=object), "symbol": np.array(GENES, dtype=object), "m": np.arange(40.0)}
    stored = {**dict(flat("uns", {"hvg": table, "other": per_gene})), **dict(flat("var", per_gene))}
    assert not only(toy.audit(uns=stored), "target_statistics_in_uns")


@pytest.mark.parametrize("form", [lambda v: np.stack([v, v])[None], lambda v: np.round(1e4 * v).astype(int)])
def test_a_delta_in_a_cube_or_in_whole_numbers_is_found(form):
    toy = Toy()
    stored = form(truth_of(toy)[1].astype(np.float64))
    (finding,) = only(toy.audit(uns={"uns/x": stored}), "target_statistics_in_uns")
    assert said(finding).startswith("refuse: The file stores means or deltas of test conditions")


def test_statistics_of_a_perturbation_that_train_has_too_are_warned_of():
    toy = Toy({**dict.fromkeys("ABC", "train"), "D": "val", "E": "calib"}, axes=("context",))
    toy.place[(toy.labels.context_n == "k1") & ~toy.labels.is_control_n] = "test"
    (finding,) = only(toy.audit(uns={"uns/effect/A": np.ones(3)}), "target_statistics_in_uns")
    assert finding.verdict == "warn"
    (finding,) = only(toy.audit(uns={"uns/effect/k1_A": np.ones(3)}), "target_statistics_in_uns")
    assert finding.verdict == "refuse"


# --- design --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["batch", "dataset"])
def test_an_axis_that_coincides_with_a_batch_is_warned_of(column):
    toy = Toy({**dict.fromkeys("ABC", "train"), "D": "val", "E": "calib"}, axes=("context",))
    toy.place[(toy.labels.context_n == "k1") & ~toy.labels.is_control_n] = "test"
    values = np.where(toy.labels.context_n == "k1", "p1", "p0").astype(object)
    if column == "batch":
        toy.labels = replace(toy.labels, batch_n=values)
    else:
        toy.with_covariate(column, values)
    (finding,) = only(toy.audit(), "axis_confounded_with_batch")
    assert said(finding) == f"warn: The held-out context coincides with {column}: no {column} of the test is in train"


def test_one_batch_for_all_is_not_checked():
    toy = Toy().relabelled("batch", "b1", "b0")
    (finding,) = toy.audit().of("axis_confounded_with_batch")
    assert finding.verdict == "not_checked"


# --- what an audit says --------------------------------------------------------------------------------


def test_a_refusal_has_four_parts_and_names_every_check_that_refuses():
    toy = Toy({**FOLDS, "A+F": "train"})
    found = toy.audit(learned=(Learned("scaler", toy.rows("test")),))
    message = (
        r"Combinations in train hold a gene that is held out: given 1 combinations, first A\+F, expected no part .*\. "
        r"Hold such .* fold\. Refused by: combination_parts_held_out, learned_outside_train\.$"
    )
    with pytest.raises(SplitLeaks, match=message):
        found.assert_no_leak()
    assert found.verdict == "refuse"


def test_a_later_audit_replaces_the_findings_of_its_checks_in_place():
    toy = Toy()
    first = audit(toy.split(), toy.labels)
    later = audit(toy.split(), toy.labels, Evidence(learned=()), only=(LEARNED,))
    both = first.updated(later)
    assert [f.check for f in both.findings] == [f.check for f in first.findings]
    assert [f.verdict for f in first.of(LEARNED)] == ["not_checked"]
    assert [f.verdict for f in both.of(LEARNED)] == ["pass"]


def test_rows_per_axis_are_those_that_the_split_tells():
    toy = Toy({**FOLDS, "A": "test"}, axes=("perturbation",))
    toy.place[toy.rows("test", pert="A", context="k0")] = "train"
    assert all_of(toy.audit(), "held_out_perturbation_elsewhere")
    new = toy.rows("test", pert="F")

    class Told(Split):
        def ood_rows(self, axis):
            return {"perturbation": new}[axis]

    split = toy.split()
    told = Told(**{name: getattr(split, name) for name in Split.__dataclass_fields__})
    assert not all_of(toy.audit(told), "held_out_perturbation_elsewhere")


def test_a_combination_without_a_declared_delimiter_is_seen_through():
    assert undeclared_parts("KLF1_CEBPA", {"KLF1", "CEBPA", "KLF1_CEBPA"}) == ["KLF1", "CEBPA"]
    assert undeclared_parts("HLA_A", {"HLA_A", "KLF1"}) == ["HLA_A"]
