"""The same predictions beside truths of redrawn reference controls, with redrawn conditions: the two ways of chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perturbfm.eval.case import Case
from perturbfm.eval.effort import Effort
from perturbfm.eval.resample import cluster_draws, reference_draws
from perturbfm.eval.truth import Truth
from perturbfm.types import without_dose


def redrawn_cases(truth: Truth, cases: list[Case], effort: Effort) -> tuple[Iterator[list[Case]], np.ndarray]:
    """Cases beside truths of redrawn reference controls, and weights of redrawn conditions."""
    o = truth.observed
    batch_r = o.reference_batch_r if o.match_batch else np.full(len(o.reference_batch_r), "")
    used = np.array(
        [g in set(truth.group_names) for g in zip(o.reference_context_r.tolist(), batch_r.tolist(), strict=True)], bool
    )
    drawn = reference_draws(
        o.reference_rg[np.flatnonzero(used)],
        o.reference_context_r[used],
        batch_r[used],
        effort.bootstrap_draws,
        effort.seed,
    )
    position = {name: i for i, name in enumerate(drawn.groups)}
    order = [position[(str(a), str(b))] for a, b in truth.group_names]
    weight_bc = cluster_draws(without_dose(truth.intervention_c), effort.bootstrap_draws, effort.seed + 1)
    measured_k = truth.reference.noise_kg

    def redrawn() -> Iterator[list[Case]]:
        for d in drawn:
            delta = truth.mean_cg - truth.weight_ck @ d.mean_kg[order]
            # the drawn controls carry their noise twice: that of the controls and that of the draw
            noise = truth.own_noise_cg + truth.weight_ck**2 @ (d.noise_kg[order] + measured_k)
            yield [c.with_truth(delta, noise, truth.mean_cg) for c in cases]

    return redrawn(), weight_bc
