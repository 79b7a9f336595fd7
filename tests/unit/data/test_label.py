"""Labels as real files write them become one name per intervention, or are refused by name."""

import numpy as np
import pytest

from perturbfm.errors import BadValue, ControlLabelAbsent, LabelMalformed, MissingLabel, UnknownValue

GUIDE = r"^(.+?)(?:g|_)\d+$"


def names(data):
    return data.obs["pert_id"].tolist()


def test_gears_singles_lose_their_control_part(labelled):
    data = labelled(
        ["ctrl", "KLF1+ctrl", "ctrl+KLF1", "KLF1+AHR", "ctrl+ctrl"],
        control_labels=["ctrl"],
        delimiter="+",
        drop_control_parts=True,
    )
    assert names(data) == ["control", "KLF1", "KLF1", "AHR+KLF1", "control"]
    assert data.obs["is_control"].tolist() == [True, False, False, False, True]


def test_a_control_part_is_refused_where_it_is_not_declared(labelled):
    with pytest.raises(LabelMalformed, match=r"A combination holds a control label: given KLF1\+ctrl, .*drop_control"):
        labelled(["ctrl", "KLF1+ctrl"], control_labels=["ctrl"], delimiter="+")


def test_guides_are_read_as_their_targets_and_kept(labelled):
    data = labelled(
        ["NTg1", "control", "STAT1g2", "STAT1g1", "ZAP70_1", "IFNGR1g3"],
        control_labels=["control", "NT"],
        guide_pattern=GUIDE,
    )
    assert names(data) == ["control", "control", "STAT1", "STAT1", "ZAP70", "IFNGR1"]
    assert data.obs["guide"].tolist() == ["NTg1", "control", "STAT1g2", "STAT1g1", "ZAP70_1", "IFNGR1g3"]
    np.testing.assert_array_equal(data.labels().covariates["guide"], data.obs["guide"].to_numpy())


def test_two_guides_of_one_gene_are_one_perturbation(labelled):
    data = labelled(["control", "B_2+A_1", "A_1+A_2"], delimiter="+", guide_pattern=GUIDE)
    assert names(data) == ["control", "A+B", "A"]


def test_labels_that_are_no_guides_are_refused(labelled):
    with pytest.raises(LabelMalformed, match=r"do not fit data\.guide_pattern: given 2 labels: JAK2, STAT2, "):
        labelled(["control", "STAT1g2", "STAT2", "JAK2"], guide_pattern=GUIDE)


@pytest.mark.parametrize(("pattern", "told"), [("(", "is no regular expression"), (r"\d+$", "has no group")])
def test_a_guide_pattern_that_finds_nothing_is_refused(labelled, pattern, told):
    with pytest.raises(BadValue, match=rf"data\.guide_pattern {told}"):
        labelled(["control", "A1"], guide_pattern=pattern)


def test_a_guide_column_is_kept(labelled):
    data = labelled(["control", "A", "A"], {"sgrna": ["n1", "a1", None]}, guide_column="sgrna")
    assert data.obs["guide"].tolist() == ["n1", "a1", ""]


def test_aliases_rename_parts_and_whole_labels(labelled):
    data = labelled(
        ["control", "KIAA1804", "KIAA1804+AHR", "(+)-JQ1", "KIAA1804_2"],
        delimiter="+",
        aliases={"KIAA1804": "MAP3K21", "(+)-JQ1": "JQ1"},
    )
    assert names(data) == ["control", "MAP3K21", "AHR+MAP3K21", "JQ1", "KIAA1804_2"]
    assert names(labelled(["control", "KIAA1804_2"], guide_pattern=GUIDE, aliases={"KIAA1804": "MAP3K21"})) == [
        "control",
        "MAP3K21",
    ]


def test_an_alias_that_renames_nothing_is_refused(labelled):
    with pytest.raises(UnknownValue, match=r"does not occur: given KIAA1805, .*KIAA1804"):
        labelled(["control", "KIAA1804"], aliases={"KIAA1805": "MAP3K21"})


def test_a_delimiter_inside_a_name_is_refused_with_the_remedy(labelled):
    with pytest.raises(LabelMalformed, match=r"cuts a name inside its brackets: given '\(\+\)-JQ1'.*data\.aliases"):
        labelled(["control", "(+)-JQ1"], delimiter="+")


def test_a_whole_control_label_may_hold_the_delimiter(labelled):
    data = labelled(["Dimethyl_Sulfoxide", "A_B"], control_labels=["Dimethyl_Sulfoxide"], delimiter="_")
    assert names(data) == ["control", "A+B".replace("+", "_")]


def test_many_labels_mean_control(labelled):
    data = labelled(["NTC", "NA", "random", "TP53,ATM", "0"], control_labels=["NTC", "NA", "random", 0], delimiter=",")
    assert names(data) == ["control"] * 3 + ["ATM,TP53", "control"]


def test_no_control_among_the_labels_is_refused(labelled):
    with pytest.raises(ControlLabelAbsent, match=r"given labels A, A\+B, expected one of \['ctrl'\]"):
        labelled(["A", "A+B"], control_labels=["ctrl"], delimiter="+")


def test_a_guide_target_named_control_is_refused(labelled):
    with pytest.raises(BadValue, match="The label 'control' is taken"):
        labelled(["NT", "controlg1"], control_labels=["NT"], guide_pattern=GUIDE)


def test_missing_labels_are_refused_or_left_out(labelled):
    labels = ["control", "A", "unassigned", None, "nan", "", " NaN "]
    with pytest.raises(MissingLabel, match=r"Rows have no pert_id: given 5 rows, first cell 'c2'.*drop_missing"):
        labelled(labels, missing_labels=["unassigned"])
    data = labelled(labels, missing_labels=["unassigned"], drop_missing=True, source="GEO")
    assert names(data) == ["control", "A"]
    assert data.declared.source == "GEO; 5 rows without a perturbation label left out"
    np.testing.assert_array_equal(data.X_pert, np.arange(1, 7).reshape(2, 3) / 64)


def test_a_label_that_means_control_is_not_missing(labelled):
    data = labelled(["nan", "A", None], control_labels=["nan"], drop_missing=True)
    assert names(data) == ["control", "A"]


@pytest.mark.parametrize(("label", "told"), [("A" * 10_001, "10001 characters"), ("A\nB", r"with '\\n'")])
@pytest.mark.parametrize("column", ["pert", "line", "site"])
def test_a_label_that_is_no_name_is_refused(labelled, label, told, column):
    columns = {"line": ["k", "k", "k"], "site": ["s", "s", "s"], "pert": ["control", "A", "B"]}
    columns[column] = [*columns[column][:2], label]
    told = {"line": "context_id"}.get(column, column) + f" is no name: given .*{told}"
    with pytest.raises(LabelMalformed, match=told):
        labelled(columns.pop("pert"), columns, context_column="line", context=None, covariates=["site"])
