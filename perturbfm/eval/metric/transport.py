"""Cost of moving predicted cells onto true cells, with entropy."""

from __future__ import annotations

import numpy as np

from perturbfm.errors import UnknownChoice
from perturbfm.eval.case import PerCondition, plain
from perturbfm.eval.comparison import Comparison
from perturbfm.eval.metric.drawn import drawn, rounded
from perturbfm.eval.metric.pairs import squared_distances
from perturbfm.eval.metric.ranked_gene import fewer, gene_sets

EPSILONS = ("mean", "std")

SHARE = 0.05
"""Epsilon as a share of the mean, or of the standard deviation, of the cost."""

THRESHOLD = 1e-3
EVERY = 10
MOST = 2000
"""Iterations stop when the marginal error is below the threshold, asked every 10, and after 2,000 in any case."""


def sinkhorn(
    comparison: Comparison, *, top: int | None, cap: int | None, epsilon: str, decimals: int | None
) -> PerCondition:
    """Entropic transport cost between true and predicted cells of each condition; see `sinkhorn_cost`.

    Args:
        comparison: Cells of both sides, in units of the matrix.
        top: Genes, first by |t| of the truth against control; None for all.
        cap: Most cells of a group; None for all. The cost is quadratic in it.
        epsilon: `mean` or `std`, what of the cost matrix the regularisation is 5 % of.
        decimals: Decimals to round to; None for none.

    Returns:
        One value per condition, in squared units of the matrix; lower is better, but a perfect prediction does not
        score 0. *Undefined* where epsilon is zero: all costs are zero, or, with `std`, equal.

    Raises:
        UnknownChoice: Another word for `epsilon`.

    Source:
        pertpy 0.7.0 `wasserstein`: OTT-JAX `Sinkhorn()` on `PointCloud(true, predicted)`, `reg_ot_cost`. `mean` is the
        default of ott-jax to 0.4.x, `std` from 0.5.
    """
    key = ("sinkhorn", fewer(comparison, top), cap, epsilon)
    value_c = comparison.once(key, lambda: _costs(comparison, top, cap, epsilon))
    return plain(rounded(value_c, decimals), np.where(np.isnan(value_c), _NO_EPSILON[epsilon], "").astype(object))


_NO_EPSILON = {"mean": "all costs are zero", "std": "all costs are equal"}


def _costs(comparison: Comparison, top: int | None, cap: int | None, epsilon: str) -> np.ndarray:
    value = []
    for c, genes in enumerate(gene_sets(comparison, top)):
        true_ng, predicted_mg = drawn(comparison, c, cap)
        value.append(sinkhorn_cost(true_ng[:, genes], predicted_mg[:, genes], epsilon))
    return np.array(value)


def sinkhorn_cost(x_ng: np.ndarray, y_mg: np.ndarray, epsilon: str) -> float:
    r"""Regularised cost of transporting one group of cells onto another, squared Euclidean.

    .. math:: \frac1n \sum_i f_i + \frac1m \sum_j g_j + \epsilon (\ln n + \ln m)
        \approx \min_P \langle P, C \rangle + \epsilon\,KL(P \,\|\, ab^T)

    f and g are the potentials when the L1 error of the second marginal, asked after every 10 iterations (g, then f),
    is below 1e-3, or after 2,000. The cost carries no debiasing: it is neither W1 nor W2.

    Args:
        x_ng: Cells of the first group, shape (n, g).
        y_mg: Cells of the second, same genes, shape (m, g).
        epsilon: `mean` or `std`: 5 % of the mean or of the standard deviation of C.

    Returns:
        Cost in squared units of the matrix; NaN where epsilon is zero.

    Raises:
        UnknownChoice: Another word for `epsilon`.

    Source:
        Cuturi (2013), arXiv:1306.0895; stopping rule and objective of ott-jax 0.4.6, `Sinkhorn.reg_ot_cost`.
    """
    if epsilon not in EPSILONS:
        raise UnknownChoice(
            "There is no such rule of epsilon",
            given=repr(epsilon),
            expected="'mean' or 'std'",
            fix="Say what of the cost matrix epsilon is 5 % of.",
        )
    cost_nm = squared_distances(x_ng, y_mg)
    size = float(cost_nm.mean()) if epsilon == "mean" else float(cost_nm.std())
    if size <= 1e-12 * float(cost_nm.max()):
        return float("nan")
    strength = SHARE * size
    f_n, g_m = _potentials(cost_nm / strength)
    return strength * float(f_n.mean() + g_m.mean() + np.log(len(f_n)) + np.log(len(g_m)))


def _potentials(cost_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of a cost in units of epsilon, both marginals uniform."""
    n, m = cost_nm.shape
    f_n, g_m = _in_logarithms(cost_nm, np.zeros(n), 1)
    plan_nm, times = _plan(cost_nm, f_n, g_m), EVERY - 1
    for _ in range(0, MOST, EVERY):
        u_n, v_m = _scalings(plan_nm, times)
        with np.errstate(divide="ignore", invalid="ignore"):
            f_next_n, g_next_m = f_n + np.log(u_n), g_m + np.log(v_m)
        if np.isfinite(f_next_n).all() and np.isfinite(g_next_m).all():
            f_n, g_m = f_next_n, g_next_m
            plan_nm *= u_n[:, None]
            plan_nm *= v_m
        else:
            f_n, g_m = _in_logarithms(cost_nm, f_n, times)
            plan_nm = _plan(cost_nm, f_n, g_m)
        if np.abs(plan_nm.sum(axis=0) - 1.0 / m).sum() < THRESHOLD:
            break
        times = EVERY
    return f_n, g_m


def _plan(cost_nm: np.ndarray, f_n: np.ndarray, g_m: np.ndarray) -> np.ndarray:
    return np.exp(f_n[:, None] + g_m[None, :] - cost_nm)


def _scalings(plan_nm: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """Iterate by products with the present plan, which needs no exponential; not finite where that overflows."""
    n, m = plan_nm.shape
    u_n = np.ones(n)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for _ in range(times):
            v_m = 1.0 / (m * (u_n @ plan_nm))
            u_n = 1.0 / (n * (plan_nm @ v_m))
    return u_n, v_m


def _in_logarithms(cost_nm: np.ndarray, f_n: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """Iterate g, then f, by log-sum-exp."""
    n, m = cost_nm.shape
    for _ in range(times):
        g_m = -np.log(m) - _log_sum(f_n[:, None] - cost_nm, 0)
        f_n = -np.log(n) - _log_sum(g_m[None, :] - cost_nm, 1)
    return f_n, g_m


def _log_sum(x_nm: np.ndarray, axis: int) -> np.ndarray:
    """Logarithm of the sum of exponentials, without overflow; `x_nm` is written over."""
    most = x_nm.max(axis=axis, keepdims=True)
    x_nm -= most
    return np.asarray(np.log(np.exp(x_nm, out=x_nm).sum(axis=axis)) + np.squeeze(most, axis))
