"""Whether a metric tells a real replicate from no knowledge at all, on the data at hand."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control

from perturbfm.errors import ShapeMismatch
from perturbfm.eval.comparison import GroupMoments
from perturbfm.eval.metric.welch import against_rest

FLAGGED_BELOW = 0.3
"""A metric whose dynamic range on a data set is smaller says little there."""


def dynamic_range(
    duplicate_c: np.ndarray, base_c: np.ndarray, *, perfect: float, higher: bool, guard: float = 0.0
) -> np.ndarray:
    r"""Dynamic range fraction: how far a technical duplicate gets from a baseline towards a perfect prediction.

    .. math:: DRF = \frac{u_{dup} - u_{base}}{u_{perfect} - u_{base}}, \quad \text{clipped to } [-1, 1]

    which for an error, perfect at 0, is :math:`(u_{base} - u_{dup}) / u_{base}`.

    Args:
        duplicate_c: The metric's values for the technical (or interpolated) duplicate, one per condition.
        base_c: Its values for the baseline: the train mean, or control where deltas are taken against that mean.
        perfect: Its value for a perfect prediction: 1 for a correlation, 0 for an error.
        higher: Whether larger values are better; for an error they are not.
        guard: Added to the size of the denominator. Shift Bioscience's script adds 1e-6, which halves the result where
            errors are that small.

    Returns:
        One number in [-1, 1] per condition, 1 where the duplicate is perfect, 0 where it is as good as the baseline.
        NaN where a value is NaN, or the baseline is perfect or better (an unbiased distance below 0): there is no way
        left to go. The script stops there.

    Source:
        Shift Bioscience 08db3c1 (`calculate_drf`); Miller et al., bioRxiv 2025.10.20.683304.
    """
    duplicate_c, base_c = np.asarray(duplicate_c, dtype=float), np.asarray(base_c, dtype=float)
    sign = 1.0 if higher else -1.0
    gap_c, way_c = sign * (perfect - base_c), sign * (duplicate_c - base_c)
    with np.errstate(invalid="ignore", divide="ignore"):
        share_c = np.clip(way_c / (gap_c + guard), -1.0, 1.0)
    return np.where(gap_c > 0, share_c, np.nan)


def interpolated_duplicate(duplicate_cg: np.ndarray, train_mean: np.ndarray, adjusted_p_cg: np.ndarray) -> np.ndarray:
    r"""A duplicate that keeps what its own cells can vouch for and is the train mean elsewhere.

    .. math:: \alpha\,\mu^{dup} + (1 - \alpha)\,\mu^{train}, \quad \alpha_g = 1 - p^{adj}_g

    Args:
        duplicate_cg: Mean of the second half of each condition's cells, shape (c, g).
        train_mean: Mean expression of train conditions, shape (g,), or one per condition, shape (c, g).
        adjusted_p_cg: Adjusted p of each gene in the *second* half, as from `adjusted_p_against_rest`; NaN counts as 1.

    Returns:
        A prediction of mean expression, shape (c, g).

    Raises:
        ShapeMismatch: Arrays of other shapes.

    Source:
        Shift Bioscience 08db3c1 `add_interpolated_baseline.py`.
    """
    duplicate_cg, train_mean = np.asarray(duplicate_cg, dtype=float), np.asarray(train_mean, dtype=float)
    if np.shape(adjusted_p_cg) != duplicate_cg.shape or train_mean.shape not in (
        duplicate_cg.shape,
        duplicate_cg.shape[1:],
    ):
        raise ShapeMismatch(
            "Duplicate, train mean and p do not fit together",
            given=f"{duplicate_cg.shape}, {train_mean.shape}, {np.shape(adjusted_p_cg)}",
            expected="(conditions, genes), (genes,) or (conditions, genes), (conditions, genes)",
            fix="Take all three from the same conditions and genes.",
        )
    alpha_cg = 1.0 - np.nan_to_num(np.asarray(adjusted_p_cg, dtype=float), nan=1.0)
    return alpha_cg * duplicate_cg + (1.0 - alpha_cg) * train_mean


def adjusted_p_against_rest(group: GroupMoments) -> np.ndarray:
    """Adjusted p of each group of cells against all others: Welch with overestimated variance, Benjamini-Hochberg.

    Args:
        group: Moments of the second halves, one row per group. The source leaves the control's half among them, so its
            row belongs here too, and is then left out of the result; groups have at least 4 cells.

    Returns:
        p in [0, 1], adjusted over the genes of each group, shape (r, g).

    Source:
        Shift Bioscience 08db3c1 `calculate_degs`: scanpy `t-test_overestim_var`, `reference='rest'`, second half.
    """
    found = against_rest(group, np.arange(len(group.n_r)), overestimate=True)
    return np.asarray(false_discovery_control(found.p_rg, axis=1))
