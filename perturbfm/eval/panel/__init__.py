"""Which metrics a run reports, under which identifiers and version.

Comes in: the functions of `metric/`. Goes out: `Panel`s. May import: `eval.metric`, `eval.case`, errors.
To add a metric to a panel: one line in `full.py`; a number that moves is a new version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from perturbfm.errors import MetricFailed, PerturbFMError, UnknownChoice, nearest
from perturbfm.eval.case import Case, PerCondition
from perturbfm.eval.panel.full import FULL, QUICK
from perturbfm.eval.panel.metric import Metric, Panel

PANELS = (FULL, QUICK)

SHIFTED, EMITTED = "cells=control_shifted", "cells=predicted"
"""How an identifier says whose cells were compared: input controls moved by a predicted mean, or the model's own."""

LEADS_WITH_CELLS = "edist[ground=euclidean,stat=U,cells=control_shifted]"


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


class Kept(Protocol):
    """Statistics that were computed before, so that a killed evaluation goes on where it stopped."""

    def get(self, identifier: str) -> PerCondition | None:
        """What was kept under an identifier, or None."""

    def put(self, identifier: str, stats: PerCondition) -> None:
        """Keep statistics."""


def score(panel: Panel, case: Case, kept: Kept | None = None) -> dict[str, PerCondition]:
    """Statistics of every metric of a panel, each by itself: one that fails does not lose the others.

    Args:
        panel: Which metrics.
        case: What is judged.
        kept: What was computed before is taken from here, and what is computed goes there; None keeps nothing.

    Raises:
        MetricFailed: A metric raised something that has no name here; the others are kept.
    """
    found: dict[str, PerCondition] = {}
    failed: dict[str, Exception] = {}
    for m in panel.metrics:
        stats = kept.get(m.identifier) if kept is not None else None
        if stats is None:
            try:
                stats = m.function(case)
            except PerturbFMError:
                raise
            except Exception as e:  # noqa: BLE001 - named below, with all that failed
                failed[m.identifier] = e
                continue
            if kept is not None:
                kept.put(m.identifier, stats)
        found[m.identifier] = stats
    if failed:
        first, error = next(iter(failed.items()))
        raise MetricFailed(
            f"{len(failed)} of {len(panel.metrics)} metrics failed, so the panel is not complete",
            given="; ".join([f"{first}: {type(error).__name__}: {error}", *list(failed)[1:6]]),
            expected="a value or a reason from every metric",
            fix="Please report it. What the other metrics gave is kept: `perturbfm eval RUN` goes on from there.",
        ) from error
    return found


def on_cells(panel: Panel, wanted: bool) -> Panel:
    """The part of a panel that compares cells, or the part that does not."""
    return replace(panel, metrics=tuple(m for m in panel.metrics if m.on_cells == wanted))


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
            lead=m.lead or m.identifier == LEADS_WITH_CELLS,
        )
        for m in panel.metrics
    )
    return replace(panel, metrics=renamed)


__all__ = [
    "FULL",
    "PANELS",
    "QUICK",
    "Kept",
    "Metric",
    "Panel",
    "on_cells",
    "panel_named",
    "score",
    "with_emitted_cells",
    "without_noise",
]
