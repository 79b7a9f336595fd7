"""Batches whose rows share controls."""

import copy
import pickle

import pytest
import torch

from perturbfm.train.grouped import GroupedBatch
from perturbfm.types import Batch

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


def test_expansions_that_somebody_holds_are_never_written_over():
    held = [grouped().x_ng for _ in range(20)]
    other = [grouped().x_var_ng for _ in range(20)]
    assert all(torch.equal(x, CONTROL[INDEX]) for x in held)
    assert all(torch.equal(x, CONTROL[INDEX] + 10) for x in other)
