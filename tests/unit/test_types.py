"""What crosses rooms without being copied."""

import numpy as np
import pytest
from scipy import sparse

from perturbfm.errors import ShapeMismatch
from perturbfm.types import Labels, RowView, join_labels

X = np.arange(40, dtype=np.float32).reshape(8, 5) % 7


def as_array(block):
    return block.toarray() if sparse.issparse(block) else block


class Counted:
    """A matrix that remembers which rows were cut."""

    def __init__(self, x):
        self.x, self.shape, self.cut = x, x.shape, []

    def __getitem__(self, rows):
        self.cut.append(np.arange(len(self.x))[rows].tolist())
        return self.x[rows]


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_a_view_is_its_rows(kind):
    rows = np.array([6, 1, 3])
    view = RowView(kind(X), rows)
    assert view.shape == (3, 5)
    assert len(view) == 3
    np.testing.assert_array_equal(as_array(view[:]), X[rows])
    np.testing.assert_array_equal(as_array(view[1:]), X[rows[1:]])
    np.testing.assert_array_equal(as_array(view[np.array([2, 0])]), X[rows[[2, 0]]])
    np.testing.assert_array_equal(as_array(RowView(view, np.array([2, 2]))[:]), X[[3, 3]])
    assert view.stored() == (int((X[rows] != 0).sum()) if kind is sparse.csr_matrix else 15)


def test_nothing_is_cut_before_it_is_asked_for():
    counted = Counted(X)
    view = RowView(RowView(counted, np.array([5, 4, 2])), np.array([1, 2]))
    assert counted.cut == []
    view[1:]
    assert counted.cut == [[2]]


def test_rows_of_equal_labels_share_one_string():
    joined = join_labels(np.array(["a", "b", "a"], object), np.array(["x", "x", "x"], object), "|")
    assert joined.tolist() == ["a|x", "b|x", "a|x"]
    assert joined[0] is joined[2]
    assert join_labels(np.array([], object), np.array([], object), "|").tolist() == []


def test_a_dose_is_joined_once_per_pair_that_occurs():
    column = {name: np.array([name] * 4, object) for name in ("context_n", "batch_n")}
    labels = Labels(
        cell_n=np.arange(4),
        pert_n=np.array(["B", "A", "B", "A"], object),
        mode_n=np.array(["drug"] * 4, object),
        is_control_n=np.zeros(4, bool),
        fingerprint="f",
        data_name="d",
        dose_n=np.array(["10", "", "10", ""], object),
        time_n=np.array(["6", "6", "6", "24"], object),
        **column,
    )
    expected = ["B@drug;dose=10;time=6", "A@drug;time=6", "B@drug;dose=10;time=6", "A@drug;time=24"]
    assert labels.intervention_n.tolist() == expected
    assert labels.intervention_n[0] is labels.intervention_n[2]
    assert labels.condition_n.tolist() == [f"context_n|{e}" for e in expected]
    assert labels.condition_n[0] is labels.condition_n[2]


def test_columns_of_different_lengths_are_not_joined():
    with pytest.raises(ShapeMismatch, match="different lengths"):
        join_labels(np.array(["a"], object), np.array(["a", "b"], object), "|")
