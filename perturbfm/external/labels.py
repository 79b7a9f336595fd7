"""Labels as a prediction file writes them -> conditions of the judged folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data import column
from perturbfm.data.dose import read_doses, read_times
from perturbfm.data.label import Labelling, LabelRules, Parsed, read_labels
from perturbfm.errors import DuplicateNames, MissingColumn, MissingLabel
from perturbfm.types import Labels

CONTROL, OTHER = -1, -2
"""Code of a row that is a control, and of one that is about no judged condition."""

TOLD_BY = ("context", "pert", "mode", "dose", "time")
"""What tells conditions apart."""


@dataclass(frozen=True)
class Columns:
    """Columns that a user names, where they are neither the data set's own nor canonical."""

    pert: str | None = None
    context: str | None = None
    batch: str | None = None
    control_label: str | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """What each row of a file is about.

    Attributes:
        code_m: Row of `table`, `CONTROL` or `OTHER`.
        name_m: Name for messages: `context|perturbation` as it was understood.
        context_m: Context; None where the file names none.
        batch_m: Batch; None where the file names none.
        table: Conditions of the judged folds: context, pert, mode, dose, time, intervention, one row each.
    """

    code_m: np.ndarray
    name_m: np.ndarray
    context_m: np.ndarray
    batch_m: np.ndarray | None
    table: pd.DataFrame


def conditions_of(labels: Labels, idx: np.ndarray) -> pd.DataFrame:
    """Conditions of some rows, with what tells them apart, in sorted order."""
    known = {
        "context": labels.context_n[idx],
        "pert": labels.pert_n[idx],
        "mode": labels.mode_n[idx],
        "dose": np.full(len(idx), "") if labels.dose_n is None else labels.dose_n[idx],
        "time": np.full(len(idx), "") if labels.time_n is None else labels.time_n[idx],
        "intervention": labels.intervention_n[idx],
    }
    table = pd.DataFrame({k: np.asarray(v, dtype=object) for k, v in known.items()}).drop_duplicates()
    return table.sort_values(["context", "intervention"], ignore_index=True)


def read_rows(obs: pd.DataFrame, own: Mapping[str, Any], named: Columns, labels: Labels, judged: np.ndarray) -> Rows:
    """Find the condition of each row, by the data set's own column names and label conventions or the canonical ones.

    Args:
        obs: The file's table of rows.
        own: The configuration of the data set (`pert_column`, `control_labels`, `delimiter`, ...); empty for data that
            has no columns of its own.
        named: Columns that the user names.
        labels: Labels of the data set.
        judged: Rows of the data set that are judged or calibrated on.

    Raises:
        MissingColumn: No column of perturbations, or of what tells two judged conditions apart.
        MissingLabel: A row has no perturbation.
        DuplicateNames: A condition name is that of two conditions.
    """
    table = conditions_of(labels, judged)
    if "conditions" in obs and named.pert is None:
        return _by_name(obs, table)
    labelling = _perturbations(obs, own, named, labels)
    found = {"pert": labelling.pert_n}
    context_m = _context(obs, own, named, table, len(obs))
    found["context"] = context_m
    control_m = labelling.pert_n == "control"
    found |= _further(obs, own, labelling, labels, control_m)
    batch = _first(obs, named.batch, own.get("batch_column"), "batch_id")
    batch_m = None if batch is None else column.joined(obs, batch, "batch_column")
    name_m = np.array([f"{c}|{p}" for c, p in zip(context_m, labelling.pert_n, strict=True)], dtype=object)
    code_m = np.where(control_m, CONTROL, _matched(table, found, control_m))
    return Rows(code_m, name_m, context_m, batch_m, table)


def _by_name(obs: pd.DataFrame, table: pd.DataFrame) -> Rows:
    """Rows that name their condition in one word: `context|perturbation@mode`, or as much of it as is enough."""
    spelled: dict[str, set[int]] = {}
    for i, row in table.iterrows():
        for name in (f"{row.context}|{row.intervention}", f"{row.context}|{row.pert}", row.intervention, row.pert):
            spelled.setdefault(str(name), set()).add(int(str(i)))
    name_m = np.array([str(v) for v in column.text(obs["conditions"])], dtype=object)
    doubtful = sorted({n for n in name_m if len(spelled.get(n, ())) > 1})
    if doubtful:
        raise DuplicateNames(
            "A condition name is that of several judged conditions",
            given=f"{doubtful[0]!r}",
            expected="context|perturbation@mode, which is that of one",
            fix="Write whole names, for example " + repr(f"{table.context[0]}|{table.intervention[0]}") + ".",
        )
    code_m = np.array([next(iter(spelled.get(n, {OTHER}))) for n in name_m], dtype=np.int64)
    code_m[name_m == "control"] = CONTROL
    context_m = np.array([table.context[c] if c >= 0 else None for c in code_m], dtype=object)
    return Rows(code_m, name_m, context_m, None, table)


def _perturbations(obs: pd.DataFrame, own: Mapping[str, Any], named: Columns, labels: Labels) -> Labelling:
    where = _first(obs, named.pert, own.get("pert_column"), "pert_id")
    if where is None:
        raise _missing("perturbations", obs, own.get("pert_column"), "pert_id", "model.pert_column")
    text_m = column.text(obs[str(where)])
    lacking = np.array([t is None or not t.strip() for t in text_m], dtype=bool)
    if lacking.any():
        raise MissingLabel(
            "Predicted rows have no perturbation",
            given=f"{int(lacking.sum())} rows, first {str(obs.index[lacking][0])!r}",
            expected="a label for every row",
            fix=f"Fill the column {where!r}, or leave those rows out.",
        )
    control_labels = [str(v) for v in own.get("control_labels") or ("control",)]
    rules = LabelRules(
        [*control_labels, *([named.control_label] if named.control_label else [])],
        labels.delimiter,
        bool(own.get("drop_control_parts", False)),
        own.get("guide_pattern"),
        {str(k): str(v) for k, v in (own.get("aliases") or {}).items()},
    )
    return understood(text_m, frozenset(labels.pert_n.tolist()), rules)


def understood(text_m: np.ndarray, known: frozenset[str], rules: LabelRules) -> Labelling:
    """Labels that are a perturbation of the data set as they stand, and all others by the data set's conventions."""
    code_m, unique = pd.factorize(text_m)
    rest = [str(u) for u in unique if u not in known]
    parsed: dict[str, Parsed] = {}
    if rest:
        parts = {p.strip() for u in rest for p in (u, *(u.split(rules.delimiter) if rules.delimiter else ()))}
        rules = replace(rules, aliases={k: v for k, v in rules.aliases.items() if k in parts})
        asked = np.array([*rest, rules.control_labels[0]], dtype=object)  # a file need not hold controls
        parsed = dict(zip(pd.unique(asked), read_labels(asked, rules).parsed, strict=True))
    for label in known.intersection(unique):
        n = len(label.split(rules.delimiter)) if rules.delimiter else 1
        parsed[label] = Parsed(label, () if label == "control" else tuple(range(n)), n)
    return Labelling(code_m, tuple(parsed[str(u)] for u in unique))


def _context(obs: pd.DataFrame, own: Mapping[str, Any], named: Columns, table: pd.DataFrame, n: int) -> np.ndarray:
    where = _first(obs, named.context, own.get("context_column"), "context_id")
    if where is not None:
        return column.joined(obs, where, "context_column")
    if table["context"].nunique() == 1:
        return np.full(n, table["context"].iloc[0], dtype=object)
    raise _missing("contexts", obs, own.get("context_column"), "context_id", "model.context_column")


def _further(
    obs: pd.DataFrame, own: Mapping[str, Any], labelling: Labelling, labels: Labels, control_m: np.ndarray
) -> dict[str, np.ndarray]:
    """Mode, dose and time of each row, of those that the file tells."""
    found = {}
    if own.get("mode_column") in obs and own.get("mode_values"):
        found["mode"] = column.modes(obs, None, own["mode_column"], own["mode_values"], control_m)
    elif "mode" in obs:
        found["mode"] = column.text(obs["mode"])
    dose = _first(obs, None, own.get("dose_column"), "dose")
    if dose is not None and labels.dose_n is not None:
        mine = dose == own.get("dose_column")
        found["dose"] = read_doses(
            column.text(obs[str(dose)]),
            labelling,
            obs.index,
            written_delimiter=(own.get("dose_delimiter") if mine else None) or labels.delimiter,
            delimiter=labels.delimiter,
            factor=float(own.get("dose_factor", 1.0)) if mine else 1.0,
            missing=own.get("missing_doses") or (),
            column=str(dose),
        )
    time = _first(obs, None, own.get("time_column"), "time")
    if time is not None and labels.time_n is not None:
        found["time"] = read_times(column.text(obs[str(time)]), labelling, obs.index, column=str(time))
    return found


def _matched(table: pd.DataFrame, found: Mapping[str, np.ndarray], control_m: np.ndarray) -> np.ndarray:
    """Row of the table that each row of the file is about, by what the file tells of it."""
    told = [k for k in TOLD_BY if k in found]
    key_c = _joined([table[k].to_numpy() for k in told])
    if len(set(key_c)) < len(key_c):
        lacking = [k for k in TOLD_BY if k not in found and table.groupby(told)[k].nunique().max() > 1]
        raise MissingColumn(
            "The file does not say which of several judged conditions a row is about",
            given=f"columns that tell {', '.join(told)}",
            expected=f"one that tells {', '.join(lacking)} too",
            fix="Add the column, under the data set's own name or as mode, dose or time.",
        )
    number = {key: i for i, key in enumerate(key_c)}
    return np.array(
        [OTHER if c else number.get(k, OTHER) for k, c in zip(_joined_of(found, told), control_m, strict=True)]
    )


def _joined_of(found: Mapping[str, np.ndarray], told: Sequence[str]) -> list[str]:
    return _joined([found[k] for k in told])


def _joined(columns: Sequence[np.ndarray]) -> list[str]:
    return ["\0".join(map(str, row)) for row in zip(*columns, strict=True)]


def _first(
    obs: pd.DataFrame, named: str | None, own: str | Sequence[str] | None, canonical: str
) -> str | Sequence[str] | None:
    """The column that is named, else the data set's own, else the canonical one; None where there is none."""
    if named is not None:
        if named not in obs:
            raise _missing(named, obs, None, named, "the option that names it")
        return named
    names = column.names_of(own)
    if names and all(n in obs for n in names):
        return own
    return canonical if canonical in obs else None


def _missing(what: str, obs: pd.DataFrame, own: object, canonical: str, option: str) -> MissingColumn:
    return MissingColumn(
        f"The prediction file has no column of {what}",
        given=f"columns {', '.join(map(str, obs.columns)) or 'none'}",
        expected=" or ".join(repr(n) for n in (own, canonical) if n),
        fix=f"Write it under one of these names, or name the column: {option}=...",
    )
