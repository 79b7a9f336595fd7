"""Doses and times have one text, controls have none, and what cannot be a dose is refused with its cells."""

import numpy as np
import pytest

from perturbfm.data import load_artifact, write_artifact
from perturbfm.data.dose import number_text
from perturbfm.errors import BadValue, DoseMismatch
from perturbfm.types import without_dose


def doses(data):
    return data.obs["dose"].tolist()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (10.0, "10"),
        (1.11, "1.11"),
        (0.1 + 0.2, "0.3"),
        (1e6, "1e6"),
        (1e-7, "1e-7"),
        (1234567.0, "1.23457e6"),
        (0, "0"),
    ],
)
def test_a_number_has_one_text_that_no_combination_can_split(number, text):
    assert number_text(number) == text
    assert float(text) == pytest.approx(number, rel=1e-5)


def test_doses_are_scaled_and_controls_have_none(labelled):
    data = labelled(
        ["control", "control", "A", "A", "B"],
        {"nM": [0.0, -666.0, 10000.0, 37.0, 1.0]},
        dose_column="nM",
        dose_unit="uM",
        dose_factor=0.001,
        missing_doses=[-666],
    )
    assert doses(data) == ["", "", "10", "0.037", "0.001"]
    assert data.declared.dose_unit == "uM"
    assert data.labels().intervention_n.tolist()[1:4] == ["control@drug", "A@drug;dose=10", "A@drug;dose=0.037"]
    assert data.labels().condition_n[2] == "K562|A@drug;dose=10"


def test_doses_of_a_combination_follow_its_sorted_parts(labelled):
    labels = ["control", "B+A", "A+B", "A"]
    data = labelled(labels, {"dose": ["0", "3+0.10", "0.1 + 3", "2"]}, delimiter="+", dose_column="dose")
    assert data.obs["pert_id"].tolist() == ["control", "A+B", "A+B", "A"]
    assert doses(data) == ["", "0.1+3", "0.1+3", "2"]


def test_doses_and_times_are_taken_from_their_words(labelled):
    labels = ["control", "B+A", "A", "B"]
    columns = {"dose": ["0 uM", "3 uM + 0.1uM", "2.50 uM", "1e-2uM"], "time": ["0h", "24h", "6h", "6h"]}
    given = {"dose_column": "dose", "dose_pattern": "^(.+?) ?uM$", "time_column": "time", "time_pattern": "^(.+)h$"}
    data = labelled(labels, columns, delimiter="+", **given)
    assert doses(data) == ["", "0.1+3", "2.5", "0.01"]
    assert data.obs["time"].tolist() == ["", "24", "6", "6"]


def test_words_that_the_pattern_does_not_fit_are_refused(labelled):
    with pytest.raises(DoseMismatch, match="is no number: given '3 nM' for 'B'"):
        labelled(["control", "A", "B"], {"dose": ["", "1 uM", "3 nM"]}, dose_column="dose", dose_pattern="^(.+) uM$")


@pytest.mark.parametrize("key", ["dose_pattern", "time_pattern"])
@pytest.mark.parametrize(("pattern", "told"), [("(", "is no regular expression"), ("uM", "has no group")])
def test_a_pattern_that_cannot_find_a_number_is_refused(labelled, key, pattern, told):
    columns = {"dose": ["", "1"], "time": ["", "1"]}
    with pytest.raises(BadValue, match=rf"data\.{key} {told}.* write "):
        labelled(["control", "A"], columns, dose_column="dose", time_column="time", **{key: pattern})


def test_doses_may_be_joined_by_another_sign(labelled):
    data = labelled(["control", "B_A"], {"dose": ["", "3+1"]}, delimiter="_", dose_delimiter="+", dose_column="dose")
    assert doses(data) == ["", "1_3"]


def test_the_dose_of_a_dropped_control_part_goes_with_it(labelled):
    data = labelled(
        ["ctrl", "A+ctrl", "ctrl+A", "B+A", "A+ctrl"],
        {"dose_val": ["1", "2+1", "1+2", "3+4", "5"]},
        control_labels=["ctrl"],
        delimiter="+",
        drop_control_parts=True,
        dose_column="dose_val",
    )
    assert doses(data) == ["", "2", "2", "4+3", "5"]


def test_an_exponent_is_no_delimiter(labelled):
    data = labelled(["control", "A", "A+B"], {"d": ["0", "1e+07", "1+2"]}, delimiter="+", dose_column="d")
    assert doses(data) == ["", "1e7", "1+2"]


@pytest.mark.parametrize(
    ("dose", "told"),
    [
        ("-1", "is negative: given '-1' for 'A' in 1 rows, cells 'c1'"),
        ("0", "of a treated row is zero"),
        ("high", "is no number: given 'high'"),
        ("inf", "is no number"),
        ("", "of a treated row is missing"),
        ("nan", "of a treated row is missing"),
        (None, "of a treated row is missing: given None"),
        ("-666.0", "of a treated row is missing"),
        ("1+1", "is no number"),
    ],
)
def test_what_is_no_dose_is_refused(labelled, dose, told):
    with pytest.raises(DoseMismatch, match=rf"A dose in 'd' {told}"):
        labelled(
            ["control", "A", "A+B"], {"d": ["", dose, "1+2"]}, delimiter="+", dose_column="d", missing_doses=[-666]
        )


@pytest.mark.parametrize("dose", ["1", "1+1+1"])
def test_a_number_of_doses_that_does_not_fit_the_parts_is_refused(labelled, dose):
    with pytest.raises(DoseMismatch, match="does not fit its 2 parts"):
        labelled(["control", "A+B"], {"d": ["", dose]}, delimiter="+", dose_column="d")


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_factor_that_is_not_positive_is_refused(labelled, factor):
    with pytest.raises(BadValue, match=r"data\.dose_factor is not positive"):
        labelled(["control", "A"], {"d": [0, 1]}, dose_column="d", dose_factor=factor)


def test_a_dose_that_would_hold_the_delimiter_is_refused(labelled):
    with pytest.raises(DoseMismatch, match=r"holds the delimiter '\.'"):
        labelled(["control", "A.B"], {"d": ["", "0.5;1"]}, delimiter=".", dose_delimiter=";", dose_column="d")


def test_a_second_column_may_confirm_the_dose(labelled):
    columns = {"d": [0.0, 1.1111, 10.0], "said": ["DMSO", "1.11 um", "A-8330_10uM"]}
    data = labelled(["control", "A", "A"], columns, dose_column="d", dose_label_column="said")
    assert doses(data) == ["", "1.1111", "10"]


@pytest.mark.parametrize("said", ["3.33 um", "high", "1.2"])
def test_a_second_column_that_contradicts_the_dose_is_refused(labelled, said):
    columns = {"d": [0.0, 1.11], "said": ["DMSO", said]}
    with pytest.raises(
        DoseMismatch, match=rf"disagrees with its label \(d and said\): given dose 1\.11 beside '{said}'"
    ):
        labelled(["control", "A"], columns, dose_column="d", dose_label_column="said")


def test_a_label_column_without_doses_is_refused(labelled):
    with pytest.raises(BadValue, match=r"data\.dose_label_column has no dose to check"):
        labelled(["control", "A"], {"said": ["0", "1"]}, dose_label_column="said")


def test_times_are_text_and_part_of_the_intervention(labelled):
    data = labelled(
        ["control", "A", "A"], {"h": [24, 24, 6], "d": [0, 1, 1]}, dose_column="d", time_column="h", time_unit="h"
    )
    assert data.obs["time"].tolist() == ["", "24", "6"]
    assert data.declared.time_unit == "h"
    assert data.labels().intervention_n.tolist() == ["control@drug", "A@drug;dose=1;time=24", "A@drug;dose=1;time=6"]
    assert data.labels().dose_n.tolist() == ["", "1", "1"]
    assert data.labels().time_n.tolist() == ["", "24", "6"]


@pytest.mark.parametrize(("time", "told"), [(-1.0, "is negative"), (np.nan, "of a treated row is missing")])
def test_what_is_no_time_is_refused(labelled, time, told):
    with pytest.raises(DoseMismatch, match=rf"A time in 'h' {told}: given .* cells 'c1'"):
        labelled(["control", "A"], {"h": [0.0, time]}, time_column="h")


def test_labels_and_fingerprint_without_doses_are_what_they_were(labelled):
    data = labelled(["control", "A"], {"d": [0.0, 1.0]})
    assert data.labels().dose_n is None
    assert data.labels().intervention_n.tolist() == ["control@drug", "A@drug"]
    # computed by the version before doses were known
    assert data.fingerprint == "ad546c1ddbcc81666002172b2c162a0719fca472a78dc37339f8543f38bce93d"


def test_the_dose_and_its_unit_are_part_of_the_fingerprint(labelled):
    columns = {"d": [0.0, 1.0]}
    plain = labelled(["control", "A"], columns).fingerprint
    one = labelled(["control", "A"], columns, dose_column="d", dose_unit="uM").fingerprint
    assert len({plain, one, labelled(["control", "A"], columns, dose_column="d", dose_unit="nM").fingerprint}) == 3


def test_an_artifact_keeps_doses_and_units(labelled, tmp_path):
    data = labelled(["control", "A"], {"d": [0.0, 1.0]}, dose_column="d", dose_unit="uM", time_column="d")
    again = load_artifact(str(write_artifact(data, tmp_path / "art")))
    assert again.fingerprint == data.fingerprint
    assert again.labels().dose_n.tolist() == ["", "1"]
    assert again.declared.dose_unit == "uM"


def test_doses_of_one_perturbation_share_a_name_without_them():
    labels = np.array(
        ["A@drug;dose=1;time=6", "A@drug;dose=10", "A@drug", "x@y@ligand;dose=1", "no mode"], dtype=object
    )
    assert without_dose(labels).tolist() == ["A@drug", "A@drug", "A@drug", "x@y@ligand", "no mode"]
