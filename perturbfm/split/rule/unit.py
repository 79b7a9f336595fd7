"""Units: what is dealt as a whole. Perturbed rows by context, intervention and, where it must be, a further level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np

from perturbfm.errors import DuplicateNames
from perturbfm.types import Labels

Unit = tuple[str, ...]
"""Context and intervention, and a level (batch, donor) where one condition has several."""


@dataclass(frozen=True)
class Units:
    """Perturbed rows of a data set by unit.

    Attributes:
        rows: Rows of each unit.
        mode: Mode of each unit.
        pert: Perturbation label of each unit.
        delimiter: What joins the parts of a combination.
    """

    rows: Mapping[Unit, np.ndarray]
    mode: Mapping[Unit, str]
    pert: Mapping[Unit, str]
    delimiter: str | None

    @classmethod
    def of(cls, labels: Labels, within: Sequence[str] = (), level: str | None = None) -> Units:
        """Group the rows that are not controls.

        Args:
            labels: Names of every row.
            within: Contexts to look at; empty means all.
            level: Column that tells units of one condition apart.

        Raises:
            DuplicateNames: Two rows have one id, so that dealing by id is undefined.
        """
        names = grouped(labels)
        units = names.units
        if level is not None:
            treated = np.flatnonzero(names.unit_n >= 0)
            rows = group_rows(treated, [names.context, names.intervention, coded_column(labels, level)])
        elif within:
            rows = {unit: found for unit, found in units.rows.items() if unit[0] in within}
        else:
            return units
        mode, pert = ({unit: of[unit[:2]] for unit in rows} for of in (units.mode, units.pert))
        return cls(rows, mode, pert, labels.delimiter)

    def rows_of(self, units: Iterable[Unit]) -> np.ndarray:
        """Rows of some units."""
        return np.concatenate([np.empty(0, dtype=np.int64), *(self.rows[unit] for unit in units)])

    def count(self, units: Iterable[Unit]) -> int:
        """Number of rows of some units."""
        return sum(len(self.rows[unit]) for unit in units)

    def other_modes(self, test: Iterable[Unit]) -> list[Unit]:
        """Units whose mode no unit of the test has: they can teach nothing that is asked."""
        asked = {self.mode[unit] for unit in test}
        return [unit for unit in self.rows if self.mode[unit] not in asked]

    def parts(self, unit: Unit) -> tuple[str, ...]:
        """Genes or compounds of a unit's intervention, sorted."""
        return parts_of(self.pert[unit], self.delimiter)


def parts_of(pert: str, delimiter: str | None) -> tuple[str, ...]:
    """Parts of a combination, sorted; a single perturbation is its own part."""
    return tuple(sorted({part.strip() for part in pert.split(delimiter)})) if delimiter else (pert,)


@dataclass(frozen=True)
class Coded:
    """A column of names as numbers: row i has the name `names[code_n[i]]`; names are sorted."""

    names: tuple[str, ...]
    code_n: np.ndarray

    @classmethod
    def of(cls, column: np.ndarray) -> Coded:
        """Number the names of a column."""
        number: dict[str, int] = {}
        found = np.fromiter((number.setdefault(str(name), len(number)) for name in column), np.int64, len(column))
        names = sorted(number)
        place = np.empty(len(names), dtype=np.int64)
        place[[number[name] for name in names]] = np.arange(len(names))
        return cls(tuple(names), place[found])

    def take(self, rows: np.ndarray) -> Coded:
        """The same names for some rows."""
        return Coded(self.names, self.code_n[rows])


@dataclass(frozen=True)
class Grouped:
    """What every rule asks of the same labels.

    Attributes:
        context: Context of each row.
        intervention: Intervention of each row.
        batch: Batch of each row.
        units: Perturbed rows by context and intervention.
        unit_n: Number of each row's unit, -1 for controls.
        covariate: Covariates that were asked for.
    """

    context: Coded
    intervention: Coded
    batch: Coded
    units: Units
    unit_n: np.ndarray
    covariate: dict[str, Coded] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[Coded, Coded]:
        """What a condition is made of."""
        return self.context, self.intervention


_GROUPED: WeakKeyDictionary[Labels, Grouped] = WeakKeyDictionary()


def grouped(labels: Labels) -> Grouped:
    """Labels grouped once: with a million rows it takes seconds, and every rule of `suggest` asks for it.

    Raises:
        DuplicateNames: Two rows have one id, so that dealing by id is undefined.
    """
    found = _GROUPED.get(labels)
    if found is None:
        _check_unique(labels)
        columns = Coded.of(labels.context_n), Coded.of(labels.intervention_n)
        rows = group_rows(np.flatnonzero(~labels.is_control_n.astype(bool)), columns)
        units = Units(
            rows,
            {unit: str(labels.mode_n[found[0]]) for unit, found in rows.items()},
            {unit: str(labels.pert_n[found[0]]) for unit, found in rows.items()},
            labels.delimiter,
        )
        unit_n = np.full(labels.n_obs, -1, dtype=np.int64)
        for number, of_unit in enumerate(rows.values()):
            unit_n[of_unit] = number
        found = _GROUPED[labels] = Grouped(*columns, Coded.of(labels.batch_n), units, unit_n)
    return found


def coded_column(labels: Labels, name: str) -> Coded:
    """A covariate, or `batch`, or `context`, by name."""
    names = grouped(labels)
    if name in ("batch", "context"):
        return names.batch if name == "batch" else names.context
    if name not in names.covariate:
        names.covariate[name] = Coded.of(labels.covariates[name])
    return names.covariate[name]


def group_rows(rows: np.ndarray, columns: Sequence[np.ndarray | Coded]) -> dict[Unit, np.ndarray]:
    """Rows by the labels that they have in some columns, sorted by these."""
    coded = [c.take(rows) if isinstance(c, Coded) else Coded.of(c[rows]) for c in columns]
    code_n = np.zeros(len(rows), dtype=np.int64)
    for column in coded:
        code_n = code_n * max(1, len(column.names)) + column.code_n
    order = np.argsort(code_n, kind="stable")
    code_n = code_n[order]
    starts = np.flatnonzero(np.diff(code_n, prepend=-1))
    pieces = np.split(rows[order], starts[1:]) if len(starts) else []
    names = [column.names for column in coded]
    return {_unit(int(c), names): piece for c, piece in zip(code_n[starts], pieces, strict=True)}


def _unit(code: int, names: Sequence[Sequence[str]]) -> Unit:
    unit: list[str] = []
    for found in reversed(names):
        unit.append(found[code % len(found)])
        code //= len(found)
    return tuple(reversed(unit))


def _check_unique(labels: Labels) -> None:
    """Refuse repeated cell ids."""
    n_names = len(set(labels.cell_n))
    if n_names != labels.n_obs:
        raise DuplicateNames(
            "Cell ids are not unique",
            given=f"{labels.n_obs} rows with {n_names} ids",
            expected="one id per row",
            fix="Make the ids unique; dealing goes by them.",
        )
