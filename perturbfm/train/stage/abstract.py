"""What every stage can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbfm.errors import StageOutOfPlace
from perturbfm.train.stage.rows import Rows

COUNTS, NORMALISED, LOG1P = "counts", "normalised", "log1p"
"""Scales between stages; `normalised` (counts over library size) exists only there."""


class AbstractStage(ABC):
    """One step: learned on some rows, applied to any.

    A stage holds its options and nothing that it learned; what it learned is a mapping of plain containers, so that a
    checkpoint and a JSON file can hold it.

    Attributes:
        takes: Scales of the values it can work on.
        gives: Scale of the values after it; None where it leaves them alone.
        params: Its options, as they stood in the configuration.
    """

    takes: tuple[str, ...] = (COUNTS, NORMALISED, LOG1P)
    gives: str | None = None
    params: dict[str, Any]

    def after(self, scale: str) -> str:
        """Scale of the values after this stage.

        Raises:
            StageOutOfPlace: The stage cannot work on values of that scale.
        """
        if scale not in self.takes:
            raise StageOutOfPlace(
                f"{type(self).__name__} cannot work on values of the scale {scale}",
                given=f"values of the scale {scale}",
                expected=" or ".join(self.takes),
                fix=_FIXES.get(scale, "Set preprocess=none for values that are neither counts nor log1p."),
            )
        return self.gives or scale

    @abstractmethod
    def learn(self, rows: Rows) -> dict[str, Any]:
        """What is learned from some rows, as plain containers."""

    @abstractmethod
    def apply(self, rows: Rows, learned: Mapping[str, Any]) -> Rows:
        """Do to any rows what was learned."""

    def view(self, x_kg: np.ndarray, genes: tuple[str, ...], learned: Mapping[str, Any]) -> np.ndarray:
        """What a model is shown of control profiles, [k, g]; most stages change nothing here."""
        return x_kg


_FIXES = {
    LOG1P: "The values are logarithms already: choose preprocess=log_hvg, or point the data yaml to the counts; where "
    "it normalises counts itself, data.target_sum=null leaves them to the preset, on a split made with that --set.",
    COUNTS: "Choose a preset for counts (preprocess=perturbench), or put NormaliseTotal and Log1p before this stage.",
    NORMALISED: "Put Log1p before this stage in preprocess.stages.",
}
