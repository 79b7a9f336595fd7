"""Doses and times of a file -> canonical text, one per row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data.label import Labelling, Parsed, compiled
from perturbfm.errors import BadValue, ControlTimesPooled, DoseMismatch

_AGREE = 0.01
"""Relative difference within which a dose and its text agree: labels are rounded."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def number_text(value: float) -> str:
    """A number as canonical text: `%.6g`, without the `+` of an exponent, which joins doses of combinations."""
    return re.sub(r"e\+?(-?)0*(\d)", r"e\1\2", f"{value:.6g}")


def cut_numbers(value_n: np.ndarray, pattern: str | None, delimiter: str | None, key: str) -> np.ndarray:
    """Amounts that are written with words (`0.1 uM`, `24h`): the first group of a pattern, in each part of a text.

    What the pattern does not fit stays as it is, and is refused where a number is needed.
    """
    rule = compiled(pattern, key)
    if rule is None:
        return value_n
    known: dict[str | None, str | None] = {None: None}
    for text in {v for v in value_n if v is not None}:
        parts = [part.strip() for part in (text.split(delimiter) if delimiter else [text])]
        known[text] = (delimiter or "").join(m[1] if (m := rule.fullmatch(part)) and m[1] else part for part in parts)
    return np.array([known[v] for v in value_n], dtype=object)


def read_doses(
    value_n: np.ndarray,
    labelling: Labelling,
    cells: pd.Index,
    *,
    written_delimiter: str | None,
    delimiter: str | None,
    factor: float,
    missing: Sequence[Any],
    column: str,
) -> np.ndarray:
    """Canonical dose of each row; controls and rows without a label have "".

    Args:
        value_n: Doses as text, None where absent.
        labelling: Labels of the same rows.
        cells: Cell ids, for messages.
        written_delimiter: What joins the doses of a combination in the file.
        delimiter: What joins the parts of a label, and the canonical doses in the order of the sorted parts.
        factor: What doses are multiplied by.
        missing: Values that mean "no dose", as numbers or text.
        column: Name of the column, for messages.

    Raises:
        DoseMismatch: A treated row has no dose, a negative one, none that can be read, or another number of doses
            than of parts.
    """
    if not factor > 0 or not math.isfinite(factor):
        raise BadValue(
            "data.dose_factor is not positive",
            given=factor,
            expected="a positive number, for example 0.001 from nM to uM",
            fix="Set data.dose_factor.",
        )
    absent = _Absent(missing)
    found = np.full(len(value_n), "", dtype=object)
    for label, value, rows in _pairs(labelling, value_n):
        if label.order:
            try:
                numbers = _numbers(label, value, written_delimiter, absent)
                found[rows] = _joined(label, numbers, delimiter, factor)
            except ValueError as e:
                raise DoseMismatch(
                    f"A dose in {column!r} {e}",
                    given=f"{value!r} for {label.name!r} in {len(rows)} rows, cells {_named(cells, rows)}",
                    expected="one positive number per part of the perturbation",
                    fix="Correct the column, name what means no dose in data.missing_doses with those rows left out "
                    "(data.drop), or declare the label a control.",
                ) from e
    return found


def read_times(value_n: np.ndarray, labelling: Labelling, cells: pd.Index, *, column: str) -> np.ndarray:
    """Canonical time of each row; controls and rows without a label have "".

    Raises:
        DoseMismatch: A treated row has no time, a negative one, or none that can be read.
    """
    found = np.full(len(value_n), "", dtype=object)
    for label, value, rows in _pairs(labelling, value_n):
        if label.order:
            try:
                found[rows] = number_text(_number(value, _Absent(())))
            except ValueError as e:
                raise DoseMismatch(
                    f"A time in {column!r} {e}",
                    given=f"{value!r} for {label.name!r} in {len(rows)} rows, cells {_named(cells, rows)}",
                    expected="a number of zero or more for every treated row",
                    fix="Correct the column, or leave those rows out (data.drop).",
                ) from e
    return found


def check_against_label(
    value_n: np.ndarray, text_n: np.ndarray, labelling: Labelling, cells: pd.Index, *, factor: float, columns: str
) -> None:
    """Refuse doses that a second column contradicts: each dose must be a number of that row's text, within 1 %.

    The text may be in the units before or after `factor`.
    """
    treated = np.flatnonzero(np.array([bool(p.order) for p in labelling.parsed] + [False])[labelling.code_n])
    codes, pairs = pd.factorize(
        np.array([f"{value_n[i]}\x1f{text_n[i]}" for i in treated], dtype=object), use_na_sentinel=False
    )
    for code, pair in enumerate(pairs):
        value, text = str(pair).split("\x1f", 1)
        said = [float(word) for word in _NUMBER.findall(text)]
        asked = [float(word) for word in _NUMBER.findall(value)]
        if not asked or not any(all(_near(said, a * f) for a in asked) for f in (1.0, factor)):
            rows = treated[np.flatnonzero(codes == code)]
            raise DoseMismatch(
                f"The dose disagrees with its label ({columns})",
                given=f"dose {value} beside {text!r} in {len(rows)} rows, cells {_named(cells, rows)}",
                expected="the same number in both columns",
                fix="Find out which column is right; then name that one and leave out data.dose_label_column.",
            )


class _Absent:
    """Values that mean "no dose": as they are written, or as the same number."""

    def __init__(self, missing: Sequence[Any]) -> None:
        self.text = {str(v).strip() for v in missing}
        self.number = {float(v) for v in self.text if _NUMBER.fullmatch(v)}

    def __contains__(self, value: object) -> bool:
        text = str(value).strip()
        return text in self.text or (bool(_NUMBER.fullmatch(text)) and float(text) in self.number)


def _joined(label: Parsed, numbers: list[float], delimiter: str | None, factor: float) -> str:
    kept = [numbers[i] for i in label.order] if len(numbers) == label.n_written else _sorted_by(label, numbers)
    if not any(kept):
        raise ValueError("of a treated row is zero")
    words = [number_text(n * factor) for n in kept]
    if len(words) > 1 and delimiter and any(delimiter in word for word in words):
        raise ValueError(f"holds the delimiter {delimiter!r}")
    return (delimiter or "").join(words)


def _sorted_by(label: Parsed, numbers: list[float]) -> list[float]:
    """Doses given only for the parts that are perturbations, in the order of the sorted parts."""
    rank = {place: k for k, place in enumerate(sorted(label.order))}
    return [numbers[rank[place]] for place in label.order]


def _numbers(label: Parsed, value: str | None, delimiter: str | None, absent: _Absent) -> list[float]:
    if label.n_written == 1 or not delimiter or value is None or delimiter not in value:
        numbers = [_number(value, absent)]
    else:
        words = [word.strip() for word in value.split(delimiter)]
        kept = set(label.order) if len(words) == label.n_written else set(range(len(words)))
        numbers = [_number(w, absent) if i in kept else 0.0 for i, w in enumerate(words)]
    if len(numbers) not in (label.n_written, len(label.order)):
        raise ValueError(f"does not fit its {label.n_written} parts")
    return numbers


def _number(value: str | None, absent: _Absent) -> float:
    if value is None or value.strip().lower() in ("", "nan") or value in absent:
        raise ValueError("of a treated row is missing")
    try:
        number = float(value)
    except ValueError:
        raise ValueError("is no number") from None
    if not math.isfinite(number):
        raise ValueError("is no number")
    if number < 0:
        raise ValueError("is negative")
    return number


def _pairs(labelling: Labelling, value_n: np.ndarray) -> Iterable[tuple[Parsed, str | None, np.ndarray]]:
    """Each distinct (label, value) with its rows; rows without a label are left out."""
    value_code, values = pd.factorize(value_n)
    pair_n = labelling.code_n.astype(np.int64) * (len(values) + 1) + value_code + 1
    order = np.argsort(pair_n, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(pair_n[order])) + 1):
        if len(rows) and labelling.code_n[rows[0]] >= 0:
            value = value_code[rows[0]]
            yield labelling.parsed[labelling.code_n[rows[0]]], None if value < 0 else str(values[value]), rows


def _near(said: list[float], asked: float) -> bool:
    return any(math.isclose(number, asked, rel_tol=_AGREE) for number in said)


def _named(cells: pd.Index, rows: np.ndarray) -> str:
    shown = ", ".join(repr(str(c)) for c in cells[rows[:3]])
    return f"{shown}{' ...' if len(rows) > 3 else ''}"


def check_control_times(obs: pd.DataFrame, written_n: np.ndarray, by_batch: bool) -> None:
    """Refuse controls of several times in one group of comparison: time itself would be taken for an effect.

    Args:
        obs: Labels of the rows.
        written_n: Time of each row as the file says it, of controls too.
        by_batch: Whether deltas compare within batches of a context.
    """
    control = obs["is_control"].to_numpy(dtype=bool)
    keys = ["context_id", *(["batch_id"] if by_batch else [])]
    times = obs.loc[control, keys].assign(time=written_n[control]).dropna().groupby(keys, observed=True)["time"]
    several = times.nunique()
    several = several[several > 1]
    if len(several):
        first = several.index[0]
        name = first if isinstance(first, str) else " / ".join(map(str, first))
        raise ControlTimesPooled(
            "Controls of several times would be compared with as one",
            given=f"{len(several)} groups, first {name} with {int(several.iloc[0])} times",
            expected="controls of one time in each context, or in each batch of it",
            fix="Add the time to data.batch_column (a list of columns), so that deltas compare within it.",
        )
