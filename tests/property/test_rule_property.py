"""For all labels and every rule: the same split however rows are sorted, disjoint, nothing lost, and no leak."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from perturbfm.errors import ConfigError, InputError
from perturbfm.split import FOLDS, audit, context_ood
from perturbfm.split.rule import (
    covariate_ood,
    covariate_transfer,
    dose_ood,
    few_shot,
    imbalance_series,
    official_split,
    random_cells,
    scaling_series,
    several_axes,
    time_ood,
    unseen_combination,
    unseen_perturbation,
)
from perturbfm.types import Labels

always = settings(derandomize=True, deadline=None, max_examples=15, suppress_health_check=[HealthCheck.filter_too_much])
CONTEXTS = ("k0", "k1", "k2", "k3")
COLUMNS = ("cell_n", "pert_n", "context_n", "batch_n", "mode_n", "is_control_n", "dose_n", "time_n")


@st.composite
def worlds(draw):
    """Ragged labels with contexts, batches, donors, modes, doses, times and combinations."""
    contexts = [f"k{i}" for i in range(draw(st.integers(2, 4)))]
    singles = [f"G{i}X" for i in range(draw(st.integers(3, 7)))]
    pairs = [f"{a}+{b}" for a, b in pairwise(singles)]
    doses, times = draw(st.sampled_from([("1",), ("1", "2", "3", "10")])), draw(st.sampled_from([("6",), ("6", "24")]))
    batches = [f"b{i}" for i in range(draw(st.integers(1, 3)))]
    share = draw(st.sampled_from([0.5, 0.8, 1.0]))
    number = iter(np.random.default_rng(draw(st.integers(0, 10**6))).random(10**5))
    rows = []
    for i, context in enumerate(contexts):
        for batch in batches:
            donor = f"d{i // 2}"
            rows += [(context, "control", batch, "drug", True, "", "", donor)] * 4
            for pert in singles + pairs:
                for dose in doses:
                    for time in times:
                        if next(number) > share:
                            continue
                        mode = "ligand" if next(number) > 0.9 else "drug"
                        dose_text = f"{dose}+{dose}" if "+" in pert else dose
                        n = 1 + int(4 * next(number)) + 12 * (next(number) > 0.7)
                        rows += [(context, pert, batch, mode, False, dose_text, time, donor)] * n
    context, pert, batch, mode, control, dose, time, donor = (
        np.array(c, dtype=object) for c in zip(*rows, strict=True)
    )
    return Labels(
        cell_n=np.array([f"cell{i}" for i in range(len(rows))], dtype=object),
        pert_n=pert,
        context_n=context,
        batch_n=batch,
        mode_n=mode,
        is_control_n=control.astype(bool),
        fingerprint="f" * 64,
        data_name="toy",
        delimiter="+",
        match="context_batch",
        dose_n=dose,
        time_n=time,
        covariates={"donor": donor},
    )


def official(labels, seed):
    """Somebody's split that goes by the perturbation."""
    names = sorted({str(p) for p in labels.pert_n[~labels.is_control_n]})
    fold = {p: ("train", "train", "test", "train", "train")[(i + seed) % 5] for i, p in enumerate(names)}
    rows = zip(labels.cell_n, labels.pert_n, strict=True)
    return official_split(labels, {str(c): fold.get(str(p), "train") for c, p in rows}, {}, seed=seed, min_controls=1)


def base(labels, seed):
    return context_ood(labels, ["k0"], seed=seed, min_controls=1, filter_unshared=True).freeze()


RULES = {
    "unseen_perturbation": lambda n, s: unseen_perturbation(n, seed=s, min_controls=1),
    "unseen_perturbation with combinations": lambda n, s: unseen_perturbation(
        n, seed=s, min_controls=1, combinations="include", within=["k0"]
    ),
    "unseen_combination": lambda n, s: unseen_combination(n, seed=s, min_controls=1),
    "unseen_combination of one": lambda n, s: unseen_combination(n, seen=[1], fraction=0.4, seed=s, min_controls=1),
    "dose_ood": lambda n, s: dose_ood(n, ["2"], seed=s, min_controls=1),
    "dose_ood outside": lambda n, s: dose_ood(n, [10], where="outside", seed=s, min_controls=1),
    "time_ood": lambda n, s: time_ood(n, [24], seed=s, min_controls=1, filter_unshared=True),
    "covariate_ood by batch": lambda n, s: covariate_ood(
        n, "batch", ["b0"], seed=s, min_controls=1, filter_unshared=True
    ),
    "covariate_ood by donor": lambda n, s: covariate_ood(
        n, "donor", ["d0"], seed=s, min_controls=1, filter_unshared=True
    ),
    "covariate_transfer": lambda n, s: covariate_transfer(n, seed=s, min_controls=1),
    "several_axes": lambda n, s: several_axes(n, ["k0"], seed=s, min_controls=1),
    "random_cells": lambda n, s: random_cells(n, seed=s, min_controls=1),
    "official": official,
    "few_shot": lambda n, s: few_shot(n, base(n, s), k=2, seed=s),
    "scaling by cells": lambda n, s: next(scaling_series(n, base(n, s), fractions=[0.4], seed=s)),
    "scaling by conditions": lambda n, s: next(
        scaling_series(n, base(n, s), fractions=[0.4], unit="conditions", seed=s)
    ),
    "imbalance": lambda n, s: next(imbalance_series(n, base(n, s), ratios=[5], seed=s)),
}
DERIVED = ("few_shot", "scaling by cells", "scaling by conditions", "imbalance")


def deal(name, labels, seed):
    """What a rule gives; worlds that it refuses with a typed error are passed over."""
    try:
        return RULES[name](labels, seed)
    except (InputError, ConfigError):
        assume(False)


def sorted_otherwise(labels, random):
    order = list(range(labels.n_obs))
    random.shuffle(order)
    moved = {name: getattr(labels, name)[order] for name in COLUMNS}
    return replace(labels, **moved, covariates={"donor": labels.covariates["donor"][order]})


@pytest.mark.parametrize("name", RULES)
@always
@given(worlds(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_rule_deals_by_names_alone_and_loses_and_leaks_nothing(name, labels, seed, random):
    split = deal(name, labels, seed)
    again = RULES[name](replace(labels), seed)
    assert again == split
    assert again.freeze().frozen_hash == split.compute_hash()
    audit(split, labels).assert_no_leak()

    every = np.concatenate(list(split.indices().values()))
    assert len(set(every.tolist())) == len(every)
    assert len(split.test_idx)
    if name not in DERIVED:
        assert sum(split.params["excluded"].values()) == labels.n_obs - len(every)
        assert min(split.params["excluded"].values()) >= 0
        assert {n: len(set(labels.condition_n[split.fold(n)])) for n in FOLDS} == dict(split.params["n_conditions"])
    assert set(labels.mode_n[split.train_idx]) <= set(labels.mode_n[split.test_idx])
    on = np.concatenate([split.ood_rows(axis) for axis in split.ood_axes])
    assert split.ood_axes == ("none",) or set(on.tolist()) <= set(split.test_idx.tolist())

    if name not in DERIVED:
        shuffled = sorted_otherwise(labels, random)
        other = RULES[name](shuffled, seed)
        assert other.params == split.params
        for role, idx in split.indices().items():
            assert set(shuffled.cell_n[other.indices()[role]]) == set(labels.cell_n[idx])
        for axis in split.ood_axes:
            assert set(shuffled.cell_n[other.ood_rows(axis)]) == set(labels.cell_n[split.ood_rows(axis)])


@pytest.mark.parametrize("name", RULES)
def test_the_seed_decides(name):
    """On one world that every rule can use, ten seeds give more than one split."""
    rows = [
        (k, p, b)
        for k in ("k0", "k1", "k2", "k3")
        for b in ("b0", "b1")
        for p in (*"ABCDEFGH", "A+B", "C+D", "E+F", "G+H")
    ]
    cells = [(k, p, b, d, t) for k, p, b in rows for d in ("1", "2", "3", "10") for t in ("6", "24") for _ in range(12)]
    controls = [(k, "control", b, "", "") for k in CONTEXTS for b in ("b0", "b1") for _ in range(8)]
    context, pert, batch, dose, time = (np.array(c, dtype=object) for c in zip(*(cells + controls), strict=True))
    labels = Labels(
        cell_n=np.array([f"cell{i}" for i in range(len(pert))], dtype=object),
        pert_n=pert,
        context_n=context,
        batch_n=batch,
        mode_n=np.full(len(pert), "drug", dtype=object),
        is_control_n=pert == "control",
        fingerprint="f" * 64,
        data_name="toy",
        delimiter="+",
        match="context_batch",
        dose_n=dose,
        time_n=time,
        covariates={"donor": np.array([f"d{k[1:]}" for k in context], dtype=object)},
    )
    assert len({RULES[name](labels, seed).compute_hash() for seed in range(3)}) == 3
