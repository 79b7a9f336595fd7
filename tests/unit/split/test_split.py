import copy
import hashlib
import json
import pickle
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from perturbfm.errors import (
    BadValue,
    FoldMalformed,
    FoldsOverlap,
    SplitEdited,
    SplitNotFrozen,
    SplitOfOtherData,
    TooFewConditions,
    UnreadableFile,
)
from perturbfm.split import FOLDS, ROLES, Split

FINGERPRINT = "a1b2c3d4e5f6" + "0" * 52


def a_split(**changes):
    fields = {
        "train_idx": [0, 1, 2, 3],
        "val_idx": [4, 5],
        "calib_idx": [6, 7],
        "test_idx": [8, 9, 10],
        "input_control_idx": [11, 12],
        "reference_control_idx": [13],
        "fingerprint": FINGERPRINT,
        "data_name": "toy",
        "rule": "context_ood",
        "params": {"holdout": ["A"], "nested": {"deep": [1, 2.5, None, True]}},
        "ood_axes": ("context",),
        "seed": 0,
        "n_obs": 16,
        "unit": "cells",
    }
    return Split(**{**fields, **changes})


# --- immutable -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{name}_idx" for name in (*FOLDS, *ROLES)])
def test_indices_cannot_be_written(name):
    idx = getattr(a_split(), name)
    assert idx.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        idx[0] = 15
    with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
        idx.setflags(write=True)


def test_indices_are_copies_and_sorted():
    mine = np.array([3, 1, 2, 0])
    split = a_split(train_idx=mine)
    mine[0] = 15
    assert split.train_idx.tolist() == [0, 1, 2, 3]


def test_attributes_cannot_be_set():
    with pytest.raises(FrozenInstanceError, match="seed"):
        a_split().seed = 1


def test_params_cannot_be_changed_at_any_depth():
    mine = {"holdout": ["A"], "nested": {"deep": [1]}}
    split = a_split(params=mine)
    mine["nested"]["deep"].append(2)
    assert split.params["nested"]["deep"] == (1,)
    with pytest.raises(TypeError, match="does not support item assignment"):
        split.params["holdout"] = ()
    with pytest.raises(TypeError, match="does not support item assignment"):
        split.params["nested"]["deep"] = ()


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_and_pickles_are_equal_and_immutable(again):
    split = a_split().freeze()
    other = again(split)
    assert other == split
    assert hash(other) == hash(split)
    assert other != "split"
    with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
        other.test_idx.setflags(write=True)


# --- refused by the constructor ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_idx": [3, 4, 5]}, "both in train and in val: given 1 rows, first row 3"),
        ({"test_idx": [6, 7, 8]}, "both in calib and in test: given 2 rows, first row 6"),
        ({"input_control_idx": [10, 11]}, "both in test and in input_control: given 1 rows, first row 10"),
        ({"reference_control_idx": [11, 12, 13]}, "both in input_control and in reference_control: given 2 rows"),
    ],
)
def test_overlap_is_refused(changes, message):
    with pytest.raises(FoldsOverlap, match=message):
        a_split(**changes)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([0, 16], "Fold train names rows that do not exist: given 1 such, first 16, expected row numbers from 0 to 15"),
        ([-1, 0], "names rows that do not exist: given 1 such, first -1"),
        ([0, 0, 1], "names a row more than once: given 1 repeats, first row 0"),
        ([0.0, 1.0], "not a list of row numbers: given float64"),
        (np.zeros(16, dtype=bool), "given bool of shape .*Turn masks into row numbers"),
        ([[0, 1]], "not a list of row numbers: given int64 of shape"),
    ],
)
def test_malformed_fold_is_refused(train, message):
    with pytest.raises(FoldMalformed, match=message):
        a_split(train_idx=train)


@pytest.mark.parametrize("name", FOLDS)
def test_empty_fold_is_refused(name):
    with pytest.raises(TooFewConditions, match=f"Folds are empty: given {name}, expected rows in each of"):
        a_split(**{f"{name}_idx": []})


def test_roles_may_be_empty():
    split = a_split(input_control_idx=[], reference_control_idx=np.array([], dtype=np.int64))
    assert split.input_control_idx.size == split.reference_control_idx.size == 0
    with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
        split.input_control_idx.setflags(write=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is out of range: given -1, expected a whole number from 0 on"),
        ({"seed": True}, "seed is out of range: given True"),
        ({"n_obs": 0}, "n_obs is out of range: given 0, expected a whole number from 1 on"),
        ({"params": [1]}, "params is not a mapping: given list"),
        ({"params": {"a": {"b": [np.int64(1)]}}}, r"params.a.b\[0\] cannot be written down exactly: given int64"),
        ({"params": {"a": float("nan")}}, "params.a cannot be written down exactly: given float nan"),
        ({"params": {1: "a"}}, "params cannot be written down exactly: given dict"),
        ({"ood_axes": "context"}, "ood_axes is not a list of axes: given 'context'"),
        ({"ood_axes": ()}, "ood_axes is not a list of axes"),
        ({"ood_axes": ("context", "context")}, "expected distinct names"),
        ({"data_name": "../toy"}, r"data_name cannot be part of a file name: given '../toy'"),
        ({"rule": ""}, "rule cannot be part of a file name: given ''"),
        ({"fingerprint": ""}, "Split without a fingerprint: given ''"),
        ({"unit": "wells"}, "Unknown unit: given 'wells', expected cells or pseudobulk"),
    ],
)
def test_bad_fields_are_refused(changes, message):
    with pytest.raises(BadValue, match=message):
        a_split(**changes)


# --- looking -------------------------------------------------------------------------------------------


def test_fold_by_name():
    split = a_split()
    assert [split.fold(name).tolist() for name in FOLDS] == [[0, 1, 2, 3], [4, 5], [6, 7], [8, 9, 10]]
    with pytest.raises(BadValue, match=r"Unknown fold: given 'tets', expected train, val, calib, test\. Nearest: test"):
        split.fold("tets")


def test_summary_short_and_repr():
    split = a_split()
    assert split.summary() == {
        "train": 4,
        "val": 2,
        "calib": 2,
        "test": 3,
        "input_control": 2,
        "reference_control": 1,
        "left_out": 2,
        "n_obs": 16,
    }
    assert split.short == split.compute_hash()[:7] == split.freeze().short
    assert split.freeze().file_name == f"toy-context_ood-{split.compute_hash()[:12]}.json"
    assert re.fullmatch(r"Split\(toy-context_ood-\w{7}, not frozen, train=4 .*n_obs=16\)", repr(split))
    assert ", frozen, " in repr(split.freeze())


# --- hash and freeze -----------------------------------------------------------------------------------


def test_hash_is_the_documented_one():
    """The hash of a given content never changes: stored splits depend on it."""
    header = (
        '{"fingerprint":"%s","n_obs":16,"ood_axes":["context"],'
        '"params":{"holdout":["A"],"nested":{"deep":[1,2.5,null,true]}},'
        '"rule":"context_ood","schema":"perturbfm-split/1","seed":0,"unit":"cells"}\n'
    )
    content = (header % FINGERPRINT).encode()
    for name, rows in (
        ("train", range(4)),
        ("val", (4, 5)),
        ("calib", (6, 7)),
        ("test", (8, 9, 10)),
        ("input_control", (11, 12)),
        ("reference_control", (13,)),
    ):
        content += f"{name} {len(rows)}\n".encode() + b"".join(row.to_bytes(8, "little") for row in rows)
    assert a_split().compute_hash() == hashlib.sha256(content).hexdigest()


def test_hash_does_not_depend_on_the_data_name():
    assert a_split(data_name="other").compute_hash() == a_split().compute_hash()


def test_freeze_writes_the_hash_and_keeps_the_original():
    split = a_split()
    frozen = split.freeze()
    frozen.assert_frozen()
    assert split.frozen_hash is None
    assert frozen.frozen_hash == split.compute_hash()
    assert frozen.freeze() is frozen
    assert split != frozen


def test_unfrozen_is_refused():
    with pytest.raises(SplitNotFrozen, match=r"carries no frozen hash: given toy-context_ood, not frozen.*Call freeze"):
        a_split().assert_frozen()


@pytest.mark.parametrize("verb", ["assert_frozen", "freeze"])
def test_changed_after_freezing_is_refused(verb):
    changed = replace(a_split().freeze(), seed=1)
    with pytest.raises(SplitEdited, match="toy-context_ood was changed after it was frozen: given content with hash"):
        getattr(changed, verb)()


def test_other_data_is_refused():
    split = a_split().freeze()
    split.assert_fits(FINGERPRINT, 16)
    message = "to other data: given data ffffffffffff with 16 rows, expected data a1b2c3d4e5f6 with 16 rows. Restore"
    with pytest.raises(SplitOfOtherData, match=message):
        split.assert_fits("f" * 64, 16)
    with pytest.raises(SplitOfOtherData, match="given data a1b2c3d4e5f6 with 17 rows"):
        split.assert_fits(FINGERPRINT, 17)


# --- text ----------------------------------------------------------------------------------------------


def test_text_is_deterministic_with_one_line_per_fold():
    text = a_split().freeze().to_json()
    assert text == a_split(train_idx=[3, 2, 1, 0], params=dict(reversed(a_split().params.items()))).freeze().to_json()
    assert text.endswith("}\n")
    assert '"train_idx": [0,1,2,3],\n' in text
    keys = list(json.loads(text))
    assert keys == sorted(keys)


@pytest.mark.parametrize("split", [a_split(), a_split().freeze()])
def test_text_round_trip(split):
    again = Split.from_json(split.to_json(), "here")
    assert again == split
    assert again.frozen_hash == split.frozen_hash
    assert again.params == split.params


def edited(**changes):
    content = json.loads(a_split().freeze().to_json())
    return json.dumps({**content, **changes})


def test_order_of_indices_in_the_text_does_not_matter():
    assert Split.from_json(edited(train_idx=[3, 1, 0, 2]), "here") == a_split().freeze()


@pytest.mark.parametrize(
    "changes",
    [
        {"train_idx": [0, 1, 2, 14]},
        {"train_idx": [0, 1, 2]},
        {"train_idx": [0, 1, 2, 4]},
        {"train_idx": [0, 1, 2, -3]},
        {"train_idx": [0, 1, 2, 3, 3]},
        {"input_control_idx": [13], "reference_control_idx": [11, 12]},
        {"rule": "other"},
        {"params": {"holdout": ["B"]}},
        {"seed": 1},
        {"ood_axes": ["batch"]},
        {"fingerprint": "f" * 64},
        {"unit": "pseudobulk"},
        {"n_obs": 17},
        {"frozen_hash": "0" * 64},
    ],
)
def test_edited_text_is_refused(changes):
    with pytest.raises(SplitEdited, match=r"Split here\.json was changed after it was frozen.*Restore the file"):
        Split.from_json(edited(**changes), "here.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Cannot read the split here.json: given text that is not JSON"),
        ("[" * 100_000, "given text that is not JSON"),
        ("[]", "given missing keys .*'calib_idx'"),
        (edited(extra=1), r"unknown keys \['extra'\]"),
        (edited(schema="perturbfm-split/0"), "given schema 'perturbfm-split/0', expected a split file of schema"),
        (edited(seed="0"), "given values of the wrong type at seed"),
        (edited(seed=True), "given values of the wrong type at seed"),
        (edited(val_idx=[4.0, 5.0]), "given values of the wrong type at val_idx"),
        (edited(val_idx=[10**30]), "given values of the wrong type at val_idx"),
        (edited(frozen_hash=1), "given values of the wrong type at frozen_hash"),
        (edited(ood_axes=[1]), "given values of the wrong type at ood_axes"),
        (edited(params={"a": float("nan")}), "NaN is no JSON number"),
    ],
)
def test_malformed_text_is_refused(text, message):
    with pytest.raises(UnreadableFile, match=message):
        Split.from_json(text, "here.json")
