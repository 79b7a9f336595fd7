"""The folder of reference inputs and official numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perturbfm.errors import UnreadableFile
from perturbfm.eval.comparison import Comparison, Side

if TYPE_CHECKING:
    from anndata import AnnData

PREDICTIONS = ("control_copy", "mean_shift", "noisy_truth", "shrunk_truth")
"""Predictions on the log1p scale, as `inputs/pred_<name>.h5ad`; each holds a copy of the true control cells."""

CONTROL = "control"


@dataclass
class References:
    """Reference inputs and official values under one folder.

    Args:
        folder: A folder with `inputs/` and one sub-folder per suite.
    """

    folder: Path
    _read: dict[str, Any] = field(default_factory=dict)

    def values(self, path: str) -> dict[str, Any]:
        """An official JSON file; `null` stands for NaN or infinity.

        Raises:
            UnreadableFile: It is not there, or no JSON.
        """
        try:
            return dict(json.loads((self.folder / path).read_text()))
        except (OSError, ValueError) as e:
            raise UnreadableFile(
                "A file of official values cannot be read",
                given=f"{self.folder / path}: {e}",
                expected="the folder of parity references, with this file in it",
                fix="Name the folder with --references or PERTURBFM_PARITY.",
            ) from e

    def cells(self, name: str) -> AnnData:
        """`inputs/<name>.h5ad`, read once.

        Raises:
            UnreadableFile: It is not there.
        """
        import anndata

        path = self.folder / "inputs" / f"{name}.h5ad"
        if name not in self._read:
            if not path.is_file():
                raise UnreadableFile(
                    "A reference input is missing",
                    given=str(path),
                    expected="the folder of parity references, with inputs/ in it",
                    fix="Name the folder with --references or PERTURBFM_PARITY.",
                )
            self._read[name] = anndata.read_h5ad(path)
        return self._read[name]

    def comparison(self, prediction: str, contexts: Sequence[str] | None = None) -> Comparison:
        """Truth beside one prediction, in some contexts (all of them by default); one object per question."""
        key = f"{prediction}|{contexts}"
        if key not in self._read:
            self._read[key] = comparison_of(self.cells("truth"), self.cells(f"pred_{prediction}"), contexts)
        found: Comparison = self._read[key]
        return found


def comparison_of(truth: AnnData, predicted: AnnData, contexts: Sequence[str] | None = None) -> Comparison:
    """Two files as a suite sees them: conditions are those of `truth` that `predicted` has too, sorted.

    Args:
        truth: Cells with `obs` columns `condition` (`control` for controls) and `cell_type`.
        predicted: The same columns and genes.
        contexts: Contexts to keep; all by default.
    """
    kept = sorted(set(truth.obs["cell_type"].astype(str)) if contexts is None else contexts)
    rows = {name: _rows(file) for name, file in (("truth", truth), ("predicted", predicted))}
    keys = [k for k in sorted(rows["truth"]) if k[0] in kept and k[1] != CONTROL and k in rows["predicted"]]
    return Comparison(
        context_k=tuple(kept),
        context_of_c=np.array([kept.index(k[0]) for k in keys]),
        perturbation_c=np.array([k[1] for k in keys], dtype=object),
        genes_g=tuple(str(g) for g in truth.var_names),
        truth=_side(truth, rows["truth"], keys, kept),
        predicted=_side(predicted, rows["predicted"], keys, kept),
    )


def _side(file: AnnData, rows: dict[tuple[str, str], np.ndarray], keys: list[tuple[str, str]], kept: list[str]) -> Side:
    def cells_of(condition: int) -> Any:
        return file.X[rows[keys[condition]]]

    def control_of(context: int) -> Any:
        return file.X[rows[(kept[context], CONTROL)]]

    return Side(cells_of, control_of, len(keys), len(kept))


def _rows(file: AnnData) -> dict[tuple[str, str], np.ndarray]:
    found: dict[tuple[str, str], list[int]] = {}
    labels = zip(file.obs["cell_type"].astype(str), file.obs["condition"].astype(str), strict=True)
    for row, key in enumerate(labels):
        found.setdefault(key, []).append(row)
    return {key: np.array(row) for key, row in found.items()}
