"""Does train have exactly as many parts of a held-out combination alone as its axis says?"""

from itertools import combinations

import pytest
from toy_labels import check_books, combination_axis, crossed, labels_of, parts, perts

from perturbfm.errors import BadValue, TooFewConditions
from perturbfm.split import audit
from perturbfm.split.rule import unseen_combination

SINGLES = ["A", "B", "C", "D", "E", "F"]
PAIRS = ["A+B", "A+C", "B+C", "C+D", "D+E", "E+F", "A+F", "B+E"]
LETTERS = "ABCDEFGHIJ"
ALL_PAIRS = [f"{a}+{b}" for a, b in combinations(LETTERS, 2)]
KNOWN = ("train", "val", "calib")


def world(**changes):
    return labels_of(crossed(["k"], SINGLES + PAIRS), **changes)


def check_axes(labels, split):
    on = {int(i): axis for axis in split.ood_axes for i in split.ood_rows(axis)}
    assert sorted(on) == split.test_idx.tolist()
    assert all(axis == combination_axis(labels, split, i) for i, axis in on.items())


@pytest.mark.parametrize("seed", range(5))
def test_both_parts_seen(seed):
    labels = world()
    split = unseen_combination(labels, fraction=0.25, seed=seed)
    assert split.ood_axes == ("combination_seen_2",)
    assert len(perts(labels, split.test_idx)) == 2  # a quarter of eight
    assert set(SINGLES) <= perts(labels, split.train_idx)
    assert {name: perts(labels, split.fold(name)) <= set(PAIRS) for name in ("val", "calib", "test")} == dict.fromkeys(
        ("val", "calib", "test"), True
    )
    assert split.params["combinations"] == {"combination_seen_2": 2}
    check_axes(labels, split)
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


@pytest.mark.parametrize("seed", range(5))
def test_none_one_and_both_seen(seed):
    labels = labels_of(crossed(["k"], [*LETTERS, *ALL_PAIRS]))
    split = unseen_combination(labels, seen=[0, 1, 2], fraction=0.3, seed=seed)
    hidden = set(split.params["held_out_genes"])
    assert len(hidden) == 3
    assert split.ood_axes == ("combination_seen_0", "combination_seen_1", "combination_seen_2")
    for name in KNOWN:
        assert not parts(labels, split.fold(name)) & hidden
    for k in (0, 1, 2):
        rows = split.ood_rows(f"combination_seen_{k}")
        assert {len(set(p.split("+")) - hidden) for p in perts(labels, rows)} == {k}
    # of 45 pairs of ten genes, three hidden: 3 of hidden genes, 3 x 7 of one, and 0.3 of the other 21
    assert split.params["combinations"] == {f"combination_seen_{k}": n for k, n in ((0, 3), (1, 21), (2, 6))}
    check_axes(labels, split)
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_one_seen_alone_leaves_the_other_kinds_out():
    labels = labels_of(crossed(["k"], [*LETTERS, *ALL_PAIRS]))
    split = unseen_combination(labels, seen=[1], fraction=0.3)
    hidden = set(split.params["held_out_genes"])
    assert perts(labels, split.test_idx) == {p for p in ALL_PAIRS if len(set(p.split("+")) & hidden) == 1}
    assert split.params["excluded"]["of_held_out_genes_or_no_wanted_kind"] == 4 * (3 + 3)  # hidden alone, and in pairs


def test_named_combinations_are_the_test():
    labels = world()
    split = unseen_combination(labels, holdout=["C+D", "A+B"])
    assert perts(labels, split.test_idx) == {"A+B", "C+D"}
    check_axes(labels, split)


def test_a_part_in_another_context_or_mode_only_is_neither_seen_nor_unseen():
    found = [
        *crossed(["k"], ["A", "B", "C", "A+B", "B+C", "A+C", "X+B"]),
        {"context": "other", "pert": "X"},
        {"context": "k", "pert": "Y", "mode": "activation"},
        {"context": "k", "pert": "A+Y"},
        {"context": "k", "pert": "C+Y", "mode": "activation"},
    ]
    labels = labels_of(found)
    split = unseen_combination(labels, holdout=["X+B", "A+Y", "C+Y", "A+B"])
    axes = {
        p: {a for a in split.ood_axes if p in perts(labels, split.ood_rows(a))} for p in ("X+B", "A+Y", "C+Y", "A+B")
    }
    assert axes == {
        "X+B": {"combination_mixed"},
        "A+Y": {"combination_mixed"},
        "C+Y": {"combination_mixed"},
        "A+B": {"combination_seen_2"},
    }
    check_axes(labels, split)
    audit(split, labels).assert_no_leak()


def test_parts_count_in_any_context_where_the_context_is_new():
    labels = labels_of(crossed(["k"], SINGLES + PAIRS) + crossed(["bare"], ["A+B", "A+Z"]))
    split = unseen_combination(labels, holdout=["A+B", "A+Z"])
    assert set(labels.context_n[split.train_idx]) == {"k"}
    assert perts(labels, split.ood_rows("combination_seen_2")) == {"A+B"}
    assert perts(labels, split.ood_rows("combination_seen_1")) == {"A+Z"}
    check_axes(labels, split)
    audit(split, labels).assert_no_leak()


def test_two_of_three_seen_parts_are_some_and_not_all():
    labels = labels_of(crossed(["k"], [*SINGLES, *PAIRS, "A+B+Z"]))
    split = unseen_combination(labels, holdout=["A+B+Z"])
    assert split.ood_axes == ("combination_seen_1",)
    check_axes(labels, split)
    audit(split, labels).assert_no_leak()


def test_a_combination_of_no_wanted_kind_in_another_context_is_in_no_fold():
    labels = labels_of(crossed(["k"], SINGLES + PAIRS) + crossed(["bare"], PAIRS))
    split = unseen_combination(labels, fraction=0.25)
    assert set(labels.context_n[split.test_idx]) == {"k"}
    assert split.ood_axes == ("combination_seen_2",)
    for name in KNOWN:
        assert not perts(labels, split.fold(name)) & perts(labels, split.test_idx)
    assert split.params["excluded"]["of_held_out_genes_or_no_wanted_kind"] == 2 * 4
    check_books(labels, split)


def test_a_combination_is_held_out_at_all_doses():
    labels = labels_of(crossed(["k"], SINGLES + PAIRS, dose="1") + crossed(["k"], PAIRS, dose="1+2"))
    split = unseen_combination(labels, fraction=0.25)
    for one, other in (("test", "train"), ("test", "val"), ("test", "calib"), ("val", "train"), ("calib", "train")):
        pairs = [{p for p in perts(labels, split.fold(name)) if "+" in p} for name in (one, other)]
        assert not pairs[0] & pairs[1]
    assert split.params["n_conditions"]["test"] == 4


def test_other_conditions_calibrate_where_combinations_do_not_suffice():
    labels = labels_of(crossed(["k"], [*SINGLES, "A+B", "B+C"]))
    split = unseen_combination(labels, holdout=["A+B"])
    assert {"A", "B"} <= perts(labels, split.train_idx)
    assert perts(labels, split.calib_idx) <= {"C", "D", "E", "F", "B+C"}
    check_axes(labels, split)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"seen": [3]}, BadValue, r"seen is not a list of numbers of seen parts: given \[3\]"),
        ({"seen": []}, BadValue, "seen is not a list"),
        ({"seen": [True]}, BadValue, "seen is not a list"),
        ({"seen": [2, 2]}, BadValue, "seen is not a list"),
        ({"seen": 2}, BadValue, "seen is not a list"),
        ({"holdout": ["A"]}, BadValue, "holdout has names that are not in the data: given A"),
        ({"fraction": 0}, BadValue, "fraction is out of range: given 0"),
        ({"seen": [0], "fraction": 0.01}, TooFewConditions, "given none with 0 of its parts alone in train, of 8 comb"),
    ],
)
def test_refusals(options, kind, message):
    with pytest.raises(kind, match=message):
        unseen_combination(world(), **options)


def test_data_without_a_delimiter_have_no_combinations():
    with pytest.raises(BadValue, match=r"The data have no combinations: given data\.delimiter=null"):
        unseen_combination(world(delimiter=None))


def test_data_without_combinations():
    with pytest.raises(TooFewConditions, match="No combination has the wanted number of seen parts"):
        unseen_combination(labels_of(crossed(["k"], SINGLES)))


def test_nothing_left_to_calibrate_on():
    with pytest.raises(
        TooFewConditions, match="Nothing is left to validate and calibrate on: given 1 source conditions"
    ):
        unseen_combination(labels_of(crossed(["k"], ["A", "B", "C", "A+B"])), holdout=["A+B"])
