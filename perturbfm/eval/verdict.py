"""The gate opened for every context of a truth, as it stands in `metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from perturbfm.eval.effort import Effort, number
from perturbfm.eval.gate import UNKNOWN, GateVerdict, gate_context
from perturbfm.eval.truth import Truth
from perturbfm.types import RowView


def open_gate(truth: Truth, effort: Effort) -> dict[str, GateVerdict]:
    """The verdict of every context, from truth alone."""
    return {k: _gate_of(truth, k, effort) for k in sorted(set(truth.context_c.tolist()))}


def _gate_of(truth: Truth, context: str, effort: Effort) -> GateVerdict:
    o = truth.observed
    if not truth.has_cells:
        why = "rows are conditions, not cells" if o.unit == "pseudobulk" else "controls are baked in"
        n = int((truth.context_c == context).sum())
        nan = float("nan")
        return GateVerdict(UNKNOWN, nan, nan, nan, nan, n, None, nan, (), np.array([]), None, f"not testable: {why}")
    rows = np.flatnonzero(truth.context_c[truth.condition_n] == context)
    mine_r = np.flatnonzero(o.reference_context_r == context)
    groups = [k for k, name in enumerate(truth.group_names) if name[0] == context]
    batch_names = [truth.group_names[k][1] for k in groups]
    return gate_context(
        RowView(truth.x_ng, rows),
        truth.intervention_c[truth.condition_n[rows]].astype(str),
        np.array([truth.group_names[k][1] for k in truth.group_n[rows]]),
        truth.input.mean_kg[groups],
        truth.reference.mean_kg[groups],
        batch_names,
        permutations=effort.permutations,
        seed=effort.seed,
        control_x_mg=RowView(o.reference_rg, mine_r),
        control_batch_m=o.reference_batch_r[mine_r].astype(str) if o.match_batch else np.full(len(mine_r), ""),
        control_permutations=effort.permutations,
    )


def gate_entry(v: GateVerdict) -> dict[str, Any]:
    """A verdict as plain values."""
    return {
        "verdict": v.verdict,
        "reason": v.reason,
        "p": number(v.p),
        "p_without_strongest": number(v.p_without_strongest),
        "s_split": number(v.s_split),
        "s_dc": number(v.s_dc),
        "n_conditions": v.n_conditions,
        "n_detectable": v.n_detectable,
        "n_eff": number(v.n_eff),
    }
