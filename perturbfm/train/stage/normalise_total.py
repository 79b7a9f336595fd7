"""One library size for every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbfm.errors import BadValue, SizeNotPositive
from perturbfm.train.stage.abstract import COUNTS, NORMALISED, AbstractStage
from perturbfm.train.stage.rows import SIZE, Rows


class NormaliseTotal(AbstractStage):
    r"""Scale each cell to one library size.

    .. math:: y_{ng} = k_{ng} \cdot T / s_n

    :math:`s_n` is the sum of the row over the genes that are there, or the column that `data.size_column` names, where
    the matrix holds a subset of the genes. :math:`T` is a number, or the median of the positive :math:`s_n` of the rows
    learned on, which is then the same for every row of any data set.

    Args:
        target: What a cell sums to afterwards, or `median`.
        exclude_highly_expressed: Leave genes out of :math:`s_n` that hold more than `max_fraction` of any one cell
            that was learned on.
        max_fraction: That share.

    Raises:
        BadValue: A target that is neither positive nor `median`, or a share outside (0, 1).

    Source:
        scanpy.pp.normalize_total; `target: median` is its default.
    """

    takes = (COUNTS,)
    gives = NORMALISED

    def __init__(
        self, target: float | str = "median", exclude_highly_expressed: bool = False, max_fraction: float = 0.05
    ) -> None:
        if (target != "median" and (isinstance(target, str) or not target > 0)) or not 0 < max_fraction < 1:
            raise BadValue(
                "NormaliseTotal has an impossible option",
                given=f"target={target}, max_fraction={max_fraction}",
                expected="a positive target or median, and a share between 0 and 1",
                fix="Set target to median or to a number such as 10000.",
            )
        self.target, self.exclude, self.max_fraction = target, exclude_highly_expressed, max_fraction
        self.params = {
            "target": target,
            "exclude_highly_expressed": exclude_highly_expressed,
            "max_fraction": max_fraction,
        }

    def learn(self, rows: Rows) -> dict[str, Any]:
        """The target and the genes that are left out of the sizes; nothing where both are options."""
        if self.exclude and SIZE in rows.obs:
            raise BadValue(
                "Library sizes of a column cannot leave genes out",
                given="exclude_highly_expressed=true with data.size_column",
                expected="one of the two",
                fix="Set exclude_highly_expressed=false, or data.size_column=null.",
            )
        if self.target != "median" and not self.exclude:
            return {}
        excluded = self._highly_expressed(rows) if self.exclude else []
        if self.target != "median":
            return {"target": float(self.target), "excluded": excluded}
        size = _sizes(rows, excluded)
        _assert_positive(rows, size)
        return {"target": float(np.median(size)), "excluded": excluded}

    def apply(self, rows: Rows, learned: Mapping[str, Any]) -> Rows:
        """Rows that sum to the learned target."""
        size = _sizes(rows, learned.get("excluded", []))
        _assert_positive(rows, size)
        factor = size / np.float32(learned.get("target", self.target))  # float32 throughout, as scanpy computes it
        return rows.with_values(rows.x_ng.data / np.repeat(factor, np.diff(rows.x_ng.indptr)))

    def _highly_expressed(self, rows: Rows) -> list[str]:
        size = _sizes(rows, [])
        high = rows.x_ng.data > self.max_fraction * np.repeat(size, np.diff(rows.x_ng.indptr))
        return [rows.genes[i] for i in np.unique(rows.x_ng.indices[high])]


def _sizes(rows: Rows, excluded: list[str]) -> np.ndarray:
    if SIZE in rows.obs:
        return rows.obs[SIZE].to_numpy(np.float32)
    if not excluded:
        return np.asarray(rows.x_ng.sum(axis=1, dtype=np.float64)).ravel().astype(np.float32)
    left = np.array([g not in set(excluded) for g in rows.genes], dtype=np.float64)
    return np.asarray(rows.x_ng @ left).ravel().astype(np.float32)


def _assert_positive(rows: Rows, size: np.ndarray) -> None:
    wrong = ~(np.isfinite(size) & (size > 0))
    if wrong.any():
        raise SizeNotPositive(
            "Cells have no library size after the genes were filtered",
            given=f"{int(wrong.sum())} cells, first {rows.obs.index[wrong][0]!r}",
            expected="counts left in every cell",
            fix="Set preprocess.cells.min_counts or min_genes (and make the split with it), or filter fewer genes.",
        )
