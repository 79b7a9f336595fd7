"""The named negative example: cells dealt at random, so that train has seen every condition of the test."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import TooFewConditions
from perturbfm.split.rule import option
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.order import digest
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Units
from perturbfm.split.split import FOLDS, Split
from perturbfm.types import Labels

LEAST_CELLS = 10


def random_cells(
    labels: Labels,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Deal the cells of every condition over all folds: what many papers report, and no test of generalisation.

    A negative example: nothing is out of distribution (axis `none`, no rows), and a score says how well a model
    remembers condition means. Conditions with fewer than 10 cells are in no fold.

    Args:
        labels: Names of every row.
        test_fraction: Share of each condition's cells to test on.
        seed: Seed of the dealing.
        val_fraction: Share of each condition's cells to validate on.
        calib_fraction: Share of each condition's cells to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        TooFewConditions: No condition has 10 cells.
        TooFewControls: A context or batch in use has too few controls.
        BadValue: An option is out of range.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    share = option.fraction("test_fraction", test_fraction)
    option.fraction("test_fraction + val_fraction + calib_fraction", share + val_fraction + calib_fraction)
    units = Units.of(labels)
    folds: dict[str, list[np.ndarray]] = {name: [] for name in FOLDS}
    small = [unit for unit, rows in units.rows.items() if len(rows) < LEAST_CELLS]
    for unit in sorted({*units.rows} - {*small}):
        rows = by_cell(labels, units.rows[unit], dealing.seed, "random-cell")
        sizes = [max(1, round(f * len(rows))) for f in (share, dealing.val_fraction, dealing.calib_fraction)]
        while sum(sizes) >= len(rows):
            sizes[sizes.index(max(sizes))] -= 1
        for name, piece in zip(("test", "val", "calib", "train"), np.split(rows, np.cumsum(sizes)), strict=True):
            folds[name].append(piece)
    if not folds["test"]:
        raise TooFewConditions(
            "No condition has enough cells to deal",
            given=f"{len(small)} conditions with fewer than {LEAST_CELLS} cells",
            expected=f"conditions of at least {LEAST_CELLS} cells",
            fix="Choose a rule that deals whole conditions.",
        )
    plan = Plan(
        rule="random_cells",
        rows={name: np.concatenate(pieces) for name, pieces in folds.items()},
        axes={"none": np.empty(0, dtype=np.int64)},
        options={"test_fraction": share},
        decided={"folds": "cells", "negative_example": True},
        excluded={"small_condition": units.count(small)},
    )
    return split_of(labels, plan, dealing)


def by_cell(labels: Labels, rows: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Rows in the order of the digests of their cell ids."""
    key = [digest(seed, purpose, str(cell)) for cell in labels.cell_n[rows]]
    return rows[sorted(range(len(rows)), key=key.__getitem__)]
