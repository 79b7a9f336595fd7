"""Do series keep what makes them comparable: nested, equal in size, the same test?"""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from toy_labels import combination_axis, conditions, crossed, labels_of

from perturbfm.errors import BadValue, SplitNotFrozen, SplitOfOtherData, TooFewConditions
from perturbfm.split import audit, context_ood
from perturbfm.split.rule import (
    covariate_ood,
    covariate_transfer,
    few_shot,
    imbalance_series,
    scaling_series,
    unseen_combination,
    unseen_perturbation,
)

PERTS = ["A", "B", "C", "D", "E"]
OTHERS = ("val", "calib", "input_control", "reference_control")


def world(n_rows=30, **changes):
    return labels_of(crossed(["k1", "k2", "k3"], PERTS), n_rows=n_rows, **changes)


def based(labels):
    return context_ood(labels, ["k3"]).freeze()


def same(split, base, names):
    return all(np.array_equal(split.indices()[name], base.indices()[name]) for name in names)


# --- few shots -----------------------------------------------------------------------------------------


def test_more_shots_than_a_split_says_are_refused():
    labels = world()
    split = few_shot(labels, based(labels), k=5)
    assert audit(split, labels).verdict == "warn"
    moved = split.test_idx[:7]
    more = replace(split, train_idx=np.append(split.train_idx, moved), test_idx=np.setdiff1d(split.test_idx, moved))
    found = [f.message for f in audit(more, labels).with_verdict("refuse")]
    assert found == ["Train has more cells of test conditions than the split says"]


def test_k_cells_of_every_test_condition_are_shown():
    labels = world()
    base = based(labels)
    split = few_shot(labels, base, k=5)
    shown = set(split.train_idx.tolist()) - set(base.train_idx.tolist())
    assert Counter(labels.pert_n[sorted(shown)]) == dict.fromkeys(PERTS, 5)
    assert shown | set(split.test_idx.tolist()) == set(base.test_idx.tolist())
    assert Counter(labels.pert_n[split.test_idx]) == dict.fromkeys(PERTS, 25)
    assert same(split, base, OTHERS)
    assert split.ood_axes == ("few_shot",)
    assert (split.params["base"], split.params["base_axes"]) == (base.frozen_hash, ("context",))
    assert split.frozen_hash is None
    audit(split, labels).assert_no_leak()


def test_shots_are_nested():
    labels = world()
    base = based(labels)
    few, more = (set(few_shot(labels, base, k=k).train_idx.tolist()) for k in (3, 8))
    assert few < more


def test_ten_cells_are_left_or_the_condition_is_dropped():
    found = crossed(["k1", "k2"], PERTS) + [{"context": "k3", "pert": p, "n": n} for p, n in (("A", 15), ("B", 14))]
    labels = labels_of(found, n_rows=30)
    split = few_shot(labels, based(labels), k=5)
    assert Counter(labels.pert_n[split.test_idx]) == {"A": 10}
    assert split.params["few_cells"] == ("k3|B@knockdown",)
    with pytest.raises(TooFewConditions, match="No test condition has enough cells.*2 conditions with fewer than 16"):
        few_shot(labels, based(labels), k=6)


def test_a_mode_that_is_dropped_from_the_test_leaves_train():
    found = [{**c, "mode": m} for m in ("knockdown", "activation") for c in crossed(["k1", "k2"], PERTS)]
    found += [{"context": "k3", "pert": "A"}, {"context": "k3", "pert": "B", "mode": "activation", "n": 5}]
    labels = labels_of(found, n_rows=30)
    split = few_shot(labels, based(labels), k=5)
    assert set(labels.mode_n[split.train_idx]) == {"knockdown"}
    audit(split, labels).assert_no_leak()


# --- scaling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["cells", "conditions"])
def test_shares_are_nested_and_the_rest_stays(unit):
    labels = world(n_rows=32)
    base = based(labels)
    found = list(scaling_series(labels, base, fractions=[1.0, 0.25, 0.5], unit=unit))
    assert [s.params["fraction"] for s in found] == [0.25, 0.5, 1.0]
    for small, large in itertools.pairwise(found):
        assert set(small.train_idx.tolist()) < set(large.train_idx.tolist())
    assert np.array_equal(found[-1].train_idx, base.train_idx)
    for split in found:
        assert same(split, base, (*OTHERS, "test"))
        assert split.ood_axes == base.ood_axes
        audit(split, labels).assert_no_leak()
    n = len(conditions(labels, base)["train"])
    if unit == "cells":
        assert [len(s.train_idx) for s in found] == [8 * n, 16 * n, 32 * n]
    else:
        assert [len(conditions(labels, s)["train"]) for s in found] == [round(0.25 * n), round(0.5 * n), n]


def test_every_condition_keeps_a_cell():
    labels = world(n_rows=3)
    base = based(labels)
    (split,) = scaling_series(labels, base, fractions=[0.01])
    assert conditions(labels, split)["train"] == conditions(labels, base)["train"]
    assert len(split.train_idx) == split.params["n_conditions"]["train"]


def test_a_series_keeps_what_the_audit_asks_of_its_base():
    labels = labels_of([c for i in range(4) for c in crossed(["k"], PERTS, batch=f"b{i}")], match="context_batch")
    base = covariate_ood(labels, "batch", ["b3"]).freeze()
    for split in scaling_series(labels, base, fractions=[0.5, 1.0]):
        audit(split, labels).assert_no_leak()
    found = [*crossed(["k1", "k2", "k3"], PERTS), {"context": "k4", "pert": "Z"}]
    labels = labels_of(found)
    base = context_ood(labels, ["k3", "k4"], filter_unshared=True).freeze()
    for split in scaling_series(labels, base, fractions=[0.5]):
        audit(split, labels).assert_no_leak()


def test_rows_by_axis_stay_those_of_the_base():
    labels = labels_of(crossed(["k1", "k2", "k3"], PERTS))
    base = covariate_transfer(labels).freeze()
    (split,) = scaling_series(labels, base, fractions=[0.5])
    assert split.ood_rows("pairing").tolist() == base.ood_rows("pairing").tolist()


# --- imbalance -----------------------------------------------------------------------------------------


def test_equal_totals_and_the_ratio_asked_for():
    labels = world(n_rows=200)
    base = based(labels)
    found = list(imbalance_series(labels, base, ratios=[1, 4, 20]))
    counts = [sorted(Counter(labels.condition_n[s.train_idx]).values()) for s in found]
    assert len({sum(n) for n in counts}) == 1
    assert counts[0][-1] - counts[0][0] <= 1
    for split, n, ratio in zip(found, counts, (1, 4, 20), strict=True):
        assert (split.params["most"], split.params["least"]) == (n[-1], n[0])
        assert abs(n[-1] / n[0] - ratio) <= 0.15 * ratio
        assert same(split, base, (*OTHERS, "test"))
        assert len(n) == split.params["n_conditions"]["train"]
        audit(split, labels).assert_no_leak()


def test_equal_totals_where_conditions_are_small_and_ragged():
    found = [
        {"context": k, "pert": p, "n": n}
        for k in ("k1", "k2", "k3")
        for p, n in zip(PERTS, (3, 9, 40, 2, 17), strict=True)
    ]
    labels = labels_of(found)
    base = based(labels)
    series = list(imbalance_series(labels, base, ratios=[1, 10, 100]))
    assert len({len(s.train_idx) for s in series}) == 1
    assert all(set(s.train_idx.tolist()) <= set(base.train_idx.tolist()) for s in series)


# --- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [few_shot, scaling_series, imbalance_series])
def test_the_base_is_frozen_and_of_the_same_data(rule):
    labels = world()
    base = based(labels)
    with pytest.raises(SplitNotFrozen, match="Split carries no frozen hash"):
        rule(labels, replace(base, frozen_hash=None))
    with pytest.raises(SplitOfOtherData, match="is locked to other data"):
        rule(replace(labels, fingerprint="e" * 64), base)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (few_shot, {"k": 0}, "k is out of range: given 0"),
        (few_shot, {"k": 2.5}, "k is out of range: given 2.5"),
        (scaling_series, {"fractions": []}, r"fractions are out of range: given \[\]"),
        (scaling_series, {"fractions": [0.5, 0.5]}, "fractions are out of range"),
        (scaling_series, {"fractions": [0]}, "fractions are out of range"),
        (scaling_series, {"fractions": 0.5}, "fractions are out of range"),
        (scaling_series, {"unit": "genes"}, "Unknown unit: given 'genes', expected cells or conditions"),
        (imbalance_series, {"ratios": [0.5]}, r"ratios are out of range: given \[0.5\]"),
        (imbalance_series, {"ratios": [2, 2.0]}, "ratios are out of range"),
        (imbalance_series, {"ratios": [float("inf")]}, "ratios are out of range"),
    ],
)
def test_refusals(rule, options, message):
    labels = world()
    with pytest.raises(BadValue, match=message):
        rule(labels, based(labels), **options)


def test_one_condition_cannot_be_uneven():
    labels = labels_of(crossed(["k1", "k2", "k3", "k4"], ["A"]))
    base = context_ood(labels, ["k1"]).freeze()
    with pytest.raises(TooFewConditions, match="One condition cannot be uneven"):
        imbalance_series(labels, base)


# --- combinations --------------------------------------------------------------------------------------


def test_combinations_are_classed_again_where_conditions_leave_train():
    labels = labels_of(crossed(["k"], ["A", "B", "C", "D", "A+B", "C+D", "A+D", "B+C"]))
    base = unseen_combination(labels, holdout=["A+B", "C+D"]).freeze()
    assert base.ood_axes == ("combination_seen_2",)
    series = list(scaling_series(labels, base, fractions=[0.25, 0.5, 0.75, 1.0], unit="conditions"))
    for split in series:
        on = {int(i): axis for axis in split.ood_axes for i in split.ood_rows(axis)}
        assert sorted(on) == split.test_idx.tolist()
        assert all(axis == combination_axis(labels, split, i) for i, axis in on.items())
        audit(split, labels).assert_no_leak()
    assert series[-1].ood_axes == base.ood_axes
    assert series[0].ood_axes != base.ood_axes  # a quarter of the conditions cannot have all four genes alone


def test_cells_leave_the_axes_as_they_are():
    labels = labels_of(crossed(["k"], ["A", "B", "C", "D", "A+B", "C+D"]), n_rows=20)
    base = unseen_combination(labels, holdout=["A+B"]).freeze()
    (split,) = scaling_series(labels, base, fractions=[0.3])
    assert (split.ood_axes, split.ood_rows("combination_seen_2").tolist()) == (base.ood_axes, base.test_idx.tolist())


def test_a_base_whose_combinations_train_has_is_refused():
    labels = labels_of(crossed(["k"], PERTS))
    base = replace(
        unseen_perturbation(labels), ood_axes=("combination_seen_2",), ood_idx=None, frozen_hash=None
    ).freeze()
    with pytest.raises(BadValue, match="The base calls rows held-out combinations that are none beside its train fold"):
        list(scaling_series(labels, base, unit="conditions"))
