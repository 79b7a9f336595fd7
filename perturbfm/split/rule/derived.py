"""Splits made of a frozen one: fewer train cells, uneven train conditions, a few cells of the test to learn from.

The control roles, validation, calibration and, but for few-shot, the test stay those of the base, so that results can
be held against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from perturbfm.errors import BadValue, TooFewConditions
from perturbfm.split.rule import option
from perturbfm.split.rule.axis import COMBINATIONS, axis_rows
from perturbfm.split.rule.negative import by_cell
from perturbfm.split.rule.order import hash_order
from perturbfm.split.rule.plan import n_conditions
from perturbfm.split.rule.unit import Units
from perturbfm.split.split import FOLDS, Split, whole_number
from perturbfm.types import Labels

LEAST_TESTED = 10
"""Cells of a condition that stay in the test when some are shown."""

LARGEST_RATIO = 1e9


def few_shot(labels: Labels, base: Split, *, k: int = 5, seed: int = 0) -> Split:
    """Move k cells of every test condition into train; the rest of them is the test.

    Conditions that would keep fewer than 10 cells are dropped from the test, by name. The first k of k + 1 shots are
    those of k shots: series are nested. Folds are cells then. Should all conditions of a mode be dropped, train loses
    that mode too.

    Args:
        labels: Names of every row.
        base: A frozen split of the same data.
        k: Cells of each test condition to show.
        seed: Seed of the choice.

    Raises:
        TooFewConditions: No test condition has enough cells.
        SplitNotFrozen: The base is not frozen.
        SplitOfOtherData: The base is of other data.
    """
    _check_base(labels, base)
    k = whole_number("k", k, least=1)
    units = _units_of(labels, base.test_idx)
    shown, left, dropped = [], [], []
    for unit, rows in units.items():
        if len(rows) < k + LEAST_TESTED:
            dropped.append("|".join(unit))
            continue
        ordered = by_cell(labels, rows, seed, "few-shot")
        shown.append(ordered[:k])
        left.append(ordered[k:])
    if not left:
        raise TooFewConditions(
            "No test condition has enough cells for few shots",
            given=f"{len(dropped)} conditions with fewer than {k + LEAST_TESTED} cells",
            expected=f"{k} cells to show and {LEAST_TESTED} to test on",
            fix="Show fewer cells.",
        )
    test = np.concatenate(left)
    asked = {*labels.mode_n[test]}
    old = base.train_idx[[mode in asked for mode in labels.mode_n[base.train_idx]]]
    train = np.concatenate([old, *shown])
    changes: dict[str, object] = {
        "k": k,
        "folds": "cells",
        "few_cells": sorted(dropped),
        "base_axes": list(base.ood_axes),
    }
    return _derive(labels, base, "few_shot", train, test, changes, seed, axes=("few_shot",))


def scaling_series(
    labels: Labels,
    base: Split,
    *,
    fractions: Sequence[float] = (0.125, 0.25, 0.5, 1.0),
    unit: str = "cells",
    seed: int = 0,
) -> Iterator[Split]:
    """Splits with nested shares of the base's train fold: each has all that the smaller ones have.

    Where the base tests combinations and whole conditions are left out, the combinations are classed again: train may
    have fewer of their parts.

    Args:
        labels: Names of every row.
        base: A frozen split of the same data.
        fractions: Shares of train, each above 0 and at most 1.
        unit: `cells` thins every condition alike (each keeps one cell at least), `conditions` leaves whole ones out.
        seed: Seed of the choice.

    Raises:
        BadValue: An option is out of range.
        SplitNotFrozen: The base is not frozen.
        SplitOfOtherData: The base is of other data.
    """
    _check_base(labels, base)
    option.choice("unit", unit, ("cells", "conditions"))
    shares = _shares(fractions)
    units = _units_of(labels, base.train_idx)

    def splits() -> Iterator[Split]:
        for share in shares:
            if unit == "cells":
                kept = [
                    by_cell(labels, rows, seed, "scaling")[: max(1, round(share * len(rows)))]
                    for rows in units.values()
                ]
            else:
                names = hash_order(["|".join(u) for u in units], seed, "scaling")
                chosen = {*names[: max(1, round(share * len(names)))]}
                kept = [rows for u, rows in units.items() if "|".join(u) in chosen]
            options: dict[str, object] = {"fraction": share, "unit": unit}
            split = _derive(labels, base, "scaling_series", np.concatenate(kept), base.test_idx, options, seed)
            yield _classed_again(labels, base, split) if unit == "conditions" else split

    return splits()


def _classed_again(labels: Labels, base: Split, split: Split) -> Split:
    """The split with the combinations of its test on the axes that they have beside its own train fold."""
    old = {axis: base.ood_rows(axis) for axis in base.ood_axes}
    tested = np.unique(np.concatenate([np.empty(0, np.int64), *(old[a] for a in old if a in COMBINATIONS)]))
    if not len(tested):
        return split
    new = {a: rows for a, rows in axis_rows(labels, split.train_idx, tested).items() if a in COMBINATIONS}
    axes = {**{axis: rows for axis, rows in old.items() if axis not in COMBINATIONS}, **new}
    lost = np.setdiff1d(tested, np.concatenate([np.empty(0, np.int64), *new.values()]))
    if len(lost):
        raise BadValue(
            "The base calls rows held-out combinations that are none beside its train fold",
            given=f"{len(lost)} rows, first {labels.pert_n[lost[0]]}",
            expected="combinations that train does not have",
            fix="Make the base again with a rule of `perturbfm splits rules`.",
        )
    return replace(split, ood_axes=tuple(axes), ood_idx=axes)


def imbalance_series(
    labels: Labels, base: Split, *, ratios: Sequence[float] = (1.0, 10.0, 100.0), seed: int = 0
) -> Iterator[Split]:
    r"""Splits with equally many train cells over ever more uneven conditions.

    Condition i of K, in hash order, keeps cells in proportion to :math:`r^{-i/(K-1)}`, so that the largest has r times
    the cells of the smallest. All splits of a series have the same number of train cells: the largest that every
    ratio can give. Each condition keeps one cell at least; `most` and `least` in `params` are what that came to.

    Args:
        labels: Names of every row.
        base: A frozen split of the same data.
        ratios: Largest to smallest, each at least 1.
        seed: Seed of the choice.

    Raises:
        BadValue: A ratio is below 1.
        TooFewConditions: Train has one condition only.
        SplitNotFrozen: The base is not frozen.
        SplitOfOtherData: The base is of other data.
    """
    _check_base(labels, base)
    listed = option.listed(ratios)
    good = [r for r in listed if isinstance(r, int | float) and not isinstance(r, bool) and 1 <= r < LARGEST_RATIO]
    if not listed or len({*good}) != len(listed):
        raise BadValue(
            "ratios are out of range", given=repr(ratios), expected="distinct numbers from 1 on", fix="Set ratios so."
        )
    units = _units_of(labels, base.train_idx)
    if len(units) < 2:
        raise TooFewConditions(
            "One condition cannot be uneven", given="1 train condition", expected="2 or more", fix="Use another base."
        )
    by_name = {"|".join(u): by_cell(labels, rows, seed, "imbalance") for u, rows in units.items()}
    names = hash_order(by_name, seed, "imbalance")
    n_cells = np.array([len(by_name[name]) for name in names], dtype=float)
    weights = [float(r) ** -(np.arange(len(names)) / (len(names) - 1)) for r in ratios]
    total = max(len(names), int(min(float(np.min(n_cells / w)) * w.sum() for w in weights)))

    def splits() -> Iterator[Split]:
        for ratio, weight in zip(ratios, weights, strict=True):
            n_kept = _shared_out(total, weight, n_cells)
            kept = [by_name[name][:n] for name, n in zip(names, n_kept, strict=True)]
            options: dict[str, object] = {"ratio": float(ratio), "most": int(n_kept.max()), "least": int(n_kept.min())}
            yield _derive(labels, base, "imbalance_series", np.concatenate(kept), base.test_idx, options, seed)

    return splits()


def _shared_out(total: int, weight: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to `total`, in proportion to weights, from 1 to what there is."""
    share = total * weight / weight.sum()
    n_kept = np.clip(np.floor(share), 1, n_cells).astype(int)
    while n_kept.sum() < total:
        n_kept[np.argmax(np.where(n_kept < n_cells, share - n_kept, -np.inf))] += 1
    while n_kept.sum() > total:
        n_kept[np.argmax(np.where(n_kept > 1, n_kept - share, -np.inf))] -= 1
    return n_kept


def _check_base(labels: Labels, base: Split) -> None:
    base.assert_frozen()
    base.assert_fits(labels.fingerprint, labels.n_obs)


def _shares(fractions: Sequence[float]) -> tuple[float, ...]:
    listed = option.listed(fractions)
    good = [f for f in listed if isinstance(f, int | float) and not isinstance(f, bool) and 0 < f <= 1]
    if not listed or len(good) != len(listed) or len({*good}) != len(good):
        raise BadValue(
            "fractions are out of range",
            given=repr(fractions),
            expected="distinct numbers above 0 and at most 1",
            fix="Pass a list such as [0.25, 0.5, 1.0].",
        )
    return tuple(sorted(float(f) for f in good))


def _units_of(labels: Labels, rows: np.ndarray) -> Mapping[tuple[str, ...], np.ndarray]:
    chosen = np.zeros(labels.n_obs, dtype=bool)
    chosen[rows] = True
    found = {unit: idx[chosen[idx]] for unit, idx in Units.of(labels).rows.items()}
    return {unit: idx for unit, idx in found.items() if len(idx)}


def _derive(
    labels: Labels,
    base: Split,
    rule: str,
    train: np.ndarray,
    test: np.ndarray,
    options: Mapping[str, object],
    seed: int,
    axes: tuple[str, ...] = (),
) -> Split:
    """The base with another train or test fold, its own rule and a note of where it comes from."""
    folds = {"train": train, "val": base.val_idx, "calib": base.calib_idx, "test": test}
    kept = {key: base.params[key] for key in ("holdout", "dropped", "column", "within", "folds") if key in base.params}
    return replace(
        base,
        train_idx=train,
        test_idx=test,
        rule=rule,
        params={
            **kept,
            **options,
            "base": str(base.frozen_hash),
            "base_rule": base.rule,
            "match": labels.match,
            "n_conditions": {name: n_conditions(labels, folds[name]) for name in FOLDS},
        },
        seed=whole_number("seed", seed, least=0),
        ood_axes=axes or base.ood_axes,
        ood_idx=None if axes else base.ood_idx,
        frozen_hash=None,
    )
