"""Do our own rooms, from data set to panel, find in the planted world what algebra says is there?

The last context is held out by `context_ood`. Cells, halves and truths are the rooms'; right answers come from the
world's exact moments or from `planted.py`, which uses no code of the judge.
"""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import planted
import pytest
from scipy.stats import norm

from perturbfm import config
from perturbfm.data.planted import as_dataset
from perturbfm.data.synthetic import make_world
from perturbfm.data.world_settings import preset
from perturbfm.eval.aggregate import aggregates
from perturbfm.eval.cells import RealCells, with_cells
from perturbfm.eval.effort import Effort
from perturbfm.eval.metric.crps_draws import crps_draws
from perturbfm.eval.metric.distribution import energy_distance
from perturbfm.eval.metric.ood import auroc
from perturbfm.eval.metric.uncertainty import crps_gaussian
from perturbfm.eval.panel import FULL, Panel
from perturbfm.eval.panel.calibration import CALIBRATION, LEVELS
from perturbfm.eval.panel.full import EV, PCC_PANEL, RETRIEVAL_PANEL
from perturbfm.eval.reliability import reliability
from perturbfm.eval.replicate import halves_of
from perturbfm.eval.risk import risk_coverage
from perturbfm.eval.separation import Separation, separation
from perturbfm.eval.truth import TrainCentroids, Truth, halve
from perturbfm.eval.verdict import open_gate
from perturbfm.judging import _separation, observe
from perturbfm.split import context_ood
from perturbfm.train.datamodule import PerturbDataModule
from perturbfm.train.fit import TrainerSettings, fit_and_test
from perturbfm.types import VARIANCE_FLOOR, Prediction

METRIC = {m.identifier: m for m in FULL.metrics}


@cache
def planted_data(name, seed, **changes):
    world = make_world(replace(preset(name, seed), **changes))
    return world, as_dataset(world, "planted", name)


class Rooms:
    """One world through the rooms: data set, frozen split, observed test fold, truth."""

    def __init__(self, name, seed, holdout=-1, **changes):
        self.world, self.dataset = planted_data(name, seed, **changes)
        contexts = sorted(set(self.world.conditions["context_id"]))
        self.context = contexts[holdout]
        self.split = context_ood(self.dataset.labels(), [self.context]).freeze()
        self.truth = Truth(observe(self.dataset, self.split, "test"))
        c = self.world.conditions
        of_c = {(k, p): i for i, (k, p) in enumerate(zip(c["context_id"], c["pert_id"], strict=True))}
        self.pert_c = [name.split("@")[0] for name in self.truth.intervention_c]
        self.row_c = np.array([of_c[self.context, p] for p in self.pert_c])
        self.control_row = int(np.flatnonzero((c["context_id"] == self.context) & (c["kind"] == "control"))[0])

    @property
    def true_cg(self):
        """Planted mean delta of the truth's conditions."""
        return self.world.delta_true_cg[self.row_c]

    def case(self, mean_cg, var=VARIANCE_FLOOR):
        n, g = self.true_cg.shape
        train = TrainCentroids(np.zeros(g), np.zeros(g))
        return self.truth.case(mean_cg, np.full((n, g), var), train, np.full(n, "powered", dtype=object))

    def value(self, identifier, mean_cg, var=VARIANCE_FLOOR):
        case = self.case(mean_cg, var)
        return aggregates(METRIC[identifier].function(case), case)["macro_context"]

    def trained(self, model):
        """Mean prediction of one of our models, fitted by the Trainer, on the test fold."""
        datamodule = PerturbDataModule(self.dataset, self.split, 512, 0)
        module = config.build(config.compose_group("model", [f"model={model}"], {}))(dims=datamodule.encoder.dims)
        found: dict[str, Prediction] = {}
        fit_and_test(module, datamodule, TrainerSettings(), found.update, lambda *a, **k: None, None)
        return self.truth.predicted(found["test"])[0]

    def gate_model(self):
        """The closed-form model of `planted.py`, fed with source cells and the split's input controls."""
        w, shown = self.world, self.split.input_control_idx
        contexts = sorted(set(w.conditions["context_id"]), key=lambda k: (k == self.context, k))
        x, context, pert = w.x_ng.astype(float), w.obs["context_id"].to_numpy(), w.obs["pert_id"].to_numpy()
        input_kg = np.array([x[shown[context[shown] == k]].mean(0) for k in contexts])
        mean_kpg = np.array([[x[(context == k) & (pert == p)].mean(0) for p in self.pert_c] for k in contexts[:-1]])
        return planted.gate_model(SimpleNamespace(train_delta_kpg=mean_kpg - input_kg[:-1, None], input_kg=input_kg))


@cache
def rooms(name, seed, holdout=-1, **changes):
    return Rooms(name, seed, holdout, **changes)


def apart(found, expected, most_se):
    """Whether the mean difference of paired numbers is within some standard errors of 0."""
    d = np.asarray(found) - np.asarray(expected)
    return abs(d.mean()) <= most_se * d.std(ddof=1) / len(d) ** 0.5


# --- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_models_stand_in_the_planted_order_through_our_rooms(seed):
    r = rooms("precise", seed)
    ev = {
        "oracle": r.value(EV, r.true_cg),
        "gate_model": r.value(EV, r.gate_model()),
        "per_perturbation_mean": r.value(EV, r.trained("per_perturbation_mean")),
        "global_mean": r.value(EV, r.trained("global_mean")),
        "no_change": r.value(EV, np.zeros_like(r.true_cg)),
        "shuffled": r.value(EV, np.roll(r.true_cg, 1, axis=0)),
    }
    assert list(ev) == sorted(ev, key=ev.__getitem__, reverse=True), ev
    assert ev["no_change"] == 0.0
    assert 0.9 < ev["oracle"] < 1.1
    assert ev["gate_model"] - ev["per_perturbation_mean"] > 0.03


def test_the_panels_truth_agrees_with_a_plain_mean_of_cells():
    r = rooms("precise", 0)
    w, kept = r.world, r.split.reference_control_idx
    x, context, pert, batch = (
        w.x_ng.astype(float),
        *(w.obs[c].to_numpy() for c in ("context_id", "pert_id", "batch_id")),
    )
    for i in (0, 11, 23):
        mine = (context == r.context) & (pert == r.pert_c[i])
        control = 0.0
        for b in sorted(set(batch)):
            cells = kept[(context[kept] == r.context) & (batch[kept] == b)]
            control = control + (batch[mine] == b).mean() * x[cells].mean(0)
        np.testing.assert_allclose(r.truth.delta_cg[i], x[mine].mean(0) - control, atol=1e-6)


def test_truth_is_the_planted_delta_within_its_own_noise():
    z = np.concatenate([_z(rooms("precise", seed)) for seed in range(3)])
    assert abs(z.mean()) < 0.1  # genes of a context share their controls, so entries are not independent
    assert z.std() == pytest.approx(1.0, abs=0.06)


def _z(r):
    t = r.truth
    return ((t.delta_cg - r.true_cg) / np.sqrt(t.noise_cg))[t.scored_cg & (t.noise_cg > 0)]


def test_the_oracle_with_the_least_variance_covers_nominally():
    """All its error is the truth's own sampling noise, which the panel adds."""
    for level in (0.5, 0.8, 0.9, 0.95):
        identifier = f"coverage[level={level:g},target=mean_delta,obs_noise=added,genes=detected10]"
        found = np.mean([rooms("precise", s).value(identifier, rooms("precise", s).true_cg) for s in range(3)])
        assert abs(found - level) < 0.03, level


# --- stated uncertainty ----------------------------------------------------------------------------

ADDED = "target=mean_delta,obs_noise=added,genes=detected10"


def oracle_case(r):
    """Planted means, and the truth's noise from the world's exact variances: all error is what is stated."""
    n_reference = (r.truth.observed.reference_context_r == r.context).sum()
    own, control = r.world.var_true_cg[r.row_c], r.world.var_true_cg[r.control_row]
    noise = own / r.world.settings.n_cells + control / n_reference
    return replace(r.case(r.true_cg), noise_cg=noise)


@cache
def oracle_scores(n_seeds=6):
    """Mean over worlds of each score, and of what a Gaussian with the oracle's variances scores by arithmetic."""
    found = []
    for seed in range(n_seeds):
        case = oracle_case(rooms("precise", seed))
        sigma = np.sqrt(case.noise_cg + case.variance_cg)
        by_condition = lambda x, s=case.scored_cg: np.mean([row[k].mean() for row, k in zip(x, s, strict=True)])  # noqa: E731
        one = {"crps": by_condition(sigma) / np.pi**0.5, "nll": by_condition(0.5 * np.log(2 * np.pi * np.e * sigma**2))}
        score = {
            m.identifier: m.function(case).value_c.mean()
            for m in (*FULL.metrics, *CALIBRATION)
            if ADDED in m.identifier
        }
        one |= {level: 4 * by_condition(sigma) * norm.pdf(norm.ppf(0.5 + level / 2)) / (1 - level) for level in LEVELS}
        found.append((score, one, reliability(case)["added"]))
    return found


def mean_of_worlds(identifier):
    return np.mean([score[identifier] for score, _, _ in oracle_scores()])


def right_answer(key):
    return np.mean([one[key] for _, one, _ in oracle_scores()])


@pytest.mark.parametrize("level", LEVELS)
def test_the_oracle_covers_nominally_and_has_the_interval_score_of_a_gaussian(level):
    for agg in ("", ",agg=pooled"):
        assert abs(mean_of_worlds(f"coverage[level={level:g},{ADDED}{agg}]") - level) < 0.02
        found = mean_of_worlds(f"interval_score[level={level:g},{ADDED}{agg}]")
        assert found == pytest.approx(right_answer(level), rel=0.05)


def test_the_oracle_has_the_crps_and_the_likelihood_of_a_gaussian():
    assert mean_of_worlds(f"crps_gaussian[{ADDED}]") == pytest.approx(right_answer("crps"), rel=0.04)
    assert mean_of_worlds(f"nll_gaussian[const=full,{ADDED}]") == pytest.approx(right_answer("nll"), abs=0.05)


def test_the_oracles_histogram_is_flat():
    share = np.mean([found["pit"]["share"] for _, _, found in oracle_scores()], axis=0)
    np.testing.assert_allclose(share, 0.1, atol=0.025)
    observed, nominal = (
        np.mean([f["coverage"][k] for _, _, f in oracle_scores()], axis=0) for k in ("observed", "nominal")
    )
    np.testing.assert_allclose(observed, nominal, atol=0.025)


def test_draws_of_the_oracle_score_as_its_gaussian():
    """64 draws per gene: the fair estimator of the CRPS has no bias to hide."""
    case = oracle_case(rooms("precise", 0))
    sd, rng = 0.05, np.random.default_rng(0)
    case = replace(case, variance_cg=np.full_like(case.noise_cg, sd**2))
    drawn = replace(case, draws=lambda c: case.predicted_cg[c] + sd * rng.normal(size=(64, case.noise_cg.shape[1])))
    got = crps_draws(drawn, estimator="fair", noise="added").value_c.mean()
    assert got == pytest.approx(crps_gaussian(case, noise="added").value_c.mean(), rel=0.01)


# --- out of distribution ---------------------------------------------------------------------------


def stated(r, fold, variance):
    """No change on a fold, with a variance per row's context from `variance(truth, condition)`."""
    truth = Truth(observe(r.dataset, r.split, fold))
    names = sorted(set(truth.context_c.tolist()))
    var_qg = np.stack([variance(truth, int(np.flatnonzero(truth.context_c == k)[0])) for k in names])
    o = truth.observed
    return truth, Prediction(
        mean_qg=np.zeros_like(var_qg),
        var_qg=var_qg.astype(np.float32),
        query_n=np.array([names.index(k) for k in o.context_n]),
        idx_n=o.idx_n,
        genes_g=o.genes_g,
        scale=o.scale,
        fold=fold,
        model="stated",
        split_hash="s",
        fingerprint="f",
    )


def axes_of(r, variance):
    (calib, seen), (test, judged) = (stated(r, fold, variance) for fold in ("calib", "test"))
    case = test.case(*test.predicted(judged), None, np.full(len(test.n_c), "powered", dtype=object))
    found = separation(case, _separation(r.dataset, r.split, test, Separation(calib, seen)))
    assert list(found["axes"]) == list(r.split.ood_axes) == ["context"]
    return found["axes"]["context"], found


@pytest.mark.parametrize("seed", range(2))
def test_what_knows_nothing_of_the_model_separates_by_one_half_or_by_label_alone(seed):
    r = rooms("precise", seed)
    entry, union = axes_of(r, lambda t, _: np.full(t.delta_cg.shape[1], 0.3))
    assert entry["raw_variance"]["value"] == 0.5
    assert entry["label_lookup"]["value"] == union["context_lookup"]["value"] == 1.0
    assert (entry["n_out"], entry["inside"]) == (len(r.row_c), "calibration")
    entry, _ = axes_of(r, lambda t, c: 0.07 * t.input_var_cg[c] + (t.input_var_cg[c] == 0))
    assert entry["model"]["value"] == 0.5  # tau2 * s2_I, free of scale after division


def test_shuffled_labels_separate_by_one_half():
    """The mean over all labellings is 1/2 exactly, ties or not; 400 of them leave a standard error of 0.005."""
    rng = np.random.default_rng(0)
    score = np.round(rng.normal(size=40), 1)
    shuffled = (rng.permutation(score) for _ in range(400))
    assert np.mean([auroc(s[:16], s[16:])[0] for s in shuffled]) == pytest.approx(0.5, abs=0.015)


def test_the_curve_of_risk_orders_by_what_the_model_knows():
    """Errors of one half of the conditions are thrice those of the other; a model that says so, one that lies."""
    r = rooms("precise", 0)
    rng = np.random.default_rng(0)
    sd_c = np.where(np.arange(len(r.row_c)) % 2, 0.9, 0.3)
    case = r.case(r.true_cg + sd_c[:, None] * rng.normal(size=r.true_cg.shape))
    honest, lying = (
        replace(case, variance_cg=np.broadcast_to(v[:, None], r.true_cg.shape)) for v in (sd_c**2, sd_c**-2)
    )
    good, bad = (risk_coverage(c)["scores"]["mean_var"]["pooled"] for c in (honest, lying))
    assert good["aurc"] < good["mean_risk"] < bad["aurc"]
    assert good["spearman"] > 0.8
    assert bad["spearman"] < -0.8
    assert risk_coverage(case)["scores"]["mean_var"]["pooled"]["status"] == "undefined"


# --- the replicate ---------------------------------------------------------------------------------


def replicate(r, halvings=5):
    """EV of the replicate as the panel scores it, and 1 - (V_B + V_I) / S from the world's exact moments."""
    panel = Panel("ev", "0", False, (replace(METRIC[EV], skill=False),))
    zero = r.case(np.zeros_like(r.true_cg))
    verdict = np.full(len(r.row_c), "powered", dtype=object)
    g = r.true_cg.shape[1]
    train = TrainCentroids(np.zeros(g), np.zeros(g))
    halves = halves_of(panel, r.truth, zero, train, verdict, Effort(10, 10, halvings, 0))
    entry = halves.entries(panel, {})["replicate"][EV]
    assert entry["n_scored"] == entry["n_total"] == len(r.row_c)
    n_input = (r.truth.observed.input_context_m == r.context).sum()
    v_b = r.world.var_true_cg[r.row_c].sum() / (r.world.settings.n_cells / 2)
    v_i = len(r.row_c) * r.world.var_true_cg[r.control_row].sum() / n_input
    return entry["value"], 1 - (v_b + v_i) / (r.true_cg**2).sum()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_seeds"), [("gaussian", 8), ("default", 6)])
def test_the_replicate_of_the_panel_scores_its_formula(name, n_seeds):
    found, formula = np.array([replicate(rooms(name, seed)) for seed in range(n_seeds)]).T
    assert apart(found, formula, 4)
    assert abs(found.mean() - formula.mean()) < 0.1


# --- chance ----------------------------------------------------------------------------------------


def test_wrong_labels_score_chance():
    """Over all cyclic shifts of 16 singles a wrong label is beaten by the right one: (n/2 - 1) / (n - 1) = 7/15."""
    correlation, retrieval = [], []
    for seed in range(2):
        r = Rooms("precise", seed, families=False, n_doubles=0)
        assert len(r.row_c) == 16
        for by in range(1, 16):
            wrong = np.roll(r.true_cg, by, axis=0)
            correlation.append(r.value(PCC_PANEL, wrong))
            retrieval.append(r.value(RETRIEVAL_PANEL, wrong))
        assert r.value(RETRIEVAL_PANEL, r.true_cg) > 0.95
    assert abs(np.mean(correlation)) < 0.08
    assert abs(np.mean(retrieval) - 7 / 15) < 0.05


def test_wrong_siblings_repel_where_families_are_shared():
    """A step of one leaves the family of four: protocol section 5 gives 0.42."""
    values = []
    for seed in range(4):
        r = Rooms("precise", seed, n_doubles=0)
        values.append(r.value(RETRIEVAL_PANEL, np.roll(r.true_cg, 1, axis=0)))
    assert 0.3 < np.mean(values) < 0.5


def test_two_real_halves_of_a_condition_are_no_unbiased_distance_apart():
    values = []
    for seed in range(2):
        r = Rooms("default", seed, n_batches=1)
        a, b = halve(r.truth, seed)
        case = with_cells(r.case(r.true_cg), RealCells(a, b, np.arange(len(r.row_c))))
        values.append(energy_distance(case, statistic="U").value_c)
        assert (energy_distance(case, statistic="V").value_c > 0).all()
    values = np.concatenate(values)
    se = values.std(ddof=1) / len(values) ** 0.5
    assert abs(values.mean()) < 3 * se


def null_p(name, n_seeds, **changes):
    """p against control of the three nulls, every context held out in turn."""
    found = []
    for seed in range(n_seeds):
        for holdout in range(6):
            r = Rooms(name, seed, holdout, n_doubles=0, omega=0.0, n_genes=60, umi=120.0, **changes)
            null = r.world.conditions["kind"].to_numpy()[r.row_c] == "null"
            verdict = open_gate(r.truth.only(null), Effort(10, 99, 1, seed))[r.context]
            assert verdict.n_conditions == 3
            found += verdict.p_control_c.tolist()
    return np.array(found)


@pytest.mark.slow
def test_nulls_differ_from_control_in_five_percent_of_cases():
    """In the Gaussian twin cells of a null and control cells are exchangeable: 8 worlds x 6 contexts x 3 nulls.

    Nulls of a context share their controls, so the binomial sd of 0.018 is a little too small.
    """
    p = null_p("gaussian", 8)
    assert 0.005 < (p < 0.05).mean() < 0.11
    assert 0.4 < p.mean() < 0.6


@pytest.mark.slow
def test_nulls_of_counts_are_called_no_more_often_than_that():
    """Depths are balanced among a null's cells but not among controls, so the test may only be more careful."""
    p = null_p("omega_0", 8)
    assert (p < 0.05).mean() < 0.11
    assert 0.4 < p.mean() < 0.65
