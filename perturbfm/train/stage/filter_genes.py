"""Genes that too few cells of train have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbfm.errors import BadValue
from perturbfm.train.stage.abstract import COUNTS, AbstractStage
from perturbfm.train.stage.rows import Rows


class FilterGenes(AbstractStage):
    """Keep genes that enough rows have, or that have enough counts.

    A gene is kept when `sum_n [x_ng > 0] >= min_cells` and `sum_n x_ng >= min_counts`, over the rows learned on.

    Args:
        min_cells: Least number of cells with a value above zero; None sets no limit.
        min_counts: Least number of counts; None sets no limit. Needs counts.

    Raises:
        BadValue: No limit is set, or a limit is below 1.

    Source:
        scanpy.pp.filter_genes, which takes one of the two at a time.
    """

    def __init__(self, min_cells: int | None = None, min_counts: float | None = None) -> None:
        limits = [limit for limit in (min_cells, min_counts) if limit is not None]
        if not limits or min(limits) < 1:
            raise BadValue(
                "FilterGenes has no limit",
                given=f"min_cells={min_cells}, min_counts={min_counts}",
                expected="at least one of them, from 1 on",
                fix="Set min_cells, or take the stage out of preprocess.stages.",
            )
        self.min_cells, self.min_counts = min_cells, min_counts
        self.params = {"min_cells": min_cells, "min_counts": min_counts}
        self.takes = (COUNTS,) if min_counts is not None else AbstractStage.takes

    def learn(self, rows: Rows) -> dict[str, Any]:
        """Names of the genes that pass."""
        keep = np.ones(len(rows.genes), dtype=bool)
        if self.min_cells is not None:
            keep &= np.asarray((rows.x_ng > 0).sum(axis=0)).ravel() >= self.min_cells
        if self.min_counts is not None:
            keep &= np.asarray(rows.x_ng.sum(axis=0)).ravel() >= self.min_counts
        return {"genes": [g for g, k in zip(rows.genes, keep, strict=True) if k]}

    def apply(self, rows: Rows, learned: Mapping[str, Any]) -> Rows:
        """The genes that passed."""
        return rows.take(learned["genes"])
