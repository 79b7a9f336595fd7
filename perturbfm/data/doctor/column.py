"""Which column means what: by its name, held against what is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perturbfm.data.doctor import vocabulary
from perturbfm.data.doctor.survey import Survey, words

MOST_CONTEXTS, MOST_BATCHES = 200, 500
LEAST_CONTROLS = 4
"""Controls of a context and batch below which matching within batches is not possible."""

GUIDE_PATTERN = r"^(.+?)(?:[_-](?:g|sg|guide)?\d+|(?<=[A-Z0-9])s?g\d+)$"


@dataclass(frozen=True)
class PertColumn:
    """The column of perturbations, and how its labels read.

    Attributes:
        name: The column.
        controls: Labels of untouched cells.
        missing: Labels that say there is none.
        delimiter: What joins the parts of combinations.
        drop_control_parts: Whether singles are written with a control part (`GENE+ctrl`).
        guide_pattern: Pattern that takes a guide's number away, where labels are guides.
        others: Further columns that could be meant.
    """

    name: str
    controls: tuple[str, ...]
    missing: tuple[str, ...]
    delimiter: str | None
    drop_control_parts: bool
    guide_pattern: str | None
    others: tuple[str, ...]


def pert_column(survey: Survey) -> PertColumn | None:
    """The best candidate, or None where no column can be one.

    A known name counts, and a label that reads like a control counts more; labels that are guides, where another column
    holds their targets, count less.
    """
    scored = sorted(((_pert_score(survey, c), c) for c in survey.text), key=lambda s: -s[0])
    good = [(score, c) for score, c in scored if score > 0]
    if not good:
        return None
    name = good[0][1]
    levels = survey.levels(name)
    labels = [str(label) for label in levels.index]
    missing = tuple(label for label in labels if vocabulary.is_missing(label))
    controls = _controls([label for label in labels if label not in missing])
    rest = [label for label in labels if label not in (*missing, *controls)]
    joined = _delimiter(rest, controls)
    with_control = joined is not None and any({*label.split(joined)} & {*controls} for label in rest)
    guides = GUIDE_PATTERN if _are_guides(rest) else None
    if guides is not None and joined in ("_", "-"):
        joined, with_control = None, False
    same = tuple(c for _, c in good[1:5])
    return PertColumn(name, controls, missing, joined, with_control, guides, same)


def is_control(survey: Survey, pert: PertColumn) -> np.ndarray:
    """Which rows carry a control label."""
    return np.isin(survey.text[pert.name], list(pert.controls))


def context_column(survey: Survey, pert: PertColumn) -> str | None:
    """A column of cell lines or types; one with controls in every level comes first, a constant one last."""
    found = []
    for c, values in survey.text.items():
        place = vocabulary.rank(c, vocabulary.CONTEXT)
        n = survey.levels(c).size
        if place is None or c == pert.name or not 1 <= n <= MOST_CONTEXTS or _follows(values, survey.text[pert.name]):
            continue
        found.append((n == 1, not _controls_everywhere(survey, pert, [values]), place, c))
    return min(found)[3] if found else None


def batch_column(survey: Survey, pert: PertColumn, context: str | None) -> str | None:
    """A column of batches in which controls can be matched: some in every context and batch with perturbed rows."""
    for name in vocabulary.BATCH:
        for c, values in _labels_or_whole_numbers(survey).items():
            if c.lower() != name or c in (pert.name, context) or not 2 <= len(set(values)) <= MOST_BATCHES:
                continue
            columns = [values] if context is None else [survey.text[context], values]
            if _controls_everywhere(survey, pert, columns, LEAST_CONTROLS):
                return c
    return None


def named(survey: Survey, names: Sequence[str], *, numbers: bool | None = None, least: int = 1) -> str | None:
    """The first column of some names with so many levels, of numbers, of labels, or of either."""
    for name in names:
        for c in survey.obs.columns:
            plain = c.lower().replace(" ", "_")
            kind = c not in survey.text
            if plain == name and (numbers is None or kind == numbers) and survey.obs[c].nunique() >= least:
                return str(c)
    return None


def covariates(survey: Survey, used: Sequence[str | None]) -> list[str]:
    """Columns of donors, studies and the like: 2 to n/20 levels, not a copy of a used one."""
    found: list[str] = []
    taken = [survey.text[c] for c in used if c in survey.text]
    for c, values in survey.text.items():
        n = len(set(values))
        good = vocabulary.rank(c, vocabulary.COVARIATE) is not None and 2 <= n <= max(2, survey.n_obs // 20)
        if good and c not in used and not any(same(values, other) for other in taken):
            found.append(c)
            taken.append(values)
    return found


def size_column(survey: Survey, sums: np.ndarray) -> tuple[str | None, str]:
    """Library sizes: a column whose values exceed the row sums says that genes were left out."""
    for name in vocabulary.SIZE:
        for c in survey.obs.columns:
            if c.lower() != name or c in survey.text:
                continue
            size = survey.obs[c].to_numpy(np.float64)[survey.sample_n]
            if not (np.isfinite(size).all() and (size > 0).all()):
                continue
            share = float(np.median(sums / size))
            if share < 0.98 and bool((sums <= size * 1.001).mean() > 0.99):
                return c, f"row sums are {share:.0%} of it: the file holds a part of the genes"
            if share >= 0.98:
                return None, f"row sums equal {c}"
    return None, "no column of library sizes"


def _pert_score(survey: Survey, c: str) -> float:
    levels = survey.levels(c)
    labels = [str(label) for label in levels.index if not vocabulary.is_missing(str(label))]
    place = vocabulary.rank(c, vocabulary.PERT)
    hint = re.search(r"pert|target|treat|condition|drug|guide|grna|stim|cytokine|compound", c.lower()) is not None
    if len(labels) < 2 or (place is None and not hint) or vocabulary.rank(c, vocabulary.MODE) is not None:
        return 0.0
    if len(labels) > 0.9 * survey.n_obs and survey.n_obs > 500:
        return 0.0
    score = (len(vocabulary.PERT) - place) / len(vocabulary.PERT) if place is not None else 0.1
    clear = [x for x in labels if vocabulary.is_control(x) and not vocabulary.is_weak_control(x)]
    score += 2.0 if clear else 1.0 if any(vocabulary.is_control(x) for x in labels) else 0.0
    score -= 1.2 if _are_guides(labels) else 0.0
    if not clear and score < 1:
        return score if place is not None and place < MOST_SPEAKING else 0.0
    return score


IN_NAMES = ("_", "-", "/")
"""Delimiters that stand in names of genes and compounds too."""

MOST_SPEAKING = 10
"""So many of the known names mean perturbation even where no label reads like a control."""


def _controls(labels: Sequence[str]) -> tuple[str, ...]:
    clear = [x for x in labels if vocabulary.is_control(x) and not vocabulary.is_weak_control(x)]
    weak = [x for x in labels if vocabulary.is_weak_control(x) and vocabulary.is_control(x)]
    return tuple(clear or weak)


def _delimiter(labels: Sequence[str], controls: Sequence[str]) -> str | None:
    """What joins parts: most labels with it consist of parts that occur elsewhere too, or of a control and a part.

    For signs that are rare in names one such part suffices; `_`, `-` and `/` stand in names, so all parts must recur.
    """
    best: tuple[float, str] | None = None
    for sign in vocabulary.DELIMITERS:
        joined = [label for label in labels if sign in label.strip(sign)]
        if not joined:
            continue
        alone = {label for label in labels if sign not in label} | {*controls}
        parts = pd.Series([p.strip() for label in joined for p in label.split(sign)]).value_counts()
        enough = all if sign in IN_NAMES else any
        known = [
            label
            for label in joined
            if all(p.strip() for p in label.split(sign))
            and enough(p.strip() in alone or parts[p.strip()] > 1 for p in label.split(sign))
        ]
        anchored = any(p.strip() in alone for label in joined for p in label.split(sign))
        share = len(known) / len(joined)
        if (share >= 0.5 and anchored and len(known) >= 1) and (best is None or share > best[0]):
            best = (share, sign)
    return best[1] if best else None


def _are_guides(labels: Sequence[str]) -> bool:
    matches = [m[1] for label in labels if (m := re.fullmatch(GUIDE_PATTERN, label))]
    several = pd.Series(matches, dtype=object).value_counts()
    return bool(len(labels)) and int(several[several > 1].sum()) > len(labels) / 2


def _controls_everywhere(survey: Survey, pert: PertColumn, columns: Sequence[np.ndarray], least: int = 1) -> bool:
    """Whether every level (or pair of levels) with perturbed rows has so many control rows."""
    key = pd.Series(["\x1f".join(pair) for pair in zip(*columns, strict=True)], dtype=object)
    control = is_control(survey, pert)
    n_control = key[control].value_counts()
    treated = set(key[~control])
    return bool(treated) and all(n_control.get(k, 0) >= least for k in treated)


def _follows(values: np.ndarray, other: np.ndarray) -> bool:
    """Whether a column says nothing that another does not: each level of the other has one of it, and several differ."""
    pairs = {(a, b) for a, b in zip(other, values, strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) and len({b for _, b in pairs}) > 1


def same(values: np.ndarray, other: np.ndarray) -> bool:
    """Whether two columns say the same in other words."""
    pairs = set(zip(values, other, strict=True))
    return len(pairs) == len(set(values)) == len(set(other))


def _labels_or_whole_numbers(survey: Survey) -> dict[str, np.ndarray]:
    whole = {
        str(c): words(survey.obs[c])
        for c in survey.obs.columns
        if c not in survey.text and pd.api.types.is_integer_dtype(survey.obs[c])
    }
    return {**survey.text, **whole}
