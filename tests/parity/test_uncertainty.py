"""Do coverage, likelihood, CRPS and AUROC equal the numbers of the public libraries?"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from perturbfm.eval.case import Case
from perturbfm.eval.metric.ood import auroc
from perturbfm.eval.metric.uncertainty import coverage, crps_gaussian, interval_width, nll_gaussian
from perturbfm.eval.panel.calibration import CALIBRATION
from perturbfm.eval.risk import risk_coverage
from perturbfm.parity import table, uncertainty
from perturbfm.parity.reference import References
from perturbfm.parity.uncertainty import case_of


@pytest.fixture(scope="module")
def folder() -> Path:
    shared = (Path(__file__).parents[2] / os.environ.get("PERTURBFM_SHARED", "../shared") / "parity").resolve()
    if not shared.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no parity data in {shared}; set PERTURBFM_SHARED")
    return shared / "uncertainty"


@pytest.fixture(scope="module")
def want(folder) -> dict:
    return json.loads((folder / "values.json").read_text())["values"]


@pytest.fixture(scope="module")
def inputs(folder) -> dict:
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        return dict(file)


def case_with_noise(y, mu, sd) -> Case:
    """The case that is compared, its noise known and zero."""
    return replace(case_of(y, mu, sd), noise_known=True)


@pytest.fixture(scope="module")
def case(inputs) -> Case:
    return case_with_noise(inputs["y"], inputs["mu"], inputs["sd"])


def test_inputs_are_the_sixty_conditions_of_the_file(case):
    assert case.truth_cg.shape == (60, 500)


@pytest.mark.parametrize("level", [50, 80, 90, 95])
def test_coverage_and_width_of_uncertainty_toolbox(case, want, level):
    covered = coverage(case, level=level / 100, noise="added").value_c
    width = interval_width(case, level=level / 100, noise="added").value_c
    assert covered.mean() == pytest.approx(want[f"uct_get_proportion_in_interval_{level}"], abs=1e-12)
    assert width.mean() == pytest.approx(want[f"mean_width_{level}"], rel=1e-9)


def test_likelihood_of_torch(case, want):
    got = nll_gaussian(case, noise="ignored").value_c.mean()
    assert got == pytest.approx(want["nll_gaussian_mean (with log 2pi)"], rel=1e-9)
    assert got == pytest.approx(want["torch_GaussianNLLLoss_full=True"], rel=1e-9)


def test_crps_of_three_libraries(case, want):
    got = crps_gaussian(case, noise="ignored").value_c.mean()
    for library in ("properscoring", "scoringrules", "uct"):
        assert got == pytest.approx(want[f"crps_gaussian_{library}"], rel=1e-9)


def test_crps_entry_by_entry_against_scoringrules():
    oracle = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(0)
    y, mu, sd = rng.normal(size=(4, 50)), rng.normal(size=(4, 50)), rng.uniform(0.01, 3, size=(4, 50))
    got = crps_gaussian(case_with_noise(y, mu, sd), noise="ignored").value_c
    np.testing.assert_allclose(got, oracle.crps_normal(y, mu, sd).mean(axis=1), rtol=1e-9)


def test_noise_added_equals_a_wider_prediction(case):
    noisy = replace(case, noise_cg=np.full((60, 500), 0.01))
    wider = replace(case, variance_cg=case.variance_cg + 0.01)
    for metric in (nll_gaussian, crps_gaussian):
        np.testing.assert_allclose(
            metric(noisy, noise="added").value_c, metric(wider, noise="ignored").value_c, rtol=1e-12
        )


def test_auroc_of_scikit_learn_with_and_without_ties(inputs, want):
    mean_variance, rows = (inputs["sd"] ** 2).mean(axis=1), inputs["rows"].astype(str)
    out = inputs["ood"] == 1
    assert auroc(mean_variance[~out], mean_variance[out])[0] == want["ood_auroc_mean_variance_sklearn"]
    k562 = np.char.startswith(rows, "k562")
    double = np.char.find(rows, "+") >= 0
    for score, key in (
        (mean_variance, "ood_auroc (k562 rows, label = double perturbation)"),
        (np.round(mean_variance, 3), "  same, u rounded to 3 decimals, sklearn (ties count 1/2)"),
    ):
        value, reason = auroc(score[k562 & ~double], score[k562 & double])
        assert reason == ""
        assert value == pytest.approx(want[key], rel=1e-12)


def test_risk_coverage_of_a_case_equals_the_arithmetic_of_the_file(case, want):
    pooled = risk_coverage(case)["scores"]["mean_var"]["pooled"]
    for ours, key in (
        ("aurc", "aurc_mean_of_selective_risks"),
        ("aurc_oracle", "aurc_oracle"),
        ("e_aurc", "e_aurc"),
        ("augrc", "augrc_mean_of_generalised_risks"),
        ("mean_risk", "aurc_random (mean risk)"),
        ("spearman", "spearman_uncertainty_vs_error"),
    ):
        assert pooled[ours] == pytest.approx(want[key], rel=1e-9), ours
    np.testing.assert_allclose(pooled["curve"]["risk"], want["risk_coverage"]["selective_risk"], rtol=1e-9)
    np.testing.assert_allclose(pooled["curve"]["coverage"], want["risk_coverage"]["coverage"], rtol=1e-12)


def test_every_official_number_is_compared_or_stands_in_the_register(folder, want):
    owned = uncertainty.owned(References(folder.parent))
    patterns = [line["key"] for line in table.register()[1] if line["file"] == uncertainty.FILE]
    assert owned <= set(want)
    for key in want:
        assert (key in owned) != any(fnmatchcase(key, p) for p in patterns), key
    assert all(any(fnmatchcase(key, p) for key in want) for p in patterns)


def test_every_alias_of_the_panel_is_compared(folder):
    compared = {check.alias for check in uncertainty.checks(References(folder.parent))}
    assert {alias for metric in CALIBRATION for alias in metric.aliases} <= compared
