"""Turns the artifacts of one run into one page: `render` gives each section of `page.html.j2` its values."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2
import pandas as pd

from perturbfm.eval.report.audit import audit_view
from perturbfm.eval.report.calibration import calibration_view, separation_view
from perturbfm.eval.report.conditions import condition_table
from perturbfm.eval.report.entries import leads
from perturbfm.eval.report.picture import picture
from perturbfm.eval.report.provenance import provenance, split_view
from perturbfm.eval.report.tables import (
    floor_rows,
    full_rows,
    gate_rows,
    headline,
    interval_words,
    per_context,
    skill_rows,
)
from perturbfm.eval.report.undefined import undefined_groups
from perturbfm.eval.report.verdict import verdict
from perturbfm.eval.report.words import Notes, number, shortened


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
        "audit": audit_view(manifest),
        "provenance": provenance(metrics, manifest),
        "undefined": undefined_groups(metrics, per_condition),
    }
    return _template().render(**view)


def _template() -> jinja2.Template:
    text = resources.files("perturbfm.eval.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    env = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["number"], env.filters["short"] = number, shortened
    return env.from_string(text)
