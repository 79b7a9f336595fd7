"""Checks of rows: is one cell, under one name or several, on two sides of the split?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from perturbfm.split.audit.case import PLACES, Case, Column
from perturbfm.split.audit.finding import Finding, found, not_checked
from perturbfm.split.audit.naming import WHITELIST, bare_barcode, beyond_chance

ROLE = PLACES.index("input_control")
"""First place that is a control role; those before it are folds."""

NO_MATRIX = "no matrix was shown to the audit"


def same_cell_in_two_folds(case: Case) -> Iterator[Finding]:
    """One cell stands in two folds or roles, by row number, by cell id, or by barcode within one batch.

    A model that has seen a cell needs no generalisation to predict it. Files that were joined twice, or whose ids got
    another suffix on the way, hold cells under two names. Barcodes that agree but for a suffix or file prefix may be
    two cells by chance, so that is a warning, and only where there are more than chance gives.
    """
    every = np.concatenate([case.fold(name) for name in PLACES])
    row, times = np.unique(every, return_counts=True)
    if (times > 1).any():
        yield _one_cell("Rows are in two folds or roles", [str(r) for r in row[times > 1]])
    ids = case.labels.cell_n[row]
    if len(set(ids.tolist())) < len(ids):
        cell = Column.of(case.labels.cell_n)
        twice = np.flatnonzero((case.table(cell) > 0).sum(axis=1) > 1)
        if twice.size:
            yield _one_cell("Cell ids are in two folds or roles", [cell.names[code] for code in twice])
    yield from _shared_barcodes(case)


def _one_cell(message: str, names: list[str]) -> Finding:
    return found(
        "refuse",
        message,
        given=f"{len(names)} of them, first {min(names)}",
        expected="each cell in one fold or control role at most",
        fix="Remove the repeated cells from the file, then make a new split.",
        n=len(names),
        examples=names,
    )


def _shared_barcodes(case: Case) -> Iterator[Finding]:
    rows = np.flatnonzero(case.place_n >= 0)
    bare = [bare_barcode(str(name)) for name in case.labels.cell_n[rows].tolist()]
    rows = rows[[b is not None for b in bare]]
    if not rows.size:
        return
    batch = case.batch.code_n[rows]
    keys = list(zip(batch.tolist(), filter(None, bare), strict=True))
    several = {key for key, times in Counter(keys).items() if times > 1}
    ids: dict[tuple[int, str], set[str]] = defaultdict(set)
    places: dict[tuple[int, str], set[int]] = defaultdict(set)
    for key, row in zip(keys, rows.tolist(), strict=True):
        if key in several:
            ids[key].add(str(case.labels.cell_n[row]))
            places[key].add(int(case.place_n[row]))
    names = [min(ids[key]) for key in ids if len(ids[key]) > 1 and len(places[key]) > 1]
    expected = float((np.bincount(batch).astype(float) ** 2).sum() / (2 * WHITELIST))
    if names and beyond_chance(len(names), expected):
        yield found(
            "warn",
            "Barcodes of one batch are in two folds or roles under ids that differ in suffix or prefix only",
            given=f"{len(names)} barcodes, first {min(names)}",
            expected=f"about {expected:.1f} by chance, were they different cells of several lanes",
            fix="If the file was joined from copies, remove them; if these are lanes, name data.batch_column.",
            n=len(names),
            examples=names,
        )


def duplicated_expression(case: Case) -> Iterator[Finding]:
    """Rows of two folds (or of a fold and a control role) have the same expression under other ids.

    A cell that was renamed or copied is still the same cell, also where the copy was normalised otherwise: the same
    genes are zero, and the others are in the same order of size. Rows of so few genes or values that chance makes them
    equal (20 nonzero genes; for copies but for a normalisation 10 values) are counted apart and only warned of.
    """
    if case.evidence.x_ng is None:
        yield not_checked(NO_MATRIX, "Give the matrix in the evidence.")
        return
    yield from equal_rows(case, lambda places: min(places) < ROLE, "Rows of different folds", "Rows of few genes")


def equal_rows(case: Case, concerns: Callable[[set[int]], bool], problem: str, problem_few: str) -> Iterator[Finding]:
    """Findings on groups of equal rows whose places concern a check."""
    for few, rescaled in ((False, False), (True, False), (False, True), (True, True)):
        verdict, message = ("warn", problem_few) if few else ("refuse", problem)
        groups = [g for g in case.duplicates.groups(few, rescaled) if concerns({int(case.place_n[r]) for r in g})]
        if not groups:
            continue
        cells = [min(str(case.labels.cell_n[r]) for r in g) for g in groups]
        n = sum(len(g) for g in groups)
        where = sorted({PLACES[case.place_n[r]] for g in groups for r in g})
        yield found(
            verdict,
            f"{message} have the same expression" + (" but for a normalisation" if rescaled else ""),
            given=f"{n} rows in {len(groups)} groups, in {', '.join(where)}, first {min(cells)}",
            expected="no two cells with all values equal" if not few else "equality by chance only",
            fix="Remove repeated cells from the file, then make a new split."
            if not few
            else "Look at the cells named: nearly empty cells are better filtered out before splitting.",
            n=n,
            examples=cells,
        )
