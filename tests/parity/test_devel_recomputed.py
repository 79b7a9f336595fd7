"""Does a run on the real devel file report what plain numpy gets from the file, the split and the prediction file?

Nothing of the package takes part in the recomputation: cells come from the h5ad, rows from the split's json, and D and
its variance from `predictions.npz`. Glioma line T98G is held out: 9 knock-downs, no batches.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from math import erf, pi, sqrt
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from perturbfm.run import run_experiment

pytestmark = [pytest.mark.real, pytest.mark.slow]

SPLITS = Path(__file__).parents[2] / "splits"
MODELS = ("global_mean", "per_perturbation_mean", "ridge")
HELD_OUT = "T98G"
Z = {0.5: 0.6744897501960817, 0.8: 1.2815515655446004, 0.9: 1.6448536269514722, 0.95: 1.959963984540054}


@dataclass(frozen=True)
class File:
    """The file and the split, as they lie on disk."""

    x: np.ndarray
    obs: pd.DataFrame
    split: dict
    genes: np.ndarray

    def rows(self, name, context):
        """Rows of a fold or control role in one context."""
        rows = np.array(self.split[f"{name}_idx"])
        return rows[(self.obs["cell_type"].to_numpy()[rows] == context)]

    @cached_property
    def names(self):
        return sorted(set(self.obs["condition"].iloc[self.split["test_idx"]]))

    def cells(self, name):
        rows = self.rows("test", HELD_OUT)
        return self.x[rows[self.obs["condition"].to_numpy()[rows] == name]]

    @cached_property
    def shown(self):
        return self.x[self.rows("input_control", HELD_OUT)]

    @cached_property
    def kept(self):
        return self.x[self.rows("reference_control", HELD_OUT)]

    @cached_property
    def mean(self):
        return np.array([self.cells(n).mean(0) for n in self.names])

    @cached_property
    def t(self):
        return self.mean - self.kept.mean(0)

    @cached_property
    def v(self):
        own = np.array([self.cells(n).var(0, ddof=1) / len(self.cells(n)) for n in self.names])
        return own + self.kept.var(0, ddof=1) / len(self.kept)

    @cached_property
    def scored(self):
        return (self.shown > 0).mean(0) >= 0.1

    @cached_property
    def train(self):
        """Mean and delta of every train condition, by (context, perturbation)."""
        rows = np.array(self.split["train_idx"])
        found = {}
        for (context, name), part in self.obs.iloc[rows].groupby(["cell_type", "condition"], observed=True):
            mean = self.x[rows[self.obs.index[rows].isin(part.index)]].mean(0)
            found[context, name] = mean, mean - self.x[self.rows("input_control", context)].mean(0)
        return found


def stored_split():
    """The stored split of the devel file that holds out T98G."""
    every = [json.loads(p.read_text()) for p in sorted(SPLITS.glob("perturbench_devel-context_ood-*.json"))]
    (mine,) = [s for s in every if s["params"]["holdout"] == [HELD_OUT]]
    return mine


@pytest.fixture(scope="module")
def devel(real_data):
    adata = anndata.read_h5ad(real_data / "perturbench_devel" / "perturbench_devel.h5ad")
    return File(adata.X.toarray().astype(np.float64), adata.obs, stored_split(), adata.var_names.to_numpy())


@dataclass(frozen=True)
class Run:
    metrics: dict
    table: pd.DataFrame
    mean: np.ndarray
    var: np.ndarray


@pytest.fixture(scope="module", params=MODELS)
def run(request, real_data, devel, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTURBFM_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        patch.setenv("PERTURBFM_DATA", str(real_data))
        patch.setenv("PERTURBFM_SPLITS", str(SPLITS))
        few = ["eval.bootstrap_draws=100", "eval.permutations=100", "eval.halvings=5"]
        named = ["data=perturbench_devel", "split=frozen", f"split.hash={devel.split['frozen_hash']}"]
        folder = run_experiment([*named, *few, f"model={request.param}"]).folder
    with np.load(folder / "predictions.npz") as npz:
        mean, var, idx = npz["mean"].astype(float), npz["var"].astype(float), npz["idx"]
    assert idx.tolist() == devel.split["test_idx"]
    name = devel.obs["condition"].to_numpy()[idx]
    d = np.array([mean[name == n].mean(0) for n in devel.names])
    w = np.array([var[name == n].mean(0) for n in devel.names])
    table = pd.read_csv(folder / "per_condition.csv.gz")
    return Run(json.loads((folder / "metrics.json").read_text()), table[table.predictor == "model"], d, w)


def check(run, devel, identifier, expected, rel=2e-6, abs_=1e-9):
    """The table's values in the order of names, and their mean where the panel gives one."""
    mine = run.table[run.table.metric == identifier]
    value = mine.set_index(mine.intervention.str.removesuffix("@knockdown")).value.loc[devel.names].to_numpy()
    np.testing.assert_allclose(value, expected, rtol=rel, atol=abs_, err_msg=identifier)
    entry = run.metrics["metrics"][identifier]
    if entry["status"] == "ok":
        assert entry["value"] == pytest.approx(np.nanmean(expected), rel=rel, abs=abs_)
        assert entry["aggregates"]["per_context"] == {HELD_OUT: entry["value"]}


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] if np.ptp(x) > 1e-9 else np.nan for x, y in zip(a, b, strict=True)])


def centred(a):
    out = a - a.mean(0)
    return np.where(np.abs(out).max() < 1e-9, 0.0, out)


def ranks(d, t):
    """Share of the other truths that are further, by cosine, than the own one; ties count half."""
    found = []
    for p, query in enumerate(d):
        if not np.abs(query).any():
            found.append(np.nan)
            continue
        cosine = np.array([query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in t])
        others = np.delete(cosine, p)
        found.append(np.mean(np.where(np.abs(others - cosine[p]) < 1e-9, 0.5, others < cosine[p])))
    return np.array(found)


def ridge(devel):
    """Delta on control profile, genes x genes: the primal form, where the package solves the dual one."""
    contexts, deltas = [k for k, _ in devel.train], np.array([delta for _, delta in devel.train.values()])
    x = np.array([devel.x[devel.rows("input_control", k)].mean(0) for k in contexts])
    z, y = x - x.mean(0), deltas - deltas.mean(0)
    penalty = (z**2).sum() / len(set(contexts))  # conditions of a context are one row of weight n: mean of their norms
    slope = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ y)
    return deltas.mean(0) + (devel.shown.mean(0) - x.mean(0)) @ slope


# --- the recomputation is of what it says ----------------------------------------------------------


def test_the_split_holds_out_t98g_and_shows_no_reference_cell(devel):
    split, contexts = devel.split, devel.obs["cell_type"].to_numpy()
    assert set(contexts[split["test_idx"]]) == {HELD_OUT}
    assert HELD_OUT not in set(contexts[split["train_idx"]]) | set(contexts[split["calib_idx"]])
    assert not set(split["input_control_idx"]) & set(split["reference_control_idx"])
    controls = split["input_control_idx"] + split["reference_control_idx"]
    assert set(devel.obs["condition"].iloc[controls]) == {"control"}
    assert (len(devel.shown), len(devel.kept), len(devel.names)) == (50, 50, 9)


def test_the_models_predict_what_numpy_solves_from_train_and_input_controls(run, devel):
    model = run.metrics["run"]["model"]
    if model == "global_mean":
        expected = np.mean([delta for _, delta in devel.train.values()], axis=0)
        np.testing.assert_allclose(run.mean, np.broadcast_to(expected, run.mean.shape), atol=1e-5)
    elif model == "per_perturbation_mean":
        by_name = [[delta for (_, n), (_, delta) in devel.train.items() if n == name] for name in devel.names]
        assert all(by_name)
        np.testing.assert_allclose(run.mean, [np.mean(deltas, axis=0) for deltas in by_name], atol=1e-5)
    else:
        np.testing.assert_allclose(run.mean, np.broadcast_to(ridge(devel), run.mean.shape), atol=1e-5)


# --- errors and effects ----------------------------------------------------------------------------


def test_errors(run, devel):
    mse = ((run.mean - devel.t) ** 2).mean(1)
    check(run, devel, "mse[space=mean_delta,ref=control_split,genes=all]", mse)
    check(run, devel, "rmse[space=mean_delta,ref=control_split,genes=all]", np.sqrt(mse))


def test_explained_variance(run, devel):
    identifier = "pfm.ev[ref=control_split,genes=all,noise=subtracted]"
    den = (devel.t**2 - devel.v).sum(1)
    num = den - ((run.mean - devel.t) ** 2 - devel.v).sum(1)
    mine = run.table[run.table.metric == identifier]
    value = mine.set_index(mine.intervention.str.removesuffix("@knockdown")).value.loc[devel.names].to_numpy()
    np.testing.assert_allclose(value, np.where(den > 0, num / den, np.nan), rtol=1e-5)
    entry = run.metrics["metrics"][identifier]
    if entry["status"] == "ok":
        assert entry["value"] == pytest.approx(num.sum() / den.sum(), rel=1e-5)
    else:
        assert entry["reason"].startswith(("no measurable effect", "the signal energy"))


def test_correlations_of_deltas(run, devel):
    d, t = run.mean, devel.t
    check(run, devel, "pcc_delta[ref=control_split,genes=all]", correlations(d, t))
    check(run, devel, "pfm.pcc_delta[ref=panel,genes=all]", correlations(centred(d), centred(t)), rel=1e-5)
    centroid = np.mean([mean for mean, _ in devel.train.values()], axis=0)
    systema = correlations(devel.shown.mean(0) + d - centroid, devel.mean - centroid)
    check(run, devel, "pcc_delta[ref=pert_centroid_train,genes=all]", systema)
    shift = np.mean([delta for _, delta in devel.train.values()], axis=0)
    identifier = "pfm.pcc_delta[ref=control_plus_train_mean_delta,genes=all]"
    if run.metrics["run"]["model"] != "global_mean":  # where D is that mean, what is left is rounding of float32
        check(run, devel, identifier, correlations(d - shift, t - shift), rel=1e-5)


def test_retrieval(run, devel):
    where = "query=prediction,dist=cosine,norm=n-1,ties=mid]"
    check(run, devel, f"retrieval[space=delta,{where}", ranks(run.mean, devel.t))
    expected = ranks(*(centred(x) * ~np.isin(devel.genes, devel.names) for x in (run.mean, devel.t)))
    check(run, devel, f"pfm.retrieval[space=panel_centred_delta,{where[:-1]},exclude=panel_targets]", expected)


# --- cells -----------------------------------------------------------------------------------------


def distances(x, y):
    return np.array([np.sqrt(((row - y) ** 2).sum(1)) for row in x])


def test_energy_distance_of_shifted_controls(run, devel):
    for i in (0, 5):
        true, moved = devel.cells(devel.names[i]), devel.shown + run.mean[i]
        n, m = len(true), len(moved)
        between, own, other = distances(true, moved).mean(), distances(true, true).sum(), distances(moved, moved).sum()
        mine = run.table[run.table.intervention == f"{devel.names[i]}@knockdown"].set_index("metric").value
        unbiased = 2 * between - own / (n * (n - 1)) - other / (m * (m - 1))
        assert mine["edist[ground=euclidean,stat=U,cells=control_shifted]"] == pytest.approx(unbiased, rel=1e-6)
        biased = 2 * between - own / n**2 - other / m**2
        assert mine["edist[ground=euclidean,stat=V,cells=control_shifted]"] == pytest.approx(biased, rel=1e-6)


# --- uncertainty -----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["added", "ignored"])
def test_uncertainty_of_scored_genes(run, devel, noise):
    s = devel.scored
    assert 0 < s.sum() < len(s)
    w = (run.var + (devel.v if noise == "added" else 0.0))[:, s]
    e = (devel.t - run.mean)[:, s]
    where = f"target=mean_delta,obs_noise={noise},genes=detected10"
    for level, z in Z.items():
        check(run, devel, f"coverage[level={level:g},{where}]", (np.abs(e) <= z * np.sqrt(w)).mean(1))
        check(run, devel, f"width[level={level:g},{where}]", (2 * z * np.sqrt(w)).mean(1))
    check(run, devel, f"nll_gaussian[const=full,{where}]", (0.5 * (np.log(2 * pi * w) + e**2 / w)).mean(1), rel=1e-5)
    u = e / np.sqrt(w)
    cdf = np.vectorize(lambda q: 0.5 * (1 + erf(q / sqrt(2))))(u)
    crps = np.sqrt(w) * (u * (2 * cdf - 1) + 2 * np.exp(-(u**2) / 2) / sqrt(2 * pi) - 1 / sqrt(pi))
    check(run, devel, f"crps_gaussian[{where}]", crps.mean(1))


def test_share_of_observation_noise_is_pooled(run, devel):
    v, w = devel.v[:, devel.scored], (run.var + devel.v)[:, devel.scored]
    entry = run.metrics["metrics"]["pfm.obs_share[genes=detected10]"]
    assert entry["value"] == pytest.approx(v.sum() / w.sum(), rel=1e-5)


# --- the whole -------------------------------------------------------------------------------------


def test_the_devel_panel_is_called_weak_or_silent_and_not_ranked(run):
    """Protocol 1.1 and 4: nine conditions, of which TGFBR2 alone differs, carry neither skill nor interval."""
    assert run.metrics["gate"][HELD_OUT]["verdict"] in ("weak", "no_signal")
    assert run.metrics["intervals"]["rule"] == "sign_flip"  # nine conditions: p of panel-centred metrics, no interval
    assert not any("low" in e for e in run.metrics["intervals"]["metrics"].values())
    assert all(e["value"] is None for e in run.metrics["skill"].values())
    assert all((e["n_scored"] > 0) == (e["status"] == "ok") for e in run.metrics["metrics"].values())
