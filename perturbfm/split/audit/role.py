"""Checks of controls: what a model is shown and what truth is measured against are different cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perturbfm.split.audit.case import PLACES, Case, Column
from perturbfm.split.audit.finding import Finding, found
from perturbfm.split.audit.row import ROLE, equal_rows
from perturbfm.split.split import FOLDS, ROLES
from perturbfm.types import join_labels

LEAST_CONTROLS = 10
"""Controls of a batch from which one role for all of them is no chance of few."""

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
    shown, truth = (set(case.labels.cell_n[case.fold(name)].tolist()) for name in ROLES)
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


def control_halves_by_batch(case: Case) -> Iterator[Finding]:
    """All controls of one batch of a context have the same role, while the context has controls of both.

    Then input and reference controls differ by the batch, and every delta of the context by that difference (between
    batches of one line it was seen larger than most gene effects). Control halves are to be stratified by batch.
    """
    stratum = Column.of(join_labels(case.labels.context_n, case.labels.batch_n, " / "))
    roles = [PLACES.index(name) for name in ROLES]
    by_stratum, by_context = (case.table(column)[:, roles] for column in (stratum, case.context))
    rows = np.flatnonzero(case.place_n >= ROLE)
    context_of = dict(zip(stratum.code_n[rows].tolist(), case.context.code_n[rows].tolist(), strict=True))
    lopsided = [
        stratum.names[s]
        for s, c in context_of.items()
        if by_stratum[s].min() == 0 and by_stratum[s].max() >= LEAST_CONTROLS and by_context[c].min() > 0
    ]
    if lopsided:
        yield found(
            "warn",
            "All controls of a batch have one role",
            given=f"{len(lopsided)} batches (context / batch), first {min(lopsided)}",
            expected="input and reference controls in every batch",
            fix="Make a new split that halves controls within batches.",
            n=len(lopsided),
            examples=lopsided,
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
