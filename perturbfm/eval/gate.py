"""Whether a context's truth holds an effect large enough to judge models by. Looks at truth only.

In: cells of the perturbed rows of one context, control means of both halves. Out: a `GateVerdict`. The tests stand in
`permutation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perturbfm.eval.permutation import (
    PANEL_STREAM,
    POWERED_BELOW,
    WEAK_BELOW,
    check_permutations,
    detectable_conditions,
    p_without,
    panel_of,
    permutation_p,
    signal_of,
)

POWERED, WEAK, NO_SIGNAL, UNKNOWN = "powered", "weak", "no_signal", "unknown"
POWERED_CONDITIONS = 10


@dataclass(frozen=True)
class GateVerdict:
    """What one context's truth can carry.

    Attributes:
        verdict: `powered`, `weak`, `no_signal`; `unknown` where nothing could be tested.
        p: Permutation p of differences between conditions; NaN below two conditions.
        p_without_strongest: The same without the condition of largest signal; NaN below three conditions.
        s_split: Sum over conditions of the split-half signal energy, squared units of the matrix.
        s_dc: The same with both panels centred over conditions.
        n_conditions: Conditions with at least one pair of cells in one batch.
        n_detectable: Conditions with p < 0.05 against control cells; None where no control cells were given.
        n_eff: Effective number of conditions, (sum S)^2 / sum S^2 over max(S, 0); 0 where no S is positive.
        condition_c: Names of the conditions, sorted.
        signal_c: Signal energy S of each condition, unbiased, may be negative.
        p_control_c: p against control of each condition; None where no control cells were given.
        reason: The verdict in words.
    """

    verdict: str
    p: float
    p_without_strongest: float
    s_split: float
    s_dc: float
    n_conditions: int
    n_detectable: int | None
    n_eff: float
    condition_c: tuple[str, ...]
    signal_c: np.ndarray
    p_control_c: np.ndarray | None
    reason: str


def gate_context(
    x_ng: Any,
    condition_n: np.ndarray,
    batch_n: np.ndarray,
    input_mean_bg: np.ndarray,
    reference_mean_bg: np.ndarray,
    batch_names: Sequence[str],
    *,
    permutations: int = 500,
    seed: int,
    control_x_mg: Any = None,
    control_batch_m: np.ndarray | None = None,
    control_permutations: int = 400,
) -> GateVerdict:
    r"""Ask whether the conditions of one context differ from each other beyond sampling noise.

    p comes from permuting condition labels among perturbed cells within batch, p = (1 + #{F* >= F})/(1 + permutations),
    of the between-condition sum of squares of batch-centred cells (PERMANOVA's pseudo-F, of which it is a monotone
    function because the total is fixed):

    .. math:: F = \sum_p \left|\sum_{i \in p} (x_i - \bar x_{b(i)})\right|^2 / n_p

    It weighs conditions by their cells, so that small noisy groups do not hide an effect. The test is made again
    without the cells of the condition of strongest signal. The unbiased energies are those of `panel_signal`.

    * powered: p < 0.01, S_dc > 0, at least 10 conditions, and p < 0.05 without the strongest.
    * weak: p < 0.05 otherwise.
    * no_signal: p >= 0.05.

    One condition alone is tested against control cells, and is at best weak. A cell that is alone in its condition
    and batch cannot be halved and is left out.

    Args:
        x_ng: Perturbed cells of one context, dense or CSR, shape (n, g), on the scale effects are measured on.
        condition_n: Condition of each cell.
        batch_n: Batch of each cell; one word throughout where deltas are not matched by batch.
        input_mean_bg: Mean of input controls per batch, in the order of `batch_names`.
        reference_mean_bg: Mean of reference controls per batch.
        batch_names: Names of the batches.
        permutations: Number of permutations.
        seed: Seed of the permutations.
        control_x_mg: Reference control cells; with them every condition is also tested against control.
        control_batch_m: Batch of each control cell.
        control_permutations: Permutations of each of those tests.

    Returns:
        The verdict with its numbers.

    Raises:
        ShapeMismatch: Labels, means or genes do not belong together.
        MissingLabel: A cell's batch has no control mean.
        BadValue: Fewer than one permutation.

    Source:
        Protocol section 3.2, with the mean over all halvings in closed form instead of 20 random ones; Anderson
        (2001), doi:10.1111/j.1442-9993.2001.01070.pp.x, for the permutation test.
    """
    panel = panel_of(x_ng, condition_n, batch_n, input_mean_bg, reference_mean_bg, batch_names)
    check_permutations(permutations)
    signal_c, s_dc = (part[0] for part in signal_of(panel, panel.order_n[None, :]))
    names = panel.condition_c
    against = None
    if control_x_mg is not None and control_batch_m is not None:
        tested = detectable_conditions(
            x_ng, condition_n, batch_n, control_x_mg, control_batch_m, permutations=control_permutations, seed=seed
        )
        against = np.array([tested[name] for name in names], dtype=float)
    p = permutation_p(panel, permutations, np.random.default_rng([seed, PANEL_STREAM]))
    p_rest = p_without(panel, int(np.argmax(signal_c)), permutations, seed) if len(names) > 2 else float("nan")
    verdict, reason = _decide(names, signal_c, float(s_dc), p, p_rest, against)
    return GateVerdict(
        verdict=verdict,
        p=p,
        p_without_strongest=p_rest,
        s_split=float(signal_c.sum()),
        s_dc=float(s_dc),
        n_conditions=len(names),
        n_detectable=None if against is None else int(np.sum(against < WEAK_BELOW)),
        n_eff=effective_number(signal_c),
        condition_c=names,
        signal_c=signal_c,
        p_control_c=against,
        reason=reason,
    )


def effective_number(signal_c: np.ndarray) -> float:
    """Effective number of conditions, (sum S)^2 / sum S^2 over max(S, 0); 0 where nothing is positive."""
    signal_c = np.maximum(np.asarray(signal_c, dtype=float), 0.0)
    return float(signal_c.sum() ** 2 / np.sum(signal_c**2)) if signal_c.any() else 0.0


def _decide(
    names: tuple[str, ...], signal_c: np.ndarray, s_dc: float, p: float, p_rest: float, against: np.ndarray | None
) -> tuple[str, str]:
    n = len(names)
    if n < 2:
        return _decide_alone(names, against)
    if p >= WEAK_BELOW:
        return NO_SIGNAL, f"no measurable effect: the {n} conditions do not differ beyond sampling noise (p = {p:.3g})"
    lacks = []
    if n < POWERED_CONDITIONS:
        lacks.append(f"{n} conditions, {POWERED_CONDITIONS} needed")
    if p >= POWERED_BELOW:
        lacks.append(f"p = {p:.3g} is not below {POWERED_BELOW}")
    if s_dc <= 0:
        lacks.append("the centred signal is not positive")
    if not p_rest < WEAK_BELOW:
        lacks.append(f"it rests on {names[int(np.argmax(signal_c))]} alone (p = {p_rest:.3g} without it)")
    if lacks:
        return WEAK, f"weak effect (p = {p:.3g}): " + "; ".join(lacks)
    return POWERED, f"{n} conditions differ (p = {p:.3g}), also without the strongest (p = {p_rest:.3g})"


def _decide_alone(names: tuple[str, ...], against: np.ndarray | None) -> tuple[str, str]:
    if not names:
        return UNKNOWN, "no condition has two cells in one batch, so nothing can be tested"
    if against is None or np.isnan(against[0]):
        return UNKNOWN, "one condition and no control cells to test it against"
    if against[0] < WEAK_BELOW:
        return WEAK, f"one condition, so no panel; it differs from control (p = {against[0]:.3g})"
    return NO_SIGNAL, f"no measurable effect: one condition, not different from control (p = {against[0]:.3g})"
