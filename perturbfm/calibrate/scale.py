"""One scale on the predictive variance, by maximum likelihood on the calibration fold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from perturbfm.errors import TooFewConditions
from perturbfm.types import VARIANCE_FLOOR, Prediction

BOUND = 1e4
"""The scale is sought between 1/BOUND and BOUND."""


@dataclass(frozen=True)
class Scale:
    """A factor on the variance of mean deltas.

    Attributes:
        factor: What variances are multiplied by.
        learned_on: Name of the fold.
        n_conditions: Conditions it was learned from.
        n_entries: Conditions x genes it was learned from.
        mean_z2_before: Mean squared standardised residual before, observation noise added; 1 when calibrated.
        mean_z2_after: The same after.
        obs_share: Share of the predictive variance that is observation noise; above 0.5 little can be learned. None
            where the noise of the truth is unknown.
        at_bound: The likelihood has its maximum at the edge of what is sought.
        note: What a reader should know.
    """

    factor: float
    learned_on: str
    n_conditions: int
    n_entries: int
    mean_z2_before: float
    mean_z2_after: float
    obs_share: float | None
    at_bound: bool
    note: str

    def apply(self, prediction: Prediction) -> Prediction:
        """The prediction with its variance scaled and floored."""
        return replace(
            prediction, var_qg=np.maximum(prediction.var_qg * np.float32(self.factor), np.float32(VARIANCE_FLOOR))
        )

    def record(self) -> dict[str, Any]:
        """Plain values for `calibration.json`."""
        return {"method": "scale", **asdict(self)}


def learn_scale(
    error_cg: np.ndarray, variance_cg: np.ndarray, noise_cg: np.ndarray, scored_cg: np.ndarray, fold: str = "calib"
) -> Scale:
    r"""Find the scale a that makes residuals most likely.

    .. math:: e_{cg} \sim N(0,\; a\,\sigma^2_{cg} + V_{cg})

    V, the sampling variance of the observed delta, is not scaled: it is known, and counting it in the scale would let
    the noise of a small calibration fold pass for uncertainty of the model.

    Args:
        error_cg: True minus predicted mean delta of calibration conditions.
        variance_cg: Predictive variance of the mean delta.
        noise_cg: Sampling variance of the true delta.
        scored_cg: Genes on which variance is judged.
        fold: Name of the fold.

    Raises:
        TooFewConditions: No calibration condition has a scored gene.
    """
    use = scored_cg & np.isfinite(error_cg)
    if not use.any():
        raise TooFewConditions(
            "Nothing to calibrate on",
            given=f"{len(error_cg)} conditions without a scored gene",
            expected="at least one calibration condition with a detected gene",
            fix="Freeze a split with a larger calibration fold.",
        )
    square, variance, noise = error_cg[use] ** 2, variance_cg[use], noise_cg[use]

    def loss(log_a: float) -> float:
        total = np.exp(log_a) * variance + noise
        return float(np.mean(np.log(total) + square / total))

    limit = float(np.log(BOUND))
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6})
    factor = float(np.exp(found.x))
    share = float(noise.sum() / (factor * variance + noise).sum()) if noise.any() else None
    at_bound = bool(abs(found.x) > limit - 0.01)
    return Scale(
        factor=factor,
        learned_on=fold,
        n_conditions=int(use.any(axis=1).sum()),
        n_entries=int(use.sum()),
        mean_z2_before=float(np.mean(square / (variance + noise))),
        mean_z2_after=float(np.mean(square / (factor * variance + noise))),
        obs_share=share,
        at_bound=at_bound,
        note=_note(share, at_bound),
    )


def _note(share: float | None, at_bound: bool) -> str:
    notes = []
    if share is None:
        notes.append("the noise of the truth is unknown, so the scale holds it too")
    elif share > 0.5:
        notes.append("observation noise decides the residuals of the calibration fold: the scale is uninformative")
    if at_bound:
        notes.append("the scale is at the edge of its range")
    return "; ".join(notes)
