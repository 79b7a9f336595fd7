"""Intervals that know both sources of chance: which conditions were tried, and which control cells they share.

In: reference cells, conditions' clusters, a metric. Out: intervals. Conditions of one context share their reference
controls, so resampling conditions alone gives intervals far too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import norm
from scipy.stats import t as student

from perturbfm.errors import BadValue, ShapeMismatch, TooFewControls, ValuesNotFinite
from perturbfm.eval.case import Case, PerCondition

BOOTSTRAP, SIGN_FLIP, VALUES_ONLY = "bootstrap", "sign_flip", "values_only"
BOOTSTRAP_FROM, SIGN_FLIP_FROM = 10, 5

BLOCK = 2_000_000
"""Numbers (16 MB) held at once."""

REFERENCE_STREAM, CONDITION_STREAM = 11, 12
"""Second part of a seed, so that one seed gives independent draws of controls and of conditions (never 0: numpy takes
`[seed, 0]` for `seed`)."""

Statistic = Callable[[Case], PerCondition]


@dataclass(frozen=True)
class Interval:
    """Percentile interval of an aggregate.

    Attributes:
        low: Lower end; NaN where fewer than two draws have a value.
        high: Upper end.
        se: Standard deviation over draws.
        mean: Mean over draws; its distance from the estimate is the bias of the draws.
        n_draws: Draws that have a value.
    """

    low: float
    high: float
    se: float
    mean: float
    n_draws: int


@dataclass(frozen=True)
class ReferenceDraw:
    """Reference controls drawn once: mean and variance of the mean of every group, shape (groups, genes)."""

    mean_kg: np.ndarray
    noise_kg: np.ndarray


@dataclass(frozen=True)
class ReferenceDraws:
    """Resampled reference controls; iterating twice gives the same draws.

    Attributes:
        groups: (context, batch) of each row of a draw, sorted.
        cells: Cells of each group, dense or CSR.
        n_draws: Number of draws.
        seed: Seed of the draws.
    """

    groups: tuple[tuple[str, str], ...]
    cells: tuple[Any, ...]
    n_draws: int
    seed: int

    def __len__(self) -> int:
        return self.n_draws

    def __iter__(self) -> Iterator[ReferenceDraw]:
        rng_k = [np.random.default_rng([self.seed, REFERENCE_STREAM, k]) for k in range(len(self.groups))]
        numbers = len(self.groups) * self.cells[0].shape[1] + max(x.shape[0] for x in self.cells)
        few = max(1, BLOCK // numbers)
        for start in range(0, self.n_draws, few):
            n = min(few, self.n_draws - start)
            parts = [_draw_group(x_rg, n, rng) for x_rg, rng in zip(self.cells, rng_k, strict=True)]
            for i in range(n):
                yield ReferenceDraw(np.stack([mean[i] for mean, _ in parts]), np.stack([var[i] for _, var in parts]))


def reference_draws(x_rg: Any, context_r: np.ndarray, batch_r: np.ndarray, n_draws: int, seed: int) -> ReferenceDraws:
    r"""Draw reference control cells with replacement within context and batch.

    .. math:: \mu^*_R = \sum_r w_r x_r / n_R, \quad V^*_R = s^{2*}_R / n_R, \quad w \sim Multinomial(n_R, 1/n_R)

    A truth made from a draw, :math:`T^* = \mu_p - \mu^*_R`, carries the noise of the controls twice: that of the
    controls themselves, and that of the draw. Its sampling variance is :math:`V_p + V^*_R` about the measured T but
    :math:`s^2_p/n_p + 2 V^*_R` about the true effect; give the latter as the noise of a redrawn case.

    Args:
        x_rg: Reference control cells, dense or CSR, shape (r, g).
        context_r: Context of each cell.
        batch_r: Batch of each cell; one word throughout where deltas are not matched by batch.
        n_draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        An iterable of draws, each with the mean and the variance of the mean of every group.

    Raises:
        ShapeMismatch: Labels and cells have different lengths.
        TooFewControls: A group has one cell, whose variance cannot be known.
        BadValue: Fewer than one draw.

    Source:
        Protocol section 3.4.
    """
    _check_draws(n_draws)
    if not len(context_r) == len(batch_r) == x_rg.shape[0]:
        raise ShapeMismatch(
            "Reference cells and their labels have different lengths",
            given=f"{x_rg.shape[0]} cells, {len(context_r)} contexts, {len(batch_r)} batches",
            expected="one context and one batch per cell",
            fix="Take labels and cells from the same rows.",
        )
    pair_r = list(
        zip(np.asarray(context_r).astype(str).tolist(), np.asarray(batch_r).astype(str).tolist(), strict=True)
    )
    groups = tuple(sorted(set(pair_r)))
    number = {pair: k for k, pair in enumerate(groups)}
    group_r = np.array([number[pair] for pair in pair_r], dtype=int)
    x_rg = sparse.csr_matrix(x_rg, dtype=float) if sparse.issparse(x_rg) else np.asarray(x_rg, dtype=float)
    cells = tuple(x_rg[np.flatnonzero(group_r == k)] for k in range(len(groups)))
    for pair, x in zip(groups, cells, strict=True):
        _check_group(pair, x.shape[0])
    return ReferenceDraws(groups, cells, n_draws, seed)


def cluster_draws(cluster_c: Sequence[str] | np.ndarray, n_draws: int, seed: int) -> np.ndarray:
    """Draw clusters of conditions with replacement.

    Args:
        cluster_c: Cluster of each condition; the same intervention in several contexts is one cluster.
        n_draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        How often each condition was drawn, integers of shape (draws, conditions).

    Raises:
        BadValue: Fewer than one draw.

    Source:
        Protocol section 3.4.
    """
    _check_draws(n_draws)
    name_q, number_c = np.unique(np.asarray(cluster_c).astype(str), return_inverse=True)
    return _counts(len(name_q), n_draws, seed)[:, number_c]


def double_weights(
    intervention_c: Sequence[str] | np.ndarray, n_draws: int, seed: int, *, delimiter: str = "+"
) -> np.ndarray:
    r"""Draw genes with replacement; a combination weighs as the product of its genes' counts, :math:`w_A w_B`.

    Doubles that share a gene are not independent: drawing genes, not doubles, lets them come and go together.

    Args:
        intervention_c: `A+B@mode` of each condition; the part after the last `@` is ignored.
        n_draws: Number of draws.
        seed: Seed of the draws.
        delimiter: What joins the parts of a combination.

    Returns:
        Weight of each condition, integers of shape (draws, conditions).

    Raises:
        BadValue: Fewer than one draw.

    Source:
        Protocol sections 2 (F7) and 3.4.
    """
    _check_draws(n_draws)
    parts_c = [label.rsplit("@", 1)[0].split(delimiter) for label in np.asarray(intervention_c).astype(str).tolist()]
    number = {part: i for i, part in enumerate(sorted({part for parts in parts_c for part in parts}))}
    count_bp = _counts(len(number), n_draws, seed)
    return np.stack([count_bp[:, [number[part] for part in parts]].prod(axis=1) for parts in parts_c], axis=1)


def aggregate_draws(stat: Statistic, draws: Iterable[Case], weight_bc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of a metric's numerators and denominators, one pair per draw, over conditions that have a value.

    Args:
        stat: The metric.
        draws: One case per draw: the same prediction beside redrawn truths.
        weight_bc: Weight of each condition in each draw, shape (draws, conditions).

    Returns:
        `sum(w num)` and `sum(w den)` per draw. Their ratio is the aggregate of the draw; the standard deviation of the
        denominators tells whether a ratio can be trusted.

    Raises:
        ShapeMismatch: Fewer or more draws than rows of weights, or another number of conditions.
    """
    sums = [_weighted(stat(case), weight_c) for case, weight_c in _matched(draws, weight_bc)]
    return np.array([num for num, _ in sums]), np.array([den for _, den in sums])


def two_way_interval(stat: Statistic, draws: Iterable[Case], weight_bc: np.ndarray, level: float = 0.95) -> Interval:
    r"""Percentile interval of :math:`\sum w\,num / \sum w\,den` over draws of conditions and of reference controls.

    Args:
        stat: The metric.
        draws: One case per draw: the same prediction beside truths from redrawn reference controls.
        weight_bc: Weight of each condition in each draw, from `cluster_draws` or `double_weights`.
        level: Level of the interval.

    Returns:
        The interval; draws in which no condition weighs, or the denominator is not positive, have no value and are
        not counted.

    Raises:
        ShapeMismatch: Draws and weights do not fit.
        BadValue: A level outside (0, 1).

    Source:
        Protocol section 3.4.
    """
    return percentiles(_ratio(*aggregate_draws(stat, draws, weight_bc)), level)


def paired_two_way(
    stat: Statistic,
    draws: Iterable[tuple[Case, Case]],
    weight_bc: np.ndarray,
    level: float = 0.95,
    n_units: int | None = None,
) -> Interval:
    """Percentile interval of the difference first - second of two predictions, judged on identical draws.

    Only conditions on which both predictions have a value take part.

    Args:
        stat: The metric.
        draws: For each draw, both predictions beside the same redrawn truth.
        weight_bc: Weight of each condition in each draw.
        level: Level of the interval.
        n_units: Clusters that were drawn, to widen the interval by `small_sample`; None leaves percentiles as they are.

    Returns:
        The interval of the difference; it excludes 0 where the two differ.

    Raises:
        ShapeMismatch: Draws and weights do not fit.
        BadValue: A level outside (0, 1).

    Source:
        Protocol section 3.4.
    """
    difference = [
        _paired(stat(first), stat(second), weight_c) for (first, second), weight_c in _matched(draws, weight_bc)
    ]
    found = percentiles(np.array(difference), level)
    if n_units is None:
        return found
    known = np.array(difference)[np.isfinite(difference)]
    return rescaled(found, float(np.median(known)) if len(known) else np.nan, small_sample(n_units, level))


def sign_flip_p(difference_c: np.ndarray) -> float:
    r"""Exact two-sided sign-flip p of a mean of paired differences, for 5 to 9 conditions.

    .. math:: 2^{-n}\,\#\{s \in \{-1, 1\}^n : |mean(s d)| \ge |mean(d)|\}

    Args:
        difference_c: One paired difference per condition.

    Returns:
        p; at least :math:`2^{-(n-1)}`.

    Raises:
        BadValue: Fewer than 5 or more than 9 differences.
        ValuesNotFinite: A difference is NaN or infinite.

    Source:
        Fisher (1935), The design of experiments, section 21; protocol section 3.4.
    """
    difference_c = np.asarray(difference_c, dtype=float)
    n = len(difference_c)
    if not SIGN_FLIP_FROM <= n < BOOTSTRAP_FROM:
        raise BadValue(
            "A sign-flip test is for 5 to 9 conditions",
            given=f"{n} differences",
            expected="at least 5 and at most 9",
            fix="Give values only below 5; use the two-way bootstrap from 10.",
        )
    if not np.isfinite(difference_c).all():
        raise ValuesNotFinite(
            "A paired difference is not a number",
            given=f"{int((~np.isfinite(difference_c)).sum())} of {n}",
            expected="finite differences",
            fix="Pass only conditions on which both sides have a value.",
        )
    flipped = np.abs(np.array(list(product((-1.0, 1.0), repeat=n))) @ difference_c)
    return float(np.mean(flipped >= abs(difference_c.sum()) - 1e-12 * np.abs(difference_c).sum()))


def interval_rule(n_conditions: int) -> str:
    """What a number of conditions can carry: `bootstrap` from 10, `sign_flip` from 5 to 9, else `values_only`."""
    if n_conditions >= BOOTSTRAP_FROM:
        return BOOTSTRAP
    return SIGN_FLIP if n_conditions >= SIGN_FLIP_FROM else VALUES_ONLY


# --- small things ----------------------------------------------------------------------------------


def _draw_group(x_rg: Any, n_draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n = x_rg.shape[0]
    weight_br = rng.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)
    square_rg = x_rg.multiply(x_rg).tocsr() if sparse.issparse(x_rg) else x_rg**2
    mean_bg = np.asarray(weight_br @ x_rg) / n
    spread_bg = np.maximum(np.asarray(weight_br @ square_rg) / n - mean_bg**2, 0.0)
    return mean_bg, spread_bg / (n - 1)


def _counts(n: int, n_draws: int, seed: int) -> np.ndarray:
    if n == 0:
        return np.zeros((n_draws, 0), dtype=int)
    return np.random.default_rng([seed, CONDITION_STREAM]).multinomial(n, np.full(n, 1 / n), size=n_draws)


def _matched(draws: Iterable[Any], weight_bc: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
    """Pair draws with rows of weights; lengths must agree."""
    seen = 0
    for draw in draws:
        if seen < len(weight_bc):
            yield draw, weight_bc[seen]
        seen += 1
    if seen != len(weight_bc):
        raise ShapeMismatch(
            "Draws of truths and of conditions do not pair up",
            given=f"{seen} cases and {len(weight_bc)} rows of weights",
            expected="as many of one as of the other",
            fix="Make both with the same number of draws.",
        )


def _weighted(stats: PerCondition, weight_c: np.ndarray, also_c: np.ndarray | None = None) -> tuple[float, float]:
    if len(weight_c) != len(stats.num_c):
        raise ShapeMismatch(
            "Weights and conditions do not pair up",
            given=f"{len(weight_c)} weights and {len(stats.num_c)} conditions",
            expected="one weight per condition",
            fix="Draw clusters from the same conditions, in the same order.",
        )
    used_c = stats.ok_c if also_c is None else stats.ok_c & also_c
    return float(weight_c[used_c] @ stats.num_c[used_c]), float(weight_c[used_c] @ stats.den_c[used_c])


def _paired(first: PerCondition, second: PerCondition, weight_c: np.ndarray) -> float:
    values = [_ratio(*map(np.array, _weighted(a, weight_c, b.ok_c))) for a, b in ((first, second), (second, first))]
    return float(values[0] - values[1])


def _ratio(num_b: np.ndarray, den_b: np.ndarray) -> np.ndarray:
    return np.where(den_b > 0, num_b / np.where(den_b > 0, den_b, 1.0), np.nan)


def percentiles(value_b: np.ndarray, level: float) -> Interval:
    """Percentile interval of drawn values; NaN where fewer than two are finite."""
    if not 0.0 < level < 1.0:
        raise BadValue(
            "A level is not a probability", given=level, expected="a number between 0 and 1", fix="Write 0.95 for 95 %."
        )
    value_b = value_b[np.isfinite(value_b)]
    if len(value_b) < 2:
        lost = float("nan")
        return Interval(lost, lost, lost, lost, len(value_b))
    low, high = np.quantile(value_b, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), float(value_b.std(ddof=1)), float(value_b.mean()), len(value_b))


def small_sample(n_units: int, level: float) -> float:
    r"""How much wider than its percentiles an interval of n units is.

    .. math:: \frac{t_{n-1}((1 + L)/2)}{z((1 + L)/2)} \sqrt{\frac{n}{n-1}}

    The spread of a bootstrap has divisor n instead of n - 1, and its percentiles are normal ones, not Student's.

    Args:
        n_units: Clusters that are drawn.
        level: Level of the interval.

    Returns:
        Above 1, towards 1 with n: 1.22 at 10, 1.06 at 33; infinite for one unit, whose spread cannot be known.

    Source:
        Hesterberg (2015), doi:10.1080/00031305.2015.1089789 (expanded percentile interval).
    """
    if n_units < 2:
        return float("inf")
    ratio = student.ppf((1.0 + level) / 2.0, n_units - 1) / norm.ppf((1.0 + level) / 2.0)
    return float(ratio * np.sqrt(n_units / (n_units - 1.0)))


def rescaled(interval: Interval, centre: float, factor: float) -> Interval:
    """The interval with its ends at `factor` times their distance from a centre."""
    low, high = (centre + factor * (end - centre) for end in (interval.low, interval.high))
    return replace(interval, low=float(low), high=float(high))


def _check_draws(n_draws: int) -> None:
    if n_draws < 1:
        raise BadValue("Resampling needs draws", given=n_draws, expected="at least 1", fix="Use 1000.")


def _check_group(pair: tuple[str, str], n: int) -> None:
    if n < 2:
        raise TooFewControls(
            "A group of reference controls cannot be resampled",
            given=f"{n} cell in context {pair[0]!r}, batch {pair[1]!r}",
            expected="at least 2",
            fix="Compare within the context instead of within the batch.",
        )
