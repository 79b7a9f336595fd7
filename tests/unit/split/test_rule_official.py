"""Is somebody else's split taken over as it is, and are random cells called what they are?"""

from dataclasses import replace

import numpy as np
import pytest
from toy_labels import check_books, conditions, crossed, labels_of

from perturbfm.errors import BadValue, DuplicateNames, SplitOfOtherData, TooFewConditions
from perturbfm.split import FOLDS, audit
from perturbfm.split.rule import official_split, random_cells

PERTS = ["A", "B", "C", "D", "E", "F"]
ORIGIN = {"project": "toy", "file": "split.csv"}


def world():
    return labels_of([*crossed(["k1", "k2"], PERTS), {"context": "k2", "pert": "A+B"}], n_rows=12)


def given(labels, fold_of):
    """A fold by cell id, controls included as other projects do."""
    found = {}
    for i, cell in enumerate(labels.cell_n):
        name = "train" if labels.is_control_n[i] else fold_of(str(labels.context_n[i]), str(labels.pert_n[i]))
        if name:
            found[str(cell)] = name
    return found


def by_condition(context, pert):
    if (context, pert) in {("k2", "A"), ("k2", "B"), ("k2", "A+B"), ("k1", "F"), ("k2", "F")}:
        return "test"
    return "val" if pert == "C" else "train"


def test_the_test_is_untouched_and_calibration_is_carved_from_train():
    labels = world()
    split = official_split(labels, given(labels, by_condition), ORIGIN)
    rows = {
        n: {i for i in np.flatnonzero(~labels.is_control_n) if by_condition(labels.context_n[i], labels.pert_n[i]) == n}
        for n in FOLDS
    }
    assert set(split.test_idx) == rows["test"]
    assert set(split.val_idx) == rows["val"]
    assert set(split.train_idx) | set(split.calib_idx) == rows["train"]
    assert split.params["calibration"] == "conditions of the official train"
    assert dict(split.params["origin"]) == ORIGIN
    assert {"k1|A@knockdown", "k1|B@knockdown"} <= conditions(labels, split)["train"]
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_axes_are_read_off():
    labels = world()
    split = official_split(labels, given(labels, by_condition), ORIGIN)
    on = {axis: set(labels.condition_n[split.ood_rows(axis)]) for axis in split.ood_axes}
    assert on == {
        "pairing": {"k2|A@knockdown", "k2|B@knockdown"},
        "perturbation": {"k1|F@knockdown", "k2|F@knockdown"},
        "combination_mixed": {"k2|A+B@knockdown"},  # train has A and B, but not alone in k2
    }


def test_a_context_that_is_the_test():
    labels = labels_of(crossed(["k1", "k2", "k3"], PERTS))
    split = official_split(labels, given(labels, lambda c, p: "test" if c == "k2" else "train"), ORIGIN)
    assert split.ood_axes == ("context",)
    assert split.params["validation"] == "conditions of the official train"
    audit(split, labels).assert_no_leak()


def test_folds_that_cut_conditions_are_of_cells():
    labels = labels_of(crossed(["k1", "k2"], PERTS), n_rows=20)
    turn = iter(range(10**6))
    split = official_split(labels, given(labels, lambda c, p: "test" if next(turn) % 4 == 0 else "train"), ORIGIN)
    assert split.params["folds"] == "cells"
    assert split.ood_axes == ("none",)
    assert len(split.ood_rows("none")) == 0
    assert len(split.test_idx) == 60
    assert {n: len(split.fold(n)) for n in ("calib", "val")} == {
        "calib": 36,
        "val": 14,
    }  # a fifth of 180, a tenth of 144
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_cells_that_it_does_not_name_are_in_no_fold():
    labels = world()
    split = official_split(labels, given(labels, lambda c, p: None if p == "D" else by_condition(c, p)), ORIGIN)
    assert split.params["excluded"]["not_in_the_official_split"] == 24
    check_books(labels, split)


def test_other_modes_leave_train_and_the_test_stays():
    labels = labels_of(crossed(["k1", "k2"], PERTS) + crossed(["k3"], PERTS, mode="activation"))
    split = official_split(labels, given(labels, lambda c, p: "test" if c == "k2" else "train"), ORIGIN)
    assert split.params["excluded"]["other_mode"] == 24
    assert len(split.test_idx) == 24
    assert split.ood_axes == ("context",)  # train keeps every intervention: calibration is of its cells
    assert split.params["calibration"] == "cells of the official train"
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_refusals():
    labels = world()
    folds = given(labels, by_condition)
    with pytest.raises(SplitOfOtherData, match="names cells that the data do not have: given 1 of .*, first strange"):
        official_split(labels, {**folds, "strange": "train"}, ORIGIN)
    with pytest.raises(
        BadValue, match="An official split has folds of other names: given ood, expected train, val, test"
    ):
        official_split(labels, {**folds, "cell0": "ood"}, ORIGIN)
    with pytest.raises(TooFewConditions, match="leaves a fold empty: given train .*, val .*, test 0"):
        official_split(labels, {c: n for c, n in folds.items() if n != "test"}, ORIGIN)
    with pytest.raises(TooFewConditions, match="too small to calibrate on: given 2 conditions, 0 of which"):
        official_split(
            labels,
            given(labels, lambda c, p: {"A": "train", "B": "test"}.get(p)),
            ORIGIN,
        )
    twice = replace(labels, cell_n=np.array(["cell0"] * labels.n_obs, dtype=object))
    with pytest.raises(DuplicateNames, match="Cell ids are not unique"):
        official_split(twice, {"cell0": "train"}, ORIGIN)


# --- random cells --------------------------------------------------------------------------------------


def test_random_cells_leave_nothing_out_of_distribution():
    labels = labels_of(crossed(["k1"], PERTS), n_rows=20)
    split = random_cells(labels)
    assert split.ood_axes == ("none",)
    assert len(split.ood_rows("none")) == 0
    assert split.in_distribution_rows("none").tolist() == split.test_idx.tolist()
    assert {name: len(split.fold(name)) for name in FOLDS} == {"train": 60, "val": 12, "calib": 24, "test": 24}
    assert all(len(found) == 6 for found in conditions(labels, split).values())
    assert split.params["negative_example"] is True
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_train_has_every_condition_whatever_the_shares():
    labels = labels_of(crossed(["k1"], PERTS), n_rows=10)
    split = random_cells(labels, test_fraction=0.35, val_fraction=0.35, calib_fraction=0.25)
    assert all(len(found) == 6 for found in conditions(labels, split).values())


def test_small_conditions_are_in_no_fold():
    labels = labels_of([*crossed(["k1"], PERTS, n=10), {"context": "k1", "pert": "Z", "n": 9}])
    split = random_cells(labels)
    assert split.params["excluded"]["small_condition"] == 9
    check_books(labels, split)
    with pytest.raises(
        TooFewConditions, match="No condition has enough cells to deal: given 6 conditions with fewer than"
    ):
        random_cells(labels_of(crossed(["k1"], PERTS, n=9)))
    with pytest.raises(BadValue, match=r"test_fraction \+ val_fraction \+ calib_fraction is out of range"):
        random_cells(labels, test_fraction=0.8)
