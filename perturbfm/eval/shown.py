"""Which conditions a report draws gene by gene: the best, the median and the worst, with predicted and true deltas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbfm.eval.aggregate import audible
from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.panel.metric import HIGHER, Panel

RANKED_BY = ("pcc_delta[ref=control_split", "mse[space=mean_delta")
"""Metrics by which conditions are ranked: the first that has a value on any condition."""

MOST_GENES = 300
"""Genes of a condition that are kept, those with the largest predicted or true change."""

NOTHING = "no metric that could rank conditions has a value on any of them"


def shown_deltas(panel: Panel, case: Case, stats: Mapping[str, PerCondition]) -> dict[str, Any]:
    """Deltas of the best, the median and the worst condition.

    Args:
        panel: The panel that was scored.
        case: What was judged.
        stats: Statistics of every metric.

    Returns:
        `metric` (identifier by which conditions are ranked), `n_ranked`, `reason`, and `conditions`: at most three,
        each with `rank`, `context`, `intervention`, `value`, `n_rows`, `n_genes`, and for the genes that are kept
        `genes`, `truth`, `predicted` and `noise_sd` (None where noise is not known). Of fewer than three conditions
        each stands once.
    """
    for start in RANKED_BY:
        metric = next((m for m in panel.metrics if m.identifier.startswith(start)), None)
        if metric is None:
            continue
        value_c = audible(metric, stats[metric.identifier], case).value_c
        ranked = sorted(np.flatnonzero(np.isfinite(value_c)).tolist(), key=lambda c: value_c[c])
        if ranked:
            best_first = ranked[::-1] if metric.better == HIGHER else ranked
            chosen = [_deltas(case, c, rank, float(value_c[c])) for rank, c in _ends(best_first)]
            return {"metric": metric.identifier, "n_ranked": len(ranked), "reason": "", "conditions": chosen}
    return {"metric": "", "n_ranked": 0, "reason": NOTHING, "conditions": []}


def _ends(best_first: list[int]) -> list[tuple[str, int]]:
    """Best, median and worst, each condition once."""
    n = len(best_first)
    named = {0: "best", n // 2: "median", n - 1: "worst"} if n > 2 else dict(enumerate(("best", "worst")[:n]))
    return [(named[k], best_first[k]) for k in sorted(named)]


def _deltas(case: Case, c: int, rank: str, value: float) -> dict[str, Any]:
    truth_g = np.asarray(case.truth_cg[c], dtype=float)
    predicted_g = np.asarray(case.predicted_cg[c], dtype=float)
    size_g = np.maximum(np.abs(truth_g), np.abs(predicted_g))
    kept = np.argsort(-size_g, kind="stable")[:MOST_GENES]
    noise = [_short(v) for v in np.sqrt(np.asarray(case.noise_cg[c], dtype=float)[kept])] if case.noise_known else None
    return {
        "rank": rank,
        "context": str(case.context_c[c]),
        "intervention": str(case.intervention_c[c]),
        "value": value,
        "n_rows": int(case.n_c[c]),
        "n_genes": len(truth_g),
        "genes": [str(case.genes_g[g]) for g in kept],
        "truth": [_short(v) for v in truth_g[kept]],
        "predicted": [_short(v) for v in predicted_g[kept]],
        "noise_sd": noise,
    }


def _short(value: float) -> float:
    """Four digits, which is more than a picture shows."""
    return float(f"{value:.4g}")
