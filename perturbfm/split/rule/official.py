"""Somebody else's split, frozen with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perturbfm.errors import BadValue, SplitOfOtherData, TooFewConditions
from perturbfm.split.rule.axis import axis_rows, dealt_away, labelled
from perturbfm.split.rule.fold import one_per_context, take
from perturbfm.split.rule.hold_out import by_intervention
from perturbfm.split.rule.negative import by_cell
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Coded, Unit, group_rows, grouped
from perturbfm.split.split import Split
from perturbfm.types import Labels

GIVEN = ("train", "val", "test")


def official_split(
    labels: Labels,
    fold_of_cell: Mapping[str, str],
    origin: Mapping[str, object],
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Take over which cells train, validate and test; deal what an official split does not have.

    Its test stays as it is. Controls leave the folds and are halved into input and reference. Rows of a mode that the
    test lacks are in no fold. Calibration is dealt out of its train (whole conditions, such that contexts and
    interventions of the test stay; cells where its folds cut conditions, or where train has no condition that the test
    can do without), and validation too if it has none. Axes are read off the names that train then has (see
    `axis_rows`). Cells that the split does not name are in no fold.

    Args:
        labels: Names of every row.
        fold_of_cell: `train`, `val` or `test` by cell id.
        origin: Where it comes from: project, file, checksum.
        seed: Seed of the dealing.
        val_fraction: Share of train to validate on where the split has no validation.
        calib_fraction: Share of train to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        BadValue: A fold has another name.
        SplitOfOtherData: The split names cells that the data do not have.
        TooFewConditions: A fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
        DuplicateNames: Two rows have one id.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    grouped(labels)  # refuses repeated ids before anything is looked up by id
    _check(labels, fold_of_cell)
    fold_n = np.array([fold_of_cell.get(str(cell), "") for cell in labels.cell_n], dtype=object)
    treated = ~labels.is_control_n.astype(bool)
    given = {name: np.flatnonzero(treated & (fold_n == name)) for name in GIVEN}
    if not len(given["train"]) or not len(given["test"]):
        raise TooFewConditions(
            "An official split leaves a fold empty",
            given=", ".join(f"{name} {len(rows)}" for name, rows in given.items()),
            expected="perturbed cells to train and to test on",
            fix="Check that the split is of this data set.",
        )
    modes = {*labels.mode_n[given["test"]]}
    n_given = sum(len(rows) for rows in given.values())
    given = {name: rows[[mode in modes for mode in labels.mode_n[rows]]] for name, rows in given.items()}
    by_fold, decided = _dealt(labels, given, dealing)
    plan = Plan(
        rule="official",
        rows=by_fold,
        axes=labelled(axis_rows(labels, by_fold["train"], by_fold["test"])),
        options={"origin": dict(origin)},
        decided=decided,
        excluded={
            "other_mode": n_given - sum(len(rows) for rows in given.values()),
            "not_in_the_official_split": int((treated & (fold_n == "")).sum()),
        },
    )
    return split_of(labels, plan, dealing)


def _check(labels: Labels, fold_of_cell: Mapping[str, str]) -> None:
    wrong = sorted(set(fold_of_cell.values()) - {*GIVEN})
    if wrong:
        raise BadValue(
            "An official split has folds of other names",
            given=", ".join(map(str, wrong[:5])),
            expected=", ".join(GIVEN),
            fix="Rename its folds.",
        )
    unknown = fold_of_cell.keys() - {str(cell) for cell in labels.cell_n}
    if unknown:
        raise SplitOfOtherData(
            "An official split names cells that the data do not have",
            given=f"{len(unknown)} of {len(fold_of_cell)}, first {min(unknown)}",
            expected="cell ids of the data set",
            fix="Use the data set that the split was made for, with its own cell ids.",
        )


def _dealt(
    labels: Labels, given: Mapping[str, np.ndarray], dealing: Dealing
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The four folds, and what had to be decided."""
    by = grouped(labels).columns
    if _conditions_cut(given, by):
        return _by_cells(labels, given, dealing)
    train, val = given["train"], given["val"]
    decided: dict[str, object] = {}
    sources = group_rows(train, by)
    asked = group_rows(given["test"], by)
    tested, n = frozenset(unit[1] for unit in asked), len(sources)
    kept = one_per_context([*sources], asked, dealing.seed)
    free = sorted({*sources} - {*kept})
    if n < 3 or len(free) < 2:
        raise TooFewConditions(
            "An official train fold is too small to calibrate on",
            given=f"{n} conditions, {len(free)} of which may leave it",
            expected="at least 3 and 2",
            fix="Use another split.",
        )
    decided["calibration"] = "conditions of the official train"
    taken = take(free, min(dealing.n_calib(n), len(free) - 1), tested, by_intervention, dealing.seed, "calib", kept)
    if not len(val):
        rest = sorted({*free} - {*taken})
        chosen = take(rest, dealing.n_val(n), tested, by_intervention, dealing.seed, "val", kept)
        val = _rows(sources, chosen)
        decided["validation"] = "conditions of the official train"
        left = {*sources} - {*taken} - {*chosen}
    else:
        left = {*sources} - {*taken}
    folds = {"train": _rows(sources, sorted(left)), "val": val, "calib": _rows(sources, taken), "test": given["test"]}
    dealt = np.setdiff1d(given["train"], folds["train"])
    if len(dealt_away(labels, folds["train"], dealt, given["test"])):
        return _by_cells(labels, given, dealing)
    return folds, decided


def _by_cells(
    labels: Labels, given: Mapping[str, np.ndarray], dealing: Dealing
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The four folds, with calibration, and validation where there is none, of cells of the official train."""
    train, val = given["train"], given["val"]
    decided: dict[str, object] = {"folds": "cells", "calibration": "cells of the official train"}
    calib, train = _cells(labels, train, dealing.calib_fraction, dealing.seed, "calib")
    if not len(val):
        val, train = _cells(labels, train, dealing.val_fraction, dealing.seed, "val")
        decided["validation"] = "cells of the official train"
    return {"train": train, "val": val, "calib": calib, "test": given["test"]}, decided


def _conditions_cut(given: Mapping[str, np.ndarray], by: Sequence[Coded]) -> bool:
    seen: set[Unit] = set()
    for rows in given.values():
        found = {*group_rows(rows, by)}
        if seen & found:
            return True
        seen |= found
    return False


def _rows(sources: Mapping[Unit, np.ndarray], units: Sequence[Unit]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *(sources[unit] for unit in units)])


def _cells(labels: Labels, rows: np.ndarray, share: float, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """A share of some rows by cell id, and the others."""
    ordered = by_cell(labels, rows, seed, purpose)
    n = max(1, round(share * len(ordered)))
    return ordered[:n], ordered[n:]
