"""What the audit of the split found, as the manifest says."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import Facts
from perturbfm.eval.report.words import plain, plural

CHIPS = ("pass", "warn", "refuse", "not_checked")
WORDS = {
    "pass": "No check found a leak.",
    "warn": "No check found a leak that forbids the split, but what is said below limits how the numbers may be read.",
    "refuse": "A check found a leak: the numbers of this run must not be used.",
}


def audit_view(manifest: Facts) -> dict[str, Any]:
    """Verdict, the findings that are not a pass with what to do, and those that are."""
    audit = manifest.get("audit") or {}
    verdict = audit.get("verdict")
    if verdict not in WORDS:
        return {"verdict": "", "chip": "", "words": "No audit of the split is recorded.", "rows": [], "passed": []}
    rows = [_row(f) for f in audit.get("findings") or []]
    open_rows = [r for r in rows if r["chip"] != "pass"]
    unseen = len({r["check"] for r in open_rows if r["chip"] == "not_checked"})
    more = f" {plural(unseen, 'check')} could not be made for want of evidence." if unseen else ""
    return {
        "verdict": verdict,
        "chip": verdict,
        "words": WORDS[verdict] + more,
        "rows": open_rows,
        "passed": [r for r in rows if r["chip"] == "pass"],
    }


def _row(finding: Facts) -> dict[str, str]:
    verdict = plain(finding.get("verdict"))
    given, expected = finding.get("given"), plain(finding.get("expected"))
    detail = f": given {plain(given)}, expected {expected}" if given else ""
    return {
        "check": plain(finding.get("check")).replace("_", " "),
        "chip": verdict if verdict in CHIPS else "not_checked",
        "verdict": verdict.replace("_", " "),
        "message": plain(finding.get("message")) + detail,
        "fix": plain(finding.get("fix")),
    }
