"""Learns one correction of the variance from the calibration fold.

Comes in: residuals, predictive variances and observation noise of calibration conditions. Goes out: `Scale`.
May import: numpy, scipy, types, errors. Never train, data, split or eval.
To add a method: one function here that returns an object with `apply` and `record`.
"""

from __future__ import annotations

from perturbfm.calibrate.scale import Scale, learn_scale

__all__ = ["Scale", "learn_scale"]
