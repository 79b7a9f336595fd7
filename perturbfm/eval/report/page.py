"""Turns the artifacts of one run into one self-contained page; every number comes from them, none is computed anew.

Layout lives in `page.html.j2`; here values become words, rows and positions. The same inputs give the same bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import pandas as pd

Facts = Mapping[str, Any]

SHOWN_CONDITIONS = 500
"""From more conditions than this, the table holds the worst and the best half of this number."""
NAMED = 20
"""How many names a list spells out."""
SPELLED = 3
"""Up to how many weak contexts the verdict gives reasons for."""
NEAR = 0.03
"""A coverage nearer than this to its level is called near; the sd of an oracle's coverage in a small panel."""
UNINFORMATIVE = 0.5
"""Above this share of observation noise, coverage says little."""
FARTHEST = 2.0
"""Pictures of EV end here; what lies beyond is drawn as an arrow at the edge."""

MODEL, REPLICATE, RANDOM_OTHER = "model", "replicate", "random_other"
ORDER = (MODEL, "source_delta", "train_mean", "no_change", RANDOM_OTHER, REPLICATE)
WORDS = {
    MODEL: "model",
    "source_delta": "source delta",
    "train_mean": "train mean",
    "no_change": "no change",
    RANDOM_OTHER: "random other",
    REPLICATE: "replicate",
}
MARKS = {
    MODEL: "circle",
    "source_delta": "triangle",
    "train_mean": "diamond",
    "no_change": "square",
    RANDOM_OTHER: "cross",
    REPLICATE: "plus",
}
THIN = "\u00a0"
"""Keeps a number and its per cent sign on one line."""
EV, PCC, RETRIEVAL = "pfm.ev[", "pfm.pcc_delta[ref=panel", "pfm.retrieval["
COVERAGE_90 = "coverage[level=0.9,"
TITLES = (
    (EV, "Explained variance (EV)"),
    (PCC, "Correlation, panel-centred"),
    (RETRIEVAL, "Retrieval, panel-centred"),
    ("crps_gaussian[", "CRPS"),
    (COVERAGE_90, "Coverage of the 90 % interval"),
)
ANCHORS = ((EV, (0.0, 1.0)), (PCC, (0.0, 1.0)), (RETRIEVAL, (0.5, 1.0)), ("crps", (0.0,)), (COVERAGE_90, (0.9, 1.0)))
COLUMNS = (
    ("EV", EV, ""),
    ("PCC panel", PCC, ""),
    ("Retrieval", RETRIEVAL, ""),
    ("PCC control", "pcc_delta[ref=control_split", ""),
    ("MSE", "mse[", ""),
    ("Coverage 90", COVERAGE_90, "obs_noise=added"),
)
BETTER = {"higher": "higher is better", "lower": "lower is better", "target": "", "none": ""}
STATUS = {"ok": "ok", "undefined": "undefined", "not_applicable": "not applicable"}
VERDICTS = {"powered": "powered", "weak": "weak", "no_signal": "no signal", "unknown": "not testable"}
NO_ENERGY = "no positive signal energy in this condition alone: noise taken out, its true effect is not above zero"


def render(
    metrics: dict[str, Any],
    per_condition: pd.DataFrame,
    calibration: dict[str, Any],
    manifest: dict[str, Any],
    split_card: dict[str, Any],
) -> str:
    """Render one run as one HTML file without any other file.

    Args:
        metrics: What stands in `metrics.json`.
        per_condition: What stands in `per_condition.csv.gz`.
        calibration: What stands in `calibration.json`.
        manifest: What is known of the run so far; it may not be closed yet.
        split_card: `rule`, `params`, `counts`, `ood_axes`.

    Returns:
        The page.
    """
    notes = Notes()
    view = {
        "run": metrics.get("run") or {},
        "panel": metrics.get("panel") or {},
        "short_hash": str((metrics.get("run") or {}).get("split_hash") or manifest.get("split_hash") or "")[:12],
        "verdict": verdict(metrics, calibration),
        "gate": gate_rows(metrics),
        "lanes": [picture(metrics, i, notes) for i in leads(metrics)],
        "headline": headline(metrics, notes),
        "contexts": per_context(metrics),
        "interval_words": interval_words(metrics),
        "skill": skill_rows(metrics),
        "notes": notes.words,
        "full": full_rows(metrics),
        "floors": floor_rows(metrics),
        "calibration": calibration_view(metrics, calibration),
        "separation": separation_view(metrics),
        "conditions": condition_table(metrics, per_condition),
        "split": split_view(metrics, calibration, manifest, split_card),
        "provenance": provenance(metrics, manifest),
        "undefined": undefined_groups(metrics, per_condition),
    }
    return _template().render(**view)


def _template() -> jinja2.Template:
    text = resources.files("perturbfm.eval.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    env = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["number"], env.filters["short"] = number, shortened
    return env.from_string(text)


# --- words and numbers -----------------------------------------------------------------------------


@dataclass
class Notes:
    """Footnotes: each reason gets one number, in order of appearance."""

    words: list[str] = field(default_factory=list)

    def of(self, reason: str) -> int:
        """The number of a reason."""
        if reason not in self.words:
            self.words.append(reason)
        return self.words.index(reason) + 1


def real(value: Any) -> float | None:
    """A finite number, or None."""
    if value is None or isinstance(value, str | bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def number(value: Any, digits: int = 3) -> str:
    """A number for the eye: a dash for none, a true minus, exponents only for the very small and very large."""
    x = real(value)
    if x is None:
        return "–"
    if x != 0 and (abs(x) < 0.5 * 10**-digits or abs(x) >= 1e5):
        text = f"{x:.2e}"
    else:
        text = f"{x:.{digits}f}" if abs(x) < 1000 else f"{x:.0f}"
    return re.sub(r"^-(0\.?0*)$", r"\1", text).replace("-", "−")


def percent(value: Any) -> str:
    """A share in whole per cent."""
    x = real(value)
    return "–" if x is None else f"{number(100 * x, 0)}{THIN}%"


def shortened(names: Iterable[Any], most: int = NAMED) -> str:
    """Names in a row, and how many were left out."""
    known = [str(n) for n in names]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def plain(value: Any) -> str:
    """Any value of a manifest as text."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple | set) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(str, sorted(value) if isinstance(value, set) else value)) or "none"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)


def word(name: str) -> str:
    """A predictor's name in words."""
    return WORDS.get(name, name.replace("_", " "))


def title(identifier: str) -> str:
    """A lead metric's name in words."""
    return next((t for start, t in TITLES if identifier.startswith(start)), identifier.split("[")[0])


def plural(n: int, thing: str) -> str:
    """A count and its noun."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


# --- finding things in the metrics -----------------------------------------------------------------


def model_entries(metrics: Facts) -> Facts:
    """Entries of the judged model by identifier."""
    return metrics.get("metrics") or {}


def predictors(metrics: Facts) -> dict[str, Facts]:
    """Entries of model, floors and replicate, in the order of the page."""
    known = {MODEL: model_entries(metrics), **(metrics.get("floors") or {})}
    rank = {n: k for k, n in enumerate(ORDER)}
    return {n: known[n] or {} for n in sorted(known, key=lambda n: (rank.get(n, 3.5), n))}


def identifiers(metrics: Facts) -> list[str]:
    """Identifiers in the panel's order, then any that it does not list."""
    listed = [str(i) for i in (metrics.get("panel") or {}).get("metrics") or []]
    return listed + sorted(i for i in model_entries(metrics) if i not in set(listed))


def leads(metrics: Facts) -> list[str]:
    """Identifiers of the headline, in the order of `TITLES`."""
    rank = [start for start, _ in TITLES]
    found = [i for i in identifiers(metrics) if (model_entries(metrics).get(i) or {}).get("lead")]
    return sorted(found, key=lambda i: next((k for k, s in enumerate(rank) if i.startswith(s)), len(rank)))


def named(metrics: Facts, start: str, inside: str = "") -> str | None:
    """The first identifier that starts and continues in a certain way."""
    return next((i for i in identifiers(metrics) if i.startswith(start) and inside in i), None)


def value_of(entry: Facts | None) -> float | None:
    """An entry's value where its status is ok."""
    return real(entry.get("value")) if entry and entry.get("status") == "ok" else None


def interval_of(metrics: Facts, identifier: str) -> tuple[float, float] | None:
    """The model's interval of a metric."""
    found = ((metrics.get("intervals") or {}).get("metrics") or {}).get(identifier) or {}
    low, high = real(found.get("low")), real(found.get("high"))
    return (low, high) if low is not None and high is not None else None


def by_verdict(metrics: Facts) -> dict[str, list[str]]:
    """Contexts by the gate's verdict."""
    found: dict[str, list[str]] = {}
    for context, entry in sorted((metrics.get("gate") or {}).items()):
        found.setdefault(str((entry or {}).get("verdict")), []).append(str(context))
    return found


def twin_floor(metrics: Facts) -> str | None:
    """A floor that has the model's value in every metric: the model is then that floor."""
    mine = {i: value_of(e) for i, e in model_entries(metrics).items()}
    known = {i: v for i, v in mine.items() if v is not None}
    for name, entries in predictors(metrics).items():
        theirs = {i: value_of(entries.get(i)) for i in known}
        if name != MODEL and len(known) > 2 and all(_same(v, theirs[i]) for i, v in known.items()):
            return name
    return None


def _same(a: float, b: float | None) -> bool:
    return b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


# --- the verdict -----------------------------------------------------------------------------------


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
        why = "; ".join(_reason(gate[c]) for c in names) if len(names) <= SPELLED else ""
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
        return [f"The share of the true effect that the model explains is {_status(entry)}: {_reason(entry)}."]
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
    return [n for n in predictors(metrics) if n not in (MODEL, REPLICATE, RANDOM_OTHER)]


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
        if sign * floors[best] > sign * mine and not _same(mine, floors[best]):
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
    return [f"There is no replicate to compare with: {_reason(entry)}."] if entry else []


def _calibration_words(metrics: Facts, calibration: Facts) -> list[str]:
    i = named(metrics, COVERAGE_90, "obs_noise=added")
    entry = model_entries(metrics).get(i or "")
    if i is None or entry is None:
        return []
    value = value_of(entry)
    if value is None:
        return [f"Coverage of the 90 % intervals is {_status(entry)}: {_reason(entry)}."]
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


def _status(entry: Facts) -> str:
    return STATUS.get(str(entry.get("status")), "without a status")


def _reason(entry: Facts | None) -> str:
    return str((entry or {}).get("reason") or "no reason is given").rstrip(".")


# --- gate, headline, panel -------------------------------------------------------------------------


def gate_rows(metrics: Facts) -> list[dict[str, Any]]:
    """The gate's table, a row per context."""
    rows = []
    for context, entry in sorted((metrics.get("gate") or {}).items()):
        e = dict(entry or {})
        rows.append({**e, "context": context, "words": VERDICTS.get(str(e.get("verdict")), plain(e.get("verdict")))})
    return rows


@dataclass(frozen=True)
class Axis:
    """A linear axis; positions are per cent of its length."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Position of a value, kept on the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def beyond(self, value: float) -> str:
        """Off which end a value lies."""
        return "left" if value < self.low else ("right" if value > self.high else "")


def axis_for(values: Iterable[float], anchors: Iterable[float] = (), limit: float | None = None) -> Axis:
    """An axis with round ticks that holds values and anchors, cut at `limit` on both sides."""
    known = [*values, *anchors] or [0.0, 1.0]
    if limit is not None:
        known = [min(max(v, -limit), limit) for v in known]
    low, high = min(known), max(known)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    base = 10 ** math.floor(math.log10(rough))
    step = base * next(m for m in (1, 2, 2.5, 5, 10) if m * base >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(round(k * step, 12)) for k in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def picture(metrics: Facts, identifier: str, notes: Notes) -> dict[str, Any]:
    """One metric as lanes: a marker per predictor on a common axis."""
    entry, interval = model_entries(metrics)[identifier], interval_of(metrics, identifier)
    known = {n: e.get(identifier) or {} for n, e in predictors(metrics).items()}
    values = [v for e in known.values() if (v := value_of(e)) is not None] + list(interval or ())
    anchors = next((a for start, a in ANCHORS if identifier.startswith(start)), ())
    axis = axis_for(values, anchors, FARTHEST if identifier.startswith(EV) else None)
    target = level_of(identifier) if entry.get("better") == "target" else None
    return {
        "identifier": identifier,
        "title": title(identifier),
        "meaning": entry.get("meaning") or "",
        "better": BETTER.get(str(entry.get("better")), ""),
        "lanes": [_lane(n, e, axis, interval if n == MODEL else None, notes) for n, e in known.items()],
        "ticks": [{"x": axis.at(t), "text": f"{t:g}".replace("-", "−")} for t in axis.ticks],
        "target": None if target is None else axis.at(target),
        "target_text": "" if target is None else f"{target:g}",
    }


def _lane(name: str, entry: Facts, axis: Axis, interval: tuple[float, float] | None, notes: Notes) -> dict[str, Any]:
    value = value_of(entry)
    lane = {"name": word(name), "mark": MARKS.get(name, "square"), "css": name if name in MARKS else "no_change"}
    if value is None:
        return {**lane, "x": None, "bar": None, "beyond": "", "text": _status(entry), "note": notes.of(_reason(entry))}
    bar = None if interval is None else [axis.at(interval[0]), axis.at(interval[1])]
    return {**lane, "x": axis.at(value), "bar": bar, "beyond": axis.beyond(value), "text": number(value), "note": None}


def level_of(identifier: str) -> float | None:
    """The level in an identifier of coverage."""
    found = re.search(r"\[level=([0-9.]+)", identifier)
    return float(found.group(1)) if found else None


def headline(metrics: Facts, notes: Notes) -> dict[str, Any]:
    """The lead metrics as a table: value, interval, floors, replicate."""
    known = predictors(metrics)
    others = [n for n in known if n != MODEL]
    rows = [
        {
            "identifier": i,
            "title": title(i),
            "model": _cell(known[MODEL].get(i), notes),
            "interval": _interval_cell(metrics, i, notes),
            "others": [_cell(known[n].get(i), notes) for n in others],
        }
        for i in leads(metrics)
    ]
    return {"columns": [word(n) for n in others], "rows": rows}


def _cell(entry: Facts | None, notes: Notes) -> dict[str, Any]:
    value = value_of(entry)
    if value is not None:
        return {"text": number(value), "note": None}
    return {"text": _status(entry or {}), "note": notes.of(_reason(entry))}


def _interval_cell(metrics: Facts, identifier: str, notes: Notes) -> dict[str, Any]:
    bounds, value = interval_of(metrics, identifier), value_of(model_entries(metrics).get(identifier))
    if bounds:
        outside = value is not None and not bounds[0] <= value <= bounds[1]
        why = "The interval does not hold the value: redrawn controls add noise, which moves this metric."
        return {"text": f"{number(bounds[0])} to {number(bounds[1])}", "note": notes.of(why) if outside else None}
    found = ((metrics.get("intervals") or {}).get("metrics") or {}).get(identifier) or {}
    p = real(found.get("sign_flip_p"))
    if p is not None:
        return {"text": f"p = {number(p)} against {word(str(found.get('against')))}", "note": None}
    why = found.get("reason") or (metrics.get("intervals") or {}).get("reason") or "this metric is given no interval"
    return {"text": "none", "note": notes.of(str(why))}


def interval_words(metrics: Facts) -> str:
    """How intervals were made, or why there are none."""
    known = metrics.get("intervals") or {}
    if known.get("rule") == "two_way_bootstrap":
        level = real(known.get("level")) or 0.95
        draws = {int(real(e.get("n_draws")) or 0) for e in (known.get("metrics") or {}).values() if e}
        n = f", {max(draws):,} draws" if draws else ""
        return f"Intervals: {level:.0%} two-way bootstrap over conditions and reference control cells{n}.".replace(
            "%", " %"
        )
    if known.get("rule") == "sign_flip":
        return "Too few conditions for an interval: an exact sign-flip p against the train mean stands instead."
    return f"No intervals: {_reason(known)}."


def per_context(metrics: Facts) -> dict[str, Any] | None:
    """The model's lead metrics by context, where there is more than one."""
    names = sorted(str(c) for c in metrics.get("gate") or {})
    if len(names) < 2:
        return None
    found = leads(metrics)
    known = {i: ((model_entries(metrics).get(i) or {}).get("aggregates") or {}).get("per_context") or {} for i in found}
    rows = [{"context": c, "cells": [number(known[i].get(c)) for i in found]} for c in names]
    return {"columns": [title(i) for i in found], "rows": rows}


def skill_rows(metrics: Facts) -> list[dict[str, Any]]:
    """Skill between train mean and replicate."""
    known = metrics.get("skill") or {}
    order = [i for i in identifiers(metrics) if i in known]
    return [{"identifier": i, **{k: (known[i] or {}).get(k) for k in _SKILL}} for i in order]


_SKILL = ("value", "model", "train_mean", "replicate", "reason")


def full_rows(metrics: Facts) -> list[dict[str, Any]]:
    """Every metric of the panel for the model."""
    rows = []
    for i in identifiers(metrics):
        e = model_entries(metrics).get(i) or {}
        known = e.get("aggregates") or {}
        numbers = {k: known.get(k) for k in ("macro_context", "micro", "cell_weighted")}
        rows.append({**e, **numbers, "identifier": i, "status": _status(e), "reason": e.get("reason") or ""})
    return rows


def floor_rows(metrics: Facts) -> dict[str, Any]:
    """Every metric of the panel for model, floors and replicate."""
    known = predictors(metrics)
    rows = []
    for i in identifiers(metrics):
        cells = []
        for entries in known.values():
            e = entries.get(i) or {}
            value = value_of(e)
            cells.append(
                {"text": _status(e) if value is None else number(value), "why": "" if value is not None else _reason(e)}
            )
        rows.append({"identifier": i, "cells": cells})
    return {"columns": [word(n) for n in known], "rows": rows}


# --- calibration -----------------------------------------------------------------------------------


def calibration_view(metrics: Facts, calibration: Facts) -> dict[str, Any]:
    """Coverage and width by level, and what the scale was learned from."""
    share = value_of(model_entries(metrics).get(named(metrics, "pfm.obs_share[") or ""))
    learned = real(calibration.get("obs_share"))
    levels = coverage_rows(metrics)
    return {
        "levels": levels,
        "diagram": [_points(levels, noise) for noise in ("added", "ignored")],
        "share": share,
        "share_learned": learned,
        "flag": any(s is not None and s > UNINFORMATIVE for s in (share, learned)),
        "facts": _calibration_facts(calibration),
        "note": calibration.get("note") or "",
        "at_bound": bool(calibration.get("at_bound")),
    }


def _calibration_facts(calibration: Facts) -> list[tuple[str, str]]:
    floors = calibration.get("floors") or {}
    return [
        ("Method", plain(calibration.get("method"))),
        ("Factor on the model's variance", number(calibration.get("factor"))),
        ("Factors of the floors", "; ".join(f"{word(n)} {number(v)}" for n, v in sorted(floors.items())) or "–"),
        ("Learned on", f"fold {plain(calibration.get('learned_on'))}, {_learned_from(calibration)}"),
        ("Learned in contexts", _names(calibration.get("learned_in"))),
        ("Measured in contexts", _names(calibration.get("measured_in"))),
        ("Mean squared z on that fold, before", number(calibration.get("mean_z2_before"))),
        ("Mean squared z on that fold, after (1 is calibrated)", number(calibration.get("mean_z2_after"))),
    ]


def _learned_from(calibration: Facts) -> str:
    n, m = (real(calibration.get(k)) for k in ("n_conditions", "n_entries"))
    return f"{'–' if n is None else f'{n:,.0f}'} conditions, {'–' if m is None else f'{m:,.0f}'} condition–gene pairs"


def _names(names: Any) -> str:
    return shortened(names) if names else "–"


def coverage_rows(metrics: Facts) -> list[dict[str, Any]]:
    """A row per level: observed coverage and width, with observation noise added and ignored."""
    rows: dict[float, dict[str, Any]] = {}
    for i in identifiers(metrics):
        found = re.match(r"(coverage|width)\[level=([0-9.]+),.*obs_noise=(\w+)", i)
        if found:
            what, level, noise = found.group(1), float(found.group(2)), found.group(3)
            entry = model_entries(metrics).get(i) or {}
            rows.setdefault(level, {"level": level})[f"{what}_{noise}"] = value_of(entry)
    blank = {f"{w}_{n}": None for w in ("coverage", "width") for n in ("added", "ignored")}
    return [{**blank, **rows[level]} for level in sorted(rows)]


def _points(levels: list[dict[str, Any]], noise: str) -> dict[str, Any]:
    """One line of the reliability diagram, in units of a 220 x 220 field."""
    at = [(r["level"], real(r[f"coverage_{noise}"])) for r in levels]
    dots = [{"x": round(220 * a, 1), "y": round(220 * (1 - b), 1)} for a, b in at if b is not None]
    return {"noise": noise, "dots": dots, "path": " ".join(f"{d['x']},{d['y']}" for d in dots)}


def separation_view(metrics: Facts) -> dict[str, Any] | None:
    """Whether uncertainty rises out of distribution, beside two scores that know nothing of the model."""
    known = metrics.get("separation")
    if not known:
        return None
    names = {
        MODEL: "model's uncertainty",
        "control_variance": "variance of the control cells alone",
        "context_lookup": "look-up: is the context new?",
    }
    rows = []
    for key, words in names.items():
        e = known.get(key) or {}
        value = value_of(e)
        rows.append(
            {"name": words, "text": _status(e) if value is None else number(value), "why": e.get("reason") or ""}
        )
    return {
        "rows": rows,
        "words": _separation_words(known),
        **{k: known.get(k) for k in ("identifier", "axis", "n_in", "n_out")},
    }


def _separation_words(known: Facts) -> str:
    model, blind = (value_of(known.get(k)) for k in (MODEL, "control_variance"))
    if model is None:
        return "The model's uncertainty cannot be read this way here."
    if model < 0.45:
        first = "The model is more certain where the context is new than where it is known: a warning."
    elif model <= 0.55:
        first = "The model's uncertainty does not tell a new context from a known one."
    else:
        first = "The model is less certain where the context is new."
    if model > 0.55 and blind is not None and max(blind, 1 - blind) >= model:
        first += " But the variance of the control cells, which knows nothing of the model, separates as well."
    return first


# --- conditions ------------------------------------------------------------------------------------


def condition_table(metrics: Facts, per_condition: pd.DataFrame) -> dict[str, Any]:
    """The model's values condition by condition; of very many, the worst and the best by EV."""
    columns = [(text, i) for text, start, inside in COLUMNS if (i := named(metrics, start, inside))]
    known = _by_condition(per_condition, [i for _, i in columns])
    ev = named(metrics, EV) or ""
    ranked = sorted(known, key=lambda k: (-math.inf if (v := real(known[k].get(ev, _NOTHING)[0])) is None else -v, k))
    with_ev = [k for k in ranked if real(known[k].get(ev, _NOTHING)[0]) is not None][::-1]
    without = sorted(k for k in known if k not in set(with_ev))
    shown, words = _chosen(with_ev, without)
    rows = [
        {
            "context": k[0],
            "intervention": k[1],
            "n_rows": real(known[k]["n_rows"][0]),
            "cells": [_condition_cell(known[k].get(i, _NOTHING)) for _, i in columns],
        }
        for k in shown
    ]
    heads = [{"text": text, "identifier": i} for text, i in columns]
    return {"columns": heads, "rows": rows, "words": words, "n": len(known)}


_NOTHING: tuple[Any, str, str] = (None, "", "not in the table of conditions")


def _chosen(with_ev: list[tuple[str, str]], without: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    n, half = len(with_ev) + len(without), SHOWN_CONDITIONS // 2
    if n <= SHOWN_CONDITIONS:
        return with_ev + without, _all_words(n)
    if len(with_ev) >= SHOWN_CONDITIONS:
        said = f"Of {n:,} conditions the {half} with the lowest and the {half} with the highest EV are shown"
        said += f" ({len(without):,} have no EV)" if without else ""
        return with_ev[:half] + with_ev[-half:], f"{said}. All stand in per_condition.csv.gz."
    shown = (with_ev + without)[:SHOWN_CONDITIONS]
    said = f"Of {n:,} conditions {SHOWN_CONDITIONS} are shown: {len(with_ev):,} with an EV, then others by name."
    return shown, f"{said} All stand in per_condition.csv.gz."


def _all_words(n: int) -> str:
    return f"All {n} conditions, lowest EV first." if n > 1 else ("One condition." if n else "No conditions.")


def _by_condition(
    per_condition: pd.DataFrame, wanted: list[str]
) -> dict[tuple[str, str], dict[str, tuple[Any, str, str]]]:
    found: dict[tuple[str, str], dict[str, tuple[Any, str, str]]] = {}
    if per_condition.empty:
        return found
    mine = per_condition[(per_condition["predictor"] == MODEL) & per_condition["metric"].isin(wanted)]
    names = ["context", "intervention", "metric", "n_rows", "value", "status", "reason"]
    for context, intervention, metric, n_rows, value, status, reason in mine[names].itertuples(index=False, name=None):
        row = found.setdefault((str(context), str(intervention)), {"n_rows": (n_rows, "", "")})
        row[str(metric)] = (value, str(status), reason if isinstance(reason, str) else "")
    return found


def _condition_cell(known: tuple[Any, str, str]) -> dict[str, Any]:
    value, status, reason = known
    x = real(value)
    if x is not None and status == "ok":
        return {"text": number(x), "sort": f"{x:.6g}", "why": ""}
    short = {"undefined": "undef.", "not_applicable": "n/a"}.get(status, "–")
    return {"text": short, "sort": "", "why": reason or NO_ENERGY}


# --- split and provenance --------------------------------------------------------------------------


def split_view(metrics: Facts, calibration: Facts, manifest: Facts, card: Facts) -> dict[str, Any]:
    """What was held out, and how often the test fold was opened."""
    unknown = manifest.get("unknown_to_train") or {}
    facts = [
        ("Rule", plain(card.get("rule"))),
        ("Hash", plain((metrics.get("run") or {}).get("split_hash") or manifest.get("split_hash"))),
        ("Out-of-distribution axes", plain(list(card.get("ood_axes") or [])) or "none"),
        ("Contexts of the test fold", _names(sorted(metrics.get("gate") or calibration.get("measured_in") or []))),
        *((f"Test {k} that train never saw", shortened(v) if v else "none") for k, v in sorted(unknown.items())),
    ]
    counts = card.get("counts") or {}
    return {
        "facts": facts,
        "params": [(k, plain(v)) for k, v in sorted((card.get("params") or {}).items())],
        "counts": [(k.replace("_", " "), v) for k, v in counts.items()],
        "openings": _openings_words(manifest.get("test_openings")),
    }


def _openings_words(openings: Any) -> str:
    n = real(openings)
    if n is None:
        return "How often this test fold was opened on this machine is not recorded."
    if n <= 1:
        return "On this machine this test fold has been opened once: by this run."
    return (
        f"On this machine this test fold has been opened {n:,.0f} times, this run included. "
        "Every look that leads to a choice makes it less of a test."
    )


def provenance(metrics: Facts, manifest: Facts) -> dict[str, Any]:
    """Where the numbers come from."""
    run, panel = metrics.get("run") or {}, metrics.get("panel") or {}
    data = manifest.get("data") or {}
    facts = [
        ("Run", manifest.get("run_id")),
        ("Started (UTC)", manifest.get("started_utc")),
        ("Command line", manifest.get("command_line")),
        ("Git commit", manifest.get("git_commit") or "not run from a git checkout with a commit"),
        ("Data fingerprint", run.get("fingerprint") or data.get("fingerprint")),
        ("Split hash", run.get("split_hash") or manifest.get("split_hash")),
        ("Config hash", run.get("config_hash") or manifest.get("config_hash")),
        ("Seed", run.get("seed", manifest.get("seed"))),
        ("Panel", f"{plain(panel.get('name'))}, version {plain(panel.get('version'))}"),
        ("Schema", f"{plain(metrics.get('schema'))}, {plain(manifest.get('schema'))}"),
        ("Sweep", manifest.get("sweep")),
        ("Python", manifest.get("python")),
    ]
    return {
        "facts": [(k, plain(v)) for k, v in facts],
        "data": [(k.replace("_", " "), plain(v)) for k, v in sorted(data.items())],
        "packages": [(k, plain(v)) for k, v in sorted((manifest.get("packages") or {}).items())],
    }


# --- what has no value -----------------------------------------------------------------------------


def undefined_groups(metrics: Facts, per_condition: pd.DataFrame) -> list[dict[str, Any]]:
    """Every value that is undefined or not applicable, by reason."""
    found: dict[str, list[dict[str, Any]]] = {}
    for reason, line in [
        *_undefined_entries(metrics),
        *_undefined_others(metrics),
        *_undefined_conditions(per_condition),
    ]:
        found.setdefault(reason, []).append(line)
    return [{"reason": r, "lines": found[r]} for r in sorted(found)]


def _undefined_entries(metrics: Facts) -> list[tuple[str, dict[str, Any]]]:
    known: dict[tuple[str, str, str], list[str]] = {}
    for name, entries in predictors(metrics).items():
        for i in identifiers(metrics):
            e = entries.get(i) or {}
            if value_of(e) is None:
                known.setdefault((_reason(e), _status(e), name), []).append(i)
    merged: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (reason, status, name), ids in known.items():
        merged.setdefault((reason, status, tuple(ids)), []).append(word(name))
    return [
        (reason, {"status": status, "where": f"value of {', '.join(names)}", "ids": which})
        for (reason, status, which), names in merged.items()
    ]


def _undefined_others(metrics: Facts) -> list[tuple[str, dict[str, Any]]]:
    lines: dict[str, list[str]] = {}
    for i, e in sorted((metrics.get("skill") or {}).items()):
        if real((e or {}).get("value")) is None:
            lines.setdefault(_reason(e), []).append(i)
    found = [(r, {"status": "undefined", "where": "skill", "ids": tuple(ids)}) for r, ids in lines.items()]
    known = metrics.get("separation") or {}
    for key in (MODEL, "control_variance", "context_lookup"):
        e = known.get(key)
        if e and value_of(e) is None:
            line = {"status": _status(e), "where": f"separation, {word(key)}", "ids": (str(known.get("identifier")),)}
            found.append((_reason(e), line))
    intervals = metrics.get("intervals") or {}
    if intervals.get("reason"):
        found.append((_reason(intervals), {"status": "not given", "where": "intervals of all metrics", "ids": ()}))
    for i, e in sorted((intervals.get("metrics") or {}).items()):
        if e and interval_of(metrics, i) is None and real(e.get("sign_flip_p")) is None:
            found.append((_reason(e), {"status": "not given", "where": "interval", "ids": (i,)}))
    return found


def _undefined_conditions(per_condition: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """Conditions without a value; predictors and metrics that fail in the same conditions share a line."""
    if per_condition.empty:
        return []
    bad = per_condition[~np.isfinite(pd.to_numeric(per_condition["value"], errors="coerce"))]
    if bad.empty:
        return []
    many = per_condition["context"].nunique() > 1
    labels = bad["intervention"].astype(str) + (" in " + bad["context"].astype(str) if many else "")
    reason = bad["reason"].where(bad["reason"].map(lambda r: isinstance(r, str) and r != ""), NO_ENERGY)
    rows = bad.assign(label=labels, reason=reason.astype(str).str.rstrip("."))
    known: dict[tuple[str, str, tuple[str, ...], str], list[str]] = {}
    for (why, status, name, metric), group in rows.groupby(["reason", "status", "predictor", "metric"], sort=True):
        status_words = "undefined" if status == "ok" else STATUS.get(str(status), str(status))
        key = (str(why), status_words, tuple(sorted(group["label"])), str(name))
        known.setdefault(key, []).append(str(metric))
    merged: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (why, status, conditions, name), ids in known.items():
        merged.setdefault((why, status, conditions, tuple(ids)), []).append(word(name))
    found = []
    for (why, status, conditions, which), names in merged.items():
        where = f"{plural(len(conditions), 'condition')} of {', '.join(names)}: {shortened(conditions)}"
        found.append((why, {"status": status, "where": where, "ids": which}))
    return found
