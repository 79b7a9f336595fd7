"""What is known of another tool's predictions: the file, and what its audit found."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.audit import CHIPS
from perturbfm.eval.report.entries import Facts
from perturbfm.eval.report.words import plain


def external_view(metrics: Facts) -> dict[str, Any] | None:
    """Facts and findings; None for a model that was trained here."""
    told = metrics.get("external")
    if not told:
        return None
    rows = [_row(f) for f in told.get("findings") or []]
    verdict = plain(told.get("verdict"))
    return {
        "verdict": verdict,
        "chip": verdict if verdict in CHIPS else "not_checked",
        "facts": [
            ("File", f"{plain(told.get('file'))}, rows are {plain(told.get('form'))}"),
            ("SHA-256", plain(told.get("sha256"))),
            ("Variance", plain(told.get("variance"))),
            ("Calibration fold", plain(told.get("calibration_fold"))),
            ("Controls are matched", f"by batches {plain(told.get('batches'))}"),
        ],
        "rows": [r for r in rows if r["chip"] != "pass"],
        "passed": [r for r in rows if r["chip"] == "pass"],
    }


def _row(finding: Facts) -> dict[str, str]:
    verdict = plain(finding.get("verdict"))
    return {
        "check": plain(finding.get("check")).replace("_", " "),
        "chip": verdict if verdict in CHIPS else "not_checked",
        "verdict": verdict.replace("_", " "),
        "message": plain(finding.get("message")),
    }
