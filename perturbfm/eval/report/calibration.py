"""What is shown of uncertainty: coverage and width, the reliability diagram, separation."""

from __future__ import annotations

import re
from typing import Any

from perturbfm.eval.report.entries import Facts, identifiers, model_entries, named, status_of, value_of
from perturbfm.eval.report.words import MODEL, names_or_dash, number, plain, real, word

UNINFORMATIVE = 0.5
"""Above this share of observation noise, coverage says little."""


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


def _points(levels: list[dict[str, Any]], noise: str) -> dict[str, Any]:
    """One line of the reliability diagram, in units of a 220 x 220 field."""
    at = [(r["level"], real(r[f"coverage_{noise}"])) for r in levels]
    dots = [{"x": round(220 * a, 1), "y": round(220 * (1 - b), 1)} for a, b in at if b is not None]
    return {"noise": noise, "dots": dots, "path": " ".join(f"{d['x']},{d['y']}" for d in dots)}


def separation_view(metrics: Facts) -> dict[str, Any] | None:
    """Whether uncertainty rises out of distribution, beside two scores that know nothing of the model."""
    known = metrics.get("separation")
    if not known or known.get("axis") == "none":
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
            {"name": words, "text": status_of(e) if value is None else number(value), "why": e.get("reason") or ""}
        )
    return {
        "rows": rows,
        "words": _separation_words(known),
        **{k: known.get(k) for k in ("identifier", "axis", "n_in", "n_out")},
    }


def _separation_words(known: Facts) -> str:
    model, blind = (value_of(known.get(k)) for k in (MODEL, "control_variance"))
    axis = known.get("axis") or "context"
    if model is None:
        return "The model's uncertainty cannot be read this way here."
    if model < 0.45:
        first = f"The model is more certain where the {axis} is new than where it is known: a warning."
    elif model <= 0.55:
        first = f"The model's uncertainty does not tell a new {axis} from a known one."
    else:
        first = f"The model is less certain where the {axis} is new."
    if model > 0.55 and blind is not None and max(blind, 1 - blind) >= model:
        first += " But the variance of the control cells, which knows nothing of the model, separates as well."
    return first
