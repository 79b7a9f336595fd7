"""Whether a predicted mean is nearer to its own measured mean than to those of other conditions."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import NOT_APPLICABLE, PerCondition, plain
from perturbfm.eval.comparison import Comparison


def centroid_accuracy(comparison: Comparison) -> PerCondition:
    r"""Share of the context's other measured means that are farther from the prediction than the right one.

    .. math:: \frac{\#\{q \ne p: |\hat\mu_p - \mu_q| > |\hat\mu_p - \mu_p|\}}{M - 1}

    Euclidean, all genes, strict: a tie counts against the prediction. The pool is the M judged conditions of the
    context.

    Args:
        comparison: Cells of both sides; only their means are looked at.

    Returns:
        One value in [0, 1] per condition; 1 is best, about 0.5 what one prediction for all gives. *Not applicable*
        where the context has one condition.

    Source:
        mlbio-epfl/systema fe087c9 `calculate_centroid_accuracies`, which may be handed train conditions too; Shift
        Bioscience 08db3c1 `nir`, equal to it on the same pool.
    """
    from scipy.spatial.distance import cdist

    true_cg, predicted_cg = comparison.truth.moments.mean_rg, comparison.predicted.moments.mean_rg
    value_c = np.full(comparison.n_conditions, np.nan)
    reason_c = np.full(comparison.n_conditions, "one perturbation to rank", dtype=object)
    for member_q in comparison.members():
        if len(member_q) > 1:
            distance_pq = cdist(predicted_cg[member_q], true_cg[member_q])
            farther_p = np.sum(distance_pq > np.diag(distance_pq)[:, None], axis=1)
            value_c[member_q], reason_c[member_q] = farther_p / (len(member_q) - 1), ""
    return plain(value_c, reason_c, NOT_APPLICABLE)
