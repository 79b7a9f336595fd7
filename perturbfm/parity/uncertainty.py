"""Stated uncertainty, against public forecasting libraries on 60 conditions x 500 genes with a 16-member ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from perturbfm.errors import UnreadableFile
from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.metric.crps_draws import crps_draws
from perturbfm.eval.metric.interval_score import interval_score
from perturbfm.eval.metric.ood import auroc
from perturbfm.eval.metric.uncertainty import coverage, crps_gaussian, interval_width, nll_gaussian
from perturbfm.eval.reliability import reliability
from perturbfm.eval.risk import selective_risks, selective_values
from perturbfm.parity.check import Check
from perturbfm.parity.reference import References

FILE = "uncertainty/values.json"
LEVELS = (50, 80, 90, 95)
TOOLBOX, PROPER, RULES = "uncertainty_toolbox_0.1.1", "properscoring_0.1", "scoringrules_0.10.0"
TORCH, SKLEARN, SCIPY = "torch_2.13.0", "scikit_learn_1.9.1", "scipy_1.17.1"
WRITTEN_OUT = "risk_coverage"

ROUNDED = 3
"""Decimals to which the file rounds uncertainties so that they tie."""


@dataclass(frozen=True)
class Inputs:
    """What the libraries were given: `y`, `mu`, `sd` [c, g], an ensemble for the first genes, a label, row names."""

    y_cg: np.ndarray
    mu_cg: np.ndarray
    sd_cg: np.ndarray
    members_cgs: np.ndarray
    out_c: np.ndarray
    row_c: np.ndarray

    @property
    def case(self) -> Case:
        """All genes, Gaussian."""
        return case_of(self.y_cg, self.mu_cg, self.sd_cg)

    @property
    def drawn(self) -> Case:
        """The genes of the ensemble, with its members as draws."""
        g = self.members_cgs.shape[1]
        members = self.members_cgs.astype(np.float64)
        return case_of(self.y_cg[:, :g], self.mu_cg[:, :g], self.sd_cg[:, :g], draws=members)

    @property
    def uncertainty_c(self) -> np.ndarray:
        """Mean predicted variance of each condition."""
        return np.asarray((self.sd_cg**2).mean(axis=1))

    @property
    def risk_c(self) -> np.ndarray:
        """Mean squared error of each condition."""
        return np.asarray(((self.y_cg - self.mu_cg) ** 2).mean(axis=1))


def checks(references: References) -> Iterator[Check]:
    """A check for every number of the file that a line of the panel, or a part of the report, gives."""
    values = references.values(FILE)["values"]
    inputs = inputs_of(references)
    ours = _of_panel(inputs) | _of_reliability(inputs) | _of_risk(inputs) | _of_separation(inputs)
    for key, (alias, value) in ours.items():
        yield Check(alias, key.strip(), values[key], value)
    risks = selective_risks(inputs.uncertainty_c, inputs.risk_c)
    for k, official in enumerate(values["risk_coverage"]["selective_risk"]):
        yield Check(f"{WRITTEN_OUT}.selective_risk", f"coverage {k + 1}/{len(risks)}", official, float(risks[k]))


def owned(references: References) -> frozenset[str]:
    """Keys of the file that `checks` compares."""
    inputs = inputs_of(references)
    parts = (_of_panel(inputs), _of_reliability(inputs), _of_risk(inputs), _of_separation(inputs))
    return frozenset(key for part in parts for key in part) | {"risk_coverage"}


def inputs_of(references: References) -> Inputs:
    """`uncertainty/inputs.npz`.

    Raises:
        UnreadableFile: It is not there.
    """
    path = references.folder / "uncertainty" / "inputs.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return Inputs(*(file[name] for name in ("y", "mu", "sd", "ens", "ood", "rows")))
    except (OSError, ValueError, KeyError) as e:
        raise UnreadableFile(
            "A reference input cannot be read",
            given=f"{path}: {e}",
            expected="arrays y, mu, sd, ens, ood, rows",
            fix="Name the folder with --references or PERTURBFM_PARITY.",
        ) from e


def _of_panel(inputs: Inputs) -> dict[str, tuple[str, float]]:
    """Numbers of the panel, by key of the file, with their alias."""
    case, drawn = inputs.case, inputs.drawn
    found: dict[str, tuple[str, float]] = {}
    for level in LEVELS:
        covered = _pooled(coverage(case, level=level / 100, noise="ignored", pooled=True))
        width = _pooled(interval_width(case, level=level / 100, noise="ignored", pooled=True))
        alias = f"{TOOLBOX}.proportion_in_interval_{level / 100:g}"
        found |= dict.fromkeys(
            (f"coverage_central_{level}", f"uct_get_proportion_in_interval_{level}"), (alias, covered)
        )
        found[f"mean_width_{level}"] = (f"{TOOLBOX}.mean_width_{level / 100:g}", width)
    nll = _pooled(nll_gaussian(case, noise="ignored"))
    crps = _pooled(crps_gaussian(case, noise="ignored"))
    fair, v = (_pooled(crps_draws(drawn, estimator=e, noise="ignored")) for e in ("fair", "V"))
    percent = (round(0.01 * i, 2) for i in range(1, 100))
    winkler = np.mean([_pooled(interval_score(case, level=p, noise="ignored", pooled=True)) for p in percent])
    return found | {
        "nll_gaussian_mean (with log 2pi)": (f"{SCIPY}.nll_gaussian", nll),
        "uct_nll_gaussian_scaled": (f"{TOOLBOX}.nll_gaussian", nll),
        "torch_GaussianNLLLoss_full=True": (f"{TORCH}.gaussian_nll_full", nll),
        "crps_gaussian_properscoring": (f"{PROPER}.crps_gaussian", crps),
        "crps_gaussian_scoringrules": (f"{RULES}.crps_normal", crps),
        "crps_gaussian_uct": (f"{TOOLBOX}.crps_gaussian", crps),
        "crps_ensemble_properscoring (V-statistic, 1/m^2)": (f"{PROPER}.crps_ensemble", v),
        "crps_ensemble_scoringrules_nrg": (f"{RULES}.crps_ensemble_nrg", v),
        "crps_ensemble_scoringrules_qd": (f"{RULES}.crps_ensemble_qd", v),
        "crps_ensemble_scoringrules_fair": (f"{RULES}.crps_ensemble_fair", fair),
        "crps_ensemble_scoringrules_pwm": (f"{RULES}.crps_ensemble_pwm", fair),
        "interval_score_uct": (f"{TOOLBOX}.interval_score", float(winkler)),
    }


def _of_reliability(inputs: Inputs) -> dict[str, tuple[str, float]]:
    found = reliability(inputs.case, levels=tuple(np.linspace(0.0, 1.0, 100).tolist()))["ignored"]["coverage"]
    return {
        "mace_uct (100 bins, interval)": (f"{TOOLBOX}.mean_absolute_calibration_error", found["mace"]),
        "rmsce_uct": (f"{TOOLBOX}.root_mean_squared_calibration_error", found["rmsce"]),
    }


def _of_risk(inputs: Inputs) -> dict[str, tuple[str, float | None]]:
    found = selective_values(inputs.uncertainty_c, inputs.risk_c)
    return {
        "aurc_mean_of_selective_risks": (f"{WRITTEN_OUT}.aurc", found["aurc"]),
        "aurc_oracle": (f"{WRITTEN_OUT}.aurc_oracle", found["aurc_oracle"]),
        "e_aurc": (f"{WRITTEN_OUT}.e_aurc", found["e_aurc"]),
        "aurc_random (mean risk)": (f"{WRITTEN_OUT}.mean_risk", found["mean_risk"]),
        "augrc_mean_of_generalised_risks": (f"{WRITTEN_OUT}.augrc", found["augrc"]),
        "spearman_uncertainty_vs_error": (f"{SCIPY}.spearman_uncertainty_vs_error", found["spearman"]),
    }


def _of_separation(inputs: Inputs) -> dict[str, tuple[str, float | None]]:
    plain, out_c = inputs.uncertainty_c, inputs.out_c == 1
    tied = np.round(plain, ROUNDED)
    row_c = inputs.row_c.astype(str)
    among = np.char.startswith(row_c, "k562")
    double = np.char.find(row_c, "+") >= 0
    alias = f"{SKLEARN}.roc_auc_score"
    of = partial(_auroc, alias)
    return {
        "ood_auroc_mean_variance_sklearn": of(plain, out_c),
        "ood_auroc_with_ties_sklearn (u rounded to 3 decimals)": of(tied, out_c),
        "ood_auroc (k562 rows, label = double perturbation)": of(plain[among], double[among]),
        "  same, u rounded to 3 decimals, sklearn (ties count 1/2)": of(tied[among], double[among]),
    }


def _auroc(alias: str, score_c: np.ndarray, out_c: np.ndarray) -> tuple[str, float | None]:
    return alias, auroc(score_c[~out_c], score_c[out_c])[0]


def _pooled(stats: PerCondition) -> float:
    """All entries alike: every condition has as many genes."""
    return float(stats.num_c.sum() / stats.den_c.sum())


def case_of(y_cg: np.ndarray, mu_cg: np.ndarray, sd_cg: np.ndarray, draws: np.ndarray | None = None) -> Case:
    """Truths and predictions as a panel sees them: every gene scored, no noise of the truth."""
    n, g = y_cg.shape
    return Case(
        context_c=np.full(n, "k", dtype=object),
        intervention_c=np.arange(n).astype(str).astype(object),
        n_c=np.ones(n, dtype=int),
        genes_g=tuple(map(str, range(g))),
        truth_cg=y_cg,
        noise_cg=np.zeros((n, g)),
        noise_known=False,
        predicted_cg=mu_cg,
        variance_cg=sd_cg**2,
        mean_cg=y_cg,
        input_cg=np.zeros((n, g)),
        input_var_cg=np.ones((n, g)),
        scored_cg=np.ones((n, g), dtype=bool),
        train_centroid_g=None,
        train_delta_g=None,
        cells=None,
        powered_c=np.full(n, "unknown", dtype=object),
        draws=None if draws is None else lambda c: draws[c].T,
    )
