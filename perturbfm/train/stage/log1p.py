"""The logarithm, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbfm.train.stage.abstract import COUNTS, LOG1P, NORMALISED, AbstractStage
from perturbfm.train.stage.rows import Rows


class Log1p(AbstractStage):
    """`log(1 + y)`, natural; values that are logarithms already are refused.

    Source:
        scanpy.pp.log1p.
    """

    takes = (COUNTS, NORMALISED)
    gives = LOG1P

    def __init__(self) -> None:
        self.params = {}

    def learn(self, rows: Rows) -> dict[str, Any]:
        """Nothing."""
        return {}

    def apply(self, rows: Rows, learned: Mapping[str, Any]) -> Rows:
        """The logarithm of the stored values; zeros stay zeros."""
        return rows.with_values(np.log1p(rows.x_ng.data))
