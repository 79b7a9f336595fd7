"""Rows are chosen by value, contexts and batches are made of columns; each misuse is refused."""

import numpy as np
import pytest

from perturbfm.data import load_file
from perturbfm.errors import BadValue, LabelMalformed, MissingColumn, MissingLabel, MissingValue, UnknownValue

LABELS = ["control", "A", "control", "B"]
COLUMNS = {
    "set": ["x", "x", "y", "y"],
    "plate": [1, 1, 2, 2],
    "dose": [0.0, 10.0, 0.0, 2.5],
    "ok": [True, True, True, False],
}


def cells(data):
    return data.obs.index.tolist()


def test_rows_are_kept_and_dropped_by_value(labelled):
    data = labelled(LABELS, COLUMNS, keep={"set": ["x"]}, source="paper")
    assert cells(data) == ["c0", "c1"]
    assert data.declared.source == "paper; keep set=x: 2 of 4 rows"
    assert cells(labelled(LABELS, COLUMNS, drop={"dose": [10, 2.5]})) == ["c0", "c2"]
    assert cells(labelled(LABELS, COLUMNS, keep={"plate": 2}, drop={"pert": "B"})) == ["c2"]
    assert cells(labelled(LABELS, COLUMNS, keep={"ok": [True]})) == ["c0", "c1", "c2"]
    np.testing.assert_array_equal(labelled(LABELS, COLUMNS, keep={"set": ["y"]}).X_pert[:, 0], [7 / 64, 10 / 64])


def test_a_filter_leaves_no_phantom_conditions(labelled):
    import pandas as pd

    labels = pd.Categorical(["control", "A", "control", "B"], categories=["control", "A", "B", "never"])
    data = labelled(labels, COLUMNS, keep={"set": ["x"]})
    assert set(data.obs["pert_id"]) == {"control", "A"}
    assert set(data.labels().intervention_n) == {"control@drug", "A@drug"}


def test_a_value_that_does_not_occur_is_refused(labelled):
    with pytest.raises(UnknownValue, match=r"data\.keep\.set names a value that does not occur: given xx, .*near it x"):
        labelled(LABELS, COLUMNS, keep={"set": ["x", "xx"]})
    with pytest.raises(UnknownValue, match=r"data\.drop\.plate .*given 3"):
        labelled(LABELS, COLUMNS, drop={"plate": [3]})
    with pytest.raises(MissingColumn, match="Missing column 'sets'"):
        labelled(LABELS, COLUMNS, keep={"sets": ["x"]})


def test_a_filter_that_leaves_nothing_is_refused(labelled):
    with pytest.raises(BadValue, match=r"Nothing is left of the file: given keep set=x; drop plate=1"):
        labelled(LABELS, COLUMNS, keep={"set": ["x"]}, drop={"plate": [1]})


def test_one_context_may_be_named(labelled):
    assert set(labelled(LABELS).obs["context_id"]) == {"K562"}


def test_contexts_and_batches_of_several_columns(labelled):
    data = labelled(LABELS, COLUMNS, context=None, context_column=["set", "plate"], batch_column=["plate", "ok"])
    assert data.obs["context_id"].tolist() == ["x::1", "x::1", "y::2", "y::2"]
    assert data.obs["batch_id"].tolist() == ["1::True", "1::True", "2::True", "2::False"]


def test_a_value_that_holds_the_joint_is_refused(labelled):
    columns = {**COLUMNS, "set": ["x::1", "x::1", "y", "y"]}
    with pytest.raises(LabelMalformed, match=r"A value of 'set' holds what joins columns: given 'x::1'"):
        labelled(LABELS, columns, context=None, context_column=["set", "plate"])


def test_a_row_that_lacks_one_of_several_columns_is_refused(labelled):
    columns = {**COLUMNS, "set": ["x", None, "y", "y"]}
    with pytest.raises(MissingLabel, match=r"Rows have no context_id: given 1 rows, first cell 'c1'"):
        labelled(LABELS, columns, context=None, context_column=["set", "plate"])


@pytest.mark.parametrize(
    "given",
    [{"context_column": "set"}, {"file_context": True}, {"context": "K562", "file_context": True}],
)
def test_the_context_must_be_declared_once(labelled, given):
    with pytest.raises(BadValue, match="The context is not declared once"):
        labelled(LABELS, COLUMNS, **given)


def test_a_context_that_is_not_named_is_the_data_set_and_recorded(labelled):
    data = labelled(LABELS, COLUMNS, context=None)
    assert set(data.obs["context_id"]) == {"small"}
    assert data.declared.source == "one context, named after the data set (small)"


@pytest.mark.parametrize(
    ("column", "given", "match"),
    [
        (None, None, "context"),
        ("plate", None, "context_batch"),
        ("plate", "context", "context"),
        (None, "draw", "draw"),
    ],
)
def test_controls_are_matched_within_batches_where_there_are_any(labelled, column, given, match):
    plates = {**COLUMNS, "plate": ["1", "1", "1", "1"]}
    assert labelled(LABELS, plates, batch_column=column, match=given).declared.match == match


def test_a_data_set_without_a_name_has_that_of_its_file(labelled, tmp_path):
    labelled(LABELS, COLUMNS)
    given = {"pert_column": "pert", "context_column": None, "batch_column": None, "mode": "drug"}
    data = load_file(None, str(tmp_path / "file.h5ad"), "log1p", **given)
    assert (data.declared.name, set(data.obs["context_id"])) == ("file", {"file"})


def test_an_empty_list_of_columns_is_refused(labelled):
    with pytest.raises(MissingValue, match=r"data\.batch_column is empty"):
        labelled(LABELS, COLUMNS, batch_column=[])


def test_covariates_reach_the_labels(labelled):
    labels = labelled(LABELS, COLUMNS, covariates=["set", "dose"][:1]).labels()
    assert labels.covariates["set"].tolist() == ["x", "x", "y", "y"]
    assert set(labels.covariates) == {"set"}
