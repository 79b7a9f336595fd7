"""Where and how much: columns of contexts, batches, settings, covariates, doses, times and library sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perturbfm.data.doctor import vocabulary
from perturbfm.data.doctor.column import PertColumn, is_control
from perturbfm.data.doctor.survey import Survey

MOST_CONTEXTS, MOST_BATCHES, MOST_SETTINGS = 200, 500, 30
LEAST_CONTROLS = 4
"""Controls of a context and batch below which matching within batches is not possible."""


def context_column(survey: Survey, pert: PertColumn) -> str | None:
    """A column of cell lines or types; one with controls in every level comes first, a constant one last."""
    found = []
    for c in survey.coded:
        place = vocabulary.rank(c, vocabulary.CONTEXT)
        if place is None or c == pert.name or not 1 <= survey.levels(c).size <= MOST_CONTEXTS:
            continue
        if (survey.levels(c).index == "").any() or follows(survey, c, pert.name):
            continue
        one = survey.levels(c).size == 1
        found.append((one, not controls_everywhere(survey, pert, [c]), place, c))
    return min(found)[3] if found else None


def setting_columns(survey: Survey, pert: PertColumn, context: str | None) -> list[str]:
    """Columns of what else was done to the cells: some perturbation is under several levels, each with controls."""
    found: list[str] = []
    for c in survey.text:
        known = vocabulary.rank(c, vocabulary.SETTING) is not None
        if not known or c in (pert.name, context) or not 2 <= survey.levels(c).size <= MOST_SETTINGS:
            continue
        if (survey.levels(c).index == "").any() or follows(survey, c, pert.name):
            continue
        if any(same(survey, c, other) for other in [*found, *([context] if context else []), pert.name]):
            continue
        if controls_everywhere(survey, pert, [x for x in (context, *found, c) if x is not None]):
            found.append(c)
    return found


def batch_column(survey: Survey, pert: PertColumn, context: Sequence[str]) -> str | None:
    """A column of batches in which controls can be matched: some in every context and batch with perturbed rows."""
    ranked = [(place, c) for c in survey.coded if (place := vocabulary.rank(c, vocabulary.BATCH)) is not None]
    for _, c in sorted(ranked):
        levels = survey.levels(c)
        if c == pert.name or c in context or not 2 <= levels.size <= MOST_BATCHES or (levels.index == "").any():
            continue
        if len(context) == 1 and (same(survey, c, context[0]) or follows(survey, c, context[0])):
            continue
        if controls_everywhere(survey, pert, [*context, c], LEAST_CONTROLS):
            return c
    return None


def unmatched_batches(survey: Survey, pert: PertColumn, context: Sequence[str]) -> tuple[str, list[str], int] | None:
    """A column of batches, those of them in which controls cannot be matched, and how many there are."""
    ranked = [(place, c) for c in survey.coded if (place := vocabulary.rank(c, vocabulary.BATCH)) is not None]
    treated = ~is_control(survey, pert) & ~np.isin(survey.words(pert.name), list(pert.missing))
    for _, c in sorted(ranked):
        n = survey.levels(c).size
        if c == pert.name or c in context or not 2 <= n <= MOST_BATCHES or told_by(survey, c, context):
            continue
        joint = survey.words([*context, c])
        n_control = pd.Series(joint[is_control(survey, pert)], dtype=object).value_counts()
        lacking = treated & (pd.Series(joint).map(n_control).fillna(0).to_numpy() < LEAST_CONTROLS)
        if lacking.any():
            return c, sorted({str(v) for v in survey.words(c)[lacking]}), n
    return None


def covariates(survey: Survey, used: Sequence[str | None]) -> list[str]:
    """Columns of donors, studies and the like: 2 to n/20 levels, not a copy of a used one."""
    found: list[str] = []
    taken = [c for c in used if c is not None]
    for c in survey.text:
        levels = survey.levels(c)
        known = vocabulary.rank(c, vocabulary.COVARIATE) is not None
        if not known or c in taken or not 2 <= levels.size <= max(2, survey.n_obs // 20) or (levels.index == "").any():
            continue
        if c not in ("dose", "time") and not any(same(survey, c, other) for other in taken):
            found.append(c)
            taken.append(c)
    return found


def named(survey: Survey, names: Sequence[str], *, numbers: bool | None = None, least: int = 1) -> str | None:
    """The first column of some names with so many levels, of numbers, of labels, or of either."""
    found = []
    for c in survey.obs.columns:
        place = vocabulary.rank(c, names)
        kind = c not in survey.text
        if place is not None and (numbers is None or kind == numbers) and survey.obs[c].nunique() >= least:
            found.append((place, str(c)))
    return min(found)[1] if found else None


def size_column(survey: Survey, sums: np.ndarray) -> tuple[str | None, str]:
    """Library sizes: a column whose values exceed the row sums says that genes were left out."""
    ranked = [(place, c) for c in survey.obs.columns if (place := vocabulary.rank(c, vocabulary.SIZE)) is not None]
    for c in (c for _, c in sorted(ranked) if c not in survey.text):
        size = survey.obs[c].to_numpy(np.float64, na_value=np.nan)[survey.sample.row_n]
        if not (len(size) and np.isfinite(size).all() and (size > 0).all()):
            continue
        share = float(np.median(sums / size))
        if share < 0.98 and bool((sums <= size * 1.001).mean() > 0.99):
            return c, f"row sums are {share:.0%} of it: the file holds a part of the genes"
        if share >= 0.98:
            return None, f"row sums equal {c}"
    return None, "no column of library sizes"


def controls_everywhere(survey: Survey, pert: PertColumn, columns: Sequence[str], least: int = 1) -> bool:
    """Whether every level (or tuple of levels) with perturbed rows has so many control rows."""
    key = np.zeros(survey.n_obs, dtype=np.int64)
    for c in columns:
        code = survey.codes(c)
        key = pd.factorize(key * (int(code.max(initial=0)) + 1) + code)[0]
    control = is_control(survey, pert)
    treated = ~control & ~np.isin(survey.words(pert.name), list(pert.missing))
    n_control = np.bincount(key[control], minlength=int(key.max(initial=0)) + 1)
    return bool(treated.any()) and bool((n_control[np.unique(key[treated])] >= least).all())


def follows(survey: Survey, column: str, other: str) -> bool:
    """Whether a column of several levels says nothing that another does not: each level of the other has one of it."""
    pairs = _n_pairs(survey, column, other)
    return pairs == survey.levels(other).size and survey.levels(column).size > 1


def told_by(survey: Survey, column: str, others: Sequence[str]) -> bool:
    """Whether others, joined, tell the value of a column."""
    if not others:
        return survey.levels(column).size < 2
    joint = pd.factorize(survey.words(others))[0].astype(np.int64)
    code = survey.codes(column)
    return len(np.unique(joint * (int(code.max(initial=0)) + 1) + code)) == len(np.unique(joint))


def same(survey: Survey, column: str, other: str) -> bool:
    """Whether two columns say the same in other words."""
    return _n_pairs(survey, column, other) == survey.levels(column).size == survey.levels(other).size


def _n_pairs(survey: Survey, column: str, other: str) -> int:
    a, b = survey.codes(column).astype(np.int64), survey.codes(other)
    return len(np.unique(a * (int(b.max(initial=0)) + 1) + b))
