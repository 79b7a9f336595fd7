"""Checks of folds: is what the split says is held out in the test fold, and nowhere else?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from perturbfm.split.audit.case import OTHERS, Case
from perturbfm.split.audit.finding import Finding, found, not_applicable
from perturbfm.split.audit.role import REMAKE
from perturbfm.split.split import FOLDS


def held_out_context_elsewhere(case: Case) -> Iterator[Finding]:
    """A context that is held out has perturbed rows in another fold, or the test is not of the contexts named.

    What is learned of a context from its perturbed cells is no transfer to it.
    """
    if "context" not in case.axes:
        yield not_applicable("contexts are not held out")
        return
    tested = case.context.at(case.tested("context"))
    named = set(case.holdout("context") or tested)
    for name in OTHERS:
        both = case.context.at(case.fold(name)) & (tested | named)
        if both:
            verdict, more = case.elsewhere(name)
            yield found(
                verdict,
                f"Held-out contexts are in {name}{more}",
                given=", ".join(sorted(both)),
                expected=f"none of {', '.join(sorted(tested | named))}",
                fix=REMAKE,
                n=len(both),
                examples=both,
            )
    if tested - named or (named - tested and not case.split.params.get("dropped")):
        yield found(
            "refuse",
            "The test is not of the contexts that the split says are held out",
            given=f"a test of {', '.join(sorted(tested))}",
            expected=f"holdout {', '.join(sorted(named))}",
            fix=REMAKE,
            n=len(tested ^ named),
            examples=tested ^ named,
        )


def held_out_perturbation_elsewhere(case: Case) -> Iterator[Finding]:
    """A perturbation that is held out has rows in another fold, in whatever context or dose.

    Its effect in one context is most of what is to be known of it in another.
    """
    if not case.about_perturbations:
        yield not_applicable("perturbations are not held out")
        return
    for axis in case.axes:
        if axis != "perturbation" and not axis.startswith("combination"):
            continue
        tested = case.gene_mode.at(case.tested(axis))
        for name in OTHERS:
            both = sorted(case.gene_mode.at(case.fold(name)) & tested)
            if both:
                verdict, more = case.elsewhere(name)
                yield found(
                    verdict,
                    f"Held-out perturbations are in {name}{more}",
                    given=f"{len(both)} of {len(tested)}, first {both[0]}",
                    expected=f"none of the perturbations that the test holds out ({axis})",
                    fix="Do not use this split; deal perturbations, not conditions.",
                    n=len(both),
                    examples=both,
                )


def condition_in_two_folds(case: Case) -> Iterator[Finding]:
    """Cells of one condition (context x intervention) are in two folds.

    Then the mean that is to be predicted has been measured in train. A split that says `folds="cells"` divides
    conditions on purpose; it measures noise, not transfer, and is warned of by that name.
    """
    table = case.table(case.condition)
    yield from _too_many_shots(case, table)
    for one, other in combinations(range(len(FOLDS)), 2):
        both = [case.condition.names[c] for c in ((table[:, one] > 0) & (table[:, other] > 0)).nonzero()[0]]
        if not both:
            continue
        where = f"both in {FOLDS[one]} and in {FOLDS[other]}"
        yield found(
            "warn" if case.within_conditions else "refuse",
            f"This is a within-condition split: conditions have rows {where}"
            if case.within_conditions
            else f"Conditions have rows {where}",
            given=f"{len(both)} conditions, first {both[0]}",
            expected="each condition in one fold",
            fix="Read its numbers as reproducibility of seen conditions, not as prediction of new ones."
            if case.within_conditions
            else REMAKE,
            n=len(both),
            examples=both,
        )


def _too_many_shots(case: Case, table: np.ndarray) -> Iterator[Finding]:
    """A few-shot split shows more cells of a test condition than it says."""
    k = case.split.params.get("k")
    if case.split.rule != "few_shot" or not isinstance(k, int):
        return
    train, test = FOLDS.index("train"), FOLDS.index("test")
    more = [case.condition.names[c] for c in ((table[:, test] > 0) & (table[:, train] > k)).nonzero()[0]]
    if more:
        yield found(
            "refuse",
            "Train has more cells of test conditions than the split says",
            given=f"{len(more)} conditions, first {more[0]}",
            expected=f"at most {k} cells of each",
            fix=REMAKE,
            n=len(more),
            examples=more,
        )


def mode_transfer(case: Case) -> Iterator[Finding]:
    """Train and test hold different modes of intervention (activation, knock-down, drug...).

    Activating and silencing one gene are different interventions, so nothing transfers by their common name. Modes that
    only train has are refused; a mode that only the test has is warned of: nothing can be learned for it.
    """
    test, train = (case.mode.at(case.fold(name)) for name in ("test", "train"))
    if train - test:
        yield found(
            "refuse",
            "Train has a mode that the test lacks",
            given=", ".join(sorted(train - test)),
            expected=f"the modes of the test: {', '.join(sorted(test))}",
            fix=REMAKE,
            n=len(train - test),
            examples=train - test,
        )
    if test - train:
        yield found(
            "warn",
            "The test has a mode that train lacks",
            given=", ".join(sorted(test - train)),
            expected=f"the modes of train: {', '.join(sorted(train))}",
            fix="Read its numbers as transfer between modes, or restrict the test to the modes of train.",
            n=len(test - train),
            examples=test - train,
        )


def calibration_overlaps_test(case: Case) -> Iterator[Finding]:
    """The calibration fold shares conditions with the test, or whole interventions where those are held out.

    Intervals scaled on what they are then measured on cover by construction.
    """
    yield from _overlap(case, "calib", "test", "Calibration and test share", "refuse")


def validation_overlaps_calibration(case: Case) -> Iterator[Finding]:
    """Validation and calibration share conditions, or whole interventions where those are held out.

    A model was chosen because it does well on validation; there its residuals are too small to scale intervals by.
    """
    yield from _overlap(case, "val", "calib", "Validation and calibration share", "warn")


def _overlap(case: Case, one: str, other: str, message: str, interventions: str) -> Iterator[Finding]:
    kinds = [("conditions", case.condition, "warn" if case.within_conditions else "refuse", case.fold(other))]
    if case.about_perturbations:
        rows = case.unseen_interventions if other == "test" else case.fold(other)
        kinds.append(("interventions", case.gene_mode, interventions, rows))
    for what, column, verdict, rows in kinds:
        both = sorted(column.at(case.fold(one)) & column.at(rows))
        if both:
            yield found(
                verdict,
                f"{message} {what}",
                given=f"{len(both)} {what}, first {both[0]}",
                expected=f"{one} and {other} without a common name",
                fix="Do not use this split; give each fold whole " + what + ".",
                n=len(both),
                examples=both,
            )


def random_split(case: Case) -> Iterator[Finding]:
    """The folds were dealt at random: the named negative example.

    Each test condition has near copies in train, so its numbers say nothing of new contexts or perturbations.
    """
    if case.split.rule == "random_cells" or case.axes == ("none",):
        yield found(
            "warn",
            "The folds were dealt at random" if case.split.rule == "random_cells" else "Nothing is held out",
            given=f"rule {case.split.rule}, axes {', '.join(case.axes)}",
            expected="a rule that holds something out",
            fix="Use it to show what such numbers look like, never as a result.",
            n=1,
        )
