"""scPerturBench's own scripts under two generations of its libraries, and distances by their public calls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.panel.metric import OnCells
from perturbfm.eval.panel.scperturbench import SCPERTURBENCH
from perturbfm.parity.check import Check, per_condition
from perturbfm.parity.reference import References

SCRIPTS = ("pertpy-0.7.0_ott-0.4.6", "pertpy-1.0.3_ott-0.6.0")
COMMON = "scperturbench/common_degs.json"
VARIANTS = "distances/variants.json"
CONTEXT = "k562"
"""Context of the files that do not name theirs."""

RENAMED = {"pearson_distance": "pcc_delta", "sym_kldiv": "kl", "mean_absolute_error": "mae"}
"""Names of the script that the published tables, or this project, write otherwise."""

STEP = 1e-4 * (1 + 1e-6)
"""One unit of the fourth decimal, which float32 means may round to the other side of."""

DISTANCES = {
    "pertpy103_edistance_call": ("pertpy_1.0.3.edistance", 1e-6, 1e-8),
    "unbiased_euclidean (pertpy>=1.0.4 rule)": ("pertpy_1.0.4.edistance", 1e-6, 1e-8),
    'geomloss_energy_p2 (PerturBench "mmd")': ("geomloss_0.3.1.energy", 1e-5, 1e-4),
    "pertpy103_edistance_sqeuclidean": ("pertpy_0.10.edistance", 1e-6, 1e-8),
    "scperturb_edist": ("scperturb_0.1.0.edist", 1e-6, 1e-8),
    "pertpy103_wasserstein": ("pertpy_1.0.3.wasserstein", 1e-3, 0.0),
    "mmd_linear": ("pertpy_1.0.3.mmd_linear", 1e-6, 1e-8),
    "mmd_rbf_gamma1": ("pertpy_1.0.3.mmd_rbf_gamma1", 1e-6, 1e-12),
    "mean_1d_W1": ("scipy_1.17.w1_marginal_mean", 1e-6, 1e-12),
    "mean_1d_energy": ("scipy_1.17.energy_marginal_mean", 1e-6, 1e-12),
    "sym_kldiv": ("pertpy_1.0.3.sym_kldiv_log2p1", 1e-6, 1e-12),
}
"""Alias without its genes, relative and absolute tolerance. geomloss expands squares in float32, which puts a cell
about 1e-3 away from itself."""


def checks(references: References) -> Iterator[Check]:
    """Every number of the official files that an alias of the panel owns."""
    for script in SCRIPTS:
        yield from _of_script(references, script)
    yield from _common(references)
    yield from _distances(references)


@cache
def _functions() -> dict[str, OnCells]:
    return {a: m.function for m in SCPERTURBENCH for a in m.aliases if isinstance(m.function, OnCells)}


def _ours(comparison: Comparison, alias: str) -> PerCondition:
    return comparison.once(("alias", alias), lambda: _functions()[alias].function(comparison))


def _alias(metric: str, genes: str, script: str) -> str:
    suite = "scperturbench_ott0.6" if metric == "wasserstein" and script.endswith("0.6.0") else "scperturbench"
    return f"{suite}.{RENAMED.get(metric, metric)}.{genes}"


def _of_script(references: References, script: str) -> Iterator[Check]:
    file = references.values(f"scperturbench/{script}.json")
    context = (file["context"],)
    for metric, sets in file["values"].items():
        relative = 1e-3 if metric == "wasserstein" else 1e-6
        for genes, predictions in sets.items():
            alias = _alias(metric, genes, script)
            for prediction, by_name in predictions.items():
                comparison = references.comparison(prediction, context)
                stats, where = _ours(comparison, alias), f"{script}/{prediction}"
                official = {name: _as_published(metric, value) for name, value in by_name.items()}
                yield from per_condition(alias, where, official, comparison, stats, relative=relative, absolute=STEP)
                mean = _as_published(metric, file["mean_over_perturbations"][metric][genes][prediction])
                yield Check(alias, f"{where}/mean", mean, _mean(stats), relative, STEP)


def _as_published(metric: str, value: float | None) -> float | None:
    """The tables hold r, the script 1 - r."""
    return 1.0 - value if metric == "pearson_distance" and value is not None else value


def _mean(stats: PerCondition) -> float | None:
    """Mean over conditions; None where one of them is undefined, which the suite cannot know."""
    return float(stats.value_c.mean()) if stats.ok_c.all() else None


def _common(references: References) -> Iterator[Check]:
    file, alias = references.values(COMMON), "scperturbench.common_degs"
    for part, predictions in file["values"].items():
        for prediction, by_name in predictions.items():
            comparison = references.comparison(prediction, (part.removeprefix("devel_"),))
            stats = _ours(comparison, alias)
            official = {name: found["top100_overlap"] for name, found in by_name.items()}
            yield from per_condition(alias, prediction, official, comparison, stats, relative=0.0)
            yield Check(alias, f"{prediction}/mean", file["means"][part][prediction], _mean(stats))


def _distances(references: References) -> Iterator[Check]:
    for genes, predictions in references.values(VARIANTS)["values"].items():
        for prediction, by_name in predictions.items():
            comparison = references.comparison(prediction, (CONTEXT,))
            for key, (name, relative, absolute) in DISTANCES.items():
                official = _column(by_name, key)
                if official:
                    stats = _ours(comparison, alias := f"{name}.{genes}")
                    yield from per_condition(
                        alias, prediction, official, comparison, stats, relative=relative, absolute=absolute
                    )


def _column(by_name: Mapping[str, Mapping[str, float | None]], key: str) -> dict[str, float | None]:
    """One distance of every condition that has it; divergences on the scale they are compared on."""
    found = {name: values[key] for name, values in by_name.items() if key in values}
    if key != "sym_kldiv":
        return found
    return {name: None if value is None else math.log2(1.0 + value) for name, value in found.items()}
