"""Which rows are used at all: decided before a split is made, so that the split's fingerprint covers it.

Limits are numbers from the configuration, held against each cell by itself. Two of them look at more than one cell,
at labels and quality only and never at a response: `min_cells_per_condition` counts rows of a condition, and
`relaxed_mito_fraction` counts how many cells the stricter limit would remove.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from anndata import AnnData
from scipy import sparse

from perturbfm.data.dataset import PerturbDataset
from perturbfm.data.fingerprint import counts_from_log1p
from perturbfm.errors import BadValue, MissingColumn, NothingLeft


def keep_cells(
    dataset: PerturbDataset,
    min_genes: int | None = None,
    min_counts: float | None = None,
    max_mito_fraction: float | None = None,
    relaxed_mito_fraction: float | None = None,
    mito_prefix: str = "MT-",
    mito_column: str | None = None,
    min_cells_per_condition: int | None = None,
) -> PerturbDataset:
    """Keep the rows that pass, in this order: genes and counts, mitochondrial share, size of the condition.

    Args:
        dataset: The data.
        min_genes: Least number of genes with a value above zero. Needs counts or log1p.
        min_counts: Least sum of counts. Needs counts.
        max_mito_fraction: A cell's mitochondrial share of counts must be below it, on a scale of 0 to 1.
        relaxed_mito_fraction: Limit to use instead when `max_mito_fraction` would remove more than half of the cells.
        mito_prefix: What names of mitochondrial genes begin with. Needs counts.
        mito_column: Covariate that holds the share, instead of computing it.
        min_cells_per_condition: Perturbed rows of a context and intervention with fewer rows are dropped.

    Returns:
        The same data set when no limit is set.

    Raises:
        BadValue: A limit does not fit the scale of the data.
        MissingColumn: There is no such covariate.
        NothingLeft: No row passes.
    """
    keep, notes = np.ones(dataset.n_obs, dtype=bool), []
    if min_genes is not None:
        keep &= _detected(dataset) >= min_genes
        notes.append(f"min_genes={min_genes}")
    if min_counts is not None:
        keep &= np.asarray(_counts(dataset, "min_counts").sum(axis=1)).ravel() >= min_counts
        notes.append(f"min_counts={min_counts:g}")
    if max_mito_fraction is not None:
        share = _mito_share(dataset, mito_prefix, mito_column)
        limit = max_mito_fraction
        if relaxed_mito_fraction is not None and (share[keep] >= limit).sum() > keep.sum() / 2:
            limit = relaxed_mito_fraction
        keep &= share < limit
        notes.append(f"mito below {limit:g}")
    if min_cells_per_condition is not None:
        keep &= _of_large_conditions(dataset, keep, min_cells_per_condition)
        notes.append(f"min_cells_per_condition={min_cells_per_condition}")
    if not notes:
        return dataset
    if not keep.any():
        raise NothingLeft(
            "No cell is left",
            given=f"{dataset.n_obs} cells, none of which passes {', '.join(notes)}",
            expected="cells that pass preprocess.cells",
            fix="Relax the limits in preprocess.cells.",
        )
    return _kept(dataset, np.flatnonzero(keep), notes)


def _kept(dataset: PerturbDataset, rows: np.ndarray, notes: list[str]) -> PerturbDataset:
    """Some rows as a data set of its own, with controls matched among them unless the file decided its match."""
    note = f"{len(rows)} of {dataset.n_obs} cells ({', '.join(notes)})"
    source = "; ".join(s for s in (dataset.declared.source, note) if s)
    match = dataset.given_match.sliced(rows) if dataset.given_match is not None else None
    a = dataset.adata
    adata = AnnData(a.X[rows], obs=a.obs.iloc[rows].copy(), var=a.var.copy(), uns=a.uns, varm=a.varm)
    return PerturbDataset(adata, replace(dataset.declared, source=source), match)


def _detected(dataset: PerturbDataset) -> np.ndarray:
    """Number of genes with a value above zero in each row."""
    if dataset.declared.scale not in ("counts", "log1p"):
        raise _misfit("min_genes", dataset, "counts or log1p, where zero means not detected")
    return np.asarray((dataset.adata.X > 0).sum(axis=1)).ravel()


def _counts(dataset: PerturbDataset, key: str) -> sparse.csr_matrix:
    """Raw counts, where the data set has them or can give them back."""
    if dataset.declared.scale == "counts":
        return sparse.csr_matrix(dataset.adata.X)
    if dataset.declared.counts_hashed:
        return counts_from_log1p(sparse.csr_matrix(dataset.adata.X), dataset.obs["size_factor"].to_numpy(np.float64))
    raise _misfit(key, dataset, "counts")


def _mito_share(dataset: PerturbDataset, prefix: str, column: str | None) -> np.ndarray:
    if column is None:
        counts = _counts(dataset, "max_mito_fraction")
        mito = np.array([g.startswith(prefix) for g in dataset.genes], dtype=np.float64)
        if not mito.any():
            raise BadValue(
                "No gene is mitochondrial",
                given=f"no gene name that begins with {prefix!r}",
                expected="such names (MT- in human, mt- in mouse), or a column with the share",
                fix="Set preprocess.cells.mito_prefix or mito_column, or max_mito_fraction=null.",
            )
        return (counts @ mito) / np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    if column not in dataset.obs:
        raise MissingColumn(
            f"No column {column!r} with the mitochondrial share",
            given=f"columns {', '.join(dataset.obs.columns)}",
            expected=column,
            fix="Bring it in with data.covariates.",
        )
    try:
        share = dataset.obs[column].to_numpy(np.float64)
    except ValueError:
        share = np.array([np.nan])
    if not (np.isfinite(share).all() and (share >= 0).all() and (share <= 1).all()):
        raise BadValue(
            f"The column {column!r} is no share",
            given="values that are missing or outside 0 to 1",
            expected="a share for every row; per cent must be divided by 100",
            fix="Correct the column, or let preprocess.cells.mito_prefix compute the share.",
        )
    return share


def _of_large_conditions(dataset: PerturbDataset, keep: np.ndarray, least: int) -> np.ndarray:
    """Controls, and rows of conditions that have enough of the rows kept so far."""
    labels = dataset.labels()
    name, code = np.unique(labels.condition_n.astype(str), return_inverse=True)
    size = np.bincount(code.reshape(-1)[keep], minlength=len(name))
    return (size[code.reshape(-1)] >= least) | labels.is_control_n.astype(bool)


def _misfit(key: str, dataset: PerturbDataset, expected: str) -> BadValue:
    return BadValue(
        f"preprocess.cells.{key} does not fit the data",
        given=f"values on the scale {dataset.declared.scale}",
        expected=expected,
        fix=f"Point the data yaml to the counts, or set preprocess.cells.{key}=null.",
    )
