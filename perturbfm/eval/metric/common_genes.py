"""Whether prediction and truth move the same genes."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.ranked_gene import ranking


def common_genes(comparison: Comparison, *, top: int) -> PerCondition:
    r"""Share of the first genes by |t| against control that truth and prediction have in common.

    .. math:: |A \cap B| / k

    A and B are the first k genes of true and of predicted cells, each tested against the control cells of its own
    side. No code of the suite computes this; an author describes it, and every published value is a multiple of 0.01.
    Genes that no cell expresses tie at t = 0 and stand by position, which adds common genes on sparse panels; genes
    that a prediction shifts without varying them rank by rounding.

    Args:
        comparison: Cells of both sides.
        top: Number of genes k.

    Returns:
        One share per condition; 1 is best. *Undefined* where no gene of a side differs from control, as in a copy of
        the controls, and where there are no more than k genes.

    Source:
        Reconstructed: bm2-lab/scPerturBench 6e24e7a, `calDEG` on both sides, and issue 7 there.
    """
    if top >= len(comparison.genes_g):
        reason_c = np.full(comparison.n_conditions, f"no more than {top} genes", dtype=object)
        return plain(np.full(comparison.n_conditions, np.nan), reason_c)
    true, predicted = (ranking(comparison, predicted=side, top=top) for side in (False, True))
    common_c = [len(np.intersect1d(a, b)) for a, b in zip(true.first_ck, predicted.first_ck, strict=True)]
    reason_c = np.where(
        predicted.moved_c == 0,
        "no gene of the prediction differs from control",
        np.where(true.moved_c == 0, "no gene of the truth differs from control", ""),
    )
    return plain(np.array(common_c) / top, reason_c.astype(object))
