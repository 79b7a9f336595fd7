"""Does train know context and intervention of a held-out pairing apart, and are rows on the axes that hold for them?"""

import pytest
from toy_labels import check_books, combination_axis, crossed, labels_of, parts, perts

from perturbfm.errors import BadValue, TooFewConditions, UnknownContext
from perturbfm.split import audit
from perturbfm.split.rule import covariate_transfer, several_axes

PERTS = [f"G{i}X" for i in range(6)]
KNOWN = ("train", "val", "calib")


@pytest.mark.parametrize("seed", range(10))
def test_context_and_intervention_are_in_train_the_pairing_is_not(seed):
    labels = labels_of(crossed(["k1", "k2", "k3"], PERTS))
    split = covariate_transfer(labels, fraction=0.34, seed=seed)
    test, train = (
        {*zip(c[i], p[i], strict=True)}
        for c, p in [(labels.context_n, labels.intervention_n)]
        for i in (split.test_idx, split.train_idx)
    )
    assert len(test) == 6  # two of six in each of three contexts
    assert not test & train
    assert {c for c, _ in test} <= {c for c, _ in train}
    assert {p for _, p in test} <= {p for _, p in train}
    assert split.ood_rows("pairing").tolist() == split.test_idx.tolist()
    assert len(split.params["held_out"]) == 6
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


@pytest.mark.parametrize("seed", range(20))
def test_a_small_context_stays_in_train(seed):
    labels = labels_of(crossed(["k1", "k2"], PERTS) + crossed(["small"], PERTS[:2]))
    split = covariate_transfer(labels, within=["small"], calib_fraction=0.5, val_fraction=0.3, seed=seed)
    assert set(labels.context_n[split.test_idx]) == {"small"}
    assert "small" in set(labels.context_n[split.train_idx])


def test_an_intervention_of_one_context_is_never_held_out():
    labels = labels_of(crossed(["k1", "k2"], PERTS) + crossed(["k1"], ["own1", "own2", "own3"]))
    for seed in range(10):
        assert not {"own1", "own2", "own3"} & {*labels.pert_n[covariate_transfer(labels, seed=seed).test_idx]}


def test_pairings_do_not_cross_modes():
    labels = labels_of(crossed(["k1"], PERTS) + crossed(["k2"], PERTS, mode="activation"))
    with pytest.raises(
        TooFewConditions, match="No condition can be held out.*given 2 contexts, 0 interventions in more"
    ):
        covariate_transfer(labels)


def test_refusals_of_pairings():
    labels = labels_of(crossed(["k1", "k2"], ["A", "B"]))
    with pytest.raises(TooFewConditions, match="Not enough source conditions for train.*given 2"):
        covariate_transfer(labels)
    with pytest.raises(BadValue, match="within has names that are not in the data: given k7"):
        covariate_transfer(labels, within=["k7"])
    with pytest.raises(BadValue, match="fraction is out of range"):
        covariate_transfer(labels, fraction=2)


def test_validation_may_not_take_what_train_must_keep():
    found = [("k1", "A"), ("k1", "B"), ("k2", "A"), ("k2", "B"), ("k3", "A"), ("k3", "B")]
    labels = labels_of([{"context": c, "pert": p} for c, p in found])
    with pytest.raises(TooFewConditions, match="Nothing is left to validate and calibrate on: given 0 source"):
        covariate_transfer(labels, fraction=0.5)


# --- several axes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_each_row_is_on_the_axes_that_hold_for_it(seed):
    labels = labels_of(crossed(["k1", "k2", "k3"], [*PERTS, "G0X+G1X", "G2X+G3X"]))
    split = several_axes(labels, ["k3"], perturbations=["G0X"], seed=seed)
    for name in KNOWN:
        assert "k3" not in labels.context_n[split.fold(name)]
        assert "G0X" not in parts(labels, split.fold(name))
    for i in split.test_idx:
        on = {axis for axis in split.ood_axes if i in split.ood_rows(axis)}
        expected = {"context"} if labels.context_n[i] == "k3" else set()
        expected |= {"perturbation"} if labels.pert_n[i] == "G0X" else set()
        if labels.pert_n[i] == "G0X+G1X":
            expected |= {combination_axis(labels, split, i)}
        assert on == expected
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


@pytest.mark.parametrize("seed", range(20))
def test_only_held_out_contexts_are_on_the_axis_context(seed):
    labels = labels_of(crossed(["k1", "k2"], PERTS) + crossed(["small"], PERTS[:3]))
    split = several_axes(labels, ["k2"], perturbations=["G0X"], calib_fraction=0.4, seed=seed)
    assert set(labels.context_n[split.ood_rows("context")]) == {"k2"}
    audit(split, labels).assert_no_leak()


def test_what_only_calibration_knows_is_not_asked_of_a_held_out_context():
    labels = labels_of(crossed(["k1", "k2"], PERTS))
    split = several_axes(labels, ["k2"], perturbations=["G0X"])
    beside = perts(labels, split.val_idx) | perts(labels, split.calib_idx)
    train = perts(labels, split.train_idx)
    assert len(beside) == 2  # one context to learn from: each source condition is the only one of its gene
    assert not beside & train
    assert perts(labels, split.test_idx) == {"G0X"} | train
    assert split.params["excluded"]["only_in_validation_or_calibration"] == 2 * 4
    check_books(labels, split)
    audit(split, labels).assert_no_leak()


def test_a_context_that_could_not_be_tested_is_refused():
    held = {"k2": "G1X", "k3": "G2X", "k4": "G3X"}
    labels = labels_of(crossed(["k1"], PERTS[:4]) + [{"context": c, "pert": p} for c, p in held.items()])
    with pytest.raises(
        TooFewConditions,
        match="Validation and calibration need what the test asks for: given nothing left .* context k",
    ):
        several_axes(labels, [*held], perturbations=["G0X"])


def test_both_axes_of_a_crossed_design():
    labels = labels_of(crossed(["k1", "k2", "k3", "k4"], PERTS))
    split = several_axes(labels, ["k4"], fraction=0.34)
    n = {axis: len(split.ood_rows(axis)) for axis in split.ood_axes}
    assert n == {"context": 6 * 4, "perturbation": 2 * 4 * 4}  # six genes in one context; two genes in four
    assert len(split.test_idx) == (6 + 2 * 3) * 4
    assert len(split.in_distribution_rows("context")) == 2 * 3 * 4


def test_train_has_no_mode_that_the_test_lacks():
    labels = labels_of(crossed(["k1", "k2"], PERTS) + crossed(["k1"], PERTS[3:], mode="activation"))
    split = several_axes(labels, ["k2"], perturbations=["G0X"])
    assert set(labels.mode_n[split.train_idx]) == {"knockdown"}
    audit(split, labels).assert_no_leak()


def test_refusals_of_several_axes():
    labels = labels_of(crossed(["k1", "k2"], PERTS))
    with pytest.raises(UnknownContext, match="Held-out contexts are not in the data: given k9"):
        several_axes(labels, ["k9"])
    with pytest.raises(BadValue, match="perturbations has names that are not in the data: given ZZZ"):
        several_axes(labels, ["k1"], perturbations=["ZZZ"])
    with pytest.raises(TooFewConditions, match="Not enough source conditions"):
        several_axes(labels, ["k1"], perturbations=PERTS[:5])
