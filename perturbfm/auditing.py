"""What the auditor of a split is shown of a data set and a run: `run.py`'s and `splits audit`'s left hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.reader.raw import BESIDE
from perturbfm.split.audit import OF_LEARNING, Audit, Evidence, Prior, audit, read_prior

MOST_DENSE = 50_000_000
"""Entries of a sparse matrix beside the data that are looked at; a graph between cells has more."""

MOST_DISTINCT = 0.9
"""Share of distinct entries from which a column of the table of genes names genes."""

ON_ALL_CELLS = ("learned_outside_train", "de_genes_chosen_on_test")
"""Checks that preprocessing on all cells cannot pass."""

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.split import Split
    from perturbfm.types import Learned


def evidence_of(
    dataset: PerturbDataset,
    priors: Sequence[Prior] | None = None,
    aliases: Mapping[str, str] | None = None,
    learned: Sequence[Learned] | None = None,
) -> Evidence:
    """Gather what can be held against a split of a data set.

    Args:
        dataset: The data set.
        priors: Declared origins of graphs, embeddings and weights in use; None where nobody said.
        aliases: Gene symbol to official symbol; None where there is no table.
        learned: What was learned from which rows; None where nobody said.
    """
    adata = dataset.adata
    beside = adata.uns.get(BESIDE, {})
    columns = {**beside.get("var", {}), **{str(c): adata.var[c].to_numpy() for c in adata.var.columns}}
    stored = {
        **dict(flat("uns", {key: value for key, value in adata.uns.items() if key != BESIDE})),
        **dict(flat("varm", adata.varm)),
        **dict(flat("var", columns)),
    }
    known = beside.get("names", {})
    names = {part: tuple(known.get(part, map(str, getattr(adata, part)))) for part in ("layers", "obsm", "varm")}
    identifiers = identifiers_of(columns, dataset.genes)
    return Evidence(adata.X, dataset.genes, stored, names, learned, priors, aliases, identifiers)


def identifiers_of(columns: Mapping[str, np.ndarray], genes: Sequence[str]) -> dict[str, str]:
    """Other names of genes, from columns of text of the table of genes in which nearly every entry occurs once.

    Ensembl ids are also known without their version.
    """
    names: dict[str, str] = {}
    texts = [found for found in map(np.asarray, columns.values()) if found.dtype.kind in "OUT" and found.ndim == 1]
    for values in (text.astype(str) for text in texts):
        once, counts = np.unique(values, return_counts=True)
        if (counts == 1).sum() < MOST_DISTINCT * len(values):
            continue
        single = {*once[counts == 1].tolist()}
        for value, gene in zip(values.tolist(), genes, strict=True):
            if value in single and value != gene:
                names.setdefault(value, gene)
    for name in (*names, *genes):
        bare = re.fullmatch(r"(ENS[A-Z]*G\d+)\.\d+", name)
        if bare:
            names.setdefault(bare[1], names.get(name, name))
    return names


def priors_of(paths: Iterable[str]) -> tuple[Prior, ...]:
    """Read the provenance files of a configuration."""
    return tuple(read_prior(str(path)) for path in paths)


def with_learned(
    audited: Audit,
    dataset: PerturbDataset,
    split: Split,
    learned: Sequence[Learned],
    priors: Sequence[Prior],
    leak_allowed: bool = False,
) -> Audit:
    """The audit of a run, once it is known what was learned from which rows.

    Preprocessing on all cells that was asked for by name (`preprocess.allow_leak`) is a warning, not a refusal: it
    stands in the manifest, the metrics and the report.
    """
    found = audit(split, dataset.labels(), Evidence(learned=learned, priors=priors), only=OF_LEARNING)
    return audited.updated(found.tolerating(ON_ALL_CELLS) if leak_allowed else found)


def flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested stored values as key paths with plain arrays; tables give `index`, `columns` and their columns."""
    if isinstance(value, pd.DataFrame):
        yield f"{path}/index", value.index.astype(str).to_numpy(dtype=object)
        if len(value.columns) > 1 and all(pd.api.types.is_numeric_dtype(t) for t in value.dtypes):
            yield f"{path}/columns", np.array([str(c) for c in value.columns], dtype=object)
            yield path, value.to_numpy(np.float64)
        else:
            for column in value.columns:
                yield f"{path}/{column}", value[column].to_numpy()
    elif isinstance(value, Mapping):
        for key in value:
            yield from flat(f"{path}/{key}", value[key])
    elif isinstance(value, np.ndarray) and value.dtype.names:
        for name in value.dtype.names:
            yield f"{path}/{name}", value[name]
    elif sparse.issparse(value):
        yield path, value.toarray() if np.prod(value.shape) <= MOST_DENSE else "sparse"
    elif isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        yield path, np.asarray(value)
    elif value is not None:
        yield path, value
