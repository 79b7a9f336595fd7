"""Systema and Shift Bioscience, recomputed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.gene_set import gene_set
from perturbfm.eval.metric.rest_weight import squared_share, truth_test
from perturbfm.eval.panel.metric import OnCells
from perturbfm.eval.panel.papers import PAPERS
from perturbfm.parity.averaging import in_float32
from perturbfm.parity.check import Check, per_condition
from perturbfm.parity.reference import References

SYSTEMA_KEYS = {
    ("perturbed_centroid", "corr_all_allpert"): "systema.corr_all_allpert",
    ("perturbed_centroid", "corr_20de_allpert"): "systema.corr_20de_allpert.ttest_abs",
    ("control", "corr_all_allpert"): "systema.corr_all",
    ("control", "corr_20de_allpert"): "systema.corr_20de.ttest_abs",
}
"""Systema's one function returns the same two names for every reference."""

FLOAT32 = 1e-5
"""Tolerance, relative and for correlations absolute, of a suite whose arithmetic is float32 throughout."""

COUNTED = ("nir", "n_degs")
UNOWNED = ("pearson_deltapert_degs",)


def checks(references: References) -> Iterator[Check]:
    """Every number of both suites."""
    yield from _systema(references)
    yield from _shift(references)


def _systema(references: References) -> Iterator[Check]:
    file = references.values("systema/values.json")
    seen = {p: _compared(references, file["context"], p) for p in file["centroid_accuracy"]}
    for (reference, key), alias in SYSTEMA_KEYS.items():
        for prediction, by_name in file["values"][reference].items():
            official = {name: values[key] for name, values in by_name.items()}
            mean = file["means"][f"{reference}/{key}"][prediction]
            yield from _both(alias, prediction, official, mean, seen[prediction], FLOAT32, FLOAT32)
    for prediction, official in file["centroid_accuracy"].items():
        mean = file["means"]["centroid_accuracy"][prediction]
        yield from _both("systema.centroid_accuracy", prediction, official, mean, seen[prediction], 0.0, 1e-12)
    one = next(iter(seen.values()))
    alias = "systema.systematic_variation"
    value = file["systematic_variation_mean_cosine_to_avg_shift"]
    yield Check(alias, "mean", value, _mean(_ours(alias, one)), FLOAT32)
    yield from _top20(file["top20"], one)


def _shift(references: References) -> Iterator[Check]:
    file = references.values("shift_bioscience/values.json")
    for prediction, by_name in file["values"].items():
        comparison = _compared(references, file["context"], prediction)
        for key in [k for k in next(iter(by_name.values())) if k not in UNOWNED]:
            official = {name: values[key] for name, values in by_name.items()}
            mean = file["means"][key][prediction]
            relative = 0.0 if key in COUNTED else 1e-6
            yield from _both(f"shift.{key}", prediction, official, mean, comparison, relative, 1e-12)
    yield from _weights(file["weights"], comparison)


def _compared(references: References, context: str, prediction: str) -> Comparison:
    """One prediction with the suites' averages, around the mean of the judged centroids, which the file stores."""
    exact = references.comparison(prediction, [context])
    truth_test(exact), gene_set(exact, "top20_ttest_abs")
    comparison = in_float32(exact)
    return replace(comparison, train_centroid_g=comparison.truth.moments.mean_rg.mean(axis=0))


def _both(
    alias: str,
    prediction: str,
    official: Mapping[str, float | None],
    mean: float | None,
    comparison: Comparison,
    relative: float,
    absolute: float,
) -> Iterator[Check]:
    """Every condition and their mean."""
    stats = _ours(alias, comparison)
    yield from per_condition(alias, prediction, official, comparison, stats, relative=relative, absolute=absolute)
    yield Check(alias, f"{prediction}/mean", mean, _mean(stats), relative, absolute)


def _ours(alias: str, comparison: Comparison) -> PerCondition:
    """The panel's line of an alias."""
    (line,) = [m.function for m in PAPERS if alias in m.aliases and isinstance(m.function, OnCells)]
    return line.function(comparison)


def _mean(stats: PerCondition) -> float | None:
    """Mean over all conditions, None where one has no value."""
    value = float(np.mean(stats.value_c))
    return value if np.isfinite(value) else None


def _top20(official: Mapping[str, list[str]], comparison: Comparison) -> Iterator[Check]:
    """How many of the official genes are ours."""
    kept_cg = gene_set(comparison, "top20_ttest_abs").kept_cg
    for name, kept_g in zip(comparison.perturbation_c, kept_cg, strict=True):
        ours = {gene for gene, kept in zip(comparison.genes_g, kept_g, strict=True) if kept}
        alias = "systema.corr_20de_allpert.ttest_abs"
        yield Check(alias, f"top20/{name}", float(len(official[name])), float(len(ours & set(official[name]))), 0.0)


def _weights(official: Mapping[str, Mapping[str, float]], comparison: Comparison) -> Iterator[Check]:
    """The 25 largest weights of every condition."""
    ours_cg = squared_share(truth_test(comparison).t_cg)
    column = {gene: i for i, gene in enumerate(comparison.genes_g)}
    for name, ours_g in zip(comparison.perturbation_c, ours_cg, strict=True):
        for gene, value in official[name].items():
            yield Check("shift.wmse", f"weights/{name}/{gene}", value, float(ours_g[column[gene]]))
