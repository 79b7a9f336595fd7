"""Random numbers that are the same on every machine and for every numpy version, and counts made from them.

numpy promises the stream of a bit generator, not that of `Generator.normal` or `Generator.poisson`. Everything here
is therefore built from `PCG64.random_raw` alone: uniforms by shifting bits, normals and counts by inverse CDF, orders
by stable argsort. Every part of a world draws from a stream of its own name, so that leaving a part out does not
shift the numbers of the others.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.random import PCG64
from scipy.special import ndtri

TAIL_MASS = 1e-13
"""Probability left out when a count distribution is summed."""

_SMALLEST_STEP = 1e-17
"""A pmf term beyond the mean that no longer moves a CDF near one."""

_STEPS_BETWEEN_CHECKS = 8


def uniforms(seed: int, part: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniforms from the stream of one part: `((raw >> 11) + 0.5) * 2**-53`, never 0 and never 1.

    Args:
        seed: Seed of the world.
        part: Name of the stream; it is hashed together with the seed.
        shape: Shape of the result, filled in C order, so a longer first axis only appends.

    Returns:
        Values in (0, 1), float64.
    """
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    raw = PCG64(int.from_bytes(digest[:16], "big")).random_raw(math.prod(shape))
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5).reshape(shape) * 2.0**-53


def normals(seed: int, part: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normals by inverse CDF of `uniforms`."""
    return np.asarray(ndtri(uniforms(seed, part, shape)), dtype=np.float64)


def signs(seed: int, part: str, shape: tuple[int, ...], plus: float = 0.5) -> np.ndarray:
    """Draw +1 with probability `plus` and -1 otherwise."""
    return np.where(uniforms(seed, part, shape) < plus, 1.0, -1.0)


def order(seed: int, part: str, n: int) -> np.ndarray:
    """Draw a random order of `0..n-1` by stable argsort of uniforms."""
    return np.argsort(uniforms(seed, part, (n,)), kind="stable")


def negative_binomial_counts(u_n: np.ndarray, mean_n: np.ndarray, dispersion: float) -> np.ndarray:
    r"""Invert the negative binomial CDF: the smallest k with `P(K <= k) >= u`.

    .. math:: p_0 = (1 + \mu/r)^{-r},\quad p_{k+1} = p_k \frac{k + r}{k + 1} \frac{\mu}{\mu + r}

    with `r = 1 / dispersion`.

    Args:
        u_n: Uniforms in (0, 1).
        mean_n: Expected counts mu, positive; the variance is `mu + dispersion mu^2`.
        dispersion: Shared by all entries.

    Returns:
        Counts, int32.
    """
    size = 1.0 / dispersion
    count_n = np.zeros(len(u_n), dtype=np.int32)
    pmf = np.exp(-size * np.log1p(mean_n / size))
    above = np.flatnonzero(u_n > pmf)  # entries still below their u; they shrink as k grows
    u, mean, pmf = u_n[above], mean_n[above], pmf[above]
    step, cdf, k = mean / (mean + size), pmf.copy(), 0
    while len(above):
        pmf = pmf * (step * ((k + size) / (k + 1)))
        cdf = cdf + pmf
        k += 1
        open_ = (u > cdf) & ((pmf > _SMALLEST_STEP) | (k < mean))
        if not open_.all():
            count_n[above[~open_]] = k
            above, u, mean = above[open_], u[open_], mean[open_]
            pmf, step, cdf = pmf[open_], step[open_], cdf[open_]
    return count_n


def log1p_moments(mean_n: np.ndarray, depth: float, dispersion: float) -> tuple[np.ndarray, np.ndarray]:
    """Sum E X and E X^2 of `X = log1p(K / depth)`, K negative binomial, over the pmf.

    The sum of an entry stops where the mass left out is below `TAIL_MASS`: terms beyond k fall at least as fast as a
    geometric series with ratio `max((k + r)/(k + 1), 1) mu/(mu + r)`.

    Args:
        mean_n: Expected counts, positive.
        depth: What counts are divided by, one value for all entries.
        dispersion: As in `negative_binomial_counts`.

    Returns:
        First and second moment, each of shape (n,).
    """
    size = 1.0 / dispersion
    largest_first = np.argsort(-mean_n, kind="stable")  # so that the entries still summed are always a prefix
    mean = mean_n[largest_first]
    step, pmf = mean / (mean + size), np.exp(-size * np.log1p(mean / size))
    first, second = np.zeros_like(mean), np.zeros_like(mean)
    n_open, k = len(mean), 0
    while n_open:
        growth = (k + size) / (k + 1)
        pmf = pmf[:n_open] * (step[:n_open] * growth)
        k += 1
        x = math.log1p(k / depth)
        term = pmf * x
        first[:n_open] += term
        second[:n_open] += term * x
        if k % _STEPS_BETWEEN_CHECKS == 0:
            ratio = step[:n_open] * max((k + size) / (k + 1), 1.0)
            still = np.flatnonzero((ratio >= 1) | (pmf * ratio > TAIL_MASS * (1 - ratio)))
            n_open = int(still[-1]) + 1 if len(still) else 0
    back = np.empty_like(largest_first)
    back[largest_first] = np.arange(len(back))
    return first[back], second[back]
