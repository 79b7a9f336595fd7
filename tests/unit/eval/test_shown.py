"""Are the conditions that a report draws the best, the median and the worst, with their own deltas?"""

from types import SimpleNamespace

import numpy as np
import pytest

from perturbfm.eval.case import plain
from perturbfm.eval.panel.metric import HIGHER, LOWER, Metric, Panel
from perturbfm.eval.shown import MOST_GENES, shown_deltas

PCC, MSE = "pcc_delta[ref=control_split,genes=all]", "mse[space=mean_delta,ref=control_split,genes=all]"
PANEL = Panel("p", "1", True, (Metric(PCC, None, HIGHER, "", effect=True), Metric(MSE, None, LOWER, "")))


def case_of(n: int, n_genes: int = 5, gate: str = "powered", noise: bool = True) -> SimpleNamespace:
    """Condition c has the true delta c + gene / 100, predicted with the sign turned."""
    truth_cg = np.arange(n)[:, None] + np.arange(n_genes)[None, :] / 100
    return SimpleNamespace(
        n_conditions=n,
        context_c=np.array(["u"] * n, dtype=object),
        intervention_c=np.array([f"P{c}" for c in range(n)], dtype=object),
        n_c=10 * np.arange(1, n + 1),
        genes_g=tuple(f"g{g}" for g in range(n_genes)),
        truth_cg=truth_cg,
        predicted_cg=-truth_cg / 2,
        noise_cg=np.full((n, n_genes), 0.04),
        noise_known=noise,
        powered_c=np.array([gate] * n, dtype=object),
        faint_c=None,
    )


def stats_of(pcc, mse):
    reasons = [np.array(["" if np.isfinite(v) else "none" for v in values], dtype=object) for values in (pcc, mse)]
    return {PCC: plain(np.array(pcc), reasons[0]), MSE: plain(np.array(mse), reasons[1])}


def named(found):
    return [(c["rank"], c["intervention"], c["value"]) for c in found["conditions"]]


def test_best_median_and_worst_by_correlation():
    found = shown_deltas(PANEL, case_of(5), stats_of([0.1, 0.9, 0.5, -0.2, np.nan], [1, 2, 3, 4, 5]))
    assert found["metric"] == PCC
    assert found["n_ranked"] == 4
    assert named(found) == [("best", "P1", 0.9), ("median", "P0", 0.1), ("worst", "P3", -0.2)]


def test_the_least_error_is_best_where_no_correlation_has_a_value():
    found = shown_deltas(PANEL, case_of(3), stats_of([np.nan] * 3, [3.0, 1.0, 2.0]))
    assert found["metric"] == MSE
    assert named(found) == [("best", "P1", 1.0), ("median", "P2", 2.0), ("worst", "P0", 3.0)]


def test_a_context_without_signal_is_not_ranked_by_what_is_undefined_there():
    found = shown_deltas(PANEL, case_of(3, gate="no_signal"), stats_of([0.9, 0.8, 0.7], [3.0, 1.0, 2.0]))
    assert found["metric"] == MSE


@pytest.mark.parametrize(("n", "ranks"), [(1, ["best"]), (2, ["best", "worst"]), (3, ["best", "median", "worst"])])
def test_few_conditions_stand_once_each(n, ranks):
    found = shown_deltas(PANEL, case_of(n), stats_of(np.linspace(0.9, 0.1, n), [1.0] * n))
    assert [c["rank"] for c in found["conditions"]] == ranks
    assert len({c["intervention"] for c in found["conditions"]}) == n


def test_without_any_value_it_says_why():
    found = shown_deltas(PANEL, case_of(2), stats_of([np.nan] * 2, [np.nan] * 2))
    assert found["conditions"] == []
    assert "no metric" in found["reason"]


def test_the_largest_genes_are_kept_with_their_own_deltas_and_noise():
    case = case_of(3, n_genes=MOST_GENES + 50)
    found = shown_deltas(PANEL, case, stats_of([0.1, 0.2, 0.3], [1.0] * 3))["conditions"][0]
    assert found["n_genes"] == MOST_GENES + 50
    assert len(found["genes"]) == len(found["truth"]) == len(found["predicted"]) == len(found["noise_sd"]) == MOST_GENES
    assert found["genes"][0] == f"g{MOST_GENES + 49}"
    for k, gene in enumerate(found["genes"]):
        g = int(gene[1:])
        assert found["truth"][k] == pytest.approx(case.truth_cg[2, g], rel=1e-3)
        assert found["predicted"][k] == pytest.approx(case.predicted_cg[2, g], rel=1e-3)
    assert set(found["noise_sd"]) == {0.2}
    assert found["n_rows"] == 30


def test_unknown_noise_is_not_drawn():
    found = shown_deltas(PANEL, case_of(3, noise=False), stats_of([0.1, 0.2, 0.3], [1.0] * 3))
    assert found["conditions"][0]["noise_sd"] is None
