"""Which column holds the perturbations, and how its labels read: by its name, held against what is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data.doctor import vocabulary
from perturbfm.data.doctor.survey import Survey

GUIDE_PATTERN = r"^(.+?)(?:[_-](?:g|sg|guide)?\d+|(?<=[A-Z0-9])s?g\d+)$"

IN_NAMES = ("_", "-", "/")
"""Delimiters that stand in names of genes and compounds too."""

MOST_SPEAKING = 10
"""So many of the known names mean perturbation even where no label reads like a control."""

LEAST_SCORE = 0.01
"""Of a column whose name says perturbation, whatever its labels are: they may be guides without a control."""

MOST_UNLISTED = 20_000
"""Levels of a column with an unlisted name that are looked at: identifiers of cells have more."""


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
        flag: A column that says yes or no to "is this a control?", or None.
        by_flag: Whether the control labels were read off the flag.
    """

    name: str
    controls: tuple[str, ...]
    missing: tuple[str, ...]
    delimiter: str | None
    drop_control_parts: bool
    guide_pattern: str | None
    others: tuple[str, ...]
    flag: str | None
    by_flag: bool


def pert_column(survey: Survey, given: dict[str, Any] | None = None) -> PertColumn | None:
    """The best candidate, or None where no column can be one.

    A known name counts, a label that reads like a control counts more, and so do labels that are measured genes;
    labels that are guides, where another column holds their targets, count less.

    Args:
        survey: The file.
        given: Keys of the loader that are known already; they are kept, and the rest is read in their light.
    """
    given = given or {}
    name, others = _chosen(survey, given.get("pert_column"))
    if name is None:
        return None
    labels = [str(label) for label in survey.levels(name).index]
    told = given.get("control_labels")
    flag = control_flag(survey)
    words = [label for label in labels if vocabulary.is_missing(label)]
    controls = tuple(map(str, told)) if told is not None else _controls([x for x in labels if x not in words])
    by_flag = not controls and flag is not None
    if by_flag and flag is not None:
        controls = _flagged(survey, name, flag)
    missing = tuple(label for label in words if label not in controls)
    rest = [label for label in labels if label not in (*missing, *controls)]
    fits = all(re.fullmatch(GUIDE_PATTERN, label) for label in rest)
    guides = GUIDE_PATTERN if fits and look_like_guides(rest) else None
    joined = given["delimiter"] if "delimiter" in given else _delimiter(rest, controls)
    if guides is not None and joined in ("_", "-"):
        joined = None
    with_control = joined is not None and any({*label.split(joined)} & {*controls} for label in rest)
    return PertColumn(name, controls, missing, joined, with_control, guides, others, flag, by_flag and bool(controls))


def is_control(survey: Survey, pert: PertColumn) -> np.ndarray:
    """Which rows carry a control label."""
    return np.isin(survey.words(pert.name), list(pert.controls))


def control_flag(survey: Survey) -> str | None:
    """A column of yes and no that says whether a cell is a control."""
    for c, values in survey.coded.items():
        if vocabulary.rank(c, vocabulary.FLAG) is not None:
            levels = {str(v).lower() for v in pd.unique(values)}
            if len(levels) == 2 and levels & set(vocabulary.YES) and levels & set(vocabulary.NO):
                return c
    return None


def flagged_rows(survey: Survey, flag: str) -> np.ndarray:
    """Rows that a column of yes and no says yes to."""
    said = survey.words(flag)
    return np.isin(said, [v for v in pd.unique(said) if str(v).lower() in vocabulary.YES])


def _chosen(survey: Survey, told: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The best column and its rivals, or the one that is told."""
    scored = sorted(((_score(survey, c), c) for c in survey.coded), key=lambda s: -s[0])
    good = [c for score, c in scored if score > 0]
    if told is not None:
        return (told if told in survey.obs.columns else None), tuple(c for c in good if c != told)[:4]
    return (good[0], tuple(good[1:5])) if good else (None, ())


def _score(survey: Survey, c: str) -> float:
    place = vocabulary.rank(c, vocabulary.PERT)
    hint = vocabulary.hints_at_perturbation(c)
    if _means_else(c) or (c not in survey.text and place is None):
        return 0.0
    levels = survey.levels(c)
    if len(levels) < 2 or (place is None and len(levels) > MOST_UNLISTED):
        return 0.0
    labels = [str(label) for label in levels.index if not vocabulary.is_missing(str(label))]
    if len(labels) > 0.9 * survey.n_obs and survey.n_obs > 500:
        return 0.0
    clear = [x for x in labels if vocabulary.is_control(x) and not vocabulary.is_weak_control(x)]
    weak = any(vocabulary.is_control(x) for x in labels)
    genes = _share_of_genes(survey, labels)
    if len(labels) < 2 and not clear and place is None:
        return 0.0
    if place is None and not clear and genes < 0.3 and not (hint and weak):
        return 0.0
    score = (len(vocabulary.PERT) - place) / len(vocabulary.PERT) if place is not None else 0.1 if hint else 0.05
    score += 2.0 if clear and len(labels) > 1 else 1.0 if weak and len(labels) > 1 else 0.0
    score -= 1.5 if len(labels) - len(clear) == 1 and vocabulary.says_only_perturbed(_treated(labels)) else 0.0
    score += 0.5 * genes - (1.2 if look_like_guides(labels) else 0.0) + 1e-3 * min(1.0, len(labels) / 1000)
    if not clear and score < 1 and genes < 0.3:
        return max(score, LEAST_SCORE) if place is not None and place < MOST_SPEAKING else 0.0
    return score


def _treated(labels: Sequence[str]) -> str:
    """The first label that is not of untouched cells."""
    return next((x for x in labels if not vocabulary.is_control(x)), "")


def _means_else(c: str) -> bool:
    """Whether a name is known for something else."""
    groups = (vocabulary.MODE, vocabulary.CONTEXT, vocabulary.FLAG, vocabulary.N_PARTS, vocabulary.BATCH)
    return any(vocabulary.rank(c, group) is not None for group in groups)


def _share_of_genes(survey: Survey, labels: Sequence[str]) -> float:
    """Share of labels that are measured genes; of gene identifiers, cells and contexts hardly one is."""
    known = len(survey.known_genes.intersection(labels))
    return known / len(labels) if 2 <= len(labels) <= MOST_UNLISTED else 0.0


def _controls(labels: Sequence[str]) -> tuple[str, ...]:
    clear = [x for x in labels if vocabulary.is_control(x) and not vocabulary.is_weak_control(x)]
    weak = [x for x in labels if vocabulary.is_weak_control(x)]
    return tuple(clear or weak)


def _flagged(survey: Survey, name: str, flag: str) -> tuple[str, ...]:
    """Labels that only flagged rows carry, where they cover them all."""
    yes, label_n = flagged_rows(survey, flag), survey.words(name)
    mine = set(label_n[yes].tolist()) - set(label_n[~yes].tolist()) - {""}
    return tuple(sorted(mine)) if mine and bool(np.isin(label_n[yes], list(mine)).all()) else ()


def _delimiter(labels: Sequence[str], controls: Sequence[str]) -> str | None:
    """What joins parts: most labels with it consist of parts that occur elsewhere too, or of a control and a part.

    For signs that are rare in names one such part suffices; `_`, `-` and `/` stand in names, so all parts must recur.
    """
    best: tuple[float, str] | None = None
    for sign in vocabulary.DELIMITERS:
        joined = [label for label in labels if sign in label.strip(sign)]
        if not joined:
            continue
        cut = [[p.strip() for p in label.split(sign)] for label in joined]
        alone = {label for label in labels if sign not in label} | {*controls}
        parts = pd.Series([p for ps in cut for p in ps]).value_counts().to_dict()
        enough = all if sign in IN_NAMES else any
        known = sum(all(ps) and enough(p in alone or parts[p] > 1 for p in ps) for ps in cut)
        anchored = any(p in alone for ps in cut for p in ps)
        share = known / len(joined)
        if share >= 0.5 and anchored and (best is None or share > best[0]):
            best = (share, sign)
    return best[1] if best else None


def look_like_guides(labels: Sequence[str]) -> bool:
    """Whether most labels are numbered, several to each of several names: `IL-2`, `IL-4` and `IL-6` are no guides."""
    matches = [m[1] for label in labels if (m := re.fullmatch(GUIDE_PATTERN, label))]
    several = pd.Series(matches, dtype=object).value_counts()
    return int((several > 1).sum()) > 1 and int(several[several > 1].sum()) > len(labels) / 2
