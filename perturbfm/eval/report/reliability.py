"""Reliability diagram and PIT histogram, with the truth's own noise added and ignored."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.calibration import coverage_rows
from perturbfm.eval.report.entries import Facts, reason_of, status_of
from perturbfm.eval.report.words import number, real

SIDE = 220
"""Side of the reliability diagram; width of a histogram."""
TALL = 110
"""Height of a histogram."""
NOISES = ("added", "ignored")


def reliability_view(metrics: Facts) -> dict[str, Any]:
    """Lines of the diagram and histograms, or why there are none."""
    known = metrics.get("reliability") or {}
    refused = str(known.get("reason") or "") if "status" in known else ""
    return {
        "reason": refused,
        "lines": [] if refused else [_line(metrics, known.get(n) or {}, n) for n in NOISES],
        "histograms": [] if refused else [_histogram(known.get(n) or {}, n) for n in NOISES if known.get(n)],
        "side": SIDE,
        "tall": TALL,
    }


def _line(metrics: Facts, part: Facts, noise: str) -> dict[str, Any]:
    """One line of the diagram; from the panel's few levels where no finer ones are stored."""
    coverage = part.get("coverage") or {}
    pairs = list(zip(coverage.get("nominal") or [], coverage.get("observed") or [], strict=False))
    if not pairs:
        pairs = [(r["level"], r[f"coverage_{noise}"]) for r in coverage_rows(metrics)]
    known = [(a, b) for x, y in pairs if (a := real(x)) is not None and (b := real(y)) is not None]
    dots = [{"x": round(SIDE * a, 1), "y": round(SIDE * (1 - b), 1), "text": f"{a:g}: {number(b)}"} for a, b in known]
    return {
        "noise": noise,
        "dots": dots,
        "path": " ".join(f"{d['x']},{d['y']}" for d in dots),
        "reason": "" if dots else reason_of(part),
        "mace": number(coverage.get("mace")),
        "rmsce": number(coverage.get("rmsce")),
    }


def _histogram(part: Facts, noise: str) -> dict[str, Any]:
    """Bars of one PIT histogram; the dashed line is where all of them would end if the model were calibrated."""
    pit = part.get("pit") or {}
    share = [v for s in pit.get("share") or [] if (v := real(s)) is not None]
    if not share:
        status = status_of(pit if pit else part)
        return {
            "noise": noise,
            "bars": [],
            "status": status,
            "reason": reason_of(pit or part),
            "index": "–",
            "even": 0.0,
        }
    top, wide = max(*share, 2 / len(share)), SIDE / len(share)
    bars = [
        {
            "x": round(k * wide + 1, 1),
            "y": round(TALL * (1 - s / top), 1),
            "w": round(wide - 2, 1),
            "h": round(TALL * s / top, 1),
            "text": f"{k / len(share):g} to {(k + 1) / len(share):g}: {number(100 * s, 1)} %",
        }
        for k, s in enumerate(share)
    ]
    even = round(TALL * (1 - 1 / len(share) / top), 1)
    index = number(pit.get("reliability_index"))
    return {"noise": noise, "bars": bars, "status": "ok", "reason": "", "index": index, "even": even}
