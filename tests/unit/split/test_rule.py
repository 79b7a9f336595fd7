from dataclasses import replace

import numpy as np
import pytest

from perturbfm.errors import (
    BadValue,
    DuplicateNames,
    NoSharedPerturbation,
    PerturbFMError,
    TooFewConditions,
    TooFewControls,
    UnknownContext,
)
from perturbfm.split import FOLDS, context_ood, leave_one_context_out
from perturbfm.types import Labels

PINNED = "cba26501409b"
SHARED = tuple(f"g{i}" for i in range(9))


def world(
    contents, modes=None, n_rows=4, n_controls=80, batches=("b",), unit="cells", controls="cells", match="context"
):
    """Labels of contexts with the named perturbations, `n_rows` rows each and controls, in every batch."""
    rows = []
    for context, perts in contents.items():
        mode = (modes or {}).get(context, "knockdown")
        for batch in batches:
            n_control = n_controls.get((context, batch), 80) if isinstance(n_controls, dict) else n_controls
            rows += [(context, "control", batch, mode, True)] * n_control
            rows += [(context, pert, batch, mode, False) for pert in perts for _ in range(n_rows)]
    context, pert, batch, mode, is_control = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    return Labels(
        cell_n=np.array([f"cell{i}" for i in range(len(rows))], dtype=object),
        pert_n=pert,
        context_n=context,
        batch_n=batch,
        mode_n=mode,
        is_control_n=is_control.astype(bool),
        fingerprint="f" * 64,
        data_name="toy",
        unit=unit,
        controls=controls,
        match=match,
    )


def devel():
    """Three glioma lines knocked down, K562 activated: the shape of the devel file of the shared data."""
    gliomas = dict.fromkeys(("A172", "T98G", "U87MG"), SHARED)
    extra = tuple(f"x{i}" for i in range(15))
    return world({**gliomas, "K562": SHARED + extra}, modes={"K562": "activation"}, n_controls=100)


def kang(n_contexts=7):
    return world({f"type{i}": ["ifn"] for i in range(n_contexts)})


def conditions_of(labels, split):
    return {name: set(labels.condition_n[split.fold(name)]) for name in FOLDS}


# --- folds ---------------------------------------------------------------------------------------------


def test_test_is_every_perturbed_row_of_the_held_out_contexts():
    labels = kang()
    split = context_ood(labels, ["type3", "type1"])
    held = np.isin(labels.context_n.astype(str), ["type1", "type3"]) & ~labels.is_control_n
    assert split.test_idx.tolist() == np.flatnonzero(held).tolist()
    assert split.params["holdout"] == ("type1", "type3")
    assert split == context_ood(labels, ["type1", "type3"])
    assert split.ood_axes == ("context",)
    assert (split.rule, split.unit, split.n_obs) == ("context_ood", "cells", labels.n_obs)
    assert split.frozen_hash is None


def test_kang_seven_contexts_one_intervention():
    split = context_ood(kang(), ["type0"])
    assert split.params["n_conditions"] == {"train": 4, "val": 1, "calib": 1, "test": 1}
    assert split.params["validation"].startswith("context:type")
    assert split.params["not_in_train"] == ()


def test_validation_is_one_whole_source_context_where_there_are_four():
    labels = world({f"k{i}": SHARED for i in range(5)})
    split = context_ood(labels, ["k0"])
    context = split.params["validation"].removeprefix("context:")
    assert context in {"k1", "k2", "k3", "k4"}
    assert conditions_of(labels, split)["val"] == {f"{context}|{g}@knockdown" for g in SHARED}
    assert split.params["n_conditions"] == {"train": 20, "val": 9, "calib": 7, "test": 9}


def test_validation_context_depends_on_the_seed():
    labels = kang()
    assert len({context_ood(labels, ["type0"], seed=seed).params["validation"] for seed in range(30)}) == 6


def test_validation_is_conditions_with_fewer_contexts():
    labels = world({f"k{i}": SHARED for i in range(4)})
    split = context_ood(labels, ["k0"], val_fraction=0.2)
    assert split.params["validation"] == "conditions"
    assert split.params["n_conditions"] == {"train": 17, "val": 5, "calib": 5, "test": 9}


def test_validation_context_is_not_one_that_orphans_an_intervention():
    contents = {f"k{i}": ["g0"] for i in range(5)} | {"k4": ["g0", "only"], "k0": ["g0", "only"]}
    for seed in range(20):
        split = context_ood(world(contents), ["k0"], seed=seed)
        assert split.params["validation"] != "context:k4"
        assert split.params["not_in_train"] == ()


def test_validation_context_has_an_intervention_of_the_test():
    contents = {f"k{i}": ["g0", "g1"] for i in range(4)} | {"odd": ["z0", "z1"]}
    for seed in range(20):
        assert context_ood(world(contents), ["k0"], seed=seed).params["validation"] != "context:odd"


def test_validation_context_leaves_room_for_calibration():
    extras = [f"z{i}" for i in range(6)]
    contents = {"k0": ["a", "b", "c"], "k1": ["a", *extras], "k2": ["a", "b", "c"], "k3": ["a", "b"], "k4": ["a", "c"]}
    for seed in range(20):
        split = context_ood(world(contents), ["k0"], seed=seed, calib_fraction=0.5)
        assert split.params["validation"] != "context:k1"
        assert split.params["n_conditions"]["calib"] == 7


def test_validation_by_conditions_leaves_two_for_calibration():
    labels = world({"k0": ["a", "b"], "k1": ["a", "b", "x", "y"], "k2": ["a", "b"]})
    split = context_ood(labels, ["k0"], val_fraction=0.6, calib_fraction=0.3)
    assert split.params["n_conditions"] == {"train": 2, "val": 2, "calib": 2, "test": 2}


def test_validation_falls_back_to_conditions_where_every_context_would_orphan():
    contents = {f"k{i}": [f"own{i}", f"other{i}"] for i in range(1, 5)}
    contents["k0"] = [f"own{i}" for i in range(1, 5)]
    split = context_ood(world(contents), ["k0"])
    assert split.params["validation"] == "conditions"
    assert split.params["not_in_train"] == ()


def test_calibration_is_spread_over_contexts():
    labels = world({f"k{i}": SHARED for i in range(6)})
    split = context_ood(labels, ["k0"], calib_fraction=0.2)
    contexts, counts = np.unique([c.split("|")[0] for c in conditions_of(labels, split)["calib"]], return_counts=True)
    assert len(contexts) == 4
    assert counts.max() - counts.min() <= 1


def test_interventions_of_the_test_stay_in_train_at_the_price_of_smaller_folds():
    labels = world({"k0": ["a", "b"], "k1": ["a", "b"], "k2": ["a", "b"]})
    split = context_ood(labels, ["k0"], val_fraction=0.4, calib_fraction=0.5)
    assert split.params["n_conditions"] == {"train": 2, "val": 1, "calib": 1, "test": 2}
    assert split.params["not_in_train"] == ()


def test_what_cannot_stay_in_train_is_recorded():
    split = context_ood(world({"k0": ["a", "b", "c"], "k1": ["a", "b", "c"]}), ["k0"])
    assert split.params["n_conditions"] == {"train": 1, "val": 1, "calib": 1, "test": 3}
    assert len(split.params["not_in_train"]) == 2


def test_source_interventions_outside_the_test_are_trained_on():
    labels = world({"k0": ["a"], "k1": ["a", "b", "c", "d"], "k2": ["a", "e"]})
    split = context_ood(labels, ["k0"])
    assert "k1|a@knockdown" in (train := conditions_of(labels, split)["train"]) or "k2|a@knockdown" in train
    assert {i.split("|")[1] for i in train} > {"a@knockdown"}


@pytest.mark.parametrize("perts", [["a"], ["a", "b"]])
def test_too_few_source_conditions_are_refused(perts):
    labels = world({"k0": ["a"], "k1": perts})
    message = rf"Not enough source conditions .*: given {len(perts)} \(k1\|a@knockdown.*expected at least 3"
    with pytest.raises(TooFewConditions, match=message):
        context_ood(labels, ["k0"])


# --- which interventions -------------------------------------------------------------------------------


def test_other_modes_are_in_no_fold():
    labels = devel()
    split = context_ood(labels, ["T98G"])
    used = np.concatenate(list(split.indices().values()))
    assert set(labels.context_n[used]) == {"A172", "T98G", "U87MG"}
    assert split.params["modes"] == ("knockdown",)
    assert split.params["excluded"] == {"other_mode": 24 * 4, "unshared": 0, "control": 100}
    assert split.params["n_conditions"] == {"train": 12, "val": 2, "calib": 4, "test": 9}
    assert split.summary()["left_out"] == 24 * 4 + 100


@pytest.mark.parametrize("filter_unshared", [False, True])
def test_context_alone_with_its_mode_is_refused_by_name(filter_unshared):
    message = (
        r"occur in no source context in the same mode \(K562 is the only context with mode activation; the others have "
        r"knockdown\): given 24 unshared of 24: g0@activation, .* and 14 more, expected interventions of K562 that "
        r"another context has too. Hold out another context; nothing"
    )
    with pytest.raises(NoSharedPerturbation, match=message):
        context_ood(devel(), ["K562"], filter_unshared=filter_unshared)


def test_several_contexts_alone_with_their_mode():
    labels = world(dict.fromkeys(["k0", "k1", "k2"], SHARED), modes={"k0": "activation", "k1": "activation"})
    with pytest.raises(NoSharedPerturbation, match="k0, k1 are the only contexts with mode activation"):
        context_ood(labels, ["k1", "k0"])


def test_unshared_interventions_are_refused_or_filtered():
    labels = world({"k0": ["a", "b", "new"], "k1": ["a", "b"], "k2": ["a", "b"]})
    message = (
        r"\(the other contexts have the mode but not these interventions\): given 1 unshared of 3: new@knockdown, "
        "expected .*Pass filter_unshared=true to drop them"
    )
    with pytest.raises(NoSharedPerturbation, match=message):
        context_ood(labels, ["k0"])
    split = context_ood(labels, ["k0"], filter_unshared=True)
    assert split.params["dropped"] == ("new@knockdown",)
    assert split.params["excluded"]["unshared"] == 4
    assert conditions_of(labels, split)["test"] == {"k0|a@knockdown", "k0|b@knockdown"}


def test_holding_out_everything_is_refused():
    with pytest.raises(NoSharedPerturbation, match="every context with perturbed rows is held out"):
        context_ood(kang(2), ["type0", "type1"])


def test_context_of_controls_only():
    labels = world({"k0": ["a", "b"], "k1": ["a", "b"], "k2": ["a", "b"], "idle": []})
    with pytest.raises(TooFewConditions, match="have no perturbed rows: given idle, expected at least one"):
        context_ood(labels, ["idle"])
    assert context_ood(labels, ["k0"]).params["excluded"]["control"] == 80


def test_unknown_context_names_the_nearest():
    message = "not in the data: given T98, k562, expected some of A172, K562, T98G, U87MG. .*nearest to T98: T98G"
    with pytest.raises(UnknownContext, match=message):
        context_ood(devel(), ["k562", "T98"])


# --- controls ------------------------------------------------------------------------------------------


def test_controls_are_halved_within_context_and_batch():
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, batches=("b1", "b2"), n_controls=41)
    split = context_ood(labels, ["k0"])
    strata = labels.context_n + "|" + labels.batch_n
    for idx, size in ((split.input_control_idx, 21), (split.reference_control_idx, 20)):
        names, counts = np.unique(strata[idx].astype(str), return_counts=True)
        assert len(names) == 6
        assert set(counts) == {size}
        assert labels.is_control_n[idx].all()


def test_halves_depend_on_the_seed():
    labels = kang()
    one, two = (context_ood(labels, ["type0"], seed=seed) for seed in (0, 1))
    assert one.input_control_idx.tolist() != two.input_control_idx.tolist()


def test_reference_is_at_most_a_thousand_shared_out_over_batches():
    counts = {("k0", "b1"): 1500, ("k0", "b2"): 900, ("k0", "b3"): 3}
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, batches=("b1", "b2", "b3"), n_controls=counts)
    split = context_ood(labels, ["k0"])
    reference = split.reference_control_idx[labels.context_n[split.reference_control_idx] == "k0"]
    names, sizes = np.unique(labels.batch_n[reference].astype(str), return_counts=True)
    assert dict(zip(names, sizes.tolist(), strict=True)) == {"b1": 624, "b2": 375, "b3": 1}
    shown = labels.context_n[split.input_control_idx] == "k0"
    assert shown.sum() == 2403 - 1000


def test_every_batch_keeps_a_reference():
    counts = {("k0", "b1"): 3002, ("k0", "b2"): 1500, ("k0", "b3"): 2}
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, batches=("b1", "b2", "b3"), n_controls=counts)
    reference = context_ood(labels, ["k0"]).reference_control_idx
    reference = reference[labels.context_n[reference] == "k0"]
    names, sizes = np.unique(labels.batch_n[reference].astype(str), return_counts=True)
    assert dict(zip(names, sizes.tolist(), strict=True)) == {"b1": 666, "b2": 333, "b3": 1}


def test_up_to_two_thousand_controls_are_simply_halved():
    split = context_ood(world({f"k{i}": ["a", "b"] for i in range(3)}, n_controls=1500), ["k0"])
    assert len(split.input_control_idx) == len(split.reference_control_idx) == 3 * 750


def test_too_few_controls_are_refused_by_context():
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, n_controls={("k1", "b"): 59, ("k2", "b"): 0})
    message = (
        "Too few controls for an input and a reference half: given k1 with 30 input and 29 reference; "
        "k2 with 0 input and 0 reference, expected at least 30 on each side of a context.*lower min_controls"
    )
    with pytest.raises(TooFewControls, match=message):
        context_ood(labels, ["k0"])
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, n_controls={("k1", "b"): 59})
    assert len(context_ood(labels, ["k0"], min_controls=29).reference_control_idx) == 40 + 29 + 40


BY_BATCH = {"batches": ("b1", "b2"), "match": "context_batch"}


@pytest.mark.parametrize(("n", "halves"), [(0, "0 input and 0"), (1, "1 input and 0"), (3, "2 input and 1")])
def test_batch_without_two_controls_on_each_side_is_refused_where_batches_match(n, halves):
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, n_controls={("k1", "b2"): n}, **BY_BATCH)
    message = f"given batch b2 of k1 with {halves} reference, expected .* and 2 on each side of a batch.*match=context"
    with pytest.raises(TooFewControls, match=message):
        context_ood(labels, ["k0"])
    assert context_ood(replace(labels, match="context"), ["k0"]).params["match"] == "context"


def test_four_controls_of_a_batch_are_two_on_each_side_however_many_the_others_have():
    counts = {("k1", "b1"): 9000, ("k1", "b2"): 4}
    split = context_ood(world({f"k{i}": ["a", "b"] for i in range(3)}, n_controls=counts, **BY_BATCH), ["k0"])
    assert split.params["match"] == "context_batch"
    labels = world({f"k{i}": ["a", "b"] for i in range(3)}, n_controls=counts, **BY_BATCH)
    for idx in (split.input_control_idx, split.reference_control_idx):
        assert ((labels.context_n[idx] == "k1") & (labels.batch_n[idx] == "b2")).sum() == 2


def test_the_match_of_controls_is_in_the_hash():
    labels = kang()
    by_batch = context_ood(replace(labels, match="context_batch"), ["type0"])
    assert by_batch.compute_hash() != context_ood(labels, ["type0"]).compute_hash()


def test_batch_of_controls_only_may_be_single():
    labels = world({f"k{i}": ["a", "b"] for i in range(3)})
    batch_n = labels.batch_n.copy()
    batch_n[np.flatnonzero(labels.is_control_n)[0]] = "lonely"
    split = context_ood(replace(labels, batch_n=batch_n), ["k0"])
    assert (batch_n[split.input_control_idx] == "lonely").sum() == 1
    assert (batch_n[split.reference_control_idx] == "lonely").sum() == 0


def test_long_lists_of_short_contexts_are_cut():
    with pytest.raises(TooFewControls, match=r"type17 with 5 input and 5 reference and 10 more, expected"):
        context_ood(world({f"type{i}": ["ifn"] for i in range(20)}, n_controls=10), ["type0"])


def test_baked_in_controls_have_no_roles():
    labels = world(
        {f"k{i}": ["a", "b"] for i in range(3)}, n_controls=1, n_rows=1, unit="pseudobulk", controls="baked_in"
    )
    split = context_ood(labels, ["k0"])
    assert split.input_control_idx.size == split.reference_control_idx.size == 0
    assert split.params["excluded"]["control"] == 3
    assert split.unit == "pseudobulk"
    assert sum(len(split.fold(name)) for name in FOLDS) == 6


def test_repeated_cell_ids_are_refused():
    labels = kang()
    with pytest.raises(DuplicateNames, match=f"given {labels.n_obs} rows with 1 ids, expected one id per row"):
        context_ood(replace(labels, cell_n=np.full(labels.n_obs, "cell", dtype=object)), ["type0"])


# --- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": "type0"}, "holdout is not a list of contexts: given 'type0', expected at least one context"),
        ({"holdout": []}, r"holdout is not a list of contexts: given \[\]"),
        ({"holdout": ["type0", "type0"]}, "holdout is not a list of contexts.*each once"),
        ({"seed": -1}, "seed is out of range: given -1"),
        ({"seed": 0.5}, "seed is out of range: given 0.5"),
        ({"val_fraction": 0}, "val_fraction is out of range: given 0, expected a number between 0 and 1"),
        ({"val_fraction": "0.1"}, "val_fraction is out of range: given '0.1'"),
        ({"calib_fraction": 1.0}, "calib_fraction is out of range: given 1.0"),
        ({"calib_fraction": float("nan")}, "calib_fraction is out of range: given nan"),
        ({"calib_fraction": 0.6, "val_fraction": 0.4}, "leave nothing to train on: given 0.4 and 0.6"),
        ({"min_controls": 0}, "min_controls is out of range: given 0, expected a whole number from 1 to 1000"),
        ({"min_controls": 1001}, "min_controls is out of range: given 1001"),
        ({"filter_unshared": 1}, "filter_unshared is not a switch: given 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(BadValue, match=message):
        context_ood(kang(), **{"holdout": ["type0"], **options})


def test_numpy_options_are_recorded_as_plain_numbers():
    split = context_ood(kang(), np.array(["type0"]), seed=np.int64(3), min_controls=np.int32(30))
    assert split == context_ood(kang(), ["type0"], seed=3)


def test_pinned_dealing():
    """A given seed deals the same folds for ever, on every platform."""
    assert context_ood(devel(), ["T98G"]).compute_hash()[:12] == PINNED


# --- each context in turn ------------------------------------------------------------------------------


def test_each_context_in_turn_is_the_single_rule():
    labels = kang()
    splits = list(leave_one_context_out(labels, seed=2))
    assert [split.params["holdout"] for split in splits] == [(f"type{i}",) for i in range(7)]
    assert splits == [context_ood(labels, [f"type{i}"], seed=2) for i in range(7)]


def test_refusal_is_raised_or_skipped():
    splits = leave_one_context_out(devel())
    assert next(splits).params["holdout"] == ("A172",)
    with pytest.raises(NoSharedPerturbation, match="K562 is the only context with mode activation"):
        next(splits)
    held = [split.params["holdout"] for split in leave_one_context_out(devel(), on_refusal="skip")]
    assert held == [("A172",), ("T98G",), ("U87MG",)]


def test_all_refused_is_raised_even_when_skipping():
    with pytest.raises(TooFewControls, match="Too few controls"):
        list(leave_one_context_out(world({f"k{i}": ["a"] for i in range(5)}, n_controls=2), on_refusal="skip"))


def test_bad_options_are_never_skipped():
    with pytest.raises(BadValue, match="Unknown on_refusal: given 'ignore', expected raise or skip"):
        leave_one_context_out(kang(), on_refusal="ignore")
    with pytest.raises(PerturbFMError, match="seed is out of range"):
        list(leave_one_context_out(kang(), seed=-1, on_refusal="skip"))
