"""Are rows by axis part of the lock, and are splits without them what they always were?"""

import json
from dataclasses import replace

import pytest

from perturbfm.errors import BadValue, FoldMalformed, SplitEdited, UnreadableFile
from perturbfm.split import Split


def a_split(**changes):
    fields = {
        "train_idx": [0, 1, 2, 3],
        "val_idx": [4, 5],
        "calib_idx": [6, 7],
        "test_idx": [8, 9, 10],
        "input_control_idx": [11, 12],
        "reference_control_idx": [13],
        "fingerprint": "a1b2c3d4e5f6" + "0" * 52,
        "data_name": "toy",
        "rule": "several_axes",
        "params": {"holdout": ["A"]},
        "ood_axes": ("context", "perturbation"),
        "seed": 0,
        "n_obs": 16,
        "unit": "cells",
        "ood_idx": {"context": [9, 8], "perturbation": [10, 9]},
    }
    return Split(**{**fields, **changes})


def test_rows_of_an_axis_and_what_to_hold_them_against():
    split = a_split()
    assert split.ood_rows("context").tolist() == [8, 9]
    assert split.in_distribution_rows("context").tolist() == [10]
    assert split.ood_rows("perturbation").tolist() == [9, 10]
    with pytest.raises(ValueError, match="read-only"):
        split.ood_rows("context")[0] = 10
    with pytest.raises(BadValue, match="The split has no such axis: given 'contxt'.*Nearest: context"):
        split.ood_rows("contxt")


def test_calibration_is_in_distribution_where_the_whole_test_is_not():
    split = a_split(ood_axes=("context",), ood_idx=None)
    assert split.ood_rows("context").tolist() == [8, 9, 10]
    assert split.in_distribution_rows("context").tolist() == [6, 7]


def test_an_axis_may_have_no_rows():
    split = a_split(ood_axes=("none",), ood_idx={"none": []})
    assert split.ood_rows("none").tolist() == []
    assert split.in_distribution_rows("none").tolist() == [8, 9, 10]


def test_the_second_schema_is_read_as_it_was_written():
    frozen = a_split().freeze()
    text = frozen.to_json()
    assert json.loads(text)["schema"] == "perturbfm-split/2"
    again = Split.from_json(text, "here")
    again.assert_frozen()
    assert again == frozen
    assert again.to_json() == text
    assert again.ood_rows("context").tolist() == [8, 9]


def test_edited_rows_of_an_axis_are_caught():
    content = json.loads(a_split().freeze().to_json())
    for by_axis in ({"context": [8], "perturbation": [9, 10]}, {"context": [9, 10], "perturbation": [8, 9]}):
        with pytest.raises(SplitEdited, match="Split here was changed after it was frozen"):
            Split.from_json(json.dumps({**content, "ood_idx": by_axis}), "here")
    moved = replace(a_split().freeze(), ood_idx={"context": [8], "perturbation": [9, 10]})
    with pytest.raises(SplitEdited, match="was changed after it was frozen"):
        moved.assert_frozen()


def test_the_hash_tells_axes_apart():
    found = {
        a_split(ood_idx={"context": c, "perturbation": p}).compute_hash()
        for c, p in (([8], [9]), ([9], [8]), ([8, 9], []), ([], [8, 9]), ([8, 9, 10], [8, 9, 10]))
    }
    assert len(found) == 5


def test_rows_that_cover_the_test_are_the_first_schema():
    whole = a_split(ood_idx={"context": [8, 9, 10], "perturbation": [10, 9, 8]})
    plain = a_split(ood_idx=None)
    assert whole.ood_idx is None
    assert (whole, whole.compute_hash(), whole.to_json()) == (plain, plain.compute_hash(), plain.to_json())
    assert json.loads(whole.to_json())["schema"] == "perturbfm-split/1"
    assert "ood_idx" not in json.loads(whole.to_json())


@pytest.mark.parametrize(
    ("by_axis", "kind", "message"),
    [
        (
            {"context": [8]},
            BadValue,
            "ood_idx does not name the rows of each axis: given context, expected context, pert",
        ),
        ([8], BadValue, "ood_idx does not name the rows of each axis: given list"),
        (
            {"context": [3], "perturbation": [8]},
            FoldMalformed,
            "Axis context names rows outside of the test: given 1 such",
        ),
        ({"context": [8, 8], "perturbation": [8]}, FoldMalformed, "Fold ood context names a row more than once"),
        ({"context": [99], "perturbation": [8]}, FoldMalformed, "Fold ood context names rows that do not exist"),
    ],
)
def test_refusals(by_axis, kind, message):
    with pytest.raises(kind, match=message):
        a_split(ood_idx=by_axis)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {k: v for k, v in c.items() if k != "ood_idx"},
        lambda c: {**c, "ood_idx": [8]},
        lambda c: {**c, "ood_idx": {"context": ["8"], "perturbation": [9]}},
        lambda c: {**c, "schema": "perturbfm-split/1"},
        lambda c: {**c, "schema": "perturbfm-split/3"},
    ],
)
def test_files_that_are_no_splits(change):
    content = change(json.loads(a_split().to_json()))
    with pytest.raises(UnreadableFile, match="Cannot read the split here"):
        Split.from_json(json.dumps(content), "here")
