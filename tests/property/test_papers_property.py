"""Does each line of the papers' metrics keep its value under the changes that it names?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perturbfm.eval.case import Case
from perturbfm.eval.comparison import Comparison, Side
from perturbfm.eval.panel.metric import ALWAYS, OnCells
from perturbfm.eval.panel.papers import PAPERS

N, G = 9, 45
SCALE = 4.0


class World:
    """Sparse cells of two contexts, so that means, lost genes and zero variances all occur."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rate_g = rng.gamma(0.5, 1.5, G)
        self.context = np.array([0] * 5 + [1] * 4)
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
            train_delta_g=None,
            cells=None,
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
            kept = rng.permutation(N) if name == "permute_conditions" else np.array([0, 1, 3, 4, 5, 7, 8])
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


PAIRS = [(m, name) for m in PAPERS for name in (*ALWAYS, *m.invariances)]


@pytest.mark.parametrize(("metric", "name"), PAIRS, ids=lambda p: p if isinstance(p, str) else p.identifier)
def test_a_change_that_a_metric_names_leaves_its_values(metric, name):
    for seed in range(3):
        before, after = World(seed), World(seed)
        kept = after.change(name)
        was, now = metric.function(before.case()), metric.function(after.case())
        np.testing.assert_allclose(now.value_c, was.value_c[kept], rtol=1e-7, atol=1e-9)
        assert now.status_c.tolist() == was.status_c[kept].tolist()


CHANGES = ("subset_conditions", "shift_both", "scale_both", "scale_prediction")


def test_a_change_that_no_line_names_would_be_seen():
    """The changes are real: each moves the values of some line that does not name it."""
    for name in CHANGES:
        before, after = World(0), World(0)
        kept = after.change(name)
        others = [m for m in PAPERS if name not in m.invariances]
        moved = [
            not np.allclose(m.function(after.case()).value_c, m.function(before.case()).value_c[kept], equal_nan=True)
            for m in others
        ]
        assert any(moved), name


@pytest.mark.parametrize("metric", [m for m in PAPERS if isinstance(m.function, OnCells)], ids=lambda m: m.identifier)
def test_the_truth_itself_is_never_worse_than_another_prediction(metric):
    world = World(0)
    case = world.case()
    perfect = replace(case, comparison=replace(case.comparison, predicted=case.comparison.truth, _made={}))
    better = {"higher": 1.0, "lower": -1.0}.get(metric.better)
    if better is None:
        np.testing.assert_array_equal(metric.function(perfect).value_c, metric.function(case).value_c)
    elif not metric.identifier.startswith("jaccard"):  # which takes its two sets by two rules
        gained_c = better * (metric.function(perfect).value_c - metric.function(case).value_c)
        assert not (gained_c < 0).any()
        assert (gained_c > 0).any()
