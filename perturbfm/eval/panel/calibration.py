"""What the panel says of stated uncertainty beyond coverage, width and likelihood per condition."""

from __future__ import annotations

from functools import partial

from perturbfm.eval.metric.crps_draws import crps_draws
from perturbfm.eval.metric.interval_score import interval_score
from perturbfm.eval.metric.pit import pit_reliability_index
from perturbfm.eval.metric.uncertainty import coverage, interval_width
from perturbfm.eval.panel.metric import LOWER, TARGET, Metric

LEVELS = (0.5, 0.8, 0.9, 0.95)

KEPT = ("subset_conditions",)


def _pooled(where: str, noise: str, level: float) -> tuple[Metric, ...]:
    official = noise == "ignored"
    return (
        Metric(
            f"coverage[level={level:g},{where},agg=pooled]",
            partial(coverage, level=level, noise=noise, pooled=True),
            TARGET,
            f"Share of all scored condition-gene pairs inside the {level:.0%} interval; it should be {level:g}.",
            aliases=(f"uncertainty_toolbox_0.1.1.proportion_in_interval_{level:g}",) if official else (),
            invariances=(*KEPT, "scale_both"),
        ),
        Metric(
            f"width[level={level:g},{where},agg=pooled]",
            partial(interval_width, level=level, noise=noise, pooled=True),
            LOWER,
            "Mean width of that interval over the same pairs.",
            aliases=(f"uncertainty_toolbox_0.1.1.mean_width_{level:g}",) if official else (),
            invariances=KEPT,
            unbounded=True,
        ),
    )


def _scores(where: str, noise: str, level: float) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            f"interval_score[level={level:g},{where}{',agg=pooled' if pooled else ''}]",
            partial(interval_score, level=level, noise=noise, pooled=pooled),
            LOWER,
            f"Width of the {level:.0%} interval plus a fine for what lies outside"
            + (", all scored condition-gene pairs alike." if pooled else "."),
            invariances=KEPT,
        )
        for pooled in (False, True)
    )


def _draws(where: str, noise: str) -> tuple[Metric, ...]:
    aliases = {
        "fair": ("scoringrules_0.10.0.crps_ensemble_fair", "scoringrules_0.10.0.crps_ensemble_pwm"),
        "V": (
            "properscoring_0.1.crps_ensemble",
            "scoringrules_0.10.0.crps_ensemble_nrg",
            "scoringrules_0.10.0.crps_ensemble_qd",
        ),
    }
    return tuple(
        Metric(
            f"crps_draws[estimator={estimator},{where}]",
            partial(crps_draws, estimator=estimator, noise=noise),
            LOWER,
            f"Distance of the drawn distribution from the truth, {words}.",
            aliases=aliases[estimator] if noise == "ignored" else (),
            invariances=KEPT,
        )
        for estimator, words in (("fair", "unbiased in the number of draws"), ("V", "of the draws as they are"))
    )


def _calibration(noise: str) -> tuple[Metric, ...]:
    where = f"target=mean_delta,obs_noise={noise},genes=detected10"
    return (
        *(m for level in LEVELS for m in _pooled(where, noise, level)),
        *(m for level in LEVELS for m in _scores(where, noise, level)),
        Metric(
            f"pfm.pit_reliability_index[bins=10,{where}]",
            partial(pit_reliability_index, noise=noise),
            LOWER,
            "How far the histogram of where truths fell in their predicted distributions is from flat.",
            invariances=(*KEPT, "scale_both"),
        ),
        *_draws(where, noise),
    )


CALIBRATION = (*_calibration("added"), *_calibration("ignored"))
