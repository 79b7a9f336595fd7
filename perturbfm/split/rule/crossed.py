"""Hold out contexts and genes at once, each test row labelled by the axes that it is on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perturbfm.errors import TooFewConditions
from perturbfm.split.rule import option
from perturbfm.split.rule.axis import axis_rows, dealt_away, labelled
from perturbfm.split.rule.fold import deal_units, one_per_context
from perturbfm.split.rule.hold_out import by_intervention, known_levels
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.order import hash_order
from perturbfm.split.rule.perturbation import refuse_guides
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Units, grouped
from perturbfm.split.split import Split
from perturbfm.types import Labels


def several_axes(
    labels: Labels,
    contexts: Sequence[str],
    *,
    perturbations: Sequence[str] = (),
    fraction: float = 0.2,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Hold out contexts and genes: test is every row of either, train has neither.

    Each test row is on the axes that hold for it by name: `context`, `perturbation`, both, `combination_seen_k`. So one
    split answers how much worse a model gets on each axis and on both. Combinations with a held-out gene count as test.
    What validation and calibration take from train altogether, for want of another condition, is asked of no held-out
    context either: those rows are in no fold.

    Args:
        labels: Names of every row.
        contexts: Contexts to hold out.
        perturbations: Genes to hold out; none means `fraction` of those that are perturbed in a source context.
        fraction: Share of genes to hold out where none are named.
        seed: Seed of the dealing.
        val_fraction: Share of the source conditions to validate on.
        calib_fraction: Share of the source conditions to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        UnknownContext: A context is not in the data.
        TooFewConditions: A fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
        BadValue: An option is out of range, or names what is not in the data.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    held = known_levels("context", contexts, grouped(labels).context.names)
    units = Units.of(labels)
    refuse_guides(units)
    genes = {part for unit in units.rows if unit[0] not in held for part in units.parts(unit)}
    named = option.names_among("perturbations", perturbations, genes, "STAT1")
    share = option.fraction("fraction", fraction)
    hidden = {*named} or {*hash_order(genes, seed, "test-gene")[: max(1, round(share * len(genes)))]}
    test = sorted(u for u in units.rows if u[0] in held or {*units.parts(u)} & hidden)
    other_mode = units.other_modes(test)
    sources = sorted({*units.rows} - {*test} - {*other_mode})
    tested, kept = frozenset(unit[1] for unit in test), one_per_context(sources, test, dealing.seed)
    val, calib = deal_units(sources, tested, by_intervention, dealing, kept)
    train = sorted({*sources} - {*val} - {*calib})
    rows = {"train": train, "val": val, "calib": calib, "test": test}
    by_fold = {name: units.rows_of(found) for name, found in rows.items()}
    beside = np.concatenate([by_fold["val"], by_fold["calib"]])
    lost = dealt_away(labels, by_fold["train"], beside, by_fold["test"])
    by_fold["test"] = _without(labels, by_fold["test"], lost)
    plan = Plan(
        rule="several_axes",
        rows=by_fold,
        axes=labelled(axis_rows(labels, by_fold["train"], by_fold["test"])),
        options={"holdout": list(held), "perturbations": sorted(hidden)},
        decided={"held_out_controls": "shown at prediction only"},
        excluded={
            "other_mode": units.count(other_mode),
            "only_in_validation_or_calibration": len(lost),
        },
    )
    return split_of(labels, plan, dealing)


def _without(labels: Labels, test: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """The test less some rows; refused where a mode or a held-out context would go with them."""
    left = np.setdiff1d(test, lost)
    for noun, column in (("mode", labels.mode_n), ("context", labels.context_n)):
        gone = {*column[test]} - {*column[left]}
        if gone:
            raise TooFewConditions(
                "Validation and calibration need what the test asks for",
                given=f"nothing left to test {noun} {', '.join(sorted(map(str, gone)))} on",
                expected="conditions that train can spare",
                fix="Hold out fewer contexts or genes, or use smaller val_fraction and calib_fraction.",
            )
    return left
