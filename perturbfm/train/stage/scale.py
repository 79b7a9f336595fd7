"""What models see of the controls, in standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbfm.errors import BadValue
from perturbfm.train.stage.abstract import LOG1P, AbstractStage
from perturbfm.train.stage.rows import Rows


class Scale(AbstractStage):
    r"""Show models control profiles in units of each gene's standard deviation.

    .. math:: z_{kg} = \min((x_{kg} - \mu_g) / \sigma_g, \; m)

    with :math:`\mu_g` and :math:`\sigma_g` (ddof 1; 1 where a gene does not vary) over the single cells learned on.

    It changes the *input* `x_ng` of a model and nothing else: deltas, variances, truth and predictions stay on the log
    scale. On scaled values a panel would weigh a gene by how little it varies in train, errors of two splits would be
    in different units, and the suites' metrics would lose the scale that they are defined on. A profile is a mean of
    cells, and scaling is linear, so a scaled profile is the mean of scaled cells, up to `max_value`, which clips the
    profile.

    Args:
        zero_centre: Subtract the mean.
        max_value: Largest value after scaling, and with `zero_centre` its negative the smallest; None clips nothing.

    Raises:
        BadValue: `max_value` is not positive.

    Source:
        scanpy.pp.scale, for mean, standard deviation and clipping.
    """

    takes = (LOG1P,)

    def __init__(self, zero_centre: bool = True, max_value: float | None = None) -> None:
        if max_value is not None and not max_value > 0:
            raise BadValue(
                "Scale clips at nothing",
                given=f"max_value={max_value}",
                expected="above 0",
                fix="Set it to 10, or null.",
            )
        self.zero_centre, self.max_value = zero_centre, max_value
        self.params = {"zero_centre": zero_centre, "max_value": max_value}

    def learn(self, rows: Rows) -> dict[str, Any]:
        """Mean and standard deviation of each gene, from sums over the stored values."""
        n = rows.x_ng.shape[0]
        x_ng = rows.x_ng.astype(np.float64)
        mean = np.asarray(x_ng.sum(axis=0)).ravel() / n
        square = np.asarray(x_ng.multiply(x_ng).sum(axis=0)).ravel() / n
        sd = np.sqrt(np.maximum(square - mean**2, 0.0) * n / max(n - 1, 1))
        sd[sd <= 1e-6 * np.sqrt(square)] = 1.0  # what does not vary, up to the last digits of its mean
        return {"genes": list(rows.genes), "mean": mean.tolist(), "sd": sd.tolist()}

    def apply(self, rows: Rows, learned: Mapping[str, Any]) -> Rows:
        """The rows as they are: what is judged is never scaled."""
        return rows

    def view(self, x_kg: np.ndarray, genes: tuple[str, ...], learned: Mapping[str, Any]) -> np.ndarray:
        """Scaled profiles, float32; genes that a later stage dropped are left out by name."""
        position = {g: i for i, g in enumerate(learned["genes"])}
        columns = [position[g] for g in genes]
        mean, sd = (np.asarray(learned[k])[columns] for k in ("mean", "sd"))
        z_kg = (x_kg - mean if self.zero_centre else x_kg) / sd
        if self.max_value is not None:
            z_kg = np.clip(z_kg, -self.max_value if self.zero_centre else None, self.max_value)
        return z_kg.astype(np.float32)
