"""Holding out whole levels of something: a context, a donor, a batch, a study, a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perturbfm.errors import BadValue, NoSharedPerturbation, TooFewConditions, UnknownContext, nearest
from perturbfm.split.rule.fold import deal_whole_level
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Unit, Units
from perturbfm.split.split import Split
from perturbfm.types import Labels

SHOWN = 10


@dataclass(frozen=True)
class HoldOut:
    """One question of the kind "known interventions, unseen level".

    Attributes:
        rule: Name of the rule.
        axis: Name of the axis.
        noun: What a level is called in messages.
        units: Perturbed rows by unit.
        level: Level of each unit.
        identity: What of each unit train and test must share.
        holdout: Levels held out.
        filter_unshared: Drop what train cannot know from the test instead of refusing.
    """

    rule: str
    axis: str
    noun: str
    units: Units
    level: Mapping[Unit, str]
    identity: Mapping[Unit, str]
    holdout: tuple[str, ...]
    filter_unshared: bool

    def of_level(self, unit: Unit) -> str:
        """Level of a unit."""
        return self.level[unit]

    def of_identity(self, unit: Unit) -> str:
        """Identity of a unit."""
        return self.identity[unit]


def hold_out(
    labels: Labels,
    question: HoldOut,
    dealing: Dealing,
    options: Mapping[str, object],
    decided: Mapping[str, object] | None = None,
) -> Split:
    """Test is every unit of the held-out levels whose identity another level has in the same mode."""
    q, units = question, question.units
    test_side = [unit for unit in units.rows if q.level[unit] in q.holdout]
    source_side = [unit for unit in units.rows if q.level[unit] not in q.holdout]
    _check_idle(q, test_side)
    dropped = _unshared(q, test_side, source_side)
    test = [unit for unit in test_side if q.identity[unit] not in dropped]
    tested = frozenset(q.identity[unit] for unit in test)
    modes = {units.mode[unit] for unit in test}
    sources = [unit for unit in source_side if units.mode[unit] in modes]
    val, calib, validation = deal_whole_level(sources, tested, q.of_identity, q.of_level, q.noun, dealing)
    train = sorted({*sources} - {*val} - {*calib})
    folds = {"train": train, "val": val, "calib": calib, "test": test}
    excluded = {
        "other_mode": units.count(unit for unit in source_side if units.mode[unit] not in modes),
        "unshared": units.count(unit for unit in test_side if q.identity[unit] in dropped),
    }
    plan = Plan(
        rule=q.rule,
        rows={name: units.rows_of(found) for name, found in folds.items()},
        axes={q.axis: None},
        options={**options, "holdout": list(q.holdout), "filter_unshared": q.filter_unshared},
        decided={
            **(decided or {}),
            "dropped": sorted(dropped),
            "validation": validation,
            "not_in_train": sorted(tested - {q.identity[unit] for unit in train}),
        },
        excluded=excluded,
    )
    return split_of(labels, plan, dealing)


def known_levels(noun: str, holdout: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Levels to hold out, sorted; refuses none, repeats and what is not in the data."""
    names = () if isinstance(holdout, str) else tuple(str(name) for name in holdout)
    if not names or len(set(names)) != len(names):
        raise BadValue(
            f"holdout is not a list of {noun}s",
            given=repr(holdout),
            expected=f"at least one {noun}, each once",
            fix='Pass a list such as ["A172"].',
        )
    unknown = sorted(set(names) - set(known))
    if unknown:
        close = "; ".join(f"nearest to {name}: {nearest(name, known)}" for name in unknown)
        raise UnknownContext(
            f"Held-out {noun}s are not in the data",
            given=", ".join(unknown),
            expected=f"some of {', '.join(sorted(known))}",
            fix=f"Check the spelling ({close}).",
        )
    return tuple(sorted(names))


def levels_of(units: Units, level_n: np.ndarray) -> dict[Unit, str]:
    """Level of each unit, which has one."""
    return {unit: str(level_n[rows[0]]) for unit, rows in units.rows.items()}


def by_intervention(unit: Unit) -> str:
    """The intervention of a unit."""
    return unit[1]


def _check_idle(question: HoldOut, test_side: Sequence[Unit]) -> None:
    idle = sorted({*question.holdout} - {question.level[unit] for unit in test_side})
    if idle:
        raise TooFewConditions(
            f"Held-out {question.noun}s have no perturbed rows",
            given=", ".join(idle),
            expected="at least one perturbed row in each",
            fix=f"Hold out {question.noun}s in which something was perturbed.",
        )


def _unshared(question: HoldOut, test_side: Sequence[Unit], source_side: Sequence[Unit]) -> set[str]:
    """Identities to drop from the test; refuses where dropping is not asked for or would leave nothing."""
    q = question
    tested = {q.identity[unit] for unit in test_side}
    unshared = tested - {q.identity[unit] for unit in source_side}
    if not unshared or (q.filter_unshared and unshared != tested):
        return unshared
    shown = ", ".join(sorted(unshared)[:SHOWN])
    more = f" and {len(unshared) - SHOWN} more" if len(unshared) > SHOWN else ""
    drop = f"Pass filter_unshared=true to drop them from the test, or hold out another {q.noun}."
    raise NoSharedPerturbation(
        f"Held-out interventions occur in no source {q.noun} in the same mode ({_why(q, test_side, source_side)})",
        given=f"{len(unshared)} unshared of {len(tested)}: {shown}{more}",
        expected=f"interventions of {', '.join(q.holdout)} that another {q.noun} has too",
        fix=f"Hold out another {q.noun}; nothing of this one can be transferred." if unshared == tested else drop,
    )


def _why(question: HoldOut, test_side: Sequence[Unit], source_side: Sequence[Unit]) -> str:
    q, mode = question, question.units.mode
    if not source_side:
        return f"every {q.noun} with perturbed rows is held out"
    elsewhere = {mode[unit] for unit in source_side}
    shared = {q.identity[unit] for unit in source_side}
    lonely = {mode[unit] for unit in test_side if q.identity[unit] not in shared} - elsewhere
    if not lonely:
        return f"the other {q.noun}s have the mode but not these interventions"
    levels = sorted({q.level[unit] for unit in test_side if mode[unit] in lonely})
    only = f"{levels[0]} is the only {q.noun}" if len(levels) == 1 else f"{', '.join(levels)} are the only {q.noun}s"
    return f"{only} with mode {', '.join(sorted(lonely))}; the others have {', '.join(sorted(elsewhere))}"
