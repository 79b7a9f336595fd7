"""Amounts as they are written: plain numbers, numbers joined as their perturbations are, or numbers among words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from perturbfm.data.doctor import vocabulary
from perturbfm.data.doctor.column import PertColumn, is_control
from perturbfm.data.doctor.survey import Survey, words

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LABEL = "\0"
"""Stands for the row's own label in what is before a number."""


@dataclass(frozen=True)
class Worded:
    """Where the number stands in the texts of a column.

    Attributes:
        pattern: Regular expression whose first group is the number.
        unit: The unit that follows it, where it is a known one.
    """

    pattern: str
    unit: str


def are_numbers(survey: Survey, c: str, delimiter: str | None) -> bool:
    """Whether a column reads as numbers, or numbers joined by the delimiter."""
    if c not in survey.text:
        return True
    parts = [q.strip() for v in survey.levels(c).index for q in (v.split(delimiter) if delimiter else [v])]
    return bool(pd.to_numeric(pd.Series([q for q in parts if q], dtype=object), errors="coerce").notna().all())


def worded(survey: Survey, c: str, pert: PertColumn) -> Worded | None:
    """Where the number stands, if it is the same place in all treated rows and the rest of their texts is the same.

    The rest may name the row's own perturbation: `[('Bortezomib', 0.05, 'uM')]`.
    """
    treated = ~is_control(survey, pert) & ~np.isin(survey.words(pert.name), list(pert.missing))
    table = pd.DataFrame({"label": survey.words(pert.name)[treated], "text": words(survey.obs[c])[treated]})
    pairs = list(table.drop_duplicates().itertuples(index=False, name=None))
    if not pairs or not all(text for _, text in pairs):
        return None
    found = [f for f in _frames(*pairs[0]) if all(_fits(f, label, text) for label, text in pairs)]
    if len(found) != 1 or found[0] == ("", ""):
        return None
    before, after = found[0]
    return Worded(
        f"^{re.escape(before).replace(re.escape(_LABEL), '.*')}({_NUMBER}){re.escape(after)}$",
        vocabulary.unit_word(after),
    )


def numbers(survey: Survey, c: str, pert: PertColumn) -> np.ndarray:
    """Numbers of a column, also those among words; NaN where there is none, or several."""
    text = pd.Series(words(survey.obs[c]), dtype=object)
    rule = None if are_numbers(survey, c, pert.delimiter) else worded(survey, c, pert)
    text = text if rule is None else text.str.extract(rule.pattern, expand=False).fillna(text)
    return pd.to_numeric(text, errors="coerce").to_numpy(float)


def _frames(label: str, text: str) -> Iterator[tuple[str, str]]:
    """What may stand before and after the number."""
    told = text.replace(label, _LABEL) if label else text
    for match in re.finditer(_NUMBER, told):
        yield told[: match.start()], told[match.end() :]


def _fits(frame: tuple[str, str], label: str, text: str) -> bool:
    before, after = frame
    told = text.replace(label, _LABEL) if label else text
    middle = told[len(before) : len(told) - len(after)]
    return told.startswith(before) and told.endswith(after) and re.fullmatch(_NUMBER, middle) is not None
