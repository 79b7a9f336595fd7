"""Half of the energy distance between true and predicted cells: what PerturBench prints as `mmd`."""

from __future__ import annotations

import numpy as np

from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.pairs import pair_sums


def half_energy(comparison: Comparison) -> PerCondition:
    r"""Half of the Euclidean energy distance, with each cell also paired with itself.

    .. math:: E\lVert X-Y\rVert - \tfrac12 E\lVert X-X'\rVert - \tfrac12 E\lVert Y-Y'\rVert

    Args:
        comparison: Cells of both sides.

    Returns:
        One value per condition, in units of the matrix; 0 is best, never negative. *Undefined* where a side has no
        cell or is not finite.

    Source:
        PerturBench c84038b (2026) metric `mmd`, which is geomloss `SamplesLoss(loss="energy", p=2)` in float32: no
        kernel mean discrepancy. Here in float64.
    """
    sums_c = pair_sums(comparison, None, None)
    value_c = np.array([s.energy("V") / 2.0 for s in sums_c], dtype=float)
    reason_c = np.array([s.lacking("V") for s in sums_c], dtype=object)
    return plain(value_c, np.where((reason_c == "") & ~np.isfinite(value_c), "a cell is not finite", reason_c))
