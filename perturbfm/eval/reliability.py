"""What a reliability diagram and a PIT histogram show, as plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from perturbfm.eval.case import NOT_APPLICABLE, OK, Case
from perturbfm.eval.metric.pit import BINS, pit_counts, pit_values, reliability_index
from perturbfm.eval.metric.uncertainty import (
    NOISE_UNKNOWN,
    NOISES,
    NOTHING_SCORED,
    error_of,
    no_density,
    predictive_variance,
)

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


def reliability(case: Case, *, levels: tuple[float, ...] = LEVELS, n_bins: int = BINS) -> dict[str, Any]:
    """Nominal against observed coverage of central intervals, and the PIT histogram, noise of the truth added or not.

    Args:
        case: Predictions, variances and truths, shape (c, g).
        levels: Nominal levels, 0 to 1.
        n_bins: Bins of the histogram.

    Returns:
        For `added` and `ignored`: `status`, `reason`, `n_conditions`, `n_entries`; `coverage` with `nominal`,
        `observed` (mean over conditions of the share of scored genes inside), `pooled` (all entries alike), and the
        mean and root mean square of their differences over the levels (`mace`, `rmsce`); `pit` with `counts`, `share`
        (mean over conditions) and `reliability_index` of that share, or its own status where the prediction is an
        interval.

    Raises:
        PredictionMismatch: A variance that is not positive.

    Source:
        Gneiting, Balabdaoui & Raftery (2007), doi:10.1111/j.1467-9868.2007.00587.x.
    """
    return {noise: _with_noise(case, noise, np.asarray(levels, dtype=float), n_bins) for noise in NOISES}


def _with_noise(case: Case, noise: str, level_l: np.ndarray, n_bins: int) -> dict[str, Any]:
    if (w_cg := predictive_variance(case, noise)) is None:
        return {"status": NOT_APPLICABLE, "reason": NOISE_UNKNOWN}
    scored_cg = np.asarray(case.scored_cg, dtype=bool)
    n_c = scored_cg.sum(axis=1)
    if not n_c.any():
        return {"status": NOT_APPLICABLE, "reason": NOTHING_SCORED}
    z_cg = np.where(scored_cg, np.abs(error_of(case)) / np.sqrt(w_cg), np.nan)
    inside_cl = inside(z_cg, level_l)
    share_l = (inside_cl[n_c > 0] / n_c[n_c > 0, None]).mean(axis=0)
    pooled_l = inside_cl.sum(axis=0) / n_c.sum()
    return {
        "status": OK,
        "reason": "",
        "n_conditions": int((n_c > 0).sum()),
        "n_entries": int(n_c.sum()),
        "coverage": {
            "nominal": level_l.tolist(),
            "observed": share_l.tolist(),
            "pooled": pooled_l.tolist(),
            **calibration_errors(level_l, share_l),
        },
        "pit": _pit(case, noise, n_bins),
    }


def _pit(case: Case, noise: str, n_bins: int) -> dict[str, Any]:
    pit_cg = None if no_density(case) else pit_values(case, noise=noise)
    if pit_cg is None:
        return {"status": NOT_APPLICABLE, "reason": no_density(case) or NOISE_UNKNOWN}
    count_cb = pit_counts(pit_cg, n_bins)
    count_cb = count_cb[count_cb.sum(axis=1) > 0]
    share_b = (count_cb / count_cb.sum(axis=1, keepdims=True)).mean(axis=0)
    return {
        "status": OK,
        "reason": "",
        "counts": count_cb.sum(axis=0).tolist(),
        "share": share_b.tolist(),
        "reliability_index": float(reliability_index(share_b)),
    }


def inside(z_cg: np.ndarray, level_l: np.ndarray) -> np.ndarray:
    """Entries inside the central interval of each level, per condition, shape (c, l).

    Args:
        z_cg: Absolute error in standard deviations; NaN counts nowhere.
        level_l: Levels, 0 to 1, both allowed.
    """
    half_l = norm.ppf(0.5 + np.asarray(level_l, dtype=float) / 2)
    return np.stack([(z_cg <= half).sum(axis=1) for half in half_l], axis=1)


def calibration_errors(nominal_l: np.ndarray, observed_l: np.ndarray) -> dict[str, float]:
    """Mean absolute and root mean square difference of nominal and observed coverage over the levels.

    Source:
        uncertainty-toolbox `mean_absolute_calibration_error` and `root_mean_squared_calibration_error` with
        `prop_type="interval"`, there over 100 levels from 0 to 1.
    """
    apart_l = np.asarray(observed_l) - np.asarray(nominal_l)
    return {"mace": float(np.mean(np.abs(apart_l))), "rmsce": float(np.sqrt(np.mean(apart_l**2)))}
