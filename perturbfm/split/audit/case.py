"""One split, the labels of its data and the evidence, with what several checks need of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from perturbfm.split.audit.duplicate import Duplicates, duplicates
from perturbfm.split.audit.evidence import Evidence
from perturbfm.split.audit.naming import canonical, lowered
from perturbfm.split.split import FOLDS, ROLES, Split
from perturbfm.types import Labels, join_labels

PLACES = (*FOLDS, *ROLES)
OTHERS = FOLDS[:-1]
"""Every fold but the test."""

TEST = FOLDS.index("test")
COMBINATION = "combination_seen_"


@dataclass(frozen=True)
class Column:
    """A label column as numbers: `names[code_n]` gives the labels back, names sorted."""

    code_n: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, label_n: Iterable[object]) -> Column:
        """Number the labels of a column, as text, in sorted order."""
        labels = label_n.tolist() if isinstance(label_n, np.ndarray) else list(label_n)
        text = {label: str(label) for label in set(labels)}
        names = sorted(set(text.values()))
        number = {name: code for code, name in enumerate(names)}
        code = {label: number[name] for label, name in text.items()}
        return cls(np.fromiter(map(code.__getitem__, labels), np.int64, len(labels)), tuple(names))

    def at(self, rows: np.ndarray) -> set[str]:
        """The labels of some rows."""
        return {self.names[code] for code in np.unique(self.code_n[rows])}


def ood_rows(split: Split, axis: str) -> np.ndarray:
    """Rows of the test that are out of distribution on an axis: as the split says, else the whole test."""
    told = getattr(split, "ood_rows", None)
    return split.test_idx if told is None else np.asarray(told(axis), dtype=np.int64)


class Case:
    """What is audited.

    Args:
        split: The split.
        labels: Labels of the data set it is locked to.
        evidence: What else is known.
    """

    def __init__(self, split: Split, labels: Labels, evidence: Evidence) -> None:
        self.split, self.labels, self.evidence = split, labels, evidence

    # --- rows ------------------------------------------------------------------------------------------

    @cached_property
    def place_n(self) -> np.ndarray:
        """Index into `PLACES` per row, -1 for rows in none."""
        place_n = np.full(self.labels.n_obs, -1, dtype=np.int8)
        for number, name in enumerate(PLACES):
            place_n[self.split.indices()[name]] = number
        return place_n

    @cached_property
    def duplicates(self) -> Duplicates:
        """Rows in different places with one and the same expression."""
        return duplicates(self.evidence.x_ng, self.place_n)

    def fold(self, name: str) -> np.ndarray:
        """Row numbers of a fold or role."""
        return self.split.indices()[name]

    def table(self, column: Column, rows: np.ndarray | None = None) -> np.ndarray:
        """How many rows of each place a label has, [labels, places]; of some rows only, where told."""
        rows = np.flatnonzero(self.place_n >= 0) if rows is None else rows
        cell = column.code_n[rows] * len(PLACES) + self.place_n[rows]
        return np.bincount(cell, minlength=len(column.names) * len(PLACES)).reshape(-1, len(PLACES))

    # --- labels ----------------------------------------------------------------------------------------

    @cached_property
    def pert(self) -> Column:
        """Perturbation labels."""
        return Column.of(self.labels.pert_n)

    @cached_property
    def gene_mode(self) -> Column:
        """`perturbation@mode`, whatever dose and time."""
        return Column.of(join_labels(self.labels.pert_n, self.labels.mode_n, "@"))

    @cached_property
    def context(self) -> Column:
        """Contexts."""
        return Column.of(self.labels.context_n)

    @cached_property
    def condition(self) -> Column:
        """Conditions, or what of them a split deals as a whole: conditions within a donor or batch."""
        column = self.split.params.get("column")
        if isinstance(column, str) and self.split.params.get("folds") == f"conditions within {column}":
            levels = {"batch": self.labels.batch_n, "context": self.labels.context_n, **self.labels.covariates}
            return Column.of(join_labels(self.labels.condition_n, levels[column], "|"))
        return Column.of(self.labels.condition_n)

    @cached_property
    def mode(self) -> Column:
        """Modes."""
        return Column.of(self.labels.mode_n)

    @cached_property
    def batch(self) -> Column:
        """Batches."""
        return Column.of(self.labels.batch_n)

    @cached_property
    def other_names(self) -> dict[str, str]:
        """Identifiers and aliases to names, in lower case, as `canonical` wants them."""
        return lowered(self.evidence.other_names)

    @cached_property
    def canonical_names(self) -> tuple[tuple[str, ...], ...]:
        """The canonical form of each perturbation label."""
        return tuple(canonical(name, self.labels.delimiter, self.other_names) for name in self.pert.names)

    def covariate(self, name: str) -> Column:
        """A covariate as a column."""
        return Column.of(self.labels.covariates[name])

    # --- axes ------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[str, ...]:
        """What the test holds that train does not, as the split says."""
        return self.split.ood_axes

    @property
    def about_perturbations(self) -> bool:
        """Whether perturbations are held out, alone or in combinations."""
        return any(is_about_perturbations(axis) for axis in self.axes)

    @property
    def unseen_interventions(self) -> np.ndarray:
        """Test rows whose intervention itself is held out, on any axis."""
        found = [self.tested(axis) for axis in self.axes if is_about_perturbations(axis)]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *found]))

    @property
    def within_conditions(self) -> bool:
        """Whether the split says that it divides the cells of conditions."""
        return self.split.params.get("folds") == "cells"

    def elsewhere(self, name: str) -> tuple[str, str]:
        """The verdict on held-out things in a fold, and what to add to its message.

        A validation fold that came with an official split is what that split is: said, not refused. What a rule dealt
        itself is refused in every fold.
        """
        if name == "val" and self.split.rule == "official" and "validation" not in self.split.params:
            return "warn", "; the official split validates so, and models are chosen by what they should not know"
        return "refuse", ""

    def tested(self, axis: str) -> np.ndarray:
        """Test rows that are out of distribution on an axis."""
        return ood_rows(self.split, axis)

    def holdout(self, axis: str) -> tuple[str, ...] | None:
        """What the split says it holds out on an axis, where it says so."""
        said = self.split.params.get("holdout")
        if isinstance(said, Mapping):
            said = said.get(axis)
        elif len(self.axes) > 1:
            return None
        return tuple(str(name) for name in said) if isinstance(said, tuple) else None

    def column_name(self, axis: str) -> str | None:
        """The obs column that an axis is about, where the split says so."""
        said = self.split.params.get("column")
        said = said.get(axis) if isinstance(said, Mapping) else said
        return said if isinstance(said, str) else None


def is_about_perturbations(axis: str) -> bool:
    """Whether an axis holds out perturbations, alone or in combinations."""
    return axis == "perturbation" or axis.startswith("combination")
