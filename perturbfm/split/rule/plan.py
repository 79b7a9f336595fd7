"""From what a rule decided to an unfrozen split: controls are halved, counts and options are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from perturbfm.split.rule.control import deal_controls
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.unit import grouped
from perturbfm.split.split import FOLDS, Split
from perturbfm.types import Labels


@dataclass(frozen=True)
class Plan:
    """What a rule decided.

    Attributes:
        rule: Its name.
        rows: Rows of each fold.
        axes: For each axis the test rows out of distribution on it, None for all of them.
        options: The rule's own options.
        decided: What was decided, and why rows are in no fold (`excluded`).
        excluded: Perturbed rows that are in no fold, by reason.
    """

    rule: str
    rows: Mapping[str, np.ndarray]
    axes: Mapping[str, np.ndarray | None]
    options: Mapping[str, object]
    decided: Mapping[str, object] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)


def split_of(labels: Labels, plan: Plan, dealing: Dealing) -> Split:
    """Deal the controls of every context in use and put the split together."""
    used = np.concatenate([plan.rows[name] for name in FOLDS])
    input_idx, reference_idx = deal_controls(labels, used, dealing)
    n_left = int(labels.is_control_n.sum()) - len(input_idx) - len(reference_idx)
    test = plan.rows["test"]
    return Split(
        train_idx=plan.rows["train"],
        val_idx=plan.rows["val"],
        calib_idx=plan.rows["calib"],
        test_idx=test,
        input_control_idx=input_idx,
        reference_control_idx=reference_idx,
        fingerprint=labels.fingerprint,
        data_name=labels.data_name,
        rule=plan.rule,
        params={
            **dealing.params(),
            **plan.options,
            "match": labels.match,
            "modes": sorted({str(mode) for mode in labels.mode_n[test]}),
            "n_conditions": {name: n_conditions(labels, plan.rows[name]) for name in FOLDS},
            "excluded": {**plan.excluded, "control": n_left},
            **plan.decided,
        },
        ood_axes=tuple(plan.axes),
        seed=dealing.seed,
        n_obs=labels.n_obs,
        unit=labels.unit,
        ood_idx={axis: test if rows is None else rows for axis, rows in plan.axes.items()},
    )


def n_conditions(labels: Labels, rows: np.ndarray) -> int:
    """Number of distinct contexts x interventions among some rows."""
    number = grouped(labels).unit_n[rows]
    return int(np.count_nonzero(np.bincount(number[number >= 0])))
