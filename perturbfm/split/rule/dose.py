"""Hold out doses, inside or outside of the range that train has of the same compound."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from perturbfm.errors import BadValue, TooFewConditions, UnknownDose, nearest
from perturbfm.split.rule import option
from perturbfm.split.rule.fold import deal_units
from perturbfm.split.rule.hold_out import by_intervention
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.time_point import number_text
from perturbfm.split.rule.unit import Unit, Units, grouped, parts_of
from perturbfm.split.split import Split
from perturbfm.types import Labels

Series = dict[tuple[str, str], dict[float, Unit]]
"""Units of one compound in one context by dose."""


def dose_ood(
    labels: Labels,
    holdout: Sequence[float | str],
    *,
    where: str = "any",
    within: Sequence[str] = (),
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Hold out doses of every compound that keeps another dose in train, in the same context.

    Axes: `dose_inside` where train has a lower and a higher dose of that compound in that context, `dose_outside`
    where it lacks one of them. The nearest lower and higher source doses always stay in train, so validation and
    calibration cannot turn inside into outside. Combinations with a dose per part are never tested, for which of
    their doses is held out is not defined; where one of these is, they are in no fold.

    Args:
        labels: Names of every row.
        holdout: Doses to hold out, in the data's unit.
        where: `any`, or `inside` or `outside` alone; the other kind is then in no fold.
        within: Contexts to use; none means all.
        seed: Seed of the dealing.
        val_fraction: Share of the source conditions to validate on.
        calib_fraction: Share of the source conditions to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        BadValue: The data declare no dose, or an option is out of range.
        UnknownDose: A dose is not in the data.
        TooFewConditions: No compound has another dose, or a fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    option.choice("where", where, ("any", "inside", "outside"))
    contexts = option.names_among("within", within, grouped(labels).context.names, "A375")
    units = Units.of(labels, contexts)
    series = _series(labels, units)
    held = _held(holdout, {dose for doses in series.values() for dose in doses})
    kind, neighbours = _classified(series, held)
    test = sorted(unit for unit, found in kind.items() if where in ("any", found))
    if not test:
        raise TooFewConditions(
            "No dose can be held out",
            given=f"doses {', '.join(map(str, sorted(held)))} with where={where}",
            expected="compounds that have these doses and others",
            fix="Hold out other doses; `perturbfm splits suggest` lists what is feasible.",
        )
    aside = _held_anywhere(labels, units, held) - {*test}
    other_mode = units.other_modes(test)
    sources = sorted({*units.rows} - {*test} - {*aside} - {*other_mode})
    protected = {unit for unit in sources if unit in neighbours}
    val, calib = deal_units(sources, frozenset(), by_intervention, dealing, protected)
    train = sorted({*sources} - {*val} - {*calib})
    folds = {"train": train, "val": val, "calib": calib, "test": test}
    found = sorted({kind[unit] for unit in test})
    plan = Plan(
        rule="dose_ood",
        rows={name: units.rows_of(chosen) for name, chosen in folds.items()},
        axes={f"dose_{k}": units.rows_of(unit for unit in test if kind[unit] == k) for k in found},
        options={"holdout": sorted(held), "where": where, "within": list(contexts)},
        decided={"conditions_by_kind": {k: sum(kind[unit] == k for unit in test) for k in found}},
        excluded={
            "other_mode": units.count(other_mode),
            "held_out_dose_of_other_kind_or_alone": units.count(aside - {*other_mode}),
            "other_context": int((~labels.is_control_n.astype(bool)).sum()) - units.count(units.rows),
        },
    )
    return split_of(labels, plan, dealing)


def _series(labels: Labels, units: Units) -> Series:
    """Units by context and compound, and by dose where there is one number."""
    if labels.dose_n is None:
        raise BadValue(
            "The data declare no dose",
            given="data.dose_column=null",
            expected="the column of doses",
            fix="Set data.dose_column.",
        )
    series: Series = {}
    for unit, rows in units.rows.items():
        dose = _number(str(labels.dose_n[rows[0]]))
        if dose is not None:
            identity = unit[1].replace(f";dose={labels.dose_n[rows[0]]}", "", 1)
            series.setdefault((unit[0], identity), {})[dose] = unit
    return series


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _held_anywhere(labels: Labels, units: Units, held: set[float]) -> set[Unit]:
    """Units with a held-out dose, be it of one part."""
    if labels.dose_n is None:
        return set()
    text = {unit: str(labels.dose_n[rows[0]]) for unit, rows in units.rows.items()}
    return {unit for unit, doses in text.items() if {*map(_number, parts_of(doses, labels.delimiter))} & held}


def _held(holdout: Sequence[float | str], known: set[float]) -> set[float]:
    by_text = {number_text(dose): dose for dose in known}
    names = [number_text(dose) for dose in option.listed(holdout)]
    if not names or len({*names}) != len(names):
        raise BadValue(
            "holdout is not a list of doses",
            given=repr(holdout),
            expected="at least one dose, each once",
            fix="Pass a list such as [10].",
        )
    unknown = [name for name in names if name not in by_text]
    if unknown:
        raise UnknownDose(
            "Held-out doses are not in the data",
            given=", ".join(unknown),
            expected=f"some of {', '.join(number_text(dose) for dose in sorted(known)) or 'no doses at all'}",
            fix=f"Check the unit (nearest to {unknown[0]}: {nearest(unknown[0], by_text)}).",
        )
    return {by_text[name] for name in names}


def _classified(series: Series, held: set[float]) -> tuple[dict[Unit, str], set[Unit]]:
    """Kind of each held-out unit that has a source dose, and the source units next to it."""
    kind: dict[Unit, str] = {}
    neighbours: set[Unit] = set()
    for doses in series.values():
        sources = np.array(sorted(d for d in doses if d not in held))
        for dose, unit in doses.items():
            if dose not in held or not len(sources):
                continue
            lower, higher = sources[sources < dose], sources[sources > dose]
            kind[unit] = "inside" if len(lower) and len(higher) else "outside"
            neighbours |= {doses[float(d)] for d in (*lower[-1:], *higher[:1])}
    return kind, neighbours
