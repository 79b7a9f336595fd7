"""For all labels: folds are whole conditions, cover everything once, and depend on names and seed only."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perturbfm.errors import NoSharedPerturbation, TooFewConditions, TooFewControls
from perturbfm.split import FOLDS, ROLES, Split, audit, context_ood
from perturbfm.types import Labels

always = settings(derandomize=True, deadline=None, max_examples=100)
IDX = [f"{name}_idx" for name in (*FOLDS, *ROLES)]


@st.composite
def worlds(draw):
    """Labels with ragged conditions, several modes and batches, and a context to hold out."""
    contexts = [f"k{i}" for i in range(draw(st.integers(2, 7)))]
    perts = [f"p{i}" for i in range(draw(st.integers(1, 6)))]
    batches = [f"b{i}" for i in range(draw(st.integers(1, 3)))]
    match, least = draw(st.sampled_from([("context", 0), ("context_batch", 4)]))
    rows = []
    for context in contexts:
        for batch in batches:
            rows += [(context, "control", batch, "drug", True)] * draw(st.integers(least, least + 5))
        for pert in draw(st.lists(st.sampled_from(perts), min_size=1, unique=True)):
            mode = draw(st.sampled_from(["drug", "drug", "drug", "ligand"]))
            batch = draw(st.sampled_from(batches))
            rows += [(context, pert, batch, mode, False)] * draw(st.integers(1, 4))
    context, pert, batch, mode, is_control = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    labels = Labels(
        cell_n=np.array([f"cell{i}" for i in range(len(rows))], dtype=object),
        pert_n=pert,
        context_n=context,
        batch_n=batch,
        mode_n=mode,
        is_control_n=is_control.astype(bool),
        fingerprint="f" * 64,
        data_name="toy",
        match=match,
    )
    return labels, draw(st.sampled_from(contexts)), draw(st.integers(0, 5))


def deal(world):
    labels, holdout, seed = world
    try:
        return context_ood(labels, [holdout], seed=seed, min_controls=1, filter_unshared=True)
    except (NoSharedPerturbation, TooFewConditions, TooFewControls):
        assume(False)


def permuted(labels, order):
    names = ("cell_n", "pert_n", "context_n", "batch_n", "mode_n", "is_control_n")
    return replace(labels, **{name: getattr(labels, name)[order] for name in names})


@always
@given(worlds(), st.randoms(use_true_random=False))
def test_dealing_does_not_depend_on_row_order(world, random):
    labels, holdout, seed = world
    split = deal(world)
    order = list(range(labels.n_obs))
    random.shuffle(order)
    shuffled = permuted(labels, np.array(order))
    again = deal((shuffled, holdout, seed))
    assert again.params == split.params
    for name, idx in split.indices().items():
        assert set(shuffled.cell_n[again.indices()[name]]) == set(labels.cell_n[idx])


@always
@given(worlds())
def test_every_row_is_used_once_or_excluded_for_a_reason(world):
    split = deal(world)
    every = np.concatenate(list(split.indices().values()))
    assert len(set(every.tolist())) == len(every)
    assert split.summary()["left_out"] == sum(split.params["excluded"].values())
    assert world[0].n_obs == len(every) + split.summary()["left_out"]
    assert min(split.params["excluded"].values()) >= 0


@always
@given(worlds())
def test_folds_are_whole_conditions_without_controls(world):
    labels, holdout, _ = world
    split = deal(world)
    perturbed = ~labels.is_control_n
    seen = []
    for name in FOLDS:
        conditions = sorted(set(labels.condition_n[split.fold(name)]))
        rows = np.flatnonzero(perturbed & np.isin(labels.condition_n.astype(str), conditions))
        assert split.fold(name).tolist() == rows.tolist()
        assert (labels.context_n[split.fold(name)] == holdout).all() == (name == "test")
        assert len(conditions) == split.params["n_conditions"][name]
        seen += conditions
    assert len(seen) == len(set(seen))


@always
@given(worlds())
def test_what_the_rule_deals_passes_the_audit(world):
    audit(deal(world), world[0]).assert_no_leak()


@always
@given(worlds())
def test_halves_differ_by_one_at_most(world):
    labels = world[0]
    split = deal(world)
    contexts = set(labels.context_n[np.concatenate([split.fold(name) for name in FOLDS])])
    strata = labels.context_n + "|" + labels.batch_n
    for stratum in set(strata[labels.is_control_n]):
        shown, reference = ((strata[split.indices()[role]] == stratum).sum() for role in ROLES)
        n = (strata[labels.is_control_n] == stratum).sum()
        assert shown + reference == (n if stratum.split("|")[0] in contexts else 0)
        assert shown - reference in (0, 1)


@always
@given(worlds())
def test_every_intervention_of_the_test_is_in_train_when_possible(world):
    labels = world[0]
    split = deal(world)
    interventions = {name: set(labels.intervention_n[split.fold(name)]) for name in FOLDS}
    n_source = sum(split.params["n_conditions"][name] for name in ("train", "val", "calib"))
    missing = interventions["test"] - interventions["train"]
    assert sorted(missing) == list(split.params["not_in_train"])
    spare = n_source - len(interventions["test"])
    assert len(missing) == max(0, 2 - spare)
    sources = interventions["train"] | interventions["val"] | interventions["calib"]
    assert interventions["test"] <= sources


@always
@given(worlds())
def test_calibration_has_the_documented_size(world):
    split = deal(world)
    n = split.params["n_conditions"]
    n_source = n["train"] + n["val"] + n["calib"]
    assert 1 <= n["calib"] <= max(1, round(0.2 * n_source))
    if split.params["validation"] == "conditions":
        assert 1 <= n["val"] <= max(1, round(0.1 * n_source))


# --- the hash ------------------------------------------------------------------------------------------


@st.composite
def splits(draw):
    n_obs = draw(st.integers(8, 60))
    order = draw(st.permutations(range(n_obs)))
    cuts = sorted(draw(st.lists(st.integers(4, n_obs - 1), min_size=3, max_size=3, unique=True)))
    pieces = [order[:1], order[1:2], order[2:3], order[3 : cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] : cuts[2]]]
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return Split(
        **{name: np.array(piece, dtype=np.int64) for name, piece in zip(IDX, pieces, strict=True)},
        fingerprint=draw(st.text(min_size=1, max_size=64)),
        data_name="toy",
        rule=draw(st.sampled_from(["context_ood", "other"])),
        params=draw(st.dictionaries(st.text(), plain | st.lists(plain, max_size=3), max_size=3)),
        ood_axes=tuple(draw(st.lists(st.sampled_from(["context", "batch"]), min_size=1, unique=True))),
        seed=draw(st.integers(0, 2**70)),
        n_obs=n_obs,
        unit=draw(st.sampled_from(["cells", "pseudobulk"])),
    )


@always
@given(splits(), st.randoms(use_true_random=False))
def test_hash_does_not_depend_on_index_order(split, random):
    shuffled = {name: random.sample(getattr(split, name).tolist(), len(getattr(split, name))) for name in IDX}
    assert replace(split, **shuffled).compute_hash() == split.compute_hash()
    assert replace(split, ood_axes=split.ood_axes[::-1]).compute_hash() == split.compute_hash()


@always
@given(splits())
def test_text_round_trip(split):
    frozen = split.freeze()
    again = Split.from_json(frozen.to_json(), "here")
    again.assert_frozen()
    assert again == frozen
    assert again.to_json() == frozen.to_json()
    assert Split.from_json(split.to_json(), "here") == split


def moved(split, source, target):
    """One row taken from a fold or role and given to another (None: to nowhere)."""
    row = getattr(split, source)[-1]
    changes = {source: getattr(split, source)[:-1]}
    if target is not None:
        changes[target] = np.append(getattr(split, target), row)
    return replace(split, **changes)


@pytest.mark.parametrize("target", [*IDX[:3], *IDX[4:], None])
@always
@given(splits())
def test_hash_changes_with_one_index_moved(target, split):
    assume(len(split.test_idx) > 1)
    assert moved(split, "test_idx", target).compute_hash() != split.compute_hash()


@always
@given(splits())
def test_hash_changes_with_roles_or_folds_swapped(split):
    for one, other in (("input_control_idx", "reference_control_idx"), ("train_idx", "val_idx")):
        swapped = replace(split, **{one: getattr(split, other), other: getattr(split, one)})
        assert swapped.compute_hash() != split.compute_hash()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"rule": s.rule + "x"},
        lambda s: {"params": {**s.params, "another one": 1}},
        lambda s: {"seed": s.seed + 1},
        lambda s: {"ood_axes": (*s.ood_axes, "donor")},
        lambda s: {"fingerprint": s.fingerprint + "0"},
        lambda s: {"unit": "cells" if s.unit == "pseudobulk" else "pseudobulk"},
        lambda s: {"n_obs": s.n_obs + 1},
    ],
    ids=["rule", "params", "seed", "ood_axes", "fingerprint", "unit", "n_obs"],
)
@always
@given(splits())
def test_hash_changes_with_each_named_thing(change, split):
    assert replace(split, **change(split)).compute_hash() != split.compute_hash()
