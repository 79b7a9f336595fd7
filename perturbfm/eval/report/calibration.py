"""Coverage and width of the intervals by level, and what their scale was learned from."""

from __future__ import annotations

import re
from typing import Any

from perturbfm.eval.report.entries import Facts, identifiers, model_entries, named, value_of
from perturbfm.eval.report.words import names_or_dash, number, plain, real, word

UNINFORMATIVE = 0.5
"""Above this share of observation noise, coverage says little."""


def calibration_view(metrics: Facts, calibration: Facts) -> dict[str, Any]:
    """Coverage and width by level, and what the scale was learned from."""
    share = value_of(model_entries(metrics).get(named(metrics, "pfm.obs_share[") or ""))
    learned = real(calibration.get("obs_share"))
    levels = coverage_rows(metrics)
    return {
        "levels": levels,
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
        ("Learned in contexts", names_or_dash(calibration.get("learned_in"))),
        ("Measured in contexts", names_or_dash(calibration.get("measured_in"))),
        ("Mean squared z on that fold, before", number(calibration.get("mean_z2_before"))),
        ("Mean squared z on that fold, after (1 is calibrated)", number(calibration.get("mean_z2_after"))),
    ]


def _learned_from(calibration: Facts) -> str:
    n, m = (real(calibration.get(k)) for k in ("n_conditions", "n_entries"))
    return f"{'–' if n is None else f'{n:,.0f}'} conditions, {'–' if m is None else f'{m:,.0f}'} condition–gene pairs"


def coverage_rows(metrics: Facts) -> list[dict[str, Any]]:
    """A row per level: observed coverage and width, with observation noise added and ignored."""
    rows: dict[float, dict[str, Any]] = {}
    for i in (i for i in identifiers(metrics) if "agg=pooled" not in i):
        found = re.match(r"(coverage|width)\[level=([0-9.]+),.*obs_noise=(\w+)", i)
        if found:
            what, level, noise = found.group(1), float(found.group(2)), found.group(3)
            entry = model_entries(metrics).get(i) or {}
            rows.setdefault(level, {"level": level})[f"{what}_{noise}"] = value_of(entry)
    blank = {f"{w}_{n}": None for w in ("coverage", "width") for n in ("added", "ignored")}
    return [{**blank, **rows[level]} for level in sorted(rows)]
