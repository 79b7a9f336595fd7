"""Units: what is dealt as a whole. Perturbed rows by context, intervention and, where it must be, a further level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    def of(cls, labels: Labels, within: Sequence[str] = (), level_n: np.ndarray | None = None) -> Units:
        """Group the rows that are not controls.

        Args:
            labels: Names of every row.
            within: Contexts to look at; empty means all.
            level_n: A further level per row.

        Raises:
            DuplicateNames: Two rows have one id, so that dealing by id is undefined.
        """
        check_unique(labels)
        chosen = ~labels.is_control_n.astype(bool)
        if within:
            chosen &= np.isin(labels.context_n.astype(str), list(within))
        columns = [labels.context_n, labels.intervention_n, *([level_n] if level_n is not None else [])]
        rows = group_rows(np.flatnonzero(chosen), columns)
        return cls(
            rows,
            {unit: str(labels.mode_n[found[0]]) for unit, found in rows.items()},
            {unit: str(labels.pert_n[found[0]]) for unit, found in rows.items()},
            labels.delimiter,
        )

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


def group_rows(rows: np.ndarray, columns: Sequence[np.ndarray]) -> dict[Unit, np.ndarray]:
    """Rows by the labels that they have in some columns, sorted by these."""
    code, names = np.zeros(len(rows), dtype=np.int64), []
    for column in columns:
        found, index = np.unique(column[rows].astype(str), return_inverse=True)
        names.append(found)
        code = code * max(1, len(found)) + index.reshape(-1)
    order = np.argsort(code, kind="stable")
    codes, starts = np.unique(code[order], return_index=True)
    pieces = np.split(rows[order], starts[1:]) if len(codes) else []
    return {_unit(int(c), names): piece for c, piece in zip(codes, pieces, strict=True)}


def _unit(code: int, names: Sequence[np.ndarray]) -> Unit:
    unit: list[str] = []
    for found in reversed(names):
        unit.append(str(found[code % len(found)]))
        code //= len(found)
    return tuple(reversed(unit))


def check_unique(labels: Labels) -> None:
    """Refuse repeated cell ids."""
    n_names = len(set(labels.cell_n))
    if n_names != labels.n_obs:
        raise DuplicateNames(
            "Cell ids are not unique",
            given=f"{labels.n_obs} rows with {n_names} ids",
            expected="one id per row",
            fix="Make the ids unique; dealing goes by them.",
        )
