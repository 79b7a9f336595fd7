"""Genes that answer: differential expression against the input controls of the same context."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from anndata import AnnData

from perturbfm.errors import StageCannotLearn
from perturbfm.train.stage.rows import Rows

TESTS = ("t-test", "wilcoxon")
LEAST = 2
"""Cells that a condition needs for a variance."""


def differential_genes(rows: Rows, per_condition: int, test: str) -> tuple[set[str], int]:
    """The genes that differ most from the controls of the context, for each context and intervention.

    Args:
        rows: Perturbed rows and their input controls, on the log scale.
        per_condition: How many genes each condition gives, ranked by the absolute score.
        test: `t-test` (Welch, unequal variances) or `wilcoxon`.

    Returns:
        The union over conditions, and how many conditions had fewer than two cells and were left out.

    Raises:
        StageCannotLearn: A context has fewer than two controls among the rows.

    Source:
        scanpy.tl.rank_genes_groups with reference = the controls and rankby_abs=True.
    """
    found: set[str] = set()
    left_out = 0
    context_n = rows.obs["context_id"].to_numpy(dtype=str)
    is_control_n = rows.obs["is_control"].to_numpy(dtype=bool)
    for context in sorted(set(context_n[~is_control_n].tolist())):
        mine = np.flatnonzero(context_n == context)
        n_control = int(is_control_n[mine].sum())
        if n_control < LEAST:
            raise StageCannotLearn(
                "A context has no controls to find differential genes against",
                given=f"{n_control} input controls in {context!r}",
                expected=f"at least {LEAST}",
                fix="Set plus_de=0 in the HighlyVariable stage.",
            )
        name, code, size = np.unique(
            rows.intervention_n[mine[~is_control_n[mine]]].astype(str), return_inverse=True, return_counts=True
        )
        enough = [f"g{i}" for i in np.flatnonzero(size >= LEAST)]
        left_out += len(name) - len(enough)
        if not enough:
            continue
        group = np.full(len(mine), "control", dtype=object)
        group[~is_control_n[mine]] = [f"g{i}" for i in code.reshape(-1)]
        found |= _ranked(rows, mine, group, enough, per_condition, test)
    return found, left_out


def _ranked(rows: Rows, mine: np.ndarray, group: np.ndarray, enough: list[str], n_genes: int, test: str) -> set[str]:
    import scanpy

    part = AnnData(
        rows.x_ng[mine],
        obs=pd.DataFrame({"group": pd.Categorical(group)}, index=rows.obs.index[mine]),
        var=pd.DataFrame(index=list(rows.genes)),
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # fragmented frames, and genes that vary in neither group
        scanpy.tl.rank_genes_groups(
            part,
            "group",
            groups=enough,
            reference="control",
            rankby_abs=True,
            n_genes=min(n_genes, len(rows.genes)),
            method=test,
        )
    names = part.uns["rank_genes_groups"]["names"]
    return {str(gene) for g in names.dtype.names for gene in names[g]}
