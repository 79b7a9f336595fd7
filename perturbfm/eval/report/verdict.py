"""The paragraph at the top: what the numbers say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from perturbfm.eval.report.calibration import UNINFORMATIVE
from perturbfm.eval.report.entries import (
    Facts,
    by_verdict,
    interval_of,
    leads,
    model_entries,
    named,
    predictors,
    reason_of,
    same,
    status_of,
    twin_floor,
    value_of,
)
from perturbfm.eval.report.words import (
    COVERAGE_90,
    EV,
    HALVED,
    MODEL,
    REPLICATE,
    THIN,
    number,
    percent,
    plural,
    real,
    shortened,
    title,
    word,
)

SPELLED = 3
"""Up to how many weak contexts the verdict gives reasons for."""
NEAR = 0.03
"""A coverage nearer than this to its level is called near; the sd of an oracle's coverage in a small panel."""


def verdict(metrics: Facts, calibration: Facts) -> list[str]:
    """What the numbers say, in sentences a biologist can read."""
    return [*_gate_words(metrics), *_effect_words(metrics), *_calibration_words(metrics, calibration)]


def _gate_words(metrics: Facts) -> list[str]:
    gate, found = metrics.get("gate") or {}, by_verdict(metrics)
    said = []
    if names := found.pop("no_signal", []):
        said.append(
            f"{_carry(names)} no measurable signal: the perturbations cannot be told apart beyond noise. "
            "Metrics of effects are undefined there, for every model."
        )
    if names := found.pop("weak", []):
        why = "; ".join(reason_of(gate[c]) for c in names) if len(names) <= SPELLED else ""
        said.append(
            f"{_carry(names)} only weak signal{f': {why}' if why else ''}. The numbers below are values only: "
            "no interval, no skill, and no ranking of models."
        )
    powered = found.pop("powered", [])
    for verdict_name in sorted(found):
        names = found[verdict_name]
        said.append(
            f"Whether {shortened(names)} carr{'ies' if len(names) == 1 else 'y'} signal could not be tested. "
            "The numbers below are values only, not a ranking."
        )
    if powered:
        n = sum(int(real(gate[c].get("n_conditions")) or 0) for c in powered)
        m = sum(int(real(gate[c].get("n_detectable")) or 0) for c in powered)
        each = f": of {plural(n, 'condition')}, {m:,} {'differs' if m == 1 else 'differ'} from control one by one"
        said.append(f"{_carry(powered)} measurable signal (powered){each}.")
    return said or ["No gate stands in the metrics, so nothing is known about the signal in the test fold."]


def _carry(names: list[str]) -> str:
    return f"{shortened(names)} {'carries' if len(names) == 1 else 'carry'}"


def _rankable(metrics: Facts) -> bool:
    """Whether every context is powered."""
    return set(by_verdict(metrics)) == {"powered"}


def _effect_words(metrics: Facts) -> list[str]:
    i = named(metrics, EV)
    entry = model_entries(metrics).get(i or "")
    if i is None or entry is None:
        return []
    ev = value_of(entry)
    if ev is None:
        return [f"The share of the true effect that the model explains is {status_of(entry)}: {reason_of(entry)}."]
    interval = interval_of(metrics, i)
    bounds = f" (95 % interval {_share(interval[0])} to {_share(interval[1])})" if interval else ""
    known = {n: value_of(predictors(metrics)[n].get(i)) for n in _baselines(metrics)}
    floors = {n: v for n, v in known.items() if v is not None}
    beside = ", ".join(f"{word(n)} {_share(v)}" for n, v in floors.items())
    said = [f"The model {_explains(ev)}{bounds}{'; ' + beside if beside else ''}."]
    if ev < 0:
        said.append("Below zero means that predicting no change at all would have been closer to the truth.")
    said += _compared(metrics, ev, interval, floors) + _beaten_words(metrics)
    return said + _replicate_words(metrics, i)


def _share(value: float) -> str:
    """EV in words: a share, or the bare number where it is below zero and no share of anything."""
    return percent(value) if value >= 0 else f"EV {number(value, 2)}"


def _explains(value: float) -> str:
    if value < 0:
        return f"explains nothing of the true effect beyond noise (EV {number(value, 2)})"
    return f"explains {percent(value)} of the true effect beyond noise"


def _baselines(metrics: Facts) -> list[str]:
    return [n for n in predictors(metrics) if n not in (MODEL, *HALVED)]


def _compared(
    metrics: Facts, ev: float, interval: tuple[float, float] | None, floors: Mapping[str, float]
) -> list[str]:
    twin = twin_floor(metrics)
    if twin is not None:
        return [f"In every metric the model has the same value as the floor “{word(twin)}”: here it is that floor."]
    if not floors or not _rankable(metrics):
        return []
    best = max(floors, key=lambda n: floors[n])
    if ev <= floors[best]:
        return [f"It does not do better than the best floor, {word(best)}."]
    if interval is None or floors[best] >= interval[0]:
        why = "no interval stands beside it" if interval is None else f"{word(best)} lies inside the model's interval"
        return [f"It is above every floor, but {why}, so this run alone does not show that it beats the best of them."]
    return [f"Its whole interval lies above the best floor, {word(best)}; a paired comparison would still be the test."]


def _beaten_words(metrics: Facts) -> list[str]:
    """Other lead metrics in which a floor has the better value."""
    if not _rankable(metrics):
        return []
    found = []
    for i in leads(metrics):
        mine, better = value_of(model_entries(metrics)[i]), model_entries(metrics)[i].get("better")
        known = {n: value_of(predictors(metrics)[n].get(i)) for n in _baselines(metrics)}
        floors = {n: v for n, v in known.items() if v is not None}
        if i.startswith(EV) or mine is None or not floors or better not in ("higher", "lower"):
            continue
        sign = 1.0 if better == "higher" else -1.0
        best = max(floors, key=lambda n: sign * floors[n])
        if sign * floors[best] > sign * mine and not same(mine, floors[best]):
            found.append(f"{title(i)} ({word(best)} {number(floors[best])}, model {number(mine)})")
    return [f"A floor has the better value in {'; '.join(found)}."] if found else []


def _replicate_words(metrics: Facts, identifier: str) -> list[str]:
    entry = predictors(metrics).get(REPLICATE, {}).get(identifier)
    value = value_of(entry)
    if value is not None:
        return [
            "For scale: half of the measured cells, taken as a prediction of the other half, "
            f"{_explains(value)}. That is a noisy repeat of the experiment, not a ceiling."
        ]
    return [f"There is no replicate to compare with: {reason_of(entry)}."] if entry else []


def _calibration_words(metrics: Facts, calibration: Facts) -> list[str]:
    i = named(metrics, COVERAGE_90, "obs_noise=added")
    entry = model_entries(metrics).get(i or "")
    if i is None or entry is None:
        return []
    value = value_of(entry)
    if value is None:
        return [f"Coverage of the 90 % intervals is {status_of(entry)}: {reason_of(entry)}."]
    off = value - 0.9
    how = (
        "near their level"
        if abs(off) <= NEAR
        else ("wider than needed" if off > 0 else "too narrow, so the model is overconfident")
    )
    said = [f"The model's 90{THIN}% intervals hold {number(100 * value, 1)}{THIN}% of the true mean changes: {how}."]
    share = _test_share(metrics, calibration)
    if share is not None and share > UNINFORMATIVE:
        said.append(f"This says little, because {percent(share)} of the predictive variance is measurement noise.")
    return said


def _test_share(metrics: Facts, calibration: Facts) -> float | None:
    i = named(metrics, "pfm.obs_share[")
    value = value_of(model_entries(metrics).get(i or ""))
    return value if value is not None else real(calibration.get("obs_share"))
