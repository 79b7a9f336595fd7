"""Each kind of leak is planted in a clean split, and found by name."""

from dataclasses import replace

import numpy as np
import pytest

from perturbfm.errors import SplitLeaks
from perturbfm.split import audit, context_ood, leave_one_context_out
from perturbfm.types import Labels


def make_labels(match="context"):
    """Three contexts with four knock-downs each, ten cells per condition and batch; the last context has drugs too."""
    rows = []
    for context in ("k0", "k1", "k2"):
        for batch in ("b1", "b2"):
            rows += [(context, "control", batch, "knockdown", True)] * 10
            rows += [(context, f"g{i}", batch, "knockdown", False) for i in range(4) for _ in range(10)]
    rows += [("k2", "aspirin", "b1", "drug", False)] * 10
    context, pert, batch, mode, is_control = (np.array(c, dtype=object) for c in zip(*rows, strict=True))
    names = np.array([f"cell{i}" for i in range(len(rows))], dtype=object)
    return Labels(names, pert, context, batch, mode, is_control.astype(bool), "f" * 64, "toy", match=match)


LABELS = make_labels()


def clean(**options):
    return context_ood(LABELS, ["k0"], min_controls=5, **options)


@pytest.mark.parametrize("match", ["context", "context_batch"])
def test_clean_splits_of_both_rules_pass(match):
    labels = make_labels(match)
    audit(context_ood(labels, ["k0", "k1"], min_controls=5), labels).assert_no_leak()
    for split in leave_one_context_out(labels, min_controls=5, filter_unshared=True):
        audit(split.freeze(), labels).assert_no_leak()


def test_a_held_out_context_that_was_dropped_whole_passes():
    pert_n = LABELS.pert_n.copy()
    pert_n[(LABELS.context_n == "k1") & ~LABELS.is_control_n] = "new"
    labels = replace(LABELS, pert_n=pert_n)
    split = context_ood(labels, ["k0", "k1"], min_controls=5, filter_unshared=True)
    assert set(labels.context_n[split.test_idx]) == {"k0"}
    audit(split, labels).assert_no_leak()


@pytest.mark.parametrize("role", ["input_control", "reference_control"])
def test_a_perturbed_row_among_controls_is_found(role):
    split = clean()
    row = split.test_idx[0]
    rows = np.append(split.indices()[role], row)
    leaky = replace(split, test_idx=split.test_idx[1:], **{f"{role}_idx": rows})
    with pytest.raises(SplitLeaks, match=rf"Perturbed rows serve as controls: given 1 rows of {role}, first row {row}"):
        audit(leaky, LABELS).assert_no_leak()


def test_a_control_in_a_fold_is_found():
    split = clean()
    row = split.reference_control_idx[0]
    leaky = replace(
        split, train_idx=np.append(split.train_idx, row), reference_control_idx=split.reference_control_idx[1:]
    )
    with pytest.raises(SplitLeaks, match=rf"Controls are in a fold: given 1 rows of train, first row {row}"):
        audit(leaky, LABELS).assert_no_leak()


@pytest.mark.parametrize("fold", ["train", "val", "calib"])
def test_a_held_out_context_in_another_fold_is_found(fold):
    split = clean()
    moved = LABELS.pert_n[split.test_idx] == "g0"
    rows = np.append(split.fold(fold), split.test_idx[moved])
    leaky = replace(split, test_idx=split.test_idx[~moved], **{f"{fold}_idx": rows})
    with pytest.raises(SplitLeaks, match=f"Held-out contexts are in {fold}: given k0, expected none of k0"):
        audit(leaky, LABELS).assert_no_leak()
    audit(replace(leaky, ood_axes=("covariate_transfer",)), LABELS).assert_no_leak()  # another axis may share contexts


def test_a_test_of_other_contexts_than_it_says_is_found():
    wrong = replace(clean(), params={"holdout": ["k0", "k9"]})
    with pytest.raises(SplitLeaks, match="held out: given a test of k0, expected holdout k0, k9"):
        audit(wrong, LABELS).assert_no_leak()
    with pytest.raises(SplitLeaks, match="held out: given a test of k0, expected holdout k9"):
        audit(replace(wrong, params={"holdout": ["k9"], "dropped": ["g0@knockdown"]}), LABELS).assert_no_leak()


@pytest.mark.parametrize(("one", "other"), [("train", "calib"), ("train", "val"), ("val", "calib")])
def test_a_condition_in_two_folds_is_found(one, other):
    split = clean()
    source = split.fold(one)
    condition = LABELS.condition_n[source[0]].replace("|", r"\|")
    leaky = replace(split, **{f"{one}_idx": source[1:], f"{other}_idx": np.append(split.fold(other), source[0])})
    message = f"Conditions have rows both in {one} and in {other}: given 1 conditions, first {condition}"
    with pytest.raises(SplitLeaks, match=message):
        audit(leaky, LABELS).assert_no_leak()
    audit(replace(leaky, params={**split.params, "folds": "cells"}), LABELS).assert_no_leak()


def test_another_mode_in_train_is_found():
    drugs = np.flatnonzero(LABELS.mode_n == "drug")
    split = clean()
    leaky = replace(split, train_idx=np.append(split.train_idx, drugs))
    with pytest.raises(SplitLeaks, match="mode that the test lacks: given drug, expected the modes of the test: knock"):
        audit(leaky, LABELS).assert_no_leak()


def test_data_matched_in_another_way_are_refused():
    message = (
        "another match of controls: given data that match by context_batch, expected match by context. "
        r"Set data\.match=context, or freeze a split for this match\."
    )
    split = clean()
    with pytest.raises(SplitLeaks, match=message):
        audit(split, make_labels("context_batch")).assert_no_leak()
    unsaid = {key: value for key, value in split.params.items() if key != "match"}
    audit(replace(split, params=unsaid), make_labels("context_batch")).assert_no_leak()
