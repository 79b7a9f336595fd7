"""The preset `vcc2026` of cell-eval2, run by the library itself on two files of counts (extra `vcc`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from perturbfm.errors import PackageAbsent, PredictionMismatch

if TYPE_CHECKING:
    from anndata import AnnData

ENGINE = "pdex"
"""Named, because the library takes whichever engine it finds and their numbers differ."""


@dataclass(frozen=True)
class Vcc2026:
    """What the library gave.

    Attributes:
        library: Version of cell-eval2.
        engine: What tested genes, with its version.
        values: Value by metric and perturbation, by the library's own names; None where it has none.
        overall: The library's own aggregate by metric, None where it has none; empty where it refuses to make any.
        refusal: Why there is no aggregate; empty where there is one.
    """

    library: str
    engine: str
    values: dict[str, dict[str, float | None]]
    overall: dict[str, float | None]
    refusal: str


def vcc2026(
    predicted: AnnData, truth: AnnData, *, column: str, control: str, target: Mapping[str, str | None] | None = None
) -> Vcc2026:
    """Run the preset of the Virtual Cell Challenge 2026 on one context.

    Args:
        predicted: Predicted cells, `X` raw counts, perturbations and controls labelled as in `truth`.
        truth: Measured cells, same genes in the same order.
        column: Column of `obs` with the perturbation of a cell.
        control: Its value for controls.
        target: Gene that each perturbation acts on directly, None for one without; labels name it themselves otherwise.

    Returns:
        The library's numbers, unchanged. Without measurable signal in the truth it makes no aggregate and says so.

    Raises:
        PackageAbsent: The extra `vcc` is not installed.
        PredictionMismatch: The library refuses the two files.
    """
    library = _library()
    plan = library.EvalConfig.from_preset("vcc2026")
    plan = replace(
        plan,
        pert_col=column,
        control=control,
        target_gene_map=None if target is None else dict(target),
        cache_strict=False,
        device="cpu",
        de=replace(plan.de, backend=ENGINE),
    )
    try:
        table = library.compute_metrics(predicted, truth, config=plan)
    except ValueError as e:
        raise PredictionMismatch(
            "cell-eval2 refuses these two files",
            given=str(e),
            expected="raw counts with the same genes and perturbations on both sides, and controls",
            fix="Predict counts (a log1p prediction has none), or judge by the panel's own metrics.",
        ) from e
    values: dict[str, dict[str, float | None]] = {}
    for row in table.iter_rows(named=True):
        values.setdefault(row["metric"], {})[row["perturbation"]] = _known(row["value"])
    overall, refusal = _overall(library, table)
    return Vcc2026(version("cell-eval2"), f"{ENGINE} {version(ENGINE)}", values, overall, refusal)


def _overall(library: ModuleType, table: object) -> tuple[dict[str, float | None], str]:
    try:
        means = library.aggregate_metrics(table)
    except ValueError as e:
        return {}, str(e)
    return {row["metric"]: _known(row["mean"]) for row in means.iter_rows(named=True)}, ""


def _library() -> ModuleType:
    try:
        import_module(ENGINE)
        return import_module("cell_eval2")
    except ImportError as e:
        raise PackageAbsent(
            "The preset vcc2026 is run by cell-eval2",
            given=f"no module {e.name}",
            expected="cell-eval2 0.20 with pdex 0.3",
            fix='Install them with `pip install "perturbfm[vcc]"`.',
        ) from e


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
