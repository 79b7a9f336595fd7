"""Split files of other benchmarks become an assignment of cells with its origin; what would leak is refused."""

import hashlib
import json
import pickle

import numpy as np
import pytest

from perturbfm.data.official_split import read_official
from perturbfm.errors import BadValue, LabelMalformed, OfficialSplitUnfit, PickleRefused, UnreadableFile
from perturbfm.types import Labels

PERTS = ["control", "A", "A+B", "B", "control", "A", "B", "C"]
CONTEXTS = ["hepg2"] * 4 + ["rpe1"] * 4


def labels(delimiter="+", **given):
    n = len(PERTS)
    text = {
        "cell_n": [f"c{i}" for i in range(n)],
        "pert_n": [p.replace("+", delimiter or "+") for p in PERTS],
        "context_n": CONTEXTS,
        "batch_n": ["all"] * n,
        "mode_n": ["knockdown"] * n,
    }
    columns = {k: np.array(v, dtype=object) for k, v in text.items()}
    control = np.array([p == "control" for p in PERTS])
    return Labels(**columns, is_control_n=control, fingerprint="f", data_name="d", delimiter=delimiter, **given)


@pytest.fixture
def read(tmp_path):
    def read_text(text, kind, data=None, **options):
        (tmp_path / "split.txt").write_text(text if isinstance(text, str) else json.dumps(text))
        return read_official(str(tmp_path / "split.txt"), kind, data or labels(), **options)

    return read_text


FOLDS = ["train", "train", "test", "", "val", "None", "test", "train"]
PLAIN = "".join(f"c{i},{fold}\n" for i, fold in enumerate(FOLDS))
ASSIGNED = {"c0": "train", "c1": "train", "c2": "test", "c4": "val", "c6": "test", "c7": "train"}


# --- PerturBench -----------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", ",transfer_split_seed54\n", "cell_barcode,split\n"])
def test_perturbench_csv_with_and_without_a_header(read, header):
    found = read(header + PLAIN + "extra,train\n", "perturbench")
    assert found.fold_by_cell == ASSIGNED
    assert found.origin == {
        "kind": "perturbench",
        "file": "split.txt",
        "sha256": hashlib.sha256((header + PLAIN + "extra,train\n").encode()).hexdigest(),
        "cells_without_fold": 2,
        "cells_not_in_data": 1,
    }


def test_a_csv_of_several_columns_needs_one_named(read):
    text = "cell,split_0,split_1\n" + "".join(f"c{i},train,{fold}\n" for i, fold in enumerate(FOLDS))
    assert read(text, "perturbench", column="split_1").fold_by_cell == ASSIGNED
    with pytest.raises(
        OfficialSplitUnfit, match=r"The column of folds is not named: given column=None, .*split_0, split_1"
    ):
        read(text, "perturbench")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (PLAIN.replace("c1,train", "c1,calib"), "names an unknown fold: given 'calib' of cell 'c1'"),
        (PLAIN + "c1,test\n", "names a cell twice: given 'c1'"),
        (PLAIN.replace("c3,\n", ""), "are not in the official split: given 1 of 8, first 'c3'"),
        (PLAIN.replace("test", "val"), "leaves a fold empty: given split.txt: train, val"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused(read, text, told):
    with pytest.raises(OfficialSplitUnfit, match=told):
        read(text, "perturbench")


@pytest.mark.parametrize("text", ["", "c0\nc1\n", "c0,train\nc1,train,x\n"])
def test_what_is_no_csv_is_refused(read, text):
    with pytest.raises(UnreadableFile, match=r"An official split cannot be read: given split\.txt"):
        read(text, "perturbench")


# --- GEARS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", ["+", "_"])
def test_gears_conditions_are_those_of_the_data(read, delimiter):
    table = {"train": ["ctrl", "A+ctrl"], "val": ["ctrl+C"], "test": ["B+A", "Z+ctrl"]}
    found = read(table, "gears", labels(delimiter))
    assert found.fold_by_cell == {"c1": "train", "c5": "train", "c2": "test", "c7": "val"}
    assert (found.origin["cells_without_fold"], found.origin["conditions_not_in_data"]) == (2, 1)


def test_one_condition_in_two_orders_and_folds_is_refused(read):
    with pytest.raises(OfficialSplitUnfit, match=r"in two folds: given 'ctrl\+A', read as 'A', in train and test"):
        read({"train": ["A+ctrl", "C+ctrl"], "test": ["ctrl+A"]}, "gears")


def test_conditions_of_other_data_are_refused(read):
    with pytest.raises(OfficialSplitUnfit, match="leaves a fold empty: given split.txt: no fold on d"):
        read({"train": ["X+ctrl"], "test": ["Y+ctrl"]}, "gears")
    with pytest.raises(LabelMalformed, match="cuts a name inside its brackets"):
        read({"train": ["(+)-JQ1+ctrl"], "test": ["A"]}, "gears")


@pytest.mark.parametrize("text", ["[1, 2]", '{"train": "A"}', '{"fit": ["A"]}', '{"train": [1]}', "{", "A+ctrl"])
def test_what_is_no_dictionary_of_conditions_is_refused(read, text):
    with pytest.raises(UnreadableFile, match="An official split cannot be read"):
        read(text, "gears")


@pytest.mark.parametrize("name", ["split.pkl", "split.json"])
def test_a_pickled_dictionary_is_refused_with_its_conversion(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"train": ["A+ctrl"]}))
    with pytest.raises(PickleRefused, match=r"is a pickle.*convert it once: python -c .*json\.dump"):
        read_official(str(tmp_path / name), "gears", labels())


def test_the_conversion_that_is_told_works(tmp_path):
    import shlex
    import subprocess
    import sys

    (tmp_path / "split.pkl").write_bytes(pickle.dumps({"train": ["A+ctrl"], "test": np.array(["B+ctrl"])}))
    with pytest.raises(PickleRefused, match="pickle") as refused:
        read_official(str(tmp_path / "split.pkl"), "gears", labels())
    command = shlex.split(refused.value.fix.partition(": ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    found = read_official(str(tmp_path / "split.json"), "gears", labels())
    assert found.fold_by_cell == {"c1": "train", "c5": "train", "c3": "test", "c6": "test"}


# --- cell-load, STATE ------------------------------------------------------------------------------

ZERO = '[datasets]\nrep = "files/"\n[training]\nrep = "train"\n[zeroshot]\n"rep.rpe1" = "test"\n'
FEW = (
    '[datasets]\nrep = "files/"\n[training]\nrep = "train"\n'
    '[fewshot]\n[fewshot."rep.rpe1"]\nval = ["A"]\ntest = ["B", "Q"]\n'
)


def test_a_zero_shot_cell_type_is_held_out(read):
    found = read(ZERO, "cell_load")
    assert found.fold_by_cell == {
        **dict.fromkeys(["c1", "c2", "c3"], "train"),
        **dict.fromkeys(["c5", "c6", "c7"], "test"),
    }
    assert (found.origin["kind"], found.origin["cells_without_fold"]) == ("cell_load", 0)


def test_few_shot_lists_hold_perturbations_out(read):
    found = read(FEW, "cell_load")
    assert found.fold_by_cell == {**dict.fromkeys(["c1", "c2", "c3", "c7"], "train"), "c5": "val", "c6": "test"}
    assert found.origin["conditions_not_in_data"] == 1


def test_a_cell_type_that_is_not_trained_on_is_in_no_fold(read):
    text = FEW.replace('rep = "train"\n', "")
    assert read(text, "cell_load").fold_by_cell == {"c5": "val", "c6": "test", "c7": "train"}


def test_which_data_set_a_row_is_of_is_said_or_kept_as_covariate(read):
    text = ZERO.replace('rep = "files/"', 'rep = "files/"\nother = "more/"')
    with pytest.raises(OfficialSplitUnfit, match=r"must be said: given 'nothing', split\.txt has rep, other"):
        read(text, "cell_load")
    assert read(text, "cell_load", dataset="rep").fold_by_cell == read(ZERO, "cell_load").fold_by_cell
    column = np.array(["other"] * 4 + ["rep"] * 4, dtype=object)
    few = FEW.replace('rep = "files/"', 'rep = "files/"\nother = "more/"')
    found = read(few, "cell_load", labels(covariates={"dataset": column})).fold_by_cell
    assert found == {"c5": "val", "c6": "test", "c7": "train"}  # `other` is not under [training]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            ZERO.replace("rep.rpe1", "rep.RPE1"),
            "A held-out cell type is no context of the data: given 'RPE1' .*near it",
        ),
        (ZERO.replace('"test"', '"judge"'), "names an unknown fold: given judge"),
        (FEW.replace('["A"]', '["A", "B"]'), r"in two folds: given 'B' of rep\.rpe1 in val and test"),
        (FEW + '[zeroshot]\n"rep.rpe1" = "test"\n', r"in two ways: given rep\.rpe1"),
        (
            FEW.replace('["A"]', '["X"]').replace('["B", "Q"]', '["Y"]'),
            r"No perturbation of \[fewshot\] is in the data",
        ),
        (ZERO.replace('"rep.rpe1" = "test"', ""), "leaves a fold empty"),
    ],
)
def test_a_toml_that_would_mislead_is_refused(read, text, told):
    with pytest.raises(OfficialSplitUnfit, match=told):
        read(text, "cell_load")


@pytest.mark.parametrize(
    "text",
    ["[datasets", "", "datasets = 1", ZERO.replace('"rep.rpe1"', '"rpe1"'), FEW.replace('["A"]', '"A"')],
)
def test_what_is_no_toml_of_cell_load_is_refused(read, text):
    with pytest.raises(UnreadableFile, match="An official split cannot be read"):
        read(text, "cell_load")


# --- all -------------------------------------------------------------------------------------------


def test_an_unknown_kind_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(BadValue, match="Unknown kind of official split: given geers, .*Did you mean gears"):
        read_official("x", "geers", labels())
    with pytest.raises(UnreadableFile, match="There is no such split file"):
        read_official(str(tmp_path / "none.csv"), "perturbench", labels())


@pytest.mark.parametrize("kind", ["perturbench", "gears", "cell_load"])
def test_bytes_that_are_no_text_are_refused(tmp_path, kind):
    (tmp_path / "split").write_bytes(b"c0,\xff\xfe")
    with pytest.raises(UnreadableFile, match="An official split cannot be read"):
        read_official(str(tmp_path / "split"), kind, labels())
