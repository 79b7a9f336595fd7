"""Hold out time points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perturbfm.errors import BadValue
from perturbfm.split.rule import option
from perturbfm.split.rule.hold_out import HoldOut, hold_out, known_levels, levels_of
from perturbfm.split.rule.option import Dealing, switch
from perturbfm.split.rule.unit import Units
from perturbfm.split.split import Split
from perturbfm.types import Labels


def time_ood(
    labels: Labels,
    holdout: Sequence[str | float],
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
    filter_unshared: bool = False,
) -> Split:
    """Hold out times after the intervention: test is every row of those times whose intervention has other times too.

    What train and test share is the intervention without its time. Validation is one whole time where there are four.
    Controls are matched by context (and batch) as declared: where controls were taken at several times, put the time
    into `data.batch_column` with `data.match=context_batch`.

    Args:
        labels: Names of every row.
        holdout: Times to hold out, as they are in the data.
        seed: Seed of the dealing.
        val_fraction: See `context_ood`.
        calib_fraction: See `context_ood`.
        min_controls: See `context_ood`.
        filter_unshared: See `context_ood`.

    Raises:
        BadValue: The data declare no time.
        UnknownContext: A time is not in the data.
        NoSharedPerturbation: Interventions of the test have no other time.
    """
    if labels.time_n is None:
        raise BadValue(
            "The data declare no time",
            given="data.time_column=null",
            expected="the column of times",
            fix="Set data.time_column.",
        )
    units = Units.of(labels)
    level = levels_of(units, labels.time_n)
    treated = sorted({time for time in level.values() if time})
    question = HoldOut(
        rule="time_ood",
        axis="time",
        noun="time",
        units=units,
        level=level,
        identity={unit: unit[1].rsplit(";time=", 1)[0] for unit in units.rows},
        holdout=known_levels("time", [number_text(t) for t in option.listed(holdout)], treated),
        filter_unshared=switch("filter_unshared", filter_unshared),
    )
    return hold_out(labels, question, Dealing.of(seed, val_fraction, calib_fraction, min_controls), {})


def number_text(value: str | float) -> str:
    """A number as the data write it, for example 24 for 24.0; other text as it is."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return f"{number:.6g}" if np.isfinite(number) else str(value)
