"""Whether the model says different things of different perturbations."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import Facts, model_entries, named, status_of, value_of
from perturbfm.eval.report.picture import picture
from perturbfm.eval.report.words import Notes, number

RATIO, TIED = "pfm.variance_ratio[", "pfm.tied_rows["
PAIRS = (
    ("pfm.effective_rank[", "Effective rank of the deltas"),
    ("pfm.pairwise_cosine[", "Mean cosine between deltas"),
)
SAYS_THE_SAME = 0.1
"""Below this share of the true variance between perturbations, the page says that predictions hardly differ."""


def collapse_view(metrics: Facts, notes: Notes) -> dict[str, Any]:
    """Lanes of the four diagnostics, and what they say."""
    plots = []
    if ratio := named(metrics, RATIO):
        plots.append({**picture(metrics, ratio, notes, 1.0, "right"), "title": "Variance between perturbations, ratio"})
    for start, words in PAIRS:
        predicted, truth = (named(metrics, start, f"of={side}") for side in ("predicted", "truth"))
        if predicted:
            aim = value_of(model_entries(metrics).get(truth or ""))
            plots.append({**picture(metrics, predicted, notes, aim, "truth"), "title": words})
    if tied := named(metrics, TIED):
        plots.append({**picture(metrics, tied, notes), "title": "Tied rows"})
    return {"plots": plots, "rows": _rows(metrics), "words": _words(metrics)}


def _rows(metrics: Facts) -> list[dict[str, str]]:
    """Predicted beside truth, as numbers."""
    ratio, tied = named(metrics, RATIO), named(metrics, TIED)
    rows: list[tuple[str, str | None, str | None, str]] = [("Variance ratio across perturbations", ratio, None, "1")]
    rows += [(w, named(metrics, s, "of=predicted"), named(metrics, s, "of=truth"), "") for s, w in PAIRS]
    rows += [("Share of tied rows", tied, None, "0")]
    return [
        {
            "name": name,
            "identifier": mine,
            "predicted": _text(metrics, mine),
            "truth": _text(metrics, truth) if truth else right,
        }
        for name, mine, truth, right in rows
        if mine
    ]


def _text(metrics: Facts, identifier: str) -> str:
    entry = model_entries(metrics).get(identifier) or {}
    value = value_of(entry)
    return status_of(entry) if value is None else number(value)


def _words(metrics: Facts) -> str:
    value = value_of(model_entries(metrics).get(named(metrics, RATIO) or ""))
    if value is None:
        return "How much predictions differ between perturbations cannot be compared with the truth here."
    if value < SAYS_THE_SAME:
        how_much = f"its predictions vary {number(value)} times as much as the truth"
        return f"The model says almost the same of every perturbation: {how_much}."
    between = f"{number(value)} times as much between perturbations as the measured changes"
    return f"In the median gene, predictions vary {between}."
