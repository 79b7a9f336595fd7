"""The interpolated duplicate: a replicate that trusts itself only where it is sure."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control, t

from perturbfm.eval.truth import Truth


def interpolated(half: Truth, delta_cg: np.ndarray, base_cg: np.ndarray) -> np.ndarray:
    r"""Mix a replicate with the train mean, gene by gene, by the evidence of the replicate's own cells.

    .. math:: D_{pg} = \alpha_{pg}\,B_{pg} + (1 - \alpha_{pg})\,\bar D_{pg}, \quad \alpha_{pg} = 1 - q_{pg}

    with B the delta of the half, D-bar the train mean and q the Benjamini-Hochberg adjusted p, per condition, of
    Welch's t of the half against its input controls.

    Args:
        half: The half of the cells that predicts.
        delta_cg: Its delta against input controls, shape (c, g).
        base_cg: The train mean's prediction, same shape.

    Returns:
        Predicted deltas, shape (c, g).

    Source:
        shiftbioscience/diversity_by_design, interpolated duplicate; p by Welch's t instead of its scanpy call on files.
    """
    own_cg, control_cg = half.own_noise_cg, half.weight_ck**2 @ half.input.noise_kg
    noise_cg = own_cg + control_cg
    n_c = np.maximum(half.n_c - 1.0, 1.0)[:, None]
    m_c = np.maximum((half.weight_ck > 0).astype(float) @ half.input.n_k - 1.0, 1.0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        z_cg = delta_cg / np.sqrt(noise_cg)
        free_cg = noise_cg**2 / (own_cg**2 / n_c + control_cg**2 / m_c)
        p_cg = 2.0 * t.sf(np.abs(z_cg), free_cg)
    p_cg = np.where(noise_cg > 0, p_cg, np.where(delta_cg == 0, 1.0, 0.0))
    alpha_cg = 1.0 - false_discovery_control(np.where(np.isnan(p_cg), 1.0, p_cg), axis=1)
    mixed_cg: np.ndarray = alpha_cg * delta_cg + (1.0 - alpha_cg) * base_cg
    return mixed_cg
