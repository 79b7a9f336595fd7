"""What is out of distribution about a test row, read off train."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from perturbfm.split.rule.unit import Unit, Units, group_rows, grouped
from perturbfm.types import Labels

MIXED = 3
"""Class of combinations some parts of which train has in other forms only: neither seen nor unseen."""

COMBINATIONS = ("combination_seen_0", "combination_seen_1", "combination_seen_2", "combination_mixed")
"""Axis of each class."""

AXES = ("context", "perturbation", *COMBINATIONS, "pairing")


def axis_rows(labels: Labels, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Test rows by axis, as far as names tell.

    * `context`: train has no perturbed row of the context.
    * `perturbation`: a single perturbation that train has in no context, alone or in combination.
    * `combination_seen_k`: a combination that train has in no context, k of whose parts train has alone in this
      context (in any, where the context is new) and mode, 2 for all of them, and the others in no form anywhere.
    * `combination_mixed`: a combination that train has in no context, other parts of which train has only in
      combinations or in other contexts: neither seen nor unseen.
    * `pairing`: context and intervention are both in train, together they are not.

    A known combination or single perturbation at another dose or time is still known; for `pairing`, dose and time
    count as the intervention's. An axis without rows is left out.
    """
    seen = _Seen(labels, train)
    found: dict[str, list[np.ndarray]] = {}
    for unit, rows in group_rows(test, grouped(labels).columns).items():
        for axis in seen.axes_of(unit):
            found.setdefault(axis, []).append(rows)
    return {axis: np.sort(np.concatenate(found[axis])) for axis in AXES if axis in found}


def dealt_away(labels: Labels, train: np.ndarray, beside: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Test rows that train does not know because what they ask for was dealt to validation or calibration.

    They are on `perturbation` or on an axis of combinations, and yet not held out of every fold but the test.

    Args:
        labels: Names of every row.
        train: Rows of train.
        beside: Rows of validation and calibration.
        test: Rows of the test.
    """
    here, there = _Seen(labels, train), _Seen(labels, beside)
    lost = []
    for unit, rows in group_rows(test, grouped(labels).columns).items():
        new = {*here.axes_of(unit)} & {"perturbation", *COMBINATIONS}
        if new and (there.has(unit) or ("perturbation" in new and there.knows_part(unit))):
            lost.append(rows)
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *lost]))


class _Seen:
    """Names that train has."""

    def __init__(self, labels: Labels, train: np.ndarray) -> None:
        units = Units.of(labels)
        rows = group_rows(train, grouped(labels).columns)
        self.units, self.pairs = units, set(rows)
        self.contexts = {unit[0] for unit in rows}
        self.interventions = {unit[1] for unit in rows}
        self.named = {(units.parts(unit), units.mode[unit]) for unit in rows}
        self.parts = {part for unit in rows for part in units.parts(unit)}
        self.alone = {(unit[0], units.mode[unit], p[0]) for unit in rows if len(p := units.parts(unit)) == 1}

    def axes_of(self, unit: Unit) -> list[str]:
        """Axes on which a test condition is out of distribution."""
        context, intervention = unit
        parts = self.units.parts(unit)
        axes = [] if context in self.contexts else ["context"]
        if unit in self.pairs:
            return axes
        if len(parts) == 1 and parts[0] not in self.parts:
            axes.append("perturbation")
        if len(parts) > 1 and not self.has(unit):
            axes.append(COMBINATIONS[n_seen(parts, self._alone(unit), self.parts)])
        if context in self.contexts and intervention in self.interventions:
            axes.append("pairing")
        return axes

    def has(self, unit: Unit) -> bool:
        """Whether a perturbation or combination is there in its mode, in whatever context, dose and time."""
        return (self.units.parts(unit), self.units.mode[unit]) in self.named

    def knows_part(self, unit: Unit) -> bool:
        """Whether a part is there in any form."""
        return any(part in self.parts for part in self.units.parts(unit))

    def _alone(self, unit: Unit) -> set[str]:
        """Parts that train has alone in the unit's mode and context, or in any context where it lacks this one."""
        mode, new = self.units.mode[unit], unit[0] not in self.contexts
        return {part for place, its_mode, part in self.alone if its_mode == mode and (new or place == unit[0])}


def n_seen(parts: tuple[str, ...], alone: Collection[str], known: Collection[str]) -> int:
    """How many parts train has alone where it counts: 0, 1, or 2 for all of them.

    `MIXED` where a part that it does not have alone is `known` to train in another form.
    """
    lacking = [part for part in parts if part not in alone]
    if not lacking:
        return 2
    return MIXED if any(part in known for part in lacking) else min(len(parts) - len(lacking), 1)


def labelled(rows_by_axis: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
    """Axes of a plan; `none` with no rows where nothing is out of distribution."""
    return dict(rows_by_axis) or {"none": np.empty(0, dtype=np.int64)}
