"""How much of the measured response is the same for every perturbation: a description of the data."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.correlation import ROUNDING, with_reasons


def systematic_variation(comparison: Comparison) -> PerCondition:
    r"""Cosine of each measured delta to the average delta of its context; its mean is the systematic variation.

    .. math:: \cos(\mu_p - \mu_0,\; mean_q\,\mu_q - \mu_0)

    Args:
        comparison: Cells of both sides; only measured means are looked at.

    Returns:
        One value in [-1, 1] per condition, of the truth: no prediction changes it. 1 where all perturbations move the
        cells alike. *Undefined* where the delta or the average delta is zero; *not applicable* where the context has
        one condition, which is its own average.

    Source:
        mlbio-epfl/systema fe087c9 `compute_shift_similarities`, `avg_ctl` with centroids.
    """
    mean_cg = comparison.truth.moments.mean_rg.astype(float)
    control_cg = comparison.truth.control_moments.mean_rg[comparison.context_of_c]
    delta_cg, average_cg = mean_cg - control_cg, np.zeros(mean_cg.shape)
    alone_c = np.full(comparison.n_conditions, "one perturbation is its own average", dtype=object)
    for member_q in comparison.members():
        average_cg[member_q] = delta_cg[member_q].mean(axis=0)
        if len(member_q) > 1:
            alone_c[member_q] = ""
    least_c = ROUNDING * np.linalg.norm(np.abs(mean_cg) + np.abs(control_cg), axis=1)
    norm_c, length_c = np.linalg.norm(delta_cg, axis=1), np.linalg.norm(average_cg, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine_c = np.clip(np.sum(delta_cg * average_cg, axis=1) / (norm_c * length_c), -1.0, 1.0)
    flat_c = np.where(length_c <= least_c, "the average delta is zero", "")
    return with_reasons(cosine_c, np.where(norm_c <= least_c, "true delta is zero", flat_c).astype(object), alone_c)
