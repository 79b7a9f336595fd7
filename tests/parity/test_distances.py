"""Do distances, correlations and ranks equal the numbers of the suites that defined them?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from perturbfm.eval.case import Case
from perturbfm.eval.metric.correlation import pearson_delta
from perturbfm.eval.metric.distribution import energy_distance_cells
from perturbfm.eval.metric.error import mean_squared_error, root_mean_squared_error
from perturbfm.eval.metric.retrieval import retrieval

PREDICTIONS = ("control_copy", "mean_shift", "noisy_truth", "shrunk_truth")


@pytest.fixture(scope="module")
def parity() -> Path:
    folder = (Path(__file__).parents[2] / os.environ.get("PERTURBFM_SHARED", "../shared") / "parity").resolve()
    if not folder.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no parity data in {folder}; set PERTURBFM_SHARED")
    return folder


@pytest.fixture(scope="module")
def cells(parity):
    """Dense cells by (file, layer), K562 only, with their labels and genes."""
    import anndata

    def read(name, layer=None):
        data = anndata.read_h5ad(parity / "inputs" / f"{name}.h5ad")
        data = data[data.obs["cell_type"].astype(str) == "k562"]
        x = data.X if layer is None else data.layers[layer]
        return x.toarray().astype(float), data.obs["condition"].to_numpy().astype(str), tuple(data.var_names)

    return read


def mean_of(x, label):
    return {name: x[label == name].mean(axis=0) for name in np.unique(label).tolist()}


def case_of(true, predicted, genes, centroid=None) -> Case:
    """A case of means by name; both sides hold the same controls, as the suites have it."""
    names = sorted(set(true) - {"control"})
    mean = np.array([true[name] for name in names])
    control = np.tile(true["control"], (len(names), 1))
    one = np.ones_like(mean)
    return Case(
        context_c=np.full(len(names), "k562", dtype=object),
        intervention_c=np.array(names, dtype=object),
        n_c=np.ones(len(names), dtype=int),
        genes_g=genes,
        truth_cg=mean - control,
        noise_cg=0 * one,
        noise_known=True,
        predicted_cg=np.array([predicted[name] for name in names]) - control,
        variance_cg=one,
        mean_cg=mean,
        input_cg=control,
        input_var_cg=one,
        scored_cg=one > 0,
        train_centroid_g=centroid,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(len(names), "unknown", dtype=object),
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_energy_distance_of_pertpy_and_scperturbench(parity, cells, prediction):
    want = json.loads((parity / "distances" / "variants.json").read_text())["values"]["all"][prediction]
    (x, x_label, _), (y, y_label, _) = cells("truth"), cells(f"pred_{prediction}")
    assert len(want) == 7
    for name, values in want.items():
        true, predicted = x[x_label == name], y[y_label == name]
        v, u = (energy_distance_cells(true, predicted, s) for s in ("V", "U"))
        assert v == pytest.approx(values["pertpy103_edistance_call"], rel=1e-6, abs=1e-8)
        assert u == pytest.approx(values["unbiased_euclidean (pertpy>=1.0.4 rule)"], rel=1e-6, abs=1e-8)
        assert v / 2 == pytest.approx(values['geomloss_energy_p2 (PerturBench "mmd")'], rel=1e-4, abs=3e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_correlation_with_references_of_systema(parity, cells, prediction):
    want = json.loads((parity / "systema" / "values.json").read_text())["values"]
    (x, x_label, genes), (y, y_label, _) = cells("truth"), cells(f"pred_{prediction}")
    true = mean_of(x, x_label)
    centroid = np.mean([mean for name, mean in true.items() if name != "control"], axis=0)
    case = case_of(true, mean_of(y, y_label), genes, centroid)
    for reference, theirs in (("train_centroid", "perturbed_centroid"), ("control", "control")):
        stats = pearson_delta(case, reference=reference)
        assert len(stats.value_c) == len(want[theirs][prediction]) == 33
        for name, value, reason in zip(case.intervention_c, stats.value_c, stats.reason_c, strict=True):
            official = want[theirs][prediction][name]["corr_all_allpert"]
            if official is None:
                assert reason == "predicted delta is constant over genes"
            else:
                assert value == pytest.approx(official, abs=1e-5)  # the suite averages float32 matrices


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_root_mean_squared_error_of_perturbench(parity, cells, prediction):
    want = json.loads((parity / "perturbench" / "v3_2026.json").read_text())["values"]["average/rmse"][prediction]
    (x, x_label, genes), (y, y_label, _) = cells("truth"), cells(f"pred_{prediction}")
    case = case_of(mean_of(x, x_label), mean_of(y, y_label), genes)
    theirs = [want[f"k562_{name}"] for name in case.intervention_c]
    np.testing.assert_allclose(root_mean_squared_error(case).value_c, theirs, rtol=1e-5)
    np.testing.assert_allclose(mean_squared_error(case).value_c, np.square(theirs), rtol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_retrieval_of_cell_eval2_on_means(parity, cells, prediction):
    """`pds_cosine` of v2-full-lognorm: deltas of means without the panel's target genes."""
    file = json.loads((parity / "cell_eval2" / "0.20.0_devel.json").read_text())
    want = file["values"][f"devel_k562/v2-full-lognorm/{prediction}"]["pds_cosine"]
    (x, x_label, genes), (y, y_label, _) = cells("truth"), cells(f"pred_{prediction}")
    targets = set(file["target_gene_map"]["devel_k562"].values())
    kept = np.array([gene not in targets for gene in genes])
    case = case_of(mean_of(x[:, kept], x_label), mean_of(y[:, kept], y_label), tuple(np.array(genes)[kept].tolist()))
    check_retrieval(case, want, zero=prediction == "control_copy")


def check_retrieval(case, want, zero):
    """Equal ranks; a zero delta is undefined here and 0.5 there."""
    stats = retrieval(case, centred=False)
    if zero:
        assert set(stats.reason_c) == {"predicted delta is zero"}
        assert set(want.values()) == {0.5}
    else:
        np.testing.assert_allclose(stats.value_c, [want[name] for name in case.intervention_c], atol=1e-12)


@pytest.mark.parametrize("prediction", ["counts_thinned_truth", "counts_pooled_poisson", "counts_control_copy"])
def test_retrieval_of_cell_eval2(parity, cells, prediction):
    """`pds_cosine` of vcc2026: group sums scaled to 50,000, log1p, without the panel's target genes."""
    file = json.loads((parity / "cell_eval2" / "0.20.0_devel.json").read_text())
    want = file["values"][f"devel_k562/vcc2026-counts/{prediction.removeprefix('counts_')}"]["pds_cosine"]
    (x, x_label, genes), (y, y_label, _) = cells("truth", "counts"), cells(f"pred_{prediction}")
    targets = {file["target_gene_map"]["devel_k562"][name] for name in want}
    kept = np.array([gene not in targets for gene in genes])

    def effects(counts, label):
        sums = {name: counts[label == name].sum(axis=0) for name in np.unique(label).tolist()}
        return {name: np.log1p(5e4 * total / total.sum())[kept] for name, total in sums.items()}

    case = case_of(effects(x, x_label), effects(y, y_label), tuple(np.array(genes)[kept]))
    check_retrieval(case, want, zero=prediction == "counts_control_copy")
