"""Checks of controls: what a model is shown and what truth is measured against are different cells."""

from __future__ import annotations

from collections.abc import Iterator

from perturbfm.split.audit.case import PLACES, Case, Column
from perturbfm.split.audit.finding import Finding, found
from perturbfm.split.audit.row import ROLE, equal_rows
from perturbfm.split.split import FOLDS, ROLES

REMAKE = "Do not use this split; make a new one with `perturbfm splits create`."


def controls_shared(case: Case) -> Iterator[Finding]:
    """A control cell is both shown to a model and part of the truth, or a row has a role that its label forbids.

    The input control stands in every prediction and the reference control in every truth: their common noise looks like
    a predicted effect (predicting no change then earns a correlation of 0.47 on effects that are not there).
    """
    is_control_n = case.labels.is_control_n.astype(bool)
    for names, wanted, problem in (
        (ROLES, True, "Perturbed rows serve as controls"),
        (FOLDS, False, "Controls are in a fold"),
    ):
        for name in names:
            rows = case.fold(name)
            wrong = rows[is_control_n[rows] != wanted]
            if wrong.size:
                yield found(
                    "refuse",
                    problem,
                    given=f"{wrong.size} rows of {name}, first row {wrong[0]}",
                    expected="control rows in the two control roles only, perturbed rows in folds only",
                    fix=REMAKE,
                    n=int(wrong.size),
                    examples=[str(case.labels.cell_n[row]) for row in wrong],
                )
    yield from _shared_ids(case)
    if case.evidence.x_ng is not None:
        yield from equal_rows(
            case,
            lambda places: len(places) > 1 and min(places) >= ROLE,
            "Input and reference controls",
            "Nearly empty controls",
        )


def _shared_ids(case: Case) -> Iterator[Finding]:
    cell = Column.of(case.labels.cell_n)
    shown, truth = (cell.at(case.fold(name)) for name in ROLES)
    both = sorted(shown & truth)
    if both:
        yield found(
            "refuse",
            "Controls are shown to models and part of the truth",
            given=f"{len(both)} cells, first {both[0]}",
            expected="each control cell in one of the roles " + " and ".join(PLACES[ROLE:]),
            fix=REMAKE,
            n=len(both),
            examples=both,
        )


def control_match(case: Case) -> Iterator[Finding]:
    """The data match controls in another way than the split was dealt for.

    Controls were halved so that each half serves every context (and batch); matched otherwise, a batch may have
    controls on one side only.
    """
    match = case.split.params.get("match")
    if match is not None and match != case.labels.match:
        yield found(
            "refuse",
            "The split was dealt for another match of controls",
            given=f"data that match by {case.labels.match}",
            expected=f"match by {match}",
            fix=f"Set data.match={match}, or freeze a split for this match.",
            n=1,
        )
