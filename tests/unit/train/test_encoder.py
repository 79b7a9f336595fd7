import numpy as np
import pytest

from perturbfm.errors import CheckpointMismatch
from perturbfm.train.encoder import Encoder, encode, split_parts
from perturbfm.types import Labels

ROWS = [  # perturbation, context, batch, mode
    ("a", "K1", "b1", "knockout"),
    ("b+a", "K1", "b1", "knockout"),
    ("a", "K2", "b2", "activation"),
    ("c", "K3", "b3", "knockout"),
    ("a+d", "K2", "b1", "knockout"),
]
TRAIN = np.array([0, 1, 2])
GENES = ("z", "y", "x")


def labels(delimiter="+"):
    pert, context, batch, mode = (np.array(c, dtype=object) for c in zip(*ROWS, strict=True))
    names = np.array([f"c{i}" for i in range(len(ROWS))], dtype=object)
    return Labels(names, pert, context, batch, mode, np.zeros(len(ROWS), bool), "f" * 64, "toy", delimiter=delimiter)


def learned(delimiter="+"):
    return Encoder.learn(labels(delimiter), TRAIN, GENES)


def test_vocabularies_come_from_train_rows_and_nothing_else():
    encoder = learned()
    assert encoder.interventions == ("a@activation", "a@knockout", "b+a@knockout")
    assert encoder.parts == ("a", "b")
    assert encoder.contexts == ("K1", "K2")
    assert encoder.batches == ("b1", "b2")
    assert encoder.genes == GENES


def test_sizes_are_those_of_the_vocabularies():
    d = learned().dims
    assert (d.n_genes, d.n_interventions, d.n_parts, d.n_contexts, d.n_batches) == (3, 3, 2, 2, 2)


def test_labels_outside_train_are_unknown():
    encoder, all_labels = learned(), labels()
    assert encode(all_labels.context_n, encoder.contexts).tolist() == [0, 0, 1, -1, 1]
    assert encode(all_labels.batch_n, encoder.batches).tolist() == [0, 0, 1, -1, 0]
    assert encode(all_labels.intervention_n, encoder.interventions).tolist() == [1, 2, 0, -1, -1]
    assert encode(all_labels.intervention_n, encoder.interventions).dtype == np.int64


def test_one_gene_in_two_modes_is_two_interventions_of_one_part():
    encoder = learned()
    assert encoder.interventions[:2] == ("a@activation", "a@knockout")
    parts = encoder.encode_parts(labels().pert_n[[0, 2]])
    assert (parts[0] == parts[1]).all()


def test_parts_of_a_double_are_marked_together_and_unknown_parts_left_out():
    parts = learned().encode_parts(labels().pert_n)
    assert parts.tolist() == [[1, 0], [1, 1], [1, 0], [0, 0], [1, 0]]
    assert parts.dtype == np.float32


def test_the_order_of_parts_in_a_label_does_not_matter():
    parts = learned().encode_parts(np.array(["a+b", "b+a", "b + a"], dtype=object))
    assert (parts == 1).all()


def test_without_a_delimiter_a_label_is_its_own_part():
    encoder = learned(delimiter=None)
    assert encoder.parts == ("a", "b+a")
    assert split_parts("b+a", None) == ["b+a"]


def test_unknown_labels_are_listed_for_the_record():
    assert learned().unknown(labels(), np.array([3, 4, 0])) == {
        "interventions": ["a+d@knockout", "c@knockout"],
        "contexts": ["K3"],
    }


def test_the_state_is_plain_containers():
    state = learned().state()
    assert set(state) == {"genes", "interventions", "parts", "contexts", "batches", "delimiter"}
    for key, value in state.items():
        assert type(value) is (str if key == "delimiter" else list)
        assert all(type(v) is str for v in value)


def test_the_same_state_is_accepted():
    learned().assert_same(learned().state())


@pytest.mark.parametrize("key", ["genes", "interventions", "parts", "contexts", "batches"])
def test_another_state_is_refused(key):
    state = learned().state()
    size = len(state[key])
    with pytest.raises(
        CheckpointMismatch,
        match=f"The checkpoint has other {key}: given {size} entries, expected the {size} {key} of this run, in this",
    ):
        learned().assert_same({**state, key: state[key][::-1]})


def test_an_empty_state_is_refused():
    with pytest.raises(CheckpointMismatch, match="The checkpoint has other genes: given 0 entries"):
        learned().assert_same({})


def test_another_delimiter_is_refused():
    with pytest.raises(CheckpointMismatch, match="other delimiter"):
        learned().assert_same({**learned().state(), "delimiter": "_"})
