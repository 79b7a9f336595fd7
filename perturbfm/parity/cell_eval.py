"""cell-eval 0.8.2 and 0.6.8, and cell-eval2 0.20.0 on log1p input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.panel.cell_eval import CELL_EVAL
from perturbfm.eval.panel.metric import OnCells
from perturbfm.parity.check import Check
from perturbfm.parity.reference import References

NEW = "cell_eval/0.8.2_devel_k562.json"
OLD = "cell_eval/0.6.8_pdex-0.1.28_devel.json"
SECOND = "cell_eval2/0.20.0_devel.json"
LOGNORM = "v2-full-lognorm"

SINGLE = 1e-5
"""Means and energy distances of float32 matrices."""

CORRELATION = 1e-6
"""A correlation summed in float32 is right to that in absolute terms, however near zero it is."""

MEANS = ("mae", "mse", "delta", "pearson_edistance")
OMITTED = ("de_direction_match", "de_spearman_lfc_sig", "de_sig_genes_recall")
ZERO = ("overlap_at_", "precision_at_")
"""Names whose undefined conditions cell-eval leaves out of its mean, or counts as zero; others make it NaN."""

SKIPPED = ("cell_eval_0.6.8",)
"""Suites whose stored means leave out every undefined condition."""


def checks(references: References) -> Iterator[Check]:
    """Every owned number of the three files, and every owned mean of cell-eval's."""
    new = references.values(NEW)
    yield from _cell_eval("cell_eval_0.8.2", references, str(new["context"]), new)
    for data, found in references.values(OLD)["data"].items():
        yield from _cell_eval("cell_eval_0.6.8", references, _context(data), found)
    second = references.values(SECOND)
    for key, official in second["values"].items():
        data, configuration, prediction = key.split("/")
        if configuration == LOGNORM:
            comparison = _compared(references, prediction, _context(data), official)
            comparison = _with_targets(comparison, second["target_gene_map"][data])
            yield from _one("cell_eval2_0.20.0", prediction, comparison, official, {})


def _cell_eval(suite: str, references: References, context: str, found: Mapping[str, Any]) -> Iterator[Check]:
    for prediction, official in found["values"].items():
        comparison = _compared(references, prediction, context, official)
        yield from _one(suite, prediction, comparison, official, found["agg_mean"][prediction])


def _context(data: str) -> str:
    """`devel_k562` is context k562 of devel."""
    return data.partition("_")[2]


def _compared(references: References, prediction: str, context: str, official: Mapping[str, Any]) -> Comparison:
    """Truth beside a prediction, with the perturbations that the suite was given."""
    whole = references.comparison(prediction, (context,))
    given = {str(name) for by_name in official.values() for name in by_name}
    kept_c = np.flatnonzero([str(name) in given for name in whole.perturbation_c])
    if len(kept_c) == whole.n_conditions:
        return whole

    def part(side: Side) -> Side:
        return Side(lambda c: side.cells(int(kept_c[c])), side.control, len(kept_c), side.n_contexts)

    return replace(
        whole,
        context_of_c=whole.context_of_c[kept_c],
        perturbation_c=whole.perturbation_c[kept_c],
        truth=part(whole.truth),
        predicted=part(whole.predicted),
        _made={},
    )


def _one(
    suite: str,
    prediction: str,
    comparison: Comparison,
    official: Mapping[str, Mapping[str, float | None]],
    means: Mapping[str, float | None],
) -> Iterator[Check]:
    owned = _owned(suite)
    for name in (n for n in official if n in owned):
        alias = f"{suite}.{name}"
        within = (SINGLE if any(word in name for word in MEANS) else 1e-6, CORRELATION if "pearson" in name else 1e-12)
        stats = owned[name](comparison)
        yield from _conditions(alias, prediction, official[name], comparison, stats, within)
        if name in means:
            mean = _mean(name, stats, skip=suite in SKIPPED)
            why = _told(sorted(set(stats.reason_c) - {""})[:1], mean, means[name])
            yield Check(alias, f"mean/{prediction}{why}", means[name], mean, *within)


def _owned(suite: str) -> dict[str, Callable[[Comparison], PerCondition]]:
    found = {}
    for metric in CELL_EVAL:
        for alias in metric.aliases:
            if alias.startswith(f"{suite}.") and isinstance(metric.function, OnCells):
                found[alias.removeprefix(f"{suite}.")] = metric.function.function
    return found


def _conditions(
    alias: str,
    prediction: str,
    official: Mapping[str, float | None],
    comparison: Comparison,
    stats: PerCondition,
    within: tuple[float, float],
) -> Iterator[Check]:
    """A check per condition; where we say undefined and the suite has a number, `where` ends in our reason."""
    row = {str(p): c for c, p in enumerate(comparison.perturbation_c)}
    for key in sorted({*official, *row}):
        value = stats.value_c[row[key]] if key in row else np.nan
        reason = stats.reason_c[row[key]] if key in row else "no such condition"
        given = official.get(key)
        known = float(value) if np.isfinite(value) else None
        yield Check(alias, f"{prediction}/{key}{_told([reason], known, given)}", given, known, *within)


def _told(reason: list[str], ours: float | None, official: float | None) -> str:
    """Our reason, where we say undefined and the suite has a number."""
    return f" ({reason[0]})" if reason and ours is None and official is not None else ""


def _mean(name: str, stats: PerCondition, skip: bool) -> float | None:
    """Mean over conditions by cell-eval's rule for those that have no value."""
    value_c = stats.value_c
    if name.startswith(ZERO):
        value_c = np.nan_to_num(value_c)
    elif skip:
        value_c = value_c[np.isfinite(value_c)]
    elif name in OMITTED:
        value_c = value_c[_present(stats)]
    mean = float(value_c.mean()) if len(value_c) else float("nan")
    return mean if np.isfinite(mean) else None


def _present(stats: PerCondition) -> np.ndarray:
    """Conditions with a significant gene; cell-eval has no row for the others."""
    return np.array([reason != "no gene is significant in truth" for reason in stats.reason_c])


def _with_targets(comparison: Comparison, target: Mapping[str, str]) -> Comparison:
    number = {gene: g for g, gene in enumerate(comparison.genes_g)}
    targets_cg = np.zeros((comparison.n_conditions, len(number)), dtype=bool)
    for c, name in enumerate(comparison.perturbation_c):
        if target.get(str(name)) in number:
            targets_cg[c, number[target[str(name)]]] = True
    return replace(comparison, targets_cg=targets_cg, _made={})
