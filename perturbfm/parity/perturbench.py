"""PerturBench v1 (2024-08) and v3 (2026): every number of `perturbench/*.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perturbfm.eval.aggregate import pooled
from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.profile_rank import Places, both_places
from perturbfm.eval.panel.metric import OnCells
from perturbfm.eval.panel.perturbench import PERTURBENCH
from perturbfm.parity.check import Check, per_condition
from perturbfm.parity.reference import PREDICTIONS, References

FILES = {"v1": "perturbench/v1_2024-08.json", "v3": "perturbench/v3_2026.json"}

DOUBLE, SINGLE, INNER_PRODUCT = 1e-6, 1e-5, 1e-3
"""Relative tolerances: float64; float32 means and scores; float32 distances from inner products (geomloss)."""

IN_DOUBLE = ("logp/cosine", "logp/pearson", "pvals/pearson", "scores/top_k_recall")

SPACES = {"average": "mean", "logfc": "logfc", "scores": "t"}


def checks(references: References) -> Iterator[Check]:
    """Values, ranks in both directions, and the suite's own summary, of both versions and every prediction."""
    for version, path in FILES.items():
        file = references.values(path)
        for key, by_prediction in file["values"].items():
            alias = f"perturbench_{version}.{_name(key)}"
            for prediction in PREDICTIONS:
                comparison = references.comparison(prediction)
                yield from _values(alias, key, prediction, by_prediction[prediction], comparison)
                yield from _summary(alias, key, prediction, file, comparison)
        for kind in ("rank", "rank_transpose"):
            for key, by_prediction in file[kind].items():
                alias = f"perturbench_{version}.{kind}_{_name(key)}"
                for prediction in PREDICTIONS:
                    comparison = references.comparison(prediction)
                    mean = file[f"mean_{kind}"][key][prediction]
                    yield from _ranks(alias, key, prediction, by_prediction[prediction], mean, comparison)


def _name(key: str) -> str:
    """`average/rmse` as the alias writes it; `mmd` and `top_k_recall` need no word for what they look at."""
    space, metric = key.split("/")
    return metric if metric in ("mmd", "top_k_recall") else f"{metric}_{space}"


def _stats(alias: str, comparison: Comparison) -> PerCondition:
    (line,) = [m.function for m in PERTURBENCH if alias in m.aliases and isinstance(m.function, OnCells)]
    return comparison.once(("perturbench", alias), lambda: line.function(comparison))


def _tolerance(key: str, official: float | None) -> tuple[float, float]:
    """Relative and absolute; of `r2_score` it is what is subtracted from 1 that is within the relative one."""
    relative = INNER_PRODUCT if key == "none/mmd" else DOUBLE if key in IN_DOUBLE else SINGLE
    rest = 0.0 if official is None or not key.endswith("r2_score") else relative * abs(1.0 - official)
    return relative, max(1e-12, rest)


def _values(
    alias: str, key: str, prediction: str, official: Mapping[str, float | None], comparison: Comparison
) -> Iterator[Check]:
    for check in per_condition(alias, prediction, official, comparison, _stats(alias, comparison), by_context=True):
        relative, absolute = _tolerance(key, check.official)
        yield replace(check, relative=relative, absolute=absolute)
        if key == "none/mmd":
            yield replace(check, where=f"{check.where}/float32", relative=SINGLE)


def _summary(alias: str, key: str, prediction: str, file: Mapping[str, Any], comparison: Comparison) -> Iterator[Check]:
    """The suite's mean over context-perturbations without those that are NaN, and how many those are."""
    stats = _stats(alias, comparison)
    mean = file["mean_over_context_perturbations_nan_skipped"][key][prediction]
    yield Check(alias, f"{prediction}/micro_mean", mean, _micro(stats), *_tolerance(key, mean))
    missing = float(file["n_nan"][key].get(prediction, 0))
    yield Check(alias, f"{prediction}/n_undefined", missing, float((~stats.ok_c).sum()))


def _ranks(
    alias: str,
    key: str,
    prediction: str,
    official: Mapping[str, float],
    mean: float,
    comparison: Comparison,
) -> Iterator[Check]:
    """Exact where no other condition is as close; else the mid-rank, and whether the ties allow the suite's draw."""
    stats = _stats(alias, comparison)
    space, metric = key.split("/")
    distance = {"top_k_recall": "top50"}.get(metric, metric)
    places = both_places(comparison, SPACES[space], distance)["transpose" in alias]
    tied = dict(zip(_names(comparison), places.tied_c > 0, strict=True))
    for check in per_condition(alias, prediction, official, comparison, stats, by_context=True):
        name = check.where.removeprefix(f"{prediction}/")
        yield replace(check, where=f"{check.where}/tied") if tied[name] else check
        if tied[name]:
            yield _attainable(check, name, places, comparison)
    where = f"{prediction}/micro_mean" + ("/tied" if any(tied.values()) else "")
    yield Check(alias, where, mean, _micro(stats))


def _attainable(check: Check, name: str, places: Places, comparison: Comparison) -> Check:
    """The official rank beside the nearest rank that some order of the ties gives."""
    c = _names(comparison).index(name)
    n = places.n_c[c] - (0 if "_v1." in check.alias else 1)
    possible = (places.closer_c[c] + np.arange(places.tied_c[c] + 1)) / n
    nearest = float(possible[np.abs(possible - (check.official or 0.0)).argmin()])
    return replace(check, where=f"{check.where}/attainable", ours=nearest)


def _micro(stats: PerCondition) -> float | None:
    return pooled(stats, np.ones(len(stats.num_c)))


def _names(comparison: Comparison) -> list[str]:
    return [f"{k}_{p}" for k, p in zip(comparison.context_c, comparison.perturbation_c, strict=True)]
