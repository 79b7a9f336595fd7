"""What a planted world is made from: sizes, strengths, presets; each setting with its range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType

import numpy as np

from perturbfm.errors import BadValue, nearest

N_SHIFT_GENES = 20
LARGEST_RATE = 25.0
GRAPHS = ("true", "absent", "rewired")
OBSERVATIONS = ("counts", "gaussian")
DOUBLE_TYPES = ("additive", "buffering", "neomorphic")

_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "n_genes": (N_SHIFT_GENES, 20_000),
        "n_contexts": (2, 99),
        "n_singles": (1, 999),
        "n_families": (1, 999),
        "n_nulls": (0, 999),
        "n_doubles": (0, 999),
        "n_cells": (2, 100_000),
        "n_controls": (4, 100_000),
        "n_batches": (1, 99),
        "kappa": (0, 20),
        "tau": (0, 10),
        "omega": (0, 5),
        "rho": (0, 0.99),
        "dispersion": (0.01, 10),
        "umi": (1, 100_000),
        "batch_sd": (0, 2),
        "seed": (0, 2**63 - 1),
    }
)


@dataclass(frozen=True)
class WorldSettings:
    """Everything a planted world is made from.

    Attributes:
        n_genes: Genes.
        n_contexts: Contexts; the last is the one to hold out.
        n_singles: Single perturbations, nulls included.
        n_families: Groups of singles that share a target gene.
        n_nulls: Singles without an effect of their own (the shift reaches them too).
        n_doubles: Pairs of singles that have an effect and belong to different families.
        n_cells: Cells per context and perturbation.
        n_controls: Control cells per context.
        n_batches: Batches, crossed with everything and balanced.
        kappa: Steepness of the gate by which base expression decides how strongly a gene answers.
        tau: Standard deviation of the part of an effect that nothing predicts, relative to the effect.
        omega: Size of the shift that every perturbation brings.
        rho: Share of an effect that an edge passes on.
        dispersion: Of counts: variance `mu + dispersion mu^2`.
        umi: Expected counts of a control cell of depth 1.
        batch_sd: Standard deviation of batch effects on the log rate.
        families: Whether singles share target genes.
        interaction: Whether doubles may be more than the sum of their parts.
        graph: `true`, `absent` or `rewired`.
        observation: `counts` or `gaussian`.
        seed: Of every stream.
    """

    n_genes: int = 200
    n_contexts: int = 6
    n_singles: int = 16
    n_families: int = 4
    n_nulls: int = 3
    n_doubles: int = 8
    n_cells: int = 60
    n_controls: int = 240
    n_batches: int = 2
    kappa: float = 1.5
    tau: float = 0.3
    omega: float = 0.3
    rho: float = 0.5
    dispersion: float = 0.3
    umi: float = 400.0
    batch_sd: float = 0.15
    families: bool = True
    interaction: bool = True
    graph: str = "true"
    observation: str = "counts"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high, whole=name.startswith("n_") or name == "seed")
        _check_choice("graph", self.graph, GRAPHS)
        _check_choice("observation", self.observation, OBSERVATIONS)
        _check_limit("n_nulls", self.n_nulls, self.n_singles, "n_singles")
        _check_limit("n_families", self.n_families, self.n_singles, "n_singles")
        _check_limit("n_doubles", self.n_doubles, len(pairs_of(self)), "pairs of active singles of different families")
        _check_limit("n_batches", self.n_batches, min(self.n_cells, self.n_controls), "n_cells and n_controls")
        _check_limit("2 * n_singles", 2 * self.n_singles, self.n_genes, "n_genes, for target genes of their own")
        _check_limit("umi", self.umi, 0.5 * LARGEST_RATE * self.n_genes, f"half of {LARGEST_RATE:g} per gene")


def pairs_of(s: WorldSettings) -> list[tuple[int, int]]:
    """Pairs that may become doubles: two effects on one family gene would be clipped, and so not add."""
    pairs = combinations(range(s.n_singles - s.n_nulls), 2)
    return [(a, b) for a, b in pairs if (a - b) % s.n_families]


def _check_number(name: str, value: object, low: float, high: float, whole: bool) -> None:
    kinds: tuple[type, ...] = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, kinds) and not isinstance(value, bool) and low <= float(value) <= high:  # type: ignore[arg-type]
        return
    raise BadValue(
        f"Setting {name} of the planted world is out of range",
        given=repr(value),
        expected=f"{'a whole number' if whole else 'a number'} from {low:g} to {high:g}",
        fix="Change it in conf/data, or take a preset.",
    )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadValue(
            f"Setting {name} of the planted world is unknown",
            given=repr(value),
            expected=", ".join(choices),
            fix=f"Nearest: {nearest(str(value), choices)}.",
        )


def _check_limit(name: str, value: float, limit: float, of: str) -> None:
    if value > limit:
        raise BadValue(
            f"Setting {name} of the planted world is too large",
            given=f"{value:g}",
            expected=f"at most {limit:g} ({of})",
            fix=f"Lower {name}, or raise what limits it.",
        )


PRESETS: Mapping[str, WorldSettings] = MappingProxyType(
    {
        "default": WorldSettings(),
        "precise": WorldSettings(n_cells=120, n_controls=480),
        "many_contexts": WorldSettings(n_contexts=12),
        "noisy": WorldSettings(n_cells=20, n_controls=60),
        "kappa_0": WorldSettings(kappa=0.0),
        "tau_1": WorldSettings(tau=1.0),
        "omega_0": WorldSettings(omega=0.0),
        "no_interaction": WorldSettings(interaction=False),
        "graph_absent": WorldSettings(graph="absent"),
        "graph_rewired": WorldSettings(graph="rewired"),
        "gaussian": WorldSettings(observation="gaussian"),
    }
)


def preset(name: str, seed: int = 0) -> WorldSettings:
    """Return the settings of a named preset with a seed.

    Raises:
        BadValue: No preset has this name.
    """
    if name not in PRESETS:
        raise BadValue(
            "No preset of the planted world has this name",
            given=repr(name),
            expected=", ".join(PRESETS),
            fix=f"Nearest: {nearest(name, PRESETS)}.",
        )
    return replace(PRESETS[name], seed=seed)
