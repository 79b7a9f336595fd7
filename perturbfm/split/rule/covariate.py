"""Hold out whole donors, batches, studies or any other level of a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perturbfm.errors import BadValue, nearest
from perturbfm.split.rule.hold_out import HoldOut, by_intervention, hold_out, known_levels
from perturbfm.split.rule.option import Dealing, switch
from perturbfm.split.rule.unit import Coded, Units, coded_column, grouped
from perturbfm.split.split import Split
from perturbfm.types import Labels


def covariate_ood(
    labels: Labels,
    column: str,
    holdout: Sequence[str],
    *,
    axis: str | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
    filter_unshared: bool = False,
) -> Split:
    """Hold out levels of a column: known interventions in a donor, batch or study that train has not seen.

    As `context_ood`, with the column's levels in place of contexts. The controls of a held-out level must be its own,
    or they would be shown in training: so either every context has one level (put the column into
    `data.context_column`), or controls are matched within batches that have one level each (`data.batch_column` and
    `data.match=context_batch`). In the second case one condition has rows on both sides, and folds are whole within
    context x intervention x level. Controls of held-out levels are shown at prediction only.

    Args:
        labels: Names of every row.
        column: A covariate, or `batch`, or `context`.
        holdout: Levels to hold out.
        axis: Name of the axis; the column's name by default.
        seed: Seed of the dealing.
        val_fraction: See `context_ood`.
        calib_fraction: See `context_ood`.
        min_controls: See `context_ood`.
        filter_unshared: See `context_ood`.

    Raises:
        BadValue: There is no such column, or its levels share controls.
        UnknownContext: A level is not in the data.
        NoSharedPerturbation: Interventions of the test occur nowhere else in their mode.
        TooFewConditions: A fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
    """
    level_n = _column(labels, column)
    nested = _one_level_per(level_n, grouped(labels).context)
    if not nested:
        _check_own_controls(labels, column, level_n)
    units = Units.of(labels, level=None if nested else column)
    level = {unit: level_n.names[level_n.code_n[rows[0]]] for unit, rows in units.rows.items()}
    question = HoldOut(
        rule="covariate_ood",
        axis=axis or column,
        noun=column,
        units=units,
        level=level,
        identity={unit: by_intervention(unit) for unit in units.rows},
        holdout=known_levels(column, holdout, level_n.names),
        filter_unshared=switch("filter_unshared", filter_unshared),
    )
    decided: dict[str, object] = {"held_out_controls": "shown at prediction only"}
    if not nested:
        decided["folds"] = f"conditions within {column}"
    options = {"column": column}
    return hold_out(labels, question, Dealing.of(seed, val_fraction, calib_fraction, min_controls), options, decided)


def _column(labels: Labels, column: str) -> Coded:
    """A covariate, or one of the labels, by name; missing text stays a level of its own."""
    known = {"batch", "context", *labels.covariates}
    if column not in known:
        raise BadValue(
            "No such column to hold out",
            given=repr(column),
            expected=", ".join(sorted(known)),
            fix=f"Name it in data.covariates. Nearest: {nearest(str(column), known)}.",
        )
    return coded_column(labels, column)


def _one_level_per(level: Coded, *within: Coded) -> bool:
    """Whether rows that are alike in some columns have one level."""
    code_n = np.zeros(len(level.code_n), dtype=np.int64)
    for column in within:
        code_n = code_n * len(column.names) + column.code_n
    _, first, group_n = np.unique(code_n, return_index=True, return_inverse=True)
    return bool((level.code_n[first][group_n] == level.code_n).all())


def _check_own_controls(labels: Labels, column: str, level: Coded) -> None:
    names = grouped(labels)
    by_batch = labels.match == "context_batch" or labels.controls == "baked_in"
    if by_batch and _one_level_per(level, names.context, names.batch):
        return
    raise BadValue(
        f"Levels of {column} share their controls",
        given=f"controls matched by {labels.match}, with several {column} levels in one",
        expected=f"one {column} per context, or per context and batch with data.match=context_batch",
        fix=f"Add {column} to data.context_column, or set data.batch_column={column} with data.match=context_batch.",
    )
