"""What crosses rooms without being copied."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse

from perturbfm.types import Batch, GroupedBatch, RowView, join_labels

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


# --- batches whose rows share controls -------------------------------------------------------------

CONTROL = torch.arange(6.0).reshape(2, 3)
INDEX = torch.tensor([1, 0, 1, 1])


def grouped():
    return GroupedBatch(
        control_kg=CONTROL.clone(),
        control_var_kg=CONTROL + 10,
        control_n=INDEX,
        x_count_n=torch.ones(4),
        intervention_n=torch.arange(4),
        parts_np=torch.eye(4),
        context_n=torch.zeros(4),
        batch_n=torch.zeros(4),
        row_n=torch.arange(4),
    )


def expanded():
    given = {k: v for k, v in vars(grouped()).items() if not k.startswith("control") and v is not None}
    return Batch(x_ng=CONTROL[INDEX], x_var_ng=CONTROL[INDEX] + 10, **given)


def test_shared_controls_are_expanded_when_they_are_read_and_not_before():
    batch = grouped()
    assert batch.shape == (4, 3)
    assert torch.equal(batch.controls_of(2)[1], torch.tensor([13.0, 14.0, 15.0]))
    repr(batch)
    assert "x_ng" not in vars(batch)
    assert batch.x_ng.tolist() == [[3, 4, 5], [0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert batch.x_ng is batch.x_ng
    assert "x_var_ng" not in vars(batch)
    assert batch.x_var_ng.tolist() == [[13, 14, 15], [10, 11, 12], [13, 14, 15], [13, 14, 15]]


def test_a_grouped_batch_says_what_its_expansion_says():
    a, b = grouped(), expanded()
    assert a.shape == b.shape
    for row in range(4):
        assert [t.tolist() for t in a.controls_of(row)] == [t.tolist() for t in b.controls_of(row)]
    with pytest.raises(AttributeError, match="GroupedBatch has no 'x'"):
        _ = a.x


@pytest.mark.parametrize("make", [grouped, expanded])
def test_a_batch_on_another_device_keeps_what_was_put_into_it(make):
    batch = make()
    batch.x_ng = batch.x_ng * 2
    moved = batch.to("meta")
    assert type(moved) is type(batch)
    assert moved.delta_ng is None
    assert {v.device.type for v in vars(moved).values() if v is not None} == {"meta"}
    assert {v.device.type for v in vars(batch).values() if v is not None} == {"cpu"}
    assert torch.equal(batch.to("cpu").x_ng, CONTROL[INDEX] * 2)


def test_a_grouped_batch_moves_and_travels_without_being_expanded():
    for batch in (grouped().to("cpu"), pickle.loads(pickle.dumps(grouped())), copy.deepcopy(grouped())):
        assert "x_ng" not in vars(batch)
        assert torch.equal(batch.x_ng, CONTROL[INDEX])
