"""Hazards of doses and times."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from perturbfm.data.column import names_of
from perturbfm.data.doctor import amount, column, place, vocabulary
from perturbfm.data.doctor.finding import NOTE, STOP, WARN, Finding, listed
from perturbfm.data.doctor.propose import Proposal, informative, is_second_dose, several_times
from perturbfm.data.doctor.survey import Survey, words


def doses(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Doses may be text, carry codes for missing, disagree with their label, or be in another unit than is said."""
    if p.pert is None:
        return
    c = p.keys.get("dose_column")
    if not isinstance(c, str) or c not in s.obs.columns:
        yield from _unused(s, p)
        return
    text = words(s.obs[c])
    number = amount.numbers(s, c, p.pert)
    control = column.is_control(s, p.pert)
    treated = ~control & ~np.isin(s.words(p.pert.name), list(p.pert.missing))
    code = np.isfinite(number) & (number < 0)
    if code.any():
        shown = f"{c} has {listed(pd.unique(text[code]))} in {int(code.sum())} rows"
        yield Finding("dose_codes", WARN, shown, "missing_doses reads them as none.")
    bare = treated & ((text == "") | code | (number == 0))
    if bare.any():
        said = [v for v in pd.unique(text[bare]) if v]
        drop = f"leave them out with drop: {{{c}: [{listed(said)}]}}, " if said and (text[bare] != "").all() else ""
        fix = f"Give them a dose in the file, {drop}or declare their label a control."
        yield Finding("dose_missing", STOP, f"{int(bare.sum())} perturbed rows have no dose above zero", fix)
    if control.any() and bool((number[control] > 0).any()):
        yield Finding("dose_of_controls", NOTE, "controls have doses", "They are read as none: a control has no dose.")
    if "dose_unit" not in p.keys and np.isfinite(number).any() and np.nanmax(number) >= 1000:
        fix = "Set dose_unit: uM with dose_factor: 0.001 if that is nM."
        yield Finding("dose_unit", WARN, f"{c} goes up to {np.nanmax(number):g}, as nM would", fix)
    yield from _dose_label(s, c, number)


def units(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Numbers in several units cannot be compared."""
    if p.pert is None:
        return
    treated = ~column.is_control(s, p.pert) & ~np.isin(s.words(p.pert.name), list(p.pert.missing))
    kinds = (
        ("dose", vocabulary.DOSE, vocabulary.DOSE_UNIT),
        ("time", vocabulary.TIME, vocabulary.TIME_UNIT),
    )
    for kind, names, of in kinds:
        c, unit = p.keys.get(f"{kind}_column", place.named(s, names)), place.named(s, of, numbers=False)
        if c is None or unit is None:
            continue
        said = [u for u in map(str, pd.unique(s.words(unit)[treated])) if not vocabulary.is_missing(u) and u[0] != "-"]
        if len({u.strip().casefold() for u in said}) > 1:
            fix = f"Write {c} in one unit, or keep: {{{unit}: [one of them]}}, which needs the controls' value too."
            yield Finding(f"{kind}_units_mixed", STOP, f"{unit} of treated rows says {listed(said)}", fix)


def times(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Controls of several times, compared as one group, would give a time effect as one of the perturbation."""
    if p.pert is None:
        return
    c = p.keys.get("time_column", place.named(s, vocabulary.TIME, least=2))
    if not isinstance(c, str) or c not in s.obs:
        return
    if "time_column" not in p.keys and informative(s, c, p.pert):
        message = f"{c} holds times in words, e.g. {listed(s.levels(c).index[:2])}; times of a perturbation are pooled"
        yield Finding("time_in_words", WARN, message, "Write the hours into a column of numbers, or set time_pattern.")
    if p.keys.get("controls") == "baked_in":
        return
    place_of = [*names_of(p.keys.get("context_column"))]
    if p.keys.get("match") != "context":
        place_of += names_of(p.keys.get("batch_column"))
    if c not in place_of and several_times(s, p.pert, c):
        n = len(set(s.words(c)[column.is_control(s, p.pert)].tolist()) - {""})
        message = f"controls carry {n} values of {c}, and would be one group for all times"
        fix = f"Set batch_column: {c} and leave out treated rows without controls of their time, or keep one time."
        level = STOP if "time_column" in p.keys else WARN
        yield Finding("controls_of_several_times", level, message, fix)


def _unused(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Columns of doses that are not proposed: they say nothing, or cannot be read as numbers."""
    amounts = [c for c in s.obs.columns if vocabulary.rank(c, vocabulary.DOSE) is not None]
    speaking = [c for c in s.text if re.search(r"dose|conc", c.lower()) and vocabulary.rank(c, _OTHER) is None]
    for c in dict.fromkeys([*amounts, *speaking]):
        if c == (p.pert.name if p.pert else None) or s.obs[c].nunique() < 1:
            continue
        if c not in amounts and p.pert is not None and not informative(s, c, p.pert):
            continue
        if not amount.are_numbers(s, c, p.pert.delimiter if p.pert else None) and s.levels(c).size > 1:
            fix = "Write the dose alone into a column of numbers and name it in dose_column, or set dose_pattern."
            shown = listed(s.levels(c).index[:1])
            message = f"{c} holds doses in words, e.g. {shown}; doses of a perturbation are pooled"
            yield Finding("dose_in_words", WARN, message, fix)
        elif p.pert is not None and s.levels(c).size > 1 and is_second_dose(s, p.pert, c):
            context = [x for x in names_of(p.keys.get("context_column")) if x in s.obs]
            if c not in context and not place.told_by(s, c, context):
                message = f"{c} is a dose that control guides carry too: one of a second treatment; it is pooled"
                fix = f"Add {c} to context_column, or keep one dose of it."
                yield Finding("dose_of_second_treatment", WARN, message, fix)
        elif c in amounts:
            yield Finding("dose_says_nothing", NOTE, f"{c} has one value per perturbation", "It is not used.")


_OTHER = (*vocabulary.DOSE_UNIT, *vocabulary.DOSE_LABEL)


def _dose_label(s: Survey, c: str, number: np.ndarray) -> Iterator[Finding]:
    """A second column that says the dose in words must say the same number."""
    label = place.named(s, vocabulary.DOSE_LABEL)
    if label is None or label == c:
        return
    codes, unique = pd.factorize(words(s.obs[label]))
    said = np.array([_first_number(str(t)) for t in unique])[codes]
    both = np.isfinite(said) & np.isfinite(number) & (said > 0) & (number > 0)
    off = both & ~np.isclose(said, number, rtol=0.01)
    if off.any():
        first = int(np.flatnonzero(off)[0])
        message = f"{c} and {label} disagree in {int(off.sum())} rows, first {str(s.obs.index[first])!r}"
        yield Finding("dose_disagrees", STOP, message, "Correct the file; dose_label_column keeps checking it.")
    lost = np.isfinite(said) & (said > 0) & ~(number > 0)
    if lost.any():
        message = f"{int(lost.sum())} rows have a dose in {label} and none in {c}"
        yield Finding("dose_disagrees", STOP, message, "Correct the file, or leave these rows out.")


def _first_number(text: str) -> float:
    match = re.match(r"\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)", text)
    return float(match[1]) if match else np.nan
