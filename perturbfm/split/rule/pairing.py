"""Hold out pairings of context and intervention, each of which train knows apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from perturbfm.errors import TooFewConditions
from perturbfm.split.rule import option
from perturbfm.split.rule.fold import deal_units, one_per_context
from perturbfm.split.rule.hold_out import by_intervention
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.order import digest
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Unit, Units, grouped
from perturbfm.split.split import Split
from perturbfm.types import Labels


def covariate_transfer(
    labels: Labels,
    *,
    fraction: float = 0.2,
    within: Sequence[str] = (),
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Hold out conditions whose context and whose intervention train knows, each with other partners.

    In every context, `fraction` of its conditions, in hash order: only those whose intervention (mode included) keeps a
    source condition elsewhere, and never all of a context. Validation and calibration are source conditions that leave
    each tested intervention and context in train.

    Args:
        labels: Names of every row.
        fraction: Share of each context's conditions to hold out.
        within: Contexts to test in; none means all. Train uses every context.
        seed: Seed of the dealing.
        val_fraction: Share of the source conditions to validate on.
        calib_fraction: Share of the source conditions to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        TooFewConditions: No intervention is in two contexts, or a fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
        BadValue: An option is out of range.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    share = option.fraction("fraction", fraction)
    contexts = option.names_among("within", within, grouped(labels).context.names, "A172")
    units = Units.of(labels)
    test = _tested(units, share, contexts, dealing.seed)
    other_mode = units.other_modes(test)
    sources = sorted({*units.rows} - {*test} - {*other_mode})
    tested, kept = frozenset(unit[1] for unit in test), one_per_context(sources, test, dealing.seed)
    val, calib = deal_units(sources, tested, by_intervention, dealing, kept)
    train = sorted({*sources} - {*val} - {*calib})
    _check_known(test, train)
    folds = {"train": train, "val": val, "calib": calib, "test": test}
    plan = Plan(
        rule="covariate_transfer",
        rows={name: units.rows_of(found) for name, found in folds.items()},
        axes={"pairing": None},
        options={"fraction": share, "within": list(contexts)},
        decided={"held_out": ["|".join(unit) for unit in test]},
        excluded={"other_mode": units.count(other_mode)},
    )
    return split_of(labels, plan, dealing)


def _tested(units: Units, share: float, contexts: Sequence[str], seed: int) -> list[Unit]:
    left = Counter(unit[1] for unit in units.rows)
    n_in = Counter(unit[0] for unit in units.rows)
    taken: list[Unit] = []
    room = {c: min(max(1, round(share * n)), n - 1) for c, n in n_in.items() if not contexts or c in contexts}
    for unit in sorted(units.rows, key=lambda u: digest(seed, "test-pairing", "|".join(u))):
        if room.get(unit[0], 0) > 0 and left[unit[1]] > 1:
            taken.append(unit)
            room[unit[0]] -= 1
            left[unit[1]] -= 1
    if not taken:
        raise TooFewConditions(
            "No condition can be held out whose context and intervention stay in train",
            given=f"{len(n_in)} contexts, {sum(n > 1 for n in left.values())} interventions in more than one",
            expected="interventions that several contexts share in one mode, and two or more conditions per context",
            fix="Choose another rule; `perturbfm splits suggest` lists what is feasible.",
        )
    return sorted(taken)


def _check_known(test: Sequence[Unit], train: Sequence[Unit]) -> None:
    known = {name for unit in train for name in unit}
    lost = sorted({name for unit in test for name in unit} - known)
    if lost:
        raise TooFewConditions(
            "Validation and calibration need what train must keep",
            given=f"{', '.join(lost[:10])} of the test, not in the {len(train)} train conditions",
            expected="every context and intervention of the test in train",
            fix="Hold out a smaller fraction, or use data with more conditions.",
        )
