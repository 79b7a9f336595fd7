"""The full panel, and the quick one for trying things."""

from __future__ import annotations

from functools import partial

from perturbfm.eval.metric.correlation import pearson_delta
from perturbfm.eval.metric.distribution import energy_distance
from perturbfm.eval.metric.error import mean_squared_error, root_mean_squared_error
from perturbfm.eval.metric.explained import explained_variance
from perturbfm.eval.metric.retrieval import retrieval
from perturbfm.eval.metric.uncertainty import coverage, crps_gaussian, interval_width, nll_gaussian, observation_share
from perturbfm.eval.panel.calibration import CALIBRATION
from perturbfm.eval.panel.cell_eval import CELL_EVAL
from perturbfm.eval.panel.metric import HIGHER, LOWER, NONE, TARGET, Metric, Panel, merged, of_variance
from perturbfm.eval.panel.papers import PAPERS
from perturbfm.eval.panel.perturbench import PERTURBENCH
from perturbfm.eval.panel.scperturbench import SCPERTURBENCH

LEVELS = (0.5, 0.8, 0.9, 0.95)

EV = "pfm.ev[ref=control_split,genes=all,noise=subtracted]"
PCC_PANEL = "pfm.pcc_delta[ref=panel,genes=all]"
RETRIEVAL_PANEL = (
    "pfm.retrieval[space=panel_centred_delta,query=prediction,dist=cosine,norm=n-1,ties=mid,exclude=panel_targets]"
)
CRPS = "crps_gaussian[target=mean_delta,obs_noise=added,genes=detected10]"

NLL_NAMES = ("scipy_1.17.1.nll_gaussian", "uncertainty_toolbox_0.1.1.nll_gaussian", "torch_2.13.0.gaussian_nll_full")
CRPS_NAMES = (
    "properscoring_0.1.crps_gaussian",
    "scoringrules_0.10.0.crps_normal",
    "uncertainty_toolbox_0.1.1.crps_gaussian",
)
"""Libraries that give the same number on the same means and variances."""

EFFECT = (
    Metric(
        EV,
        explained_variance,
        HIGHER,
        "Share of the true effect explained, noise taken out: no change is 0, a perfect mean is 1.",
        title="EV",
        lead=True,
        effect=True,
        ratio=True,
        skill=True,
        interval=True,
        invariances=("subset_conditions", "shift_both", "scale_both"),
    ),
    Metric(
        PCC_PANEL,
        partial(pearson_delta, reference="panel"),
        HIGHER,
        "Correlation of what sets a perturbation apart from the others of its context.",
        title="PCC panel-centred",
        lead=True,
        effect=True,
        worst=0.0,
        skill=True,
        interval=True,
        centred=True,
        invariances=("shift_both", "scale_both", "scale_prediction"),
    ),
    Metric(
        RETRIEVAL_PANEL,
        partial(retrieval, centred=True, without_targets=True),
        HIGHER,
        "How often the right perturbation is closer than a wrong one; 0.5 is chance.",
        title="retrieval panel-centred",
        lead=True,
        effect=True,
        worst=0.5,
        skill=True,
        interval=True,
        centred=True,
        invariances=("shift_both", "scale_both", "scale_prediction"),
    ),
    Metric(
        "pcc_delta[ref=control_split,genes=all]",
        partial(pearson_delta, reference="control"),
        HIGHER,
        "Correlation of predicted and true change from control; rewards the mean response.",
        effect=True,
        worst=0.0,
        skill=True,
        interval=True,
        invariances=("subset_conditions", "shift_both", "scale_both", "scale_prediction"),
    ),
    Metric(
        "pcc_delta[ref=pert_centroid_train,genes=all]",
        partial(pearson_delta, reference="train_centroid"),
        HIGHER,
        "Correlation around the train perturbed centroid (Systema); across contexts it mostly reads context identity.",
        effect=True,
        worst=0.0,
        invariances=("subset_conditions",),
    ),
    Metric(
        "pfm.pcc_delta[ref=control_plus_train_mean_delta,genes=all]",
        partial(pearson_delta, reference="control_plus_train_mean"),
        HIGHER,
        "Correlation around the mean train response carried to the context's own control.",
        effect=True,
        worst=0.0,
        invariances=("subset_conditions", "shift_both"),
    ),
    Metric(
        "retrieval[space=delta,query=prediction,dist=cosine,norm=n-1,ties=mid]",
        partial(retrieval, centred=False),
        HIGHER,
        "The same on deltas as they are.",
        effect=True,
        worst=0.5,
        invariances=("shift_both", "scale_both", "scale_prediction"),
    ),
)

FIT = (
    Metric(
        "mse[space=mean_delta,ref=control_split,genes=all]",
        mean_squared_error,
        LOWER,
        "Squared error of mean deltas.",
        skill=True,
        invariances=("subset_conditions", "shift_both"),
    ),
    Metric(
        "rmse[space=mean_delta,ref=control_split,genes=all]",
        root_mean_squared_error,
        LOWER,
        "Its square root.",
        invariances=("subset_conditions", "shift_both"),
    ),
    Metric(
        "edist[ground=euclidean,stat=U,cells=control_shifted]",
        partial(energy_distance, statistic="U"),
        LOWER,
        "Energy distance between true cells and input controls moved by the prediction, unbiased.",
        invariances=("subset_conditions", "shift_both"),
    ),
    Metric(
        "edist[ground=euclidean,stat=V,cells=control_shifted]",
        partial(energy_distance, statistic="V"),
        LOWER,
        "The same, biased form.",
        invariances=("subset_conditions", "shift_both"),
    ),
)


def _uncertainty(noise: str) -> tuple[Metric, ...]:
    added = noise == "added"
    where = f"target=mean_delta,obs_noise={noise},genes=detected10"
    intervals = tuple(
        metric
        for level in LEVELS
        for metric in (
            Metric(
                f"coverage[level={level:g},{where}]",
                partial(coverage, level=level, noise=noise),
                TARGET,
                f"Share of genes inside the {level:.0%} interval; it should be {level:g}.",
                title=f"coverage {level:.0%}",
                lead=added and level == 0.9,
                interval=added and level == 0.9,
                invariances=("subset_conditions", "scale_both"),
            ),
            Metric(
                f"width[level={level:g},{where}]",
                partial(interval_width, level=level, noise=noise),
                LOWER,
                "Mean width of that interval.",
                unbounded=True,
                invariances=("subset_conditions",),
            ),
        )
    )
    scores = (
        Metric(
            f"nll_gaussian[const=full,{where}]",
            partial(nll_gaussian, noise=noise),
            LOWER,
            "Negative log-likelihood of mean deltas.",
            aliases=() if added else NLL_NAMES,
            unbounded=True,
            invariances=("subset_conditions",),
        ),
        Metric(
            f"crps_gaussian[{where}]",
            partial(crps_gaussian, noise=noise),
            LOWER,
            "Distance of the predicted distribution from the truth, in units of the matrix.",
            title="CRPS",
            lead=added,
            interval=added,
            aliases=() if added else CRPS_NAMES,
            invariances=("subset_conditions",),
        ),
    )
    return intervals + scores


SHARE = (
    Metric(
        "pfm.obs_share[genes=detected10]",
        observation_share,
        NONE,
        "Share of the predictive variance that is the truth's own sampling noise; above 0.5 coverage says little.",
        title="share of observation noise",
        invariances=("subset_conditions", "scale_both"),
    ),
)

OWN = (*EFFECT, *FIT, *of_variance((*_uncertainty("added"), *_uncertainty("ignored"), *SHARE)))
"""What PerturbFM itself leads with and looks at."""

SUITES = (*SCPERTURBENCH, *PERTURBENCH, *CELL_EVAL, *PAPERS)
"""What benchmark suites and papers publish, by their own definitions."""

FULL = Panel("full", "2", comparable=True, metrics=merged((*OWN, *of_variance(CALIBRATION), *SUITES)))
QUICK = Panel("quick", "2", comparable=False, metrics=FULL.metrics)
