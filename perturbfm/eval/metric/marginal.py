"""How far predicted cells are from true cells, gene by gene, averaged over genes."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import BadValue
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.drawn import drawn
from perturbfm.eval.metric.ranked_gene import fewer, gene_sets

BLOCK = 4_000_000
"""Numbers (32 MB) sorted at once."""

ROUNDING = 1e-13
"""A squared energy distance below this share of the mean difference of two cells is rounding."""


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
    centre_g = y_mg.mean(axis=0)
    x_gn, y_gm = (np.sort(np.ascontiguousarray((side - centre_g).T), axis=1) for side in (x_ng, y_mg))
    return float(_between_quantiles(x_gn, y_gm).sum()), float(_energy(x_gn, y_gm).sum())


def _between_quantiles(x_gn: np.ndarray, y_gm: np.ndarray) -> np.ndarray:
    """Wasserstein distance per gene: quantile functions step at the same i/n and j/m in every gene."""
    n, m = x_gn.shape[1], y_gm.shape[1]
    if n == m:
        return np.asarray(np.abs(x_gn - y_gm).mean(axis=1))
    step_q = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    width_q = np.diff(step_q, prepend=0) / (n * m)
    return np.abs(x_gn[:, (step_q - 1) // m] - y_gm[:, (step_q - 1) // n]) @ width_q


def _energy(x_gn: np.ndarray, y_gm: np.ndarray) -> np.ndarray:
    """Rooted energy distance per gene from sums of differences of ordered values; 0 where only rounding is left."""
    n, m = x_gn.shape[1], y_gm.shape[1]
    all_g = _spread(np.sort(np.concatenate([x_gn, y_gm], axis=1), axis=1))
    x_g, y_g = _spread(x_gn), _spread(y_gm)
    square_g = 2.0 * ((all_g - x_g - y_g) / (n * m) - x_g / n**2 - y_g / m**2)
    return np.sqrt(np.where(square_g > ROUNDING * all_g / (n * m), square_g, 0.0))


def _spread(x_gn: np.ndarray) -> np.ndarray:
    """Sum over pairs of cells of the difference of a gene's values, which are in ascending order."""
    n = x_gn.shape[1]
    return x_gn @ (2.0 * np.arange(n) + 1.0 - n)
