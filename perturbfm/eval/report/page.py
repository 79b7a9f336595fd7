"""Turns the artifacts of one run into one page: `render` gives each section of `page.html.j2` its values."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import jinja2
import pandas as pd

from perturbfm.eval.report.audit import audit_view
from perturbfm.eval.report.calibration import calibration_view
from perturbfm.eval.report.collapse import collapse_view
from perturbfm.eval.report.conditions import condition_table
from perturbfm.eval.report.deltas import delta_view
from perturbfm.eval.report.entries import identifiers, leads
from perturbfm.eval.report.external import external_view
from perturbfm.eval.report.picture import lead_picture
from perturbfm.eval.report.provenance import provenance, split_view
from perturbfm.eval.report.reliability import reliability_view
from perturbfm.eval.report.risk import risk_view
from perturbfm.eval.report.separation import separation_view
from perturbfm.eval.report.suites import suite_groups
from perturbfm.eval.report.tables import gate_rows, headline, interval_words, per_context, skill_rows
from perturbfm.eval.report.undefined import undefined_groups
from perturbfm.eval.report.verdict import verdict
from perturbfm.eval.report.words import Notes, number


def render(
    metrics: dict[str, Any],
    per_condition: pd.DataFrame,
    calibration: dict[str, Any],
    manifest: dict[str, Any],
    split_card: dict[str, Any],
    deltas: dict[str, Any] | None = None,
) -> str:
    """Render one run as one HTML file without any other file.

    Args:
        metrics: What stands in `metrics.json`.
        per_condition: What stands in `per_condition.csv.gz`.
        calibration: What stands in `calibration.json`.
        manifest: What is known of the run so far; it may not be closed yet.
        split_card: `rule`, `params`, `counts`, `ood_axes`.
        deltas: Predicted and true deltas of a few conditions, as from `eval.shown.shown_deltas`.

    Returns:
        The page.
    """
    view = {
        "run": metrics.get("run") or {},
        "panel": metrics.get("panel") or {},
        "short_hash": str((metrics.get("run") or {}).get("split_hash") or manifest.get("split_hash") or "")[:12],
        "verdict": verdict(metrics, calibration),
        "gate": gate_rows(metrics),
        **_headline(metrics),
        "n_metrics": len(identifiers(metrics)),
        "suites": suite_groups(metrics),
        "conditions": condition_table(metrics, per_condition),
        "deltas": delta_view(metrics, deltas or {}),
        "calibration": calibration_view(metrics, calibration),
        "reliability": reliability_view(metrics),
        "risk": risk_view(metrics),
        "separation": separation_view(metrics),
        "split": split_view(metrics, calibration, manifest, split_card),
        "audit": audit_view(manifest),
        "external": external_view(metrics),
        "provenance": provenance(metrics, manifest),
        "undefined": undefined_groups(metrics, per_condition),
    }
    return _template().render(**view)


def _headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """Pictures and table of the headline, then collapse: they share one row of footnotes."""
    notes = Notes()
    lanes, table = [lead_picture(metrics, i, notes) for i in leads(metrics)], headline(metrics, notes)
    n = len(notes.words)
    collapse = collapse_view(metrics, notes)
    return {
        "lanes_of_leads": lanes,
        "flagged": [row["title"] for row in table["rows"] if row["range"]["flagged"]],
        "headline": table,
        "contexts": per_context(metrics),
        "interval_words": interval_words(metrics),
        "skill": skill_rows(metrics),
        "collapse": collapse,
        "notes": notes.words[:n],
        "collapse_notes": notes.words[n:],
    }


@cache
def _template() -> jinja2.Template:
    env = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_part),
    )
    env.filters["number"] = number
    return env.get_template("page.html.j2")


def _part(name: str) -> str:
    """Text of one file of the page, by its path in this folder."""
    return resources.files("perturbfm.eval.report").joinpath(*name.split("/")).read_text(encoding="utf-8")
