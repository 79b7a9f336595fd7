"""Which metrics a run reports, under which identifiers and version.

Comes in: the functions of `metric/`. Goes out: `Panel`s. May import: `eval.metric`, `eval.case`, errors.
To add a metric to a panel: one line in `full.py`; a number that moves is a new version.
"""

from __future__ import annotations

from dataclasses import replace

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.panel.full import FULL, QUICK
from perturbfm.eval.panel.metric import Metric, Panel

PANELS = (FULL, QUICK)

SHIFTED, EMITTED = "cells=control_shifted", "cells=predicted"
"""How an identifier says whose cells were compared: input controls moved by a predicted mean, or the model's own."""

LEADS_WITH_CELLS = "edist[ground=euclidean,stat=U,"


def panel_named(name: str) -> Panel:
    """The panel of a name.

    Raises:
        UnknownChoice: There is none of that name.
    """
    known = {p.name: p for p in PANELS}
    if name not in known:
        raise UnknownChoice(
            f"Unknown panel {name!r}",
            given=name,
            expected=f"one of {', '.join(known)}",
            fix=f"Did you mean {nearest(name, known)}?",
        )
    return known[name]


def score(panel: Panel, case: Case) -> dict[str, PerCondition]:
    """Statistics of every metric of a panel."""
    return {m.identifier: m.function(case) for m in panel.metrics}


def without_noise(panel: Panel) -> Panel:
    """The panel of a file without cells: the noise of its truth is unknown, so EV says so and nothing is comparable."""
    renamed = tuple(
        replace(m, identifier=m.identifier.replace("noise=subtracted", "noise=unknown")) for m in panel.metrics
    )
    return replace(panel, comparable=False, metrics=renamed)


def with_emitted_cells(panel: Panel) -> Panel:
    """The panel of a model that emits cells: its own cells are compared, and the unbiased energy distance leads.

    Floors emit none: under the same identifiers theirs are still input controls moved by what they predict.
    """
    renamed = tuple(
        replace(
            m,
            identifier=m.identifier.replace(SHIFTED, EMITTED),
            meaning=m.meaning.replace("input controls moved by the prediction", "predicted cells"),
            lead=m.lead or m.identifier.startswith(LEADS_WITH_CELLS),
        )
        for m in panel.metrics
    )
    return replace(panel, metrics=renamed)


__all__ = [
    "FULL",
    "PANELS",
    "QUICK",
    "Metric",
    "Panel",
    "panel_named",
    "score",
    "with_emitted_cells",
    "without_noise",
]
