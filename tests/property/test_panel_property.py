"""Does every line of the panel keep its values under the changes that it names, and is truth the best prediction?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.panel.full import FULL
from perturbfm.eval.panel.metric import HIGHER

N, G = 24, 130
SCALE = 4.0


class World:
    """Sparse cells of two contexts, so that means, lost genes and zero variances all occur."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rate_g = rng.gamma(0.5, 1.5, G)
        self.context = np.array([0] * 12 + [1] * 12)
        self.true = [self._cells(rng, rate_g, 12 + c) for c in range(N)]
        self.predicted = [self._cells(rng, rate_g, 7) for _ in range(N)]
        self.control = [np.log1p(rng.poisson(rate_g, (20, G))) for _ in range(2)]
        self.centroid = rng.random(G)
        self.names = [f"p{c}" for c in range(N)]
        self.genes = np.arange(G)

    @staticmethod
    def _cells(rng, rate_g, n):
        moved = np.where(rng.random(G) < 0.4, rng.lognormal(0, 1, G), 1.0) * (rng.random(G) > 0.1)
        return np.log1p(rng.poisson(rate_g * moved, (n, G)))

    def case(self) -> Case:
        def side(cells):
            return Side(lambda c: cells[c], lambda k: self.control[k], len(cells), 2)

        mean, control = (
            np.array([x.mean(0) for x in self.true]),
            np.array([self.control[k].mean(0) for k in self.context]),
        )
        predicted = np.array([x.mean(0) for x in self.predicted])
        variance = np.array([x.var(0, ddof=1) / len(x) for x in self.true])
        return Case(
            context_c=np.array([f"k{k}" for k in self.context], dtype=object),
            intervention_c=np.array(self.names, dtype=object),
            n_c=np.array([len(x) for x in self.true]),
            genes_g=tuple(f"g{g}" for g in self.genes),
            truth_cg=mean - control,
            noise_cg=variance,
            noise_known=True,
            predicted_cg=predicted - control,
            variance_cg=variance,
            mean_cg=mean,
            input_cg=control,
            input_var_cg=variance,
            scored_cg=variance > 0,
            train_centroid_g=self.centroid,
            train_delta_g=0.3 * self.centroid,
            cells=lambda c: (self.true[c], self.predicted[c]),
            draws=lambda c: self.predicted[c] - self.control[self.context[c]].mean(0),
            powered_c=np.full(len(self.true), "powered", dtype=object),
            comparison=Comparison(
                context_k=("k0", "k1"),
                context_of_c=self.context,
                perturbation_c=np.array(self.names, dtype=object),
                genes_g=tuple(f"g{g}" for g in self.genes),
                truth=side(self.true),
                predicted=side(self.predicted),
                train_centroid_g=self.centroid,
            ),
        )

    def change(self, name: str) -> np.ndarray:
        """Change the world; returns which condition stands where now."""
        rng, kept = np.random.default_rng(1), np.arange(N)
        if name == "permute_cells":
            for cells in (self.true, self.predicted, self.control):
                cells[:] = [x[rng.permutation(len(x))] for x in cells]
        if name == "permute_genes":
            order = rng.permutation(G)
            for cells in (self.true, self.predicted, self.control):
                cells[:] = [x[:, order] for x in cells]
            self.centroid, self.genes = self.centroid[order], order
        if name in ("permute_conditions", "subset_conditions"):
            kept = rng.permutation(N) if name == "permute_conditions" else np.delete(np.arange(N), [2, 17])
            self.true, self.predicted = [self.true[c] for c in kept], [self.predicted[c] for c in kept]
            self.context, self.names = self.context[kept], [self.names[c] for c in kept]
        if name == "relabel":
            self.names = [f"x{c}" for c in rng.permutation(N)]
        if name in ("shift_both", "scale_both"):
            by, plus = (SCALE, 0.0) if name == "scale_both" else (1.0, rng.normal(size=G))
            for cells in (self.true, self.predicted, self.control):
                cells[:] = [by * x + plus for x in cells]
        if name == "scale_prediction":
            moved = zip(self.predicted, self.context, strict=True)
            self.predicted = [x + (SCALE - 1) * (x.mean(0) - self.control[k].mean(0)) for x, k in moved]
        return kept


SEEDS = (0, 1)
CHANGES = ("subset_conditions", "shift_both", "scale_both", "scale_prediction")


@cache
def scored(change: str | None, seed: int) -> tuple[dict[str, PerCondition], np.ndarray]:
    """Statistics of every line after a change, and which condition stands where; a world is scored once."""
    world = World(seed)
    kept = world.change(change) if change else np.arange(N)
    case = world.case()
    return {m.identifier: m.function(case) for m in FULL.metrics}, kept


def moved(identifier: str, change: str, seed: int) -> bool:
    """Whether a change moved any value or status of a line."""
    was, (now, kept) = scored(None, seed)[0][identifier], scored(change, seed)
    found = now[identifier]
    same = np.allclose(found.value_c, was.value_c[kept], rtol=1e-7, atol=1e-9, equal_nan=True)
    return not (same and found.status_c.tolist() == was.status_c[kept].tolist())


@pytest.mark.parametrize("metric", FULL.metrics, ids=lambda m: m.identifier)
def test_the_changes_that_a_line_names_leave_its_values(metric):
    for change in (*metric.always, *metric.invariances):
        assert not any(moved(metric.identifier, change, seed) for seed in SEEDS), change


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_no_line_named_would_be_seen(change):
    """The changes are real: each moves the values of some line that does not name it."""
    others = [m.identifier for m in FULL.metrics if change not in m.invariances]
    assert any(moved(i, change, 0) for i in others)


@pytest.mark.parametrize("metric", FULL.metrics, ids=lambda m: m.identifier)
def test_every_line_has_a_value_somewhere_in_this_world(metric):
    """Else nothing above would have been asked of it."""
    assert scored(None, 0)[0][metric.identifier].ok_c.any() or metric.identifier.startswith("de_count_spearman")


@cache
def perfect() -> dict[str, PerCondition]:
    """Statistics of the truth itself as prediction, its cells as cells."""
    world = World(0)
    case = world.case()
    own = replace(case.comparison, predicted=case.comparison.truth, _made={})
    truth = replace(
        case, predicted_cg=case.truth_cg, cells=lambda c: (world.true[c], world.true[c]), comparison=own, draws=None
    )
    return {m.identifier: m.function(truth) for m in FULL.metrics}


NOT_OF_TRUTH = ("jaccard", "pfm.pit_reliability_index")
"""Jaccard finds its two sides by two rules; truths in the middle of every distribution are no flat histogram."""


@pytest.mark.parametrize("metric", [m for m in FULL.metrics if m.best is not None], ids=lambda m: m.identifier)
def test_the_truth_itself_is_never_worse_than_another_prediction(metric):
    if metric.identifier.startswith(NOT_OF_TRUTH):
        pytest.skip("says nothing of truth as prediction")
    sign = 1.0 if metric.better == HIGHER else -1.0
    own, other = perfect()[metric.identifier], scored(None, 0)[0][metric.identifier]
    gained_c = sign * (own.value_c - other.value_c)
    assert not (gained_c[np.isfinite(gained_c)] < -1e-9).any()
