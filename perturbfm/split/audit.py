"""What a split says of itself, held against the labels of the data it is locked to.

A frozen hash proves that a split is what it was, not that it was right: rules have bugs, and a split can be made by
hand.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from perturbfm.errors import SplitLeaks
from perturbfm.split.split import FOLDS, ROLES, Split
from perturbfm.types import Labels, join_labels

_REMAKE = "Do not use this split; make a new one with `perturbfm splits create`."


def audit(split: Split, labels: Labels) -> None:
    """Refuse a split that shows a model what it is tested on; call it after `Split.assert_fits`.

    Controls are controls and in no fold. Where contexts are held out, no fold but the test has rows of them. Folds are
    whole conditions, unless `params` say `folds="cells"`. Train has no mode that the test lacks. Controls are matched
    as the split was dealt for, where it says so.

    Args:
        split: The split.
        labels: Labels of the data set it is locked to.

    Raises:
        SplitLeaks: One of these does not hold.
    """
    _check_roles(split, labels)
    if "context" in split.ood_axes:
        _check_contexts(split, labels)
    if split.params.get("folds") != "cells":
        _check_whole(split, labels)
    _check_modes(split, labels)
    _check_match(split, labels)


def _check_roles(split: Split, labels: Labels) -> None:
    is_control_n = labels.is_control_n.astype(bool)
    for names, wanted, problem in (
        (ROLES, True, "Perturbed rows serve as controls"),
        (FOLDS, False, "Controls are in a fold"),
    ):
        for name in names:
            rows = split.indices()[name]
            wrong = rows[is_control_n[rows] != wanted]
            if wrong.size:
                raise SplitLeaks(
                    problem,
                    given=f"{wrong.size} rows of {name}, first row {wrong[0]}",
                    expected="control rows in the two control roles only, perturbed rows in folds only",
                    fix=_REMAKE,
                )


def _check_contexts(split: Split, labels: Labels) -> None:
    tested = _names(labels.context_n, split.ood_rows("context"))
    named = {str(context) for context in split.params.get("holdout", sorted(tested))}
    for name in FOLDS[:-1]:
        both = _names(labels.context_n, split.fold(name)) & (tested | named)
        if both:
            raise SplitLeaks(
                f"Held-out contexts are in {name}",
                given=", ".join(sorted(both)),
                expected=f"none of {', '.join(sorted(tested | named))}",
                fix=_REMAKE,
            )
    if tested - named or (named - tested and not split.params.get("dropped")):
        raise SplitLeaks(
            "The test is not of the contexts that the split says are held out",
            given=f"a test of {', '.join(sorted(tested))}",
            expected=f"holdout {', '.join(sorted(named))}",
            fix=_REMAKE,
        )


def _check_whole(split: Split, labels: Labels) -> None:
    condition_n, folds, column = labels.condition_n, split.params.get("folds"), str(split.params.get("column"))
    if folds == f"conditions within {column}":
        condition_n = join_labels(condition_n, {"batch": labels.batch_n, **labels.covariates}[column], "|")
    found = {name: _names(condition_n, split.fold(name)) for name in FOLDS}
    for one, other in combinations(FOLDS, 2):
        both = sorted(found[one] & found[other])
        if both:
            raise SplitLeaks(
                f"Conditions have rows both in {one} and in {other}",
                given=f"{len(both)} conditions, first {both[0]}",
                expected="each condition in one fold",
                fix=_REMAKE,
            )


def _check_modes(split: Split, labels: Labels) -> None:
    test, train = (_names(labels.mode_n, split.fold(name)) for name in ("test", "train"))
    if train - test:
        raise SplitLeaks(
            "Train has a mode that the test lacks",
            given=", ".join(sorted(train - test)),
            expected=f"the modes of the test: {', '.join(sorted(test))}",
            fix=_REMAKE,
        )


def _check_match(split: Split, labels: Labels) -> None:
    match = split.params.get("match")
    if match is not None and match != labels.match:
        raise SplitLeaks(
            "The split was dealt for another match of controls",
            given=f"data that match by {labels.match}",
            expected=f"match by {match}",
            fix=f"Set data.match={match}, or freeze a split for this match.",
        )


def _names(label_n: np.ndarray, rows: np.ndarray) -> set[str]:
    return {str(label) for label in label_n[rows]}
