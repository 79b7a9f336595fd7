"""Vocabularies and sizes, learned from train rows only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perturbfm.errors import CheckpointMismatch
from perturbfm.types import Dims, Labels

UNKNOWN = -1
"""Index of a label that train has not seen: the one defined fallback."""


@dataclass(frozen=True)
class Encoder:
    """What a model may know of names.

    Attributes:
        genes: Gene names in order.
        interventions: `perturbation@mode` labels of train, sorted.
        parts: Genes or compounds that train interventions consist of, sorted.
        contexts: Contexts of train, sorted.
        batches: Batches of train, sorted.
        delimiter: What joins the parts of a combination.
    """

    genes: tuple[str, ...]
    interventions: tuple[str, ...]
    parts: tuple[str, ...]
    contexts: tuple[str, ...]
    batches: tuple[str, ...]
    delimiter: str | None

    @classmethod
    def learn(cls, labels: Labels, train_idx: np.ndarray, genes: tuple[str, ...]) -> Encoder:
        """Learn vocabularies from the train rows and from nothing else."""
        pert = sorted(set(labels.pert_n[train_idx].tolist()))
        parts = {part for p in pert for part in split_parts(p, labels.delimiter)}
        return cls(
            genes=genes,
            interventions=tuple(sorted(set(labels.intervention_n[train_idx].tolist()))),
            parts=tuple(sorted(parts)),
            contexts=tuple(sorted(set(labels.context_n[train_idx].tolist()))),
            batches=tuple(sorted(set(labels.batch_n[train_idx].tolist()))),
            delimiter=labels.delimiter,
        )

    @property
    def dims(self) -> Dims:
        """Sizes a model is built from."""
        return Dims(len(self.genes), len(self.interventions), len(self.parts), len(self.contexts), len(self.batches))

    def encode_parts(self, pert_n: np.ndarray) -> np.ndarray:
        """Multi-hot of known parts, float32 [n, p]; unknown parts are left out."""
        position = {p: i for i, p in enumerate(self.parts)}
        unique, inverse = np.unique(pert_n.astype(str), return_inverse=True)
        table = np.zeros((len(unique), len(self.parts)), dtype=np.float32)
        for row, label in enumerate(unique):
            for part in split_parts(str(label), self.delimiter):
                if part in position:
                    table[row, position[part]] = 1.0
        return table[inverse]

    def unknown(self, labels: Labels, rows: np.ndarray) -> dict[str, list[str]]:
        """Labels among some rows that train has not seen, for the record."""
        return {
            "interventions": sorted(set(labels.intervention_n[rows].tolist()) - set(self.interventions)),
            "contexts": sorted(set(labels.context_n[rows].tolist()) - set(self.contexts)),
        }

    def state(self) -> dict[str, Any]:
        """Plain containers, as a checkpoint needs them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self.__dict__.items()}

    def assert_same(self, state: dict[str, Any]) -> None:
        """Refuse a checkpoint of other genes or another vocabulary."""
        for key, mine in self.state().items():
            if state.get(key) != mine:
                raise CheckpointMismatch(
                    f"The checkpoint has other {key}",
                    given=f"{len(state.get(key) or [])} entries",
                    expected=f"the {len(mine or [])} {key} of this run, in this order",
                    fix="Use a checkpoint of the same data and split.",
                )


def split_parts(label: str, delimiter: str | None) -> list[str]:
    """Parts of a combination; a single perturbation is its own part."""
    return [p.strip() for p in label.split(delimiter)] if delimiter else [label]


def encode(values_n: np.ndarray, vocabulary: tuple[str, ...]) -> np.ndarray:
    """Index of each label, `UNKNOWN` where train has not seen it."""
    position = {v: i for i, v in enumerate(vocabulary)}
    return np.array([position.get(v, UNKNOWN) for v in values_n], dtype=np.int64)
