"""Perturbation labels as they are written in a file -> one name per intervention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from perturbfm.errors import BadValue, ControlLabelAbsent, LabelMalformed, MissingLabel, UnknownValue, nearest

_SHOWN = 8


@dataclass(frozen=True)
class LabelRules:
    """How labels of one file are read; see `perturbfm.data.file.load_file` for each.

    Attributes:
        control_labels: Labels, whole or after a guide's target was taken, that mean "not perturbed".
        delimiter: What joins the parts of a combination.
        drop_control_parts: Whether `GENE+ctrl` is read as `GENE`.
        guide_pattern: Regular expression whose first group is the target of a guide.
        aliases: Other names of whole labels or of parts.
    """

    control_labels: Sequence[str]
    delimiter: str | None = None
    drop_control_parts: bool = False
    guide_pattern: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parsed:
    """One label as it is understood.

    Attributes:
        name: `control`, or the sorted parts joined.
        order: For each part of the name, its place among the parts as written.
        n_written: Number of parts as written.
    """

    name: str
    order: tuple[int, ...] = (0,)
    n_written: int = 1


@dataclass(frozen=True)
class Labelling:
    """All labels of a file: `parsed[code_n[row]]`, code -1 where a row has none."""

    code_n: np.ndarray
    parsed: tuple[Parsed, ...]

    @property
    def pert_n(self) -> np.ndarray:
        """Name of each row's perturbation, None where it has none."""
        names = np.array([*(p.name for p in self.parsed), None], dtype=object)
        return names[self.code_n]


def is_missing(text_n: np.ndarray, control_labels: Sequence[str], missing_labels: Sequence[str]) -> np.ndarray:
    """Rows without a label: empty, NaN, the text `nan`, or a label declared to mean that. Controls never are."""
    control, missing = set(control_labels), set(missing_labels)

    def lacks(label: str) -> bool:
        return label not in control and (label in missing or label.strip().lower() in ("", "nan"))

    code_n, unique = pd.factorize(text_n)
    lacks_u = np.array([*(lacks(label) for label in unique), True], dtype=bool)  # code -1: no text at all
    return lacks_u[code_n]


def read_labels(text_n: np.ndarray, rules: LabelRules) -> Labelling:
    """Read labels once per distinct label.

    Args:
        text_n: Labels as text, None where a row has none.
        rules: How they are read.

    Raises:
        ControlLabelAbsent: No row is a control.
        MissingLabel: A combination has an empty part.
        LabelMalformed: A part is cut inside brackets, holds a control label, or is no guide.
        UnknownValue: An alias of a label that does not occur.
    """
    code_n, unique = pd.factorize(text_n)
    labels = [str(label) for label in unique]
    written = [_written(label, rules) for label in labels]
    _check_empty(labels, written, rules)
    _check_brackets(labels, written)
    _check_aliases(labels, rules)
    pattern = compiled(rules.guide_pattern)
    parts = [[_renamed(p, rules, pattern) for p in w] for w in written]
    _check_guides(labels, parts)
    named = [[str(p) for p in ps] for ps in parts]
    _check_mixed(labels, named, rules)
    parsed = tuple(_parsed(ps, rules) for ps in named)
    _check_controls(labels, named, parsed, rules)
    return Labelling(code_n, parsed)


def _written(label: str, rules: LabelRules) -> list[str]:
    """Parts as written; a whole label may have another name, and a whole control label is never cut."""
    label = rules.aliases.get(label, label)
    if label not in rules.control_labels:
        label = label.strip()
    if label in rules.control_labels or not rules.delimiter or rules.delimiter not in label:
        return [label]
    return [part.strip() for part in label.split(rules.delimiter)]


def _renamed(part: str, rules: LabelRules, pattern: re.Pattern[str] | None) -> str | None:
    """The target of a part; None where a guide pattern does not fit it."""
    if part in rules.aliases:
        return rules.aliases[part]
    if part in rules.control_labels or pattern is None:
        return part
    match = pattern.match(part)
    return rules.aliases.get(match[1], match[1]) if match and match[1] else None


def _parsed(parts: list[str], rules: LabelRules) -> Parsed:
    kept = [i for i, part in enumerate(parts) if part not in rules.control_labels]
    if not kept:
        return Parsed("control", (), len(parts))
    order = sorted(kept, key=lambda i: (parts[i], i))
    if rules.guide_pattern:  # two guides of one gene are one perturbation
        order = [i for k, i in enumerate(order) if k == 0 or parts[i] != parts[order[k - 1]]]
    return Parsed((rules.delimiter or "").join(parts[i] for i in order), tuple(order), len(parts))


# --- refusing --------------------------------------------------------------------------------------


_EXAMPLES = {
    "guide_pattern": r"For STAT1g2 or ZAP70_1 write '^(.+?)(?:g|_)\d+$'.",
    "dose_pattern": r"For 0.1 uM write '^([0-9.]+) ?uM$'.",
    "time_pattern": r"For 24h write '^([0-9.]+)h$'.",
}


def compiled(pattern: str | None, key: str = "guide_pattern") -> re.Pattern[str] | None:
    """A pattern whose first group is what is meant.

    Raises:
        BadValue: It is no regular expression, or has no group.
    """
    if pattern is None:
        return None
    try:
        found = re.compile(pattern)
    except re.error as e:
        raise BadValue(
            f"data.{key} is no regular expression",
            given=f"{pattern!r} ({e})",
            expected="a regular expression of Python",
            fix=_EXAMPLES[key],
        ) from e
    if not found.groups:
        raise BadValue(
            f"data.{key} has no group",
            given=repr(pattern),
            expected="a first group that is what is meant",
            fix=f"Put it in parentheses. {_EXAMPLES[key]}",
        )
    return found


def _check_empty(labels: list[str], written: list[list[str]], rules: LabelRules) -> None:
    broken = sorted(label for label, parts in zip(labels, written, strict=True) if len(parts) > 1 and "" in parts)
    if broken:
        raise MissingLabel(
            "A combination has an empty part",
            given=f"{', '.join(map(repr, broken[:_SHOWN]))} with delimiter {rules.delimiter!r}",
            expected="a label on each side of every delimiter",
            fix="Correct the labels in the file, set data.delimiter to what joins parts in it, or give a label that "
            "holds the sign another name in data.aliases.",
        )


def _check_brackets(labels: list[str], written: list[list[str]]) -> None:
    pairs = (("(", ")"), ("[", "]"), ("{", "}"))
    broken = sorted(
        label
        for label, parts in zip(labels, written, strict=True)
        if len(parts) > 1 and any(p.count(a) != p.count(b) for p in parts for a, b in pairs)
    )
    if broken:
        raise LabelMalformed(
            "The delimiter cuts a name inside its brackets",
            given=", ".join(map(repr, broken[:_SHOWN])),
            expected="a delimiter that is no part of a name",
            fix=f"Give the label another name: data.aliases={{{broken[0]!r}: ...}}, or set data.delimiter=null.",
        )


def _check_aliases(labels: list[str], rules: LabelRules) -> None:
    pattern = compiled(rules.guide_pattern)
    words = set(labels)
    for label in labels:
        written = _written(label, LabelRules(rules.control_labels, rules.delimiter))
        words.update(written, *([m[1]] for part in written if pattern and (m := pattern.match(part)) and m[1]))
    unused = [old for old in rules.aliases if old not in words]
    if unused:
        raise UnknownValue(
            "data.aliases renames a label that does not occur",
            given=unused[0],
            expected=f"a label or part of the file, near it {nearest(unused[0], sorted(words)[:2000])[:300]}",
            fix="Correct it or leave it out.",
        )


def _check_guides(labels: list[str], parts: list[list[str | None]]) -> None:
    unfit = sorted(label for label, ps in zip(labels, parts, strict=True) if None in ps)
    if unfit:
        raise LabelMalformed(
            "Labels do not fit data.guide_pattern",
            given=f"{len(unfit)} labels: {', '.join(unfit[:_SHOWN])}{' ...' if len(unfit) > _SHOWN else ''}",
            expected="a guide whose target the first group finds, or a control label",
            fix="Widen the pattern, name them in data.aliases, or add them to data.control_labels.",
        )


def _check_mixed(labels: list[str], parts: list[list[str]], rules: LabelRules) -> None:
    mixed = sorted(
        label
        for label, ps in zip(labels, parts, strict=True)
        if len(ps) > 1 and any(p in rules.control_labels for p in ps)
    )
    if mixed and not rules.drop_control_parts:
        raise LabelMalformed(
            "A combination holds a control label",
            given=", ".join(mixed[:_SHOWN]),
            expected="parts that are perturbations",
            fix="Set data.drop_control_parts=true to read GENE+ctrl as GENE.",
        )


def _check_controls(labels: list[str], parts: list[list[str]], parsed: tuple[Parsed, ...], rules: LabelRules) -> None:
    known = sorted(labels)
    if rules.control_labels and all(p.order for p in parsed):
        raise ControlLabelAbsent(
            "No row carries a control label",
            given=f"labels {', '.join(known[:_SHOWN])}{' ...' if len(known) > _SHOWN else ''}",
            expected=f"one of {list(rules.control_labels)}",
            fix="Set data.control_labels to the label that controls carry in this file.",
        )
    declared = {label.strip().casefold() for label in rules.control_labels}
    near = sorted(x for x in labels if x not in rules.control_labels and x.strip().casefold() in declared)
    if near:
        raise BadValue(
            "Labels read like a control and are not declared as one",
            given=", ".join(map(repr, near[:_SHOWN])),
            expected=f"one spelling, or all of them in data.control_labels (now {list(rules.control_labels)})",
            fix="Add them to data.control_labels, or correct them in the file.",
        )
    if "control" not in rules.control_labels and any("control" in ps for ps in parts):
        raise BadValue(
            "The label 'control' is taken",
            given="rows labelled 'control' that are not declared as controls",
            expected="'control' among data.control_labels",
            fix="Add it to data.control_labels, or rename it in the file.",
        )
