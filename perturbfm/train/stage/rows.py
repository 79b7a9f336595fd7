"""What a stage may look at: some rows of a data set, cut once, never densified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.fingerprint import counts_from_log1p
from perturbfm.errors import GenesAbsent, NothingLeft

SIZE = "library_size"
"""Column of `obs` with the library sizes of counts that are not normalised yet, where the file states them."""


@dataclass(frozen=True)
class Rows:
    """Some rows on their way through the stages.

    Attributes:
        x_ng: Values as the stages so far have left them, CSR, shape (n, g).
        genes: Gene names in order.
        obs: Labels of the rows.
        intervention_n: Intervention of each row.
        delimiter: What joins the parts of a combination.
        counts_ng: Raw counts of the same rows and genes; None where the data set has none, or nobody will ask.
    """

    x_ng: sparse.csr_matrix
    genes: tuple[str, ...]
    obs: pd.DataFrame
    intervention_n: np.ndarray
    delimiter: str | None
    counts_ng: sparse.csr_matrix | None = None

    def take(self, genes: Sequence[str]) -> Rows:
        """The same rows with some genes, found by name, in the order given.

        Raises:
            GenesAbsent: A gene is not there.
            NothingLeft: No gene is asked for.
        """
        if tuple(genes) == self.genes:
            return self
        if not len(genes):
            raise NothingLeft(
                "No gene is left",
                given=f"a filter of {len(self.genes)} genes that keeps none",
                expected="genes that pass it",
                fix="Lower the thresholds of the preprocess stages.",
            )
        position = {g: i for i, g in enumerate(self.genes)}
        absent = [g for g in genes if g not in position]
        if absent:
            raise GenesAbsent(
                "The data lack genes that the preprocessing was learned with",
                given=f"{len(absent)} of {len(genes)} genes absent, first {absent[0]!r}",
                expected="every gene it reads, by the same names",
                fix="Map the gene names to those of the training data, or learn anew on genes that both have.",
            )
        columns = [position[g] for g in genes]
        counts = None if self.counts_ng is None else self.counts_ng[:, columns]
        return replace(self, x_ng=self.x_ng[:, columns], genes=tuple(genes), counts_ng=counts)

    def with_values(self, value: np.ndarray) -> Rows:
        """The same rows and genes with other stored values."""
        x = self.x_ng
        return replace(self, x_ng=sparse.csr_matrix((value, x.indices, x.indptr), shape=x.shape))


def cut(dataset: PerturbDataset, index: np.ndarray | None, *, counts: bool) -> Rows:
    """Cut rows out of a data set; expression of other rows is not read.

    Args:
        dataset: The data.
        index: Row numbers; None means all.
        counts: Carry raw counts beside the values, where the data set has them.
    """
    labels, rows = dataset.labels(), np.arange(dataset.n_obs) if index is None else index
    x_ng = sparse.csr_matrix(dataset.adata.X if index is None else dataset.adata.X[index])
    obs = dataset.obs.iloc[rows]
    raw = _counts(x_ng, dataset.declared.scale, obs, dataset.declared.counts_hashed) if counts else None
    return Rows(x_ng, dataset.genes, obs, labels.intervention_n[rows], labels.delimiter, raw)


def _counts(x_ng: Any, scale: str, obs: pd.DataFrame, recoverable: bool) -> Any:
    if scale == "counts":
        return x_ng
    return counts_from_log1p(x_ng, obs["size_factor"].to_numpy(np.float64)) if recoverable else None
