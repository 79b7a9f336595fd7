"""Dealing validation and calibration out of the source; what is left is train."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence

from perturbfm.errors import TooFewConditions
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.order import digest, hash_order
from perturbfm.split.rule.unit import Unit

LEVELS_FOR_OOD_VALIDATION = 4


def deal_whole_level(
    sources: Sequence[Unit],
    tested: frozenset[str],
    identity: Callable[[Unit], str],
    level: Callable[[Unit], str],
    noun: str,
    dealing: Dealing,
) -> tuple[list[Unit], list[Unit], str]:
    """Validation on one whole level (context, donor, batch) where there are four, by units otherwise.

    Args:
        sources: Units to deal from.
        tested: Identities of the test; each keeps a unit in train.
        identity: What of a unit must be shared by train and test.
        level: The level of a unit on the axis that is held out.
        noun: What a level is called.
        dealing: Options.

    Returns:
        Validation units, calibration units, and how validation was chosen.
    """
    check_enough(sources)
    n_calib = dealing.n_calib(len(sources))
    chosen = _validation_level(sources, tested, identity, level, noun, n_calib, dealing.seed)
    if chosen is not None:
        val = sorted(unit for unit in sources if level(unit) == chosen)
        validation = f"{noun}:{chosen}"
    else:
        room = _spare(sources, tested, identity) - min(n_calib, 2)
        n_val = max(1, min(round(dealing.val_fraction * len(sources)), room))
        val = take(sources, n_val, tested, identity, dealing.seed, "val")
        validation = "conditions"
    rest = sorted({*sources} - {*val})
    return val, take(rest, n_calib, tested, identity, dealing.seed, "calib"), validation


def deal_units(
    sources: Sequence[Unit],
    kept: frozenset[str],
    identity: Callable[[Unit], str],
    dealing: Dealing,
    protected: Collection[Unit] = (),
) -> tuple[list[Unit], list[Unit]]:
    """Validation and calibration by units, spread over contexts.

    Args:
        sources: Units to deal from.
        kept: Identities that keep a unit in train.
        identity: What of a unit must be kept.
        dealing: Options.
        protected: Units that stay in train whatever happens.
    """
    check_enough(sources)
    free = sorted({*sources} - {*protected})
    val = take(free, dealing.n_val(len(sources)), kept, identity, dealing.seed, "val", protected) if free else []
    rest = sorted({*free} - {*val})
    n_calib = dealing.n_calib(len(sources))
    calib = take(rest, n_calib, kept, identity, dealing.seed, "calib", protected) if rest else []
    if not val or not calib:
        raise TooFewConditions(
            "Nothing is left to validate and calibrate on",
            given=f"{len(free)} source conditions that the test does not need in train",
            expected="at least 2",
            fix="Hold out less, or use data with more conditions.",
        )
    return val, calib


def one_per_context(sources: Sequence[Unit], test: Collection[Unit], seed: int) -> list[Unit]:
    """A source unit of each context of the test, where there is one: it keeps the context in train."""
    asked = {unit[0] for unit in test}
    first: dict[str, Unit] = {}
    for unit in sorted(sources, key=lambda u: digest(seed, "kept-in-train", "|".join(u))):
        if unit[0] in asked:
            first.setdefault(unit[0], unit)
    return sorted(first.values())


def check_enough(sources: Sequence[Unit]) -> None:
    """Refuse a source that cannot fill three folds."""
    if len(sources) < 3:
        raise TooFewConditions(
            "Not enough source conditions for train, validation and calibration",
            given=f"{len(sources)} ({', '.join('|'.join(c) for c in sorted(sources))})",
            expected="at least 3",
            fix="Hold out fewer contexts, or use data with more conditions.",
        )


def take(
    units: Sequence[Unit],
    n: int,
    tested: frozenset[str],
    identity: Callable[[Unit], str],
    seed: int,
    purpose: str,
    staying: Collection[Unit] = (),
) -> list[Unit]:
    """Up to `n` units, one from each context in turn, so that tested identities stay; one in any case.

    `staying` are further units, none of `units`, that remain where those are taken from.
    """
    ordered = sorted(sorted(units), key=lambda c: digest(seed, purpose, "|".join(c)))
    left = Counter(identity(unit) for unit in (*units, *staying))
    queues: dict[str, deque[Unit]] = {}
    for unit in ordered:
        queues.setdefault(unit[0], deque()).append(unit)
    contexts = hash_order(queues, seed, purpose)
    taken: list[Unit] = []
    while len(taken) < n and any(queues.values()):
        for context in contexts:
            free = _next_free(queues[context], left, tested, identity) if len(taken) < n else None
            if free is not None:
                taken.append(free)
                left[identity(free)] -= 1
    return taken or ordered[:1]


def _next_free(
    queue: deque[Unit], left: Mapping[str, int], tested: frozenset[str], identity: Callable[[Unit], str]
) -> Unit | None:
    """Drop units from a queue up to the first that is not the last of a tested identity."""
    while queue:
        unit = queue.popleft()
        if identity(unit) not in tested or left[identity(unit)] > 1:
            return unit
    return None


def _validation_level(
    sources: Sequence[Unit],
    tested: frozenset[str],
    identity: Callable[[Unit], str],
    level: Callable[[Unit], str],
    noun: str,
    n_calib: int,
    seed: int,
) -> str | None:
    """The first level, by hash, that can leave train without taking a tested identity along.

    Levels with a tested identity come before those without, and those that leave room for the whole calibration fold
    before those that do not.
    """
    levels = hash_order({level(unit) for unit in sources}, seed, f"val-{noun}")
    if len(levels) < LEVELS_FOR_OOD_VALIDATION:
        return None
    room = {c: _spare([other for other in sources if level(other) != c], tested, identity) for c in levels}
    asks = {level(unit) for unit in sources if identity(unit) in tested}
    best = min(levels, key=lambda c: (room[c] < 1, c not in asks, -min(room[c], n_calib)))
    return best if room[best] >= 1 else None


def _spare(units: Sequence[Unit], tested: frozenset[str], identity: Callable[[Unit], str]) -> int:
    """How many units can be taken while each tested identity keeps one; -1 if one has none already."""
    if tested - {identity(unit) for unit in units}:
        return -1
    return len(units) - len(tested)
