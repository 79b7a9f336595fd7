"""What the auditor is shown beside labels: plain things that the caller has gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perturbfm.types import Learned

KINDS = ("graph", "embedding", "weights", "gene_list")


@dataclass(frozen=True)
class DeGenes(Learned):
    """Genes called differential for a perturbation, with the rows they were computed on.

    Attributes:
        perturbation: The perturbation they were chosen for, or "" for all.
        genes: The chosen genes.
    """

    perturbation: str = ""
    genes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prior:
    """Where a graph, an embedding, pretrained weights or a gene list come from, as its owner declares.

    None means not declared; an empty tuple means declared to be none.

    Attributes:
        name: Short name.
        kind: One of `KINDS`.
        fingerprints: Content hashes of the data it was made from.
        data_sets: Names of the data sets it was made from.
        cell_ids: Ids of the cells it was made from.
        rows: Row numbers it was made from, in the data set that `fingerprints` names.
        perturbations: Perturbations among its training data; none means unperturbed cells only.
        contexts: Contexts among its training data.
        folds: Folds or control roles of the split it was made from, where it was made for this split.
        unknown: Its owner says that nobody knows.
        source: The file that declares it.
    """

    name: str
    kind: str
    fingerprints: tuple[str, ...] | None = None
    data_sets: tuple[str, ...] | None = None
    cell_ids: tuple[str, ...] | None = None
    rows: tuple[int, ...] | None = None
    perturbations: tuple[str, ...] | None = None
    contexts: tuple[str, ...] | None = None
    folds: tuple[str, ...] | None = None
    unknown: bool = False
    source: str = ""

    @property
    def declared(self) -> bool:
        """Whether anything at all is said of where it comes from."""
        said = (self.fingerprints, self.data_sets, self.cell_ids, self.rows, self.perturbations, self.contexts)
        return not self.unknown and any(value is not None for value in (*said, self.folds))


@dataclass(frozen=True)
class Evidence:
    """What can be held against a split, as far as the caller has it; None means that nobody looked.

    Attributes:
        x_ng: Matrix [n, g]: CSR or dense, in memory, memory-mapped or anything that gives blocks of rows by slice.
        genes: Gene names in order.
        uns: What the file stores beside matrix and labels: key path (`uns/a/b`, `varm/x`) to array, list or value.
        names: Names in `layers`, `obsm` and `varm`, whose content is not gathered (that of `varm` is, in `uns`).
        learned: What was learned from rows, and from which; differential genes as `DeGenes`.
        priors: Declared origins of the graphs, embeddings and weights in use.
        aliases: Gene symbol to official symbol, as somebody's table has it.
        identifiers: Other names of the measured genes to their names, as the file has them (Ensembl ids).
    """

    x_ng: Any = None
    genes: tuple[str, ...] = ()
    uns: Mapping[str, Any] | None = None
    names: Mapping[str, tuple[str, ...]] | None = None
    learned: Sequence[Learned] | None = None
    priors: Sequence[Prior] | None = None
    aliases: Mapping[str, str] | None = None
    identifiers: Mapping[str, str] = field(default_factory=dict)

    @property
    def other_names(self) -> dict[str, str]:
        """Identifiers and aliases together; a table that somebody gives has the last word."""
        aliases = dict(self.aliases or {})
        return {**{k: aliases.get(v, v) for k, v in self.identifiers.items()}, **aliases}


def rows_of(learned: Learned) -> np.ndarray:
    """Distinct row numbers that something was learned from; a mask over all rows is read as one."""
    rows = np.asarray(learned.rows)
    return np.flatnonzero(rows) if rows.dtype == bool else np.unique(rows.astype(np.int64))
