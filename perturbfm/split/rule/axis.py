"""What is out of distribution about a test row, read off train."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from perturbfm.split.rule.unit import Unit, Units, group_rows, grouped
from perturbfm.types import Labels

AXES = ("context", "perturbation", "combination_seen_0", "combination_seen_1", "combination_seen_2", "pairing")


def axis_rows(labels: Labels, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Test rows by axis, as far as names tell.

    * `context`: train has no perturbed row of the context.
    * `perturbation`: a single perturbation that train has in no context, alone or in combination.
    * `combination_seen_k`: a combination that train has in no context, k of whose parts train has alone in this
      context and mode (2 stands for all of them).
    * `pairing`: context and intervention are both in train, together they are not.

    Doses and times count as their intervention here. An axis without rows is left out.
    """
    seen = _Seen(labels, train)
    found: dict[str, list[np.ndarray]] = {}
    for unit, rows in group_rows(test, grouped(labels).columns).items():
        for axis in seen.axes_of(unit):
            found.setdefault(axis, []).append(rows)
    return {axis: np.sort(np.concatenate(found[axis])) for axis in AXES if axis in found}


class _Seen:
    """Names that train has."""

    def __init__(self, labels: Labels, train: np.ndarray) -> None:
        units = Units.of(labels)
        rows = group_rows(train, grouped(labels).columns)
        self.units, self.pairs = units, set(rows)
        self.contexts = {unit[0] for unit in rows}
        self.interventions = {unit[1] for unit in rows}
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
        if len(parts) > 1 and intervention not in self.interventions:
            axes.append(f"combination_seen_{n_seen((context, self.units.mode[unit]), parts, self.alone)}")
        if context in self.contexts and intervention in self.interventions:
            axes.append("pairing")
        return axes


def n_seen(where: tuple[str, str], parts: tuple[str, ...], alone: Collection[tuple[str, str, str]]) -> int:
    """How many parts train has alone in a context and mode: 0, 1, or 2 for all of them."""
    n = sum((*where, part) in alone for part in parts)
    return 2 if n == len(parts) else min(n, 1)


def labelled(rows_by_axis: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | None]:
    """Axes of a plan; `none` with no rows where nothing is out of distribution."""
    return dict(rows_by_axis) or {"none": np.empty(0, dtype=np.int64)}
