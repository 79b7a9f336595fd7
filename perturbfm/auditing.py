"""What the auditor of a split is shown of a data set and a run: `run.py`'s and `splits audit`'s left hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.split.audit import OF_LEARNING, Audit, Evidence, Prior, audit, read_prior

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
    stored = {
        **dict(flat("uns", adata.uns)),
        **dict(flat("varm", adata.varm)),
        **dict(flat("var", {str(c): adata.var[c] for c in adata.var.columns})),
    }
    names = {part: tuple(map(str, getattr(adata, part))) for part in ("layers", "obsm", "varm")}
    return Evidence(adata.X, dataset.genes, stored, names, learned, priors, aliases)


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
        yield path, value.toarray()
    elif isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        yield path, np.asarray(value)
    elif value is not None:
        yield path, value
