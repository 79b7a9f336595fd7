"""Checks of design: is what is held out told apart from the batch it was measured in?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perturbfm.split.audit.case import Case, Column
from perturbfm.split.audit.finding import Finding, found, not_checked
from perturbfm.split.split import FOLDS

BATCH_COLUMNS = ("batch", "dataset", "study", "plate", "lane", "library", "chip", "run", "sequencing", "date")
STRONG = 0.9
"""Cramér's V from which a batch stands for the axis."""

MOST_LEVELS = 200


def axis_confounded_with_batch(case: Case) -> Iterator[Finding]:
    """What is held out coincides with a batch, data set or mode.

    Then a model that corrects batches, or fails to, looks as if it had transferred, or failed to: the two cannot be
    told apart with these data. That is no leak, so it is a warning.
    """
    rows = np.flatnonzero((case.place_n >= 0) & (case.place_n < len(FOLDS)))
    others = [(name, c) for name, c in _batches(case) if 1 < len(c.at(rows)) <= MOST_LEVELS]
    if not others:
        yield not_checked(
            "all rows are of one batch, data set and mode as far as the labels say",
            "Name the batch in data.batch_column, or in data.covariates.",
        )
        return
    for axis in case.axes:
        level = _levels(case, axis)
        test = case.tested(axis)
        train = case.split.train_idx
        for name, batch in others:
            if case.column_name(axis) == name or axis == name or not len(test):
                continue
            apart = not batch.at(test) & batch.at(train)
            v = 0.0 if level is None else cramers_v(level.code_n[rows], batch.code_n[rows])
            if apart or v >= STRONG:
                yield _confounded(axis, name, v, apart, batch.at(test))


def _confounded(axis: str, name: str, v: float, apart: bool, values: set[str]) -> Finding:
    how = f"no {name} of the test is in train" if apart else f"Cramér's V of {axis} and {name} is {v:.2f}"
    return found(
        "warn",
        f"The held-out {axis} coincides with {name}",
        given=how,
        expected=f"each {name} on both sides, and a V below {STRONG:g}",
        fix=f"Do not read a difference as one of {axis}: it may be one of {name}.",
        n=len(values),
        examples=values,
    )


def _batches(case: Case) -> Iterator[tuple[str, Column]]:
    yield "batch", case.batch
    yield "mode", case.mode
    for name in sorted(case.labels.covariates):
        if any(word in name.casefold() for word in BATCH_COLUMNS):
            yield name, case.covariate(name)


def _levels(case: Case, axis: str) -> Column | None:
    if axis == "context":
        return case.context
    if axis == "perturbation":
        return case.pert
    name = case.column_name(axis)
    return case.covariate(str(name)) if name in case.labels.covariates else None


def cramers_v(one_n: np.ndarray, other_n: np.ndarray) -> float:
    """Cramér's V of two columns of codes: sqrt(chi2 / (n (min(levels) - 1))); 0 where a column has one level."""
    _, one = np.unique(one_n, return_inverse=True)
    _, other = np.unique(other_n, return_inverse=True)
    r, c = int(one.max(initial=0)) + 1, int(other.max(initial=0)) + 1
    if min(r, c) < 2:
        return 0.0
    seen = np.bincount(one * c + other, minlength=r * c).reshape(r, c).astype(np.float64)
    n = seen.sum()
    expected = seen.sum(axis=1, keepdims=True) * seen.sum(axis=0, keepdims=True) / n
    chi2 = float(((seen - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi2 / (n * (min(r, c) - 1))))
