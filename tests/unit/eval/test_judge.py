"""Does a judgement hold every number it must, give none it may not, and say why?

The world: normal cells around planted deltas, so the truth and its noise are known. Axes: k contexts, p perturbations.
"""

import copy
import json
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from perturbfm.errors import CellUsedTwice, IncompletePanel, PredictionMismatch
from perturbfm.eval.aggregate import summary
from perturbfm.eval.case import NOT_APPLICABLE, OK, UNDEFINED, plain
from perturbfm.eval.effort import Effort
from perturbfm.eval.intervals import faint_contexts, intervals, refusals
from perturbfm.eval.judge import check_complete, judge
from perturbfm.eval.metric.ood import places
from perturbfm.eval.panel import FULL, without_noise
from perturbfm.eval.panel.full import CRPS, EV, PCC_PANEL, RETRIEVAL_PANEL
from perturbfm.eval.separation import Separation, separation
from perturbfm.eval.truth import TrainCentroids, Truth
from perturbfm.eval.verdict import open_gate
from perturbfm.judging import truth_seed
from perturbfm.types import Observed, Prediction

G = 24
EFFORT = Effort(bootstrap_draws=30, permutations=120, halvings=2, seed=0)
EDIST = "edist[ground=euclidean,stat=U,cells=control_shifted]"
MSE = "mse[space=mean_delta,ref=control_split,genes=all]"
PCC_CONTROL = "pcc_delta[ref=control_split,genes=all]"
COVERED = "coverage[level=0.9,target=mean_delta,obs_noise=added,genes=detected10]"
COVERED_PLAIN = "coverage[level=0.9,target=mean_delta,obs_noise=ignored,genes=detected10]"


def column(names, n):
    return np.repeat(np.array(names, dtype=object), n)


@dataclass(frozen=True)
class Problem:
    """Cells of planted deltas `true_kpg`, and what a judge is handed beside them."""

    observed: Observed
    true: dict
    calib: Observed

    def prediction(self, delta, var=0.05, fold="test", query_order=None):
        """A prediction that says `delta(context, intervention)` with variance `var` (a number or a function)."""
        o = self.observed if fold == "test" else self.calib
        pairs = sorted(set(zip(o.context_n, o.intervention_n, strict=True)))
        number = {pair: i for i, pair in enumerate(pairs)}
        return Prediction(
            mean_qg=np.array([delta(*pair) for pair in pairs]),
            var_qg=np.array([np.broadcast_to(var(*pair) if callable(var) else var, G) for pair in pairs]),
            query_n=np.array([number[pair] for pair in zip(o.context_n, o.intervention_n, strict=True)]),
            idx_n=o.idx_n,
            genes_g=o.genes_g,
            scale=o.scale,
            fold=fold,
            model="test",
            split_hash="s",
            fingerprint="f",
        )

    def oracle(self, var=0.05, fold="test"):
        return self.prediction(lambda k, p: self.true[k, p], var, fold)

    def constant(self, value=0.0, fold="test"):
        return self.prediction(lambda k, p: np.full(G, float(value)) * (np.arange(G) % 3), 0.05, fold)


def cells_of(contexts, perturbations, n_cells, n_controls, size, seed, fold="test", sd=1.0):
    rng = np.random.default_rng(seed)
    true = {(k, p): size * rng.normal(size=G) for k in contexts for p in perturbations}
    base = {k: 5.0 + rng.random(G) for k in contexts}
    many = n_cells if callable(n_cells) else (lambda p: n_cells)
    x, context, intervention = [], [], []
    for (k, p), delta in true.items():
        n = many(p)
        x.append(base[k] + delta + sd * rng.normal(size=(n, G)))
        context += [k] * n
        intervention += [p] * n
    control = {s: np.concatenate([base[k] + sd * rng.normal(size=(n_controls, G)) for k in contexts]) for s in "ir"}
    n = len(context)
    observed = Observed(
        idx_n=np.arange(n),
        x_ng=np.concatenate(x),
        intervention_n=np.array(intervention, dtype=object),
        context_n=np.array(context, dtype=object),
        batch_n=np.full(n, "b", dtype=object),
        input_mg=control["i"],
        input_context_m=column(contexts, n_controls),
        input_batch_m=column(["b"], n_controls * len(contexts)),
        reference_rg=control["r"],
        reference_context_r=column(contexts, n_controls),
        reference_batch_r=column(["b"], n_controls * len(contexts)),
        genes_g=tuple(f"g{i}" for i in range(G)),
        scale="log1p",
        unit="cells",
        controls="cells",
        match_batch=True,
        fold=fold,
    )
    return observed, true


def problem(contexts=("u",), n_perturbations=12, n_cells=44, n_controls=60, size=0.5, seed=0, calib_sd=1.0):
    names = [f"P{i:02d}@knockout" for i in range(n_perturbations)]
    observed, true = cells_of(contexts, names, n_cells, n_controls, size, seed)
    calib, seen = cells_of(("w",), names[:4], 20, 40, size, seed + 1000, fold="calib", sd=calib_sd)
    return Problem(observed, true | seen, calib)


def judged(p, model, effort=EFFORT, floors=None, seen=None, truth=None):
    floors = floors or {"no_change": p.constant(0), "train_mean": p.constant(0.1), "source_delta": p.oracle(0.1)}
    train = TrainCentroids(np.full(G, 5.5), 0.1 * (np.arange(G) % 3))
    calib = Separation(Truth(p.calib), seen or p.oracle(fold="calib"))
    return judge(FULL, truth or Truth(p.observed), model, floors, train, calib, effort)


@pytest.fixture(scope="module")
def good():
    p = problem()
    return p, judged(p, p.oracle())


def entries_of(metrics):
    return {"model": metrics["metrics"], **metrics["floors"]}


def values_of(metrics, names=("model", "no_change", "train_mean", "source_delta")):
    every = entries_of(metrics)
    return {(n, i): e["value"] for n in names for i, e in every[n].items()}


# --- complete --------------------------------------------------------------------------------------


def check_invariants(metrics, panel=FULL):
    """What every entry owes: a value if and only if it is ok, else a reason; counts that fit."""
    for name, entries in entries_of(metrics).items():
        assert tuple(entries) == panel.identifiers, name
        for identifier, e in entries.items():
            where = (name, identifier)
            assert e["status"] in (OK, UNDEFINED, NOT_APPLICABLE), where
            assert (e["status"] == OK) == (e["value"] is not None) == (e["reason"] == ""), (where, e)
            assert e["value"] is None or np.isfinite(e["value"]), where
            assert 0 <= e["n_scored"] <= e["n_total"], where
            assert (e["n_scored"] > 0) == (e["status"] == OK), where
    for name in ("model", "control_variance", "context_lookup"):
        e = metrics["separation"][name]
        assert (e["status"] == OK) == (e["value"] is not None) == (e["reason"] == ""), name
    for identifier, e in metrics["skill"].items():
        assert (e["value"] is None) == bool(e["reason"]), identifier
    json.dumps(metrics, allow_nan=False)


def test_a_judgement_is_complete_and_holds_no_nan(good):
    _, found = good
    check_invariants(found.metrics)
    floors = {"no_change", "train_mean", "source_delta", "replicate", "interpolated", "random_other"}
    assert set(found.metrics["floors"]) == floors
    assert found.metrics["panel"]["comparable"] is True
    assert found.metrics["gate"]["u"]["verdict"] == "powered"


def test_a_judgement_hands_on_the_deltas_that_a_report_draws(good):
    _, found = good
    drawn = found.deltas["conditions"]
    assert [c["rank"] for c in drawn] == ["best", "median", "worst"]
    assert found.deltas["metric"] == PCC_CONTROL
    table = found.per_condition
    mine = table[(table["predictor"] == "model") & (table["metric"] == PCC_CONTROL)]
    assert drawn[0]["value"] == mine["value"].max()
    assert drawn[2]["value"] == mine["value"].min()
    assert "deltas" not in found.metrics


def test_entries_carry_the_names_that_suites_give_them(good):
    _, found = good
    for m in FULL.metrics:
        assert found.metrics["metrics"][m.identifier]["aliases"] == list(m.aliases)


def test_the_table_has_a_row_per_predictor_condition_and_metric(good):
    _, found = good
    t = found.per_condition
    assert len(t) == 4 * 12 * len(FULL.identifiers)
    assert not t.duplicated(["predictor", "metric", "context", "intervention"]).any()
    bad = t[(t.status != OK) & (t.reason == "")]
    assert bad.empty
    mine = t[(t.predictor == "model") & (t.metric == MSE)]
    assert mine.value.mean() == pytest.approx(found.metrics["metrics"][MSE]["value"])


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda m: m["metrics"].pop(EV), f"metrics lacks {EV}"),
        (lambda m: m["floors"]["no_change"].pop(CRPS), f"no_change lacks {CRPS}"),
        (lambda m: m["floors"].pop("no_change"), "first: no_change"),
        (lambda m: m["floors"].pop("train_mean"), "first: train_mean"),
        (lambda m: m["floors"].pop("replicate"), "first: replicate"),
        (lambda m: m["floors"].pop("random_other"), "first: random_other"),
        (lambda m: m["metrics"][EV].pop("status"), f"metrics {EV} has no status"),
        (lambda m: m["metrics"][EV].update(status="fine"), f"metrics {EV} has no status"),
        (lambda m: m["metrics"][EV].update(value=None), f"metrics {EV} is ok without a finite value"),
        (lambda m: m["metrics"][EV].update(value=float("nan")), f"metrics {EV} is ok without a finite value"),
        (lambda m: m["metrics"][EV].update(status=UNDEFINED), f"metrics {EV} is undefined without a reason"),
        (lambda m: m["metrics"][EV].pop("n_scored"), f"metrics {EV} does not say how many conditions it covers"),
        (lambda m: m["metrics"][EV].pop("n_total"), f"metrics {EV} does not say how many conditions it covers"),
        (lambda m: m.pop("gate"), "first: gate"),
        (lambda m: m.pop("separation"), "first: separation"),
        (lambda m: m.pop("intervals"), "first: intervals"),
        (lambda m: m.pop("skill"), "first: skill"),
    ],
)
def test_a_panel_that_lacks_something_is_refused(good, break_it, said):
    metrics = copy.deepcopy(good[1].metrics)
    check_complete(metrics, FULL)
    break_it(metrics)
    with pytest.raises(IncompletePanel, match=re.escape(said)):
        check_complete(metrics, FULL)


def test_a_judgement_checks_itself(good):
    """A metric that answers NaN and calls it ok is not written down."""
    p, _ = good
    broken = replace(FULL.metrics[-1], function=lambda case: plain(np.full(case.n_conditions, np.nan)))
    panel = replace(FULL, metrics=(*FULL.metrics[:-1], broken))
    floors = {"no_change": p.constant(0), "train_mean": p.constant(0.1)}
    seen = Separation(Truth(p.calib), p.oracle(fold="calib"))
    with pytest.raises(IncompletePanel, match="is ok without a finite value"):
        judge(panel, Truth(p.observed), p.oracle(), floors, TrainCentroids(np.zeros(G), np.zeros(G)), seen, EFFORT)


def test_a_floor_of_other_rows_is_refused(good):
    p, _ = good
    short = p.constant(0)
    short = replace(short, idx_n=short.idx_n[:-1], query_n=short.query_n[:-1])
    with pytest.raises(PredictionMismatch, match="other rows"):
        judged(p, p.oracle(), floors={"no_change": short, "train_mean": p.constant(0.1)})


# --- known answers ---------------------------------------------------------------------------------


def test_no_change_explains_exactly_nothing(good):
    entry = good[1].metrics["floors"]["no_change"][EV]
    assert (entry["status"], entry["value"]) == (OK, 0.0)
    assert all(v == 0.0 for v in entry["aggregates"]["per_context"].values())


def test_the_train_mean_sets_nothing_apart_and_is_charged_the_worst(good):
    floor = good[1].metrics["floors"]["train_mean"]
    assert (floor[PCC_PANEL]["status"], floor[PCC_PANEL]["strict"]) == (UNDEFINED, 0.0)
    assert floor[PCC_PANEL]["reason"] == "prediction is the same for all perturbations"
    assert (floor[RETRIEVAL_PANEL]["status"], floor[RETRIEVAL_PANEL]["strict"]) == (UNDEFINED, 0.5)
    assert floor[PCC_CONTROL]["status"] == OK


def test_the_oracle_explains_all_of_it_and_finds_every_perturbation(good):
    _, found = good
    m = found.metrics["metrics"]
    # |D - T|^2 - V has mean zero; its sd over 12 x 24 genes is sqrt(2 * 288) V_g = 24 * 0.04, beside a signal of 72
    assert m[EV]["value"] == pytest.approx(1.0, abs=0.06)
    assert m[RETRIEVAL_PANEL]["value"] == 1.0
    assert m[MSE]["value"] == pytest.approx(1 / 44 + 1 / 60, rel=0.2)
    # width of a 90 % interval without noise: 2 * 1.6449 * sqrt(0.05)
    width = m["width[level=0.9,target=mean_delta,obs_noise=ignored,genes=detected10]"]["value"]
    assert width == pytest.approx(2 * 1.6448536 * 0.05**0.5, rel=1e-6)


def test_ev_of_the_panel_is_the_formula(good):
    p, found = good
    o = p.observed
    num = den = 0.0
    for (k, name), delta in p.true.items():
        if k != "u":
            continue
        x, r = o.x_ng[o.intervention_n == name], o.reference_rg
        t = x.mean(0) - r.mean(0)
        v = x.var(0, ddof=1) / len(x) + r.var(0, ddof=1) / len(r)
        num += (((delta - t) ** 2) - v).sum()
        den += (t**2 - v).sum()
    assert found.metrics["metrics"][EV]["value"] == pytest.approx(1 - num / den, rel=1e-9)


def test_a_perfect_oracle_with_a_tiny_variance_is_judged_and_not_divided_by_zero():
    p = problem()
    truth = Truth(p.observed)
    exact = {(k, q): truth.delta_cg[i] for i, (k, q) in enumerate(zip(*_names(truth), strict=True))}
    found = judged(p, p.prediction(lambda k, q: exact[k, q], 1e-6)).metrics
    check_invariants(found)
    assert found["metrics"][MSE]["value"] == pytest.approx(0, abs=1e-20)
    assert found["metrics"][PCC_PANEL]["value"] == pytest.approx(1.0)
    assert found["metrics"][COVERED_PLAIN]["value"] == 1.0
    # with the noise of the truth subtracted, T itself explains more than all of it
    assert found["metrics"][EV]["value"] > 1.0


def _names(truth):
    return truth.context_c, truth.intervention_c


def test_a_wrong_prediction_with_a_tiny_variance_covers_nothing():
    p = problem()
    found = judged(p, p.prediction(lambda k, q: np.full(G, 50.0), 1e-6)).metrics
    check_invariants(found)
    assert found["metrics"][COVERED_PLAIN]["value"] == 0.0
    assert found["metrics"][EV]["value"] < -100


def test_a_constant_prediction_has_no_panel_numbers_but_errors_and_coverage():
    p = problem()
    found = judged(p, p.constant(0.3)).metrics
    check_invariants(found)
    for identifier in (PCC_PANEL, RETRIEVAL_PANEL):
        assert found["metrics"][identifier]["status"] == UNDEFINED
        assert found["metrics"][identifier]["unscored"] == {"prediction is the same for all perturbations": 12}
    assert found["metrics"][MSE]["status"] == found["metrics"][COVERED]["status"] == OK
    none = found["intervals"]["metrics"][PCC_PANEL]
    assert none["low"] is none["high"] is None
    assert none["n_draws"] == 0


# --- small panels ----------------------------------------------------------------------------------


def test_one_perturbation_in_a_context_is_neither_ranked_nor_centred():
    p = problem(contexts=("t", "u"), n_perturbations=1, size=1.0)
    found = judged(p, p.oracle()).metrics
    check_invariants(found)
    for identifier in (
        PCC_PANEL,
        RETRIEVAL_PANEL,
        "retrieval[space=delta,query=prediction,dist=cosine,norm=n-1,ties=mid]",
    ):
        assert found["metrics"][identifier]["status"] == NOT_APPLICABLE, identifier
        assert found["metrics"][identifier]["strict"] is None
    for identifier, entry in found["floors"]["random_other"].items():
        assert entry["status"] == NOT_APPLICABLE, identifier
    assert found["floors"]["random_other"][EV]["reason"] == "one perturbation in its context"
    assert found["metrics"][EV]["value"] == pytest.approx(1.0, abs=0.1)
    assert found["floors"]["replicate"][EV]["status"] == OK


def test_random_other_counts_only_conditions_that_have_another():
    """Context u has 3 perturbations, context t has one: random other stands beside 3 of 4, the replicate beside 4."""
    p = problem(contexts=("t", "u"), n_perturbations=3, size=1.0)
    keep = ~((p.observed.context_n == "t") & (p.observed.intervention_n != "P00@knockout"))
    rows = {k: getattr(p.observed, k)[keep] for k in ("idx_n", "x_ng", "intervention_n", "context_n", "batch_n")}
    p = replace(p, observed=replace(p.observed, **rows))
    found = judged(p, p.oracle()).metrics
    check_invariants(found)
    assert found["floors"]["random_other"][MSE]["n_scored"] == 3
    assert found["floors"]["replicate"][MSE]["n_scored"] == 4
    assert found["floors"]["replicate"][MSE]["n_total"] == 4


def test_a_weak_gate_gives_values_but_no_skill_and_no_interval():
    p = problem(n_perturbations=6)
    found = judged(p, p.oracle()).metrics
    check_invariants(found)
    assert found["gate"]["u"]["verdict"] == "weak"
    assert found["metrics"][EV]["status"] == OK
    assert {e["value"] for e in found["skill"].values()} == {None}
    assert {e["reason"] for e in found["skill"].values()} == {"not powered: u"}
    assert found["intervals"]["rule"] == "sign_flip"
    assert found["intervals"]["reason"].startswith("5 to 9 conditions: no interval")
    assert set(found["intervals"]["metrics"]) == {PCC_PANEL, RETRIEVAL_PANEL}


def test_a_weak_panel_of_ten_or_more_has_values_only():
    p = problem()
    truth, train = Truth(p.observed), TrainCentroids(np.zeros(G), np.zeros(G))
    case = truth.case(*truth.predicted(p.oracle()), train, np.full(len(truth.n_c), "weak", dtype=object))
    gate = {"u": "weak"}
    found = intervals(FULL, truth, case, case, {}, gate, EFFORT)
    assert found == {"rule": "values_only", "level": None, "reason": "not powered: u", "metrics": {}}


def test_no_signal_leaves_effect_metrics_undefined_and_errors_as_they_are():
    p = problem(size=0.0, seed=4)
    found = judged(p, p.constant(0.2)).metrics
    check_invariants(found)
    assert found["gate"]["u"]["verdict"] == "no_signal"
    for metric in FULL.metrics:
        entry = found["metrics"][metric.identifier]
        if metric.effect:
            assert (entry["status"], entry["strict"]) == (UNDEFINED, None), metric.identifier
            assert "no measurable effect" in entry["reason"]
    assert found["metrics"][MSE]["status"] == found["metrics"][CRPS]["status"] == OK


def test_a_silent_context_beside_a_powered_one_has_no_effect_numbers():
    """Protocol 3.2 is per context: what is averaged over contexts may not hold a context without an effect."""
    p, quiet = problem(contexts=("u",)), problem(contexts=("q",), size=0.0, seed=4)
    assert open_gate(Truth(quiet.observed), EFFORT)["q"].verdict == "no_signal"
    both = joined(p, quiet)
    found, alone = judged(both, both.oracle()).metrics, judged(p, p.oracle()).metrics
    check_invariants(found)
    assert {k: v["verdict"] for k, v in found["gate"].items()} == {"q": "no_signal", "u": "powered"}
    for metric in FULL.metrics:
        entry = found["metrics"][metric.identifier]
        if metric.effect and alone["metrics"][metric.identifier]["status"] == OK:
            assert entry["value"] == pytest.approx(alone["metrics"][metric.identifier]["value"]), metric.identifier
            scored = alone["metrics"][metric.identifier]["n_scored"]
            assert (entry["n_scored"], entry["n_total"]) == (scored, 24), metric.identifier
            assert entry["aggregates"]["per_context"]["q"] is None
            assert any("no measurable effect" in reason for reason in entry["unscored"])
            if not metric.on_cells:
                assert (scored, found["floors"]["replicate"][metric.identifier]["n_scored"]) == (12, 12)
    assert found["metrics"][MSE]["n_scored"] == 24


def joined(a, b):
    """Two problems with different contexts as one."""
    both = {
        k: np.concatenate([getattr(a.observed, k), getattr(b.observed, k)])
        for k in Observed.__dataclass_fields__
        if k.endswith(("_n", "_ng", "_mg", "_m", "_rg", "_r"))
    }
    both["idx_n"] = np.arange(len(both["idx_n"]))
    return Problem(replace(a.observed, **both), b.true | a.true, a.calib)


# --- intervals -------------------------------------------------------------------------------------


def test_a_powered_panel_of_ten_has_two_way_intervals_around_its_values(good):
    found = good[1].metrics
    assert found["intervals"]["rule"] == "two_way_bootstrap"
    chosen = [m.identifier for m in FULL.metrics if m.interval]
    assert list(found["intervals"]["metrics"]) == chosen
    for identifier in chosen:
        e, value = found["intervals"]["metrics"][identifier], found["metrics"][identifier]["value"]
        assert e["low"] <= value <= e["high"], identifier
        assert e["n_draws"] == 30


def test_five_to_nine_conditions_get_an_exact_sign_flip_p_of_what_is_panel_centred():
    """The oracle is right on all 9 and the train mean ranks nothing (0 and 0.5), so p = 2 / 2^9 by counting."""
    p = problem(n_perturbations=9)
    truth, train = Truth(p.observed), TrainCentroids(np.zeros(G), np.zeros(G))
    verdict = np.full(9, "weak", dtype=object)
    predictions = {"model": p.oracle(), "train_mean": p.constant(2.0)}
    cases = {n: truth.case(*truth.predicted(q), train, verdict) for n, q in predictions.items()}
    gate = {"u": "weak"}
    found = intervals(FULL, truth, cases["model"], cases["train_mean"], {}, gate, EFFORT)
    assert (found["rule"], found["level"]) == ("sign_flip", None)
    want = {"sign_flip_p": 2**-8, "reason": "", "against": "train_mean"}
    assert found["metrics"] == {PCC_PANEL: want, RETRIEVAL_PANEL: want}


def test_fewer_than_five_conditions_get_values_only():
    p = problem(n_perturbations=4)
    truth, verdict = Truth(p.observed), np.full(4, "powered", dtype=object)
    case = truth.case(*truth.predicted(p.oracle()), None, verdict)
    gate = {"u": "powered"}
    found = intervals(FULL, truth, case, case, {}, gate, EFFORT)
    assert (found["rule"], found["reason"]) == ("values_only", "4 conditions: values only")


def test_a_denominator_near_zero_refuses_the_ratio():
    p = problem(size=0.0, seed=5)
    truth = Truth(p.observed)
    truth.faint = faint_contexts(truth, EFFORT)
    gate = {"u": "weak"}
    found = refusals(FULL, truth, gate)
    assert list(found) == [EV]
    assert "is not more than 2 standard errors" in found[EV]


def test_a_context_with_no_safe_denominator_has_no_ratio_beside_one_that_has():
    """Its EV would be noise over noise, and a macro mean would carry it."""
    p, quiet = problem(contexts=("u",)), problem(contexts=("q",), size=0.0, seed=5)
    both = joined(p, quiet)
    truth = Truth(both.observed)
    truth.faint = faint_contexts(truth, EFFORT)
    assert list(truth.faint) == ["q"]
    verdict = np.full(len(truth.n_c), "powered", dtype=object)
    case = truth.case(*truth.predicted(both.oracle()), None, verdict)
    metric = next(m for m in FULL.metrics if m.identifier == EV)
    entry = summary(metric, metric.function(case), case)
    assert entry["aggregates"]["per_context"]["q"] is None
    assert entry["value"] == pytest.approx(entry["aggregates"]["per_context"]["u"])
    assert 0.8 < entry["value"] < 1.2
    assert any("standard errors" in reason for reason in entry["unscored"])


def test_no_seed_of_a_model_moves_what_is_a_fact_of_the_split():
    first = SimpleNamespace(frozen_hash="19d4ee0b" + 56 * "0")
    assert truth_seed(first) == 0x19D4EE0B


def test_a_cell_used_twice_is_refused():
    truth = Truth(problem().observed)
    with pytest.raises(CellUsedTwice, match="A cell is used more than once: given 3 rows, 2 of them different"):
        truth.half(np.array([0, 0, 1]))


# --- files without cells ---------------------------------------------------------------------------


def without_cells(p):
    """One row per condition and deltas as values."""
    names = [(k, q) for k, q in p.true if k == "u"]
    none = np.array([], dtype=object)
    empty = {f"{s}_{a}": none for s, a in (("input", "context_m"), ("input", "batch_m"))}
    empty |= {"reference_context_r": none, "reference_batch_r": none}
    empty |= {"input_mg": np.zeros((0, G)), "reference_rg": np.zeros((0, G))}
    o = replace(
        p.observed,
        idx_n=np.arange(len(names)),
        x_ng=np.array([p.true[name] for name in names]),
        intervention_n=np.array([q for _, q in names], dtype=object),
        context_n=np.array([k for k, _ in names], dtype=object),
        batch_n=np.full(len(names), "b", dtype=object),
        unit="pseudobulk",
        controls="baked_in",
        scale="delta",
        **empty,
    )
    few = np.unique(p.calib.intervention_n, return_index=True)[1]
    rows = {k: getattr(p.calib, k)[few] for k in ("idx_n", "x_ng", "intervention_n", "context_n", "batch_n")}
    calib = replace(p.calib, unit="pseudobulk", controls="baked_in", scale="delta", **rows, **empty)
    return replace(p, observed=o, calib=calib)


def test_baked_in_pseudobulk_says_what_it_cannot_have():
    p = without_cells(problem())
    half = p.prediction(lambda k, q: 0.5 * p.true[k, q])
    found = judged(p, half).metrics
    check_invariants(found, without_noise(FULL))
    assert found["panel"]["comparable"] is False
    unknown = EV.replace("subtracted", "unknown")
    assert found["gate"]["u"]["verdict"] == "unknown"
    assert "rows are conditions" in found["gate"]["u"]["reason"]
    # D = T / 2 and V unknown: 1 - 1/4
    assert found["metrics"][unknown]["value"] == pytest.approx(0.75)
    for identifier in (EDIST, CRPS, COVERED):
        assert found["metrics"][identifier]["status"] == NOT_APPLICABLE
    assert found["metrics"][EDIST]["reason"] == "the file has no cells"
    assert "noise" in found["metrics"][COVERED]["reason"]
    assert found["metrics"][COVERED_PLAIN]["status"] == OK
    for name in ("replicate", "random_other"):
        assert {e["status"] for e in found["floors"][name].values()} == {NOT_APPLICABLE}
        assert found["floors"][name][unknown]["reason"] == "the file has no cells to halve"
    assert found["intervals"]["rule"] == "values_only"
    assert "no cells" in found["intervals"]["reason"]
    assert {e["value"] for e in found["skill"].values()} == {None}


# --- separation ------------------------------------------------------------------------------------


def scaled(p, fold, factor=0.3):
    """Variance proportional to that of the context's control cells, as a Prediction holds it."""
    truth = Truth(p.observed if fold == "test" else p.calib)
    var = {pair: factor * truth.input_var_cg[i] for i, pair in enumerate(zip(*_names(truth), strict=True))}
    found = p.prediction(lambda k, q: np.zeros(G), lambda k, q: var[k, q], fold)
    return replace(found, var_qg=found.var_qg.astype(np.float32))


def separated(p, test, calib, **about):
    truth, verdict = Truth(p.observed), np.full(len(Truth(p.observed).n_c), "weak", dtype=object)
    return separation(truth.case(*truth.predicted(test), None, verdict), Separation(Truth(p.calib), calib, **about))


def test_variance_in_units_of_the_controls_separates_nothing():
    """tau2 * s2_I is the same word in every context; stored as float32 it must not be told apart by rounding."""
    for seed in range(8):
        for factor in (0.3, 0.017, 1.7):
            p = problem(contexts=("u", "x"), n_perturbations=3, seed=seed, calib_sd=0.3)
            found = separated(p, scaled(p, "test", factor), scaled(p, "calib", factor))
            assert found["model"]["value"] == 0.5, (seed, factor)
            assert found["context_lookup"]["value"] == 1.0
            # the controls of the seen context vary less, which alone tells it apart
            assert found["control_variance"]["value"] == 1.0


def test_constant_variance_beside_equal_controls_is_exactly_one_half():
    """The score is scale free, so a constant says nothing only where controls vary alike."""
    p = problem(n_perturbations=4)
    calib = replace(p.calib, input_mg=p.observed.input_mg, input_context_m=column(["w"], 60))
    calib = replace(calib, input_batch_m=column(["b"], 60))
    p = replace(p, calib=calib)
    found = separated(p, p.constant(0), p.constant(0, "calib"))
    assert found["model"]["value"] == found["control_variance"]["value"] == 0.5
    assert found["context_lookup"]["value"] == 1.0


def test_only_conditions_on_the_axis_are_held_against_calibration():
    p = problem(n_perturbations=4)
    out = np.array([True, False, False, True])
    found = separated(p, scaled(p, "test"), scaled(p, "calib"), axis="perturbation", out_c=out)
    assert (found["axis"], found["n_out"]) == ("perturbation", 2)
    assert found["identifier"].startswith("ood_auroc[axis=perturbation,")


def test_where_nothing_is_out_of_distribution_nothing_is_separated():
    p = problem(n_perturbations=4)
    found = separated(p, scaled(p, "test"), scaled(p, "calib"), axis="none", out_c=np.zeros(4, dtype=bool))
    assert found["n_out"] == 0
    for name in ("model", "control_variance", "context_lookup"):
        assert (found[name]["value"], found[name]["status"]) == (None, "undefined")
        assert found[name]["reason"] == "nothing in the test is out of distribution"


def test_a_model_that_knows_where_it_is_blind_separates_fully():
    p = problem(n_perturbations=4)
    assert separated(p, p.oracle(0.9), p.oracle(0.1, "calib"))["model"]["value"] == 1.0
    assert separated(p, p.oracle(0.1), p.oracle(0.9, "calib"))["model"]["value"] == 0.0


def test_each_axis_is_held_against_the_rest_of_the_test_or_calibration_where_there_is_none():
    p = problem(n_perturbations=4)
    first = np.array([True, True, False, False])
    axes = {"perturbation": first, "context": np.ones(4, dtype=bool), "dose_inside": np.zeros(4, dtype=bool)}
    var = {f"P{i:02d}@knockout": 0.9 if i < 2 else 0.2 for i in range(4)}
    sure = p.prediction(lambda k, q: np.zeros(G), lambda k, q: var[q])
    found = separated(p, sure, p.oracle(0.5, "calib"), axes=axes)["axes"]
    assert list(found) == list(axes)
    e = found["perturbation"]
    assert (e["inside"], e["n_in"], e["n_out"]) == ("rest of the test", 2, 2)
    assert e["model"]["value"] == e["raw_variance"]["value"] == 1.0  # 0.9 against 0.2, controls alike
    assert e["control_variance"]["value"] == 0.5
    assert "axis=perturbation" in e["identifier"]
    assert "in=rest_of_the_test" in e["identifier"]
    e = found["context"]
    assert (e["inside"], e["n_in"], e["n_out"]) == ("calibration", 4, 4)
    assert e["raw_variance"]["value"] == 0.5  # two above 0.5, two below
    assert e["label_lookup"]["value"] == 1.0
    e = found["dose_inside"]
    for name in ("model", "raw_variance", "control_variance", "label_lookup"):
        assert (e[name]["value"], e[name]["status"]) == (None, "undefined")
        assert e[name]["reason"] == "nothing in the test is out of distribution"


def test_the_label_lookup_of_an_axis_asks_train():
    p = problem(n_perturbations=4)
    on = np.array([True, True, False, False])
    axes = dict.fromkeys(("perturbation", "combination_seen_1", "pairing", "context", "donor"), on)
    pairs = frozenset({("w", "P02@knockout"), ("u", "P03@knockout"), ("w", "P01@knockout")})
    found = separated(p, scaled(p, "test"), scaled(p, "calib"), axes=axes, train_pairs=pairs)["axes"]
    lookup = {axis: e["label_lookup"] for axis, e in found.items()}
    # unseen anywhere: P00 only, so one of two outside and none of two inside
    assert lookup["perturbation"]["value"] == lookup["combination_seen_1"]["value"] == 0.75
    # unseen in u: P00, P01 outside and P02 inside
    assert lookup["pairing"]["value"] == 0.75
    assert lookup["context"]["value"] == 0.5  # u is known
    assert (lookup["donor"]["value"], lookup["donor"]["status"]) == (None, "not_applicable")
    assert lookup["donor"]["reason"] == "no label of a condition tells this axis"


def test_many_close_scores_are_not_chained_into_one_tie():
    scores = 1.0 + 2e-6 * np.arange(20_000)  # each within rounding of the next, the last 4 % above the first
    assert len(set(places(scores))) > 2000
    assert places(np.array([1.0, 1.0 + 1e-7, 2.0])).tolist() == [0, 0, 1]
    assert places(np.zeros(3)).tolist() == [0, 0, 0]


# --- replicate and skill ---------------------------------------------------------------------------


def test_the_replicate_is_scored_only_where_a_condition_has_forty_cells():
    """Nine of twelve conditions have 40 cells, three have 39."""
    names = [f"P{i:02d}@knockout" for i in range(12)]
    many = {name: 39 if i % 4 == 0 else 40 for i, name in enumerate(names)}
    observed, true = cells_of(("u",), names, many.get, 60, 0.5, 3)
    base = problem()
    p = Problem(observed, base.true | true, base.calib)
    found = judged(p, p.oracle()).metrics
    check_invariants(found)
    for name in ("replicate", "random_other"):
        assert (found["floors"][name][EV]["n_scored"], found["floors"][name][EV]["n_total"]) == (9, 12)
        assert found["floors"][name][EV]["n_halvings"] == 2
    assert found["metrics"][EV]["n_scored"] == 12


def test_without_forty_cells_there_is_no_replicate_and_no_skill():
    p = problem(n_cells=39)
    found = judged(p, p.oracle()).metrics
    check_invariants(found)
    why = "no condition has 40 cells, so halves would be too small"
    for name in ("replicate", "random_other"):
        assert {(e["status"], e["reason"]) for e in found["floors"][name].values()} == {(NOT_APPLICABLE, why)}
    assert {(e["value"], e["reason"]) for e in found["skill"].values()} == {(None, why)}


def test_skill_is_where_the_model_stands_between_train_mean_and_replicate(good):
    skill = good[1].metrics["skill"]
    assert set(skill) == {m.identifier for m in FULL.metrics if m.skill}
    for identifier in (EV, PCC_PANEL, MSE):
        e = skill[identifier]
        expected = (e["model"] - e["train_mean"]) / (e["replicate"] - e["train_mean"])
        assert e["value"] == pytest.approx(expected)
        assert e["value"] > 1.0  # the oracle has no noise of its own, half of the cells has
    assert skill[PCC_PANEL]["train_mean"] == 0.0
    if skill[RETRIEVAL_PANEL]["value"] is not None:
        assert skill[RETRIEVAL_PANEL]["train_mean"] == 0.5


def test_skill_is_null_where_the_replicate_does_not_beat_the_train_mean():
    """The floor that stands for the train mean is the oracle: no half of the cells is better than that."""
    p = problem()
    floors = {"no_change": p.constant(0), "train_mean": p.oracle()}
    wrong = p.prediction(lambda k, q: 0.5 * p.true[k, q] + 0.1)
    skill = judged(p, wrong, floors=floors).metrics["skill"]
    for identifier in (EV, PCC_PANEL, RETRIEVAL_PANEL, PCC_CONTROL, MSE):
        assert skill[identifier] == {
            "value": None,
            "reason": "replicate does not beat the train mean by 2 standard errors",
        }, identifier


def test_random_other_never_stands_beside_itself_and_is_worse_than_the_replicate(good):
    floors = good[1].metrics["floors"]
    assert floors["random_other"][EV]["value"] < 0 < floors["replicate"][EV]["value"]
    # 2 x 0.25 + noise against noise alone: 2 (1/22 + 1/60)
    assert floors["random_other"][MSE]["value"] > 3 * floors["replicate"][MSE]["value"]


# --- what may not matter ---------------------------------------------------------------------------


def test_the_order_of_rows_does_not_change_values(good):
    p, found = good
    order = np.random.default_rng(0).permutation(len(p.observed.idx_n))
    rows = {k: getattr(p.observed, k)[order] for k in ("idx_n", "x_ng", "intervention_n", "context_n", "batch_n")}
    m, r = np.random.default_rng(1).permutation(60), np.random.default_rng(2).permutation(60)
    controls = {k: getattr(p.observed, k)[m] for k in ("input_mg", "input_context_m", "input_batch_m")}
    controls |= {k: getattr(p.observed, k)[r] for k in ("reference_rg", "reference_context_r", "reference_batch_r")}
    mixed = replace(p, observed=replace(p.observed, **rows, **controls))
    again = judged(mixed, mixed.oracle())
    before, after = values_of(found.metrics), values_of(again.metrics)
    for key, value in before.items():
        assert after[key] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-10)), key
    for name in ("s_split", "s_dc", "n_eff", "verdict", "n_conditions"):
        a, b = found.metrics["gate"]["u"][name], again.metrics["gate"]["u"][name]
        assert b == (pytest.approx(a) if isinstance(a, float) else a)
    assert again.per_condition.drop(columns="value").equals(found.per_condition.drop(columns="value"))


def test_the_order_of_queries_does_not_change_values(good):
    p, found = good
    a = p.oracle()
    order = np.random.default_rng(0).permutation(len(a.mean_qg))
    back = np.argsort(order)
    b = replace(a, mean_qg=a.mean_qg[order], var_qg=a.var_qg[order], query_n=back[a.query_n])
    assert values_of(judged(p, b).metrics) == pytest.approx(values_of(found.metrics))


def test_judging_twice_gives_identical_numbers(good):
    p, found = good
    assert json.dumps(judged(p, p.oracle()).metrics) == json.dumps(found.metrics)


def test_input_controls_change_no_truth(good):
    """Metrics of means against reference controls do not move when the input cells do; only what names them does."""
    p, found = good
    other = replace(p, observed=replace(p.observed, input_mg=p.observed.input_mg + 7.0))
    again = judged(other, other.oracle()).metrics
    for identifier in (EV, MSE, PCC_PANEL, RETRIEVAL_PANEL, PCC_CONTROL, CRPS, COVERED):
        assert again["metrics"][identifier]["value"] == pytest.approx(found.metrics["metrics"][identifier]["value"])
    assert again["metrics"][EDIST]["value"] > found.metrics["metrics"][EDIST]["value"] + 1
