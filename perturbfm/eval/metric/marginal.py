"""How far predicted cells are from true cells, gene by gene, averaged over genes."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import BadValue
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.drawn import drawn
from perturbfm.eval.metric.gene_set import fewer, gene_sets

BLOCK = 4_000_000
"""Numbers (32 MB) sorted at once."""


def marginal_distance(comparison: Comparison, *, top: int | None, cap: int | None, power: int) -> PerCondition:
    r"""Mean over genes of a distance between two distribution functions.

    .. math:: power\,1: \int |F - H|\,dx \quad power\,2: \sqrt{2 \int (F - H)^2\,dx}

    Power 1 is the Wasserstein distance of one gene, power 2 its energy distance (rooted). Neither sees how genes go
    together.

    Args:
        comparison: Cells of both sides, in units of the matrix.
        top: Genes, first by |t| of the truth against control; None for all.
        cap: Most cells of a group; None for all.
        power: 1 or 2.

    Returns:
        One value per condition; 0 is best. Never undefined.

    Raises:
        BadValue: Another power.

    Source:
        scipy `wasserstein_distance` and `energy_distance`, gene by gene.
    """
    if power not in (1, 2):
        raise BadValue("A power has no distance", given=power, expected="1 or 2", fix="Name one of the two.")
    key = ("marginal", fewer(comparison, top), cap)
    both_c2 = comparison.once(key, lambda: _both(comparison, top, cap))
    return plain(both_c2[:, power - 1])


def _both(comparison: Comparison, top: int | None, cap: int | None) -> np.ndarray:
    found = []
    for c, genes in enumerate(gene_sets(comparison, top)):
        true_ng, predicted_mg = drawn(comparison, c, cap)
        few = max(1, BLOCK // (len(true_ng) + len(predicted_mg)))
        blocks = [genes[i : i + few] for i in range(0, len(genes), few)]
        total_2 = np.sum([_sums(true_ng[:, block], predicted_mg[:, block]) for block in blocks], axis=0)
        found.append(total_2 / len(genes))
    return np.array(found)


def _sums(x_ng: np.ndarray, y_mg: np.ndarray) -> tuple[float, float]:
    """Both distances summed over genes."""
    both_ng = np.concatenate([x_ng, y_mg])
    both_ng = both_ng[:, np.ptp(both_ng, axis=0) > 0]
    order_ng = np.argsort(both_ng, axis=0)
    from_x_ng = np.cumsum(order_ng < len(x_ng), axis=0)[:-1]
    from_y_ng = np.arange(1, len(both_ng))[:, None] - from_x_ng
    gap_ng = np.abs(from_x_ng / len(x_ng) - from_y_ng / len(y_mg))
    step_ng = np.diff(np.take_along_axis(both_ng, order_ng, axis=0), axis=0)
    energy_g = np.sqrt(2.0 * np.sum(gap_ng**2 * step_ng, axis=0))
    return float(np.sum(gap_ng * step_ng)), float(energy_g.sum())
