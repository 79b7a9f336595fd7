"""Rules: pure functions from labels to an unfrozen split.

Everything random is an order of SHA-256 digests of (seed, purpose, name), so dealing depends on names and seed alone:
not on the order of rows, the platform or a generator's version.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perturbfm.errors import (
    BadValue,
    DuplicateNames,
    NoSharedPerturbation,
    PerturbFMError,
    TooFewConditions,
    TooFewControls,
    UnknownContext,
    nearest,
)
from perturbfm.split.split import Split, whole_number
from perturbfm.types import Labels

Condition = tuple[str, str]
"""Context and intervention (`perturbation@mode`)."""

LEAST_IN_BATCH = 2
"""Controls on each side of a batch, where matching is within batches: a variance and a resampling need two."""

MOST_REFERENCE = 1000
"""Reference controls of a context; more would not make its truth noticeably better (protocol 3.1)."""

CONTEXTS_FOR_OOD_VALIDATION = 4
SHOWN = 10


def context_ood(
    labels: Labels,
    holdout: Sequence[str],
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
    filter_unshared: bool = False,
) -> Split:
    """Hold out whole contexts: known interventions in cells that train has not seen perturbed.

    *Test* is every perturbed row of the held-out contexts. Its interventions must occur in another context too, with
    the same mode; source rows of other modes are in no fold. Folds are whole conditions (context x intervention).

    *Validation* is one whole source context where there are at least 4, so that selection is done out of
    distribution; otherwise `max(1, round(val_fraction * n))` of the n source conditions. *Calibration* is
    `max(1, round(calib_fraction * n))` source conditions, spread over contexts. Either is smaller (never below 1)
    where more would take an intervention of the test out of train; a validation context that would do so is not
    chosen, and where every one would, validation is dealt by conditions. What is left is *train*.

    *Controls* of every context in use are halved within context x batch into input (which gets an odd one) and
    reference (at most 1,000 per context). Where rows are matched within batches (`labels.match`), every batch with
    perturbed rows in use must have two on each side; otherwise a batch may have none. With baked-in controls there are
    none at all.

    Args:
        labels: Names of every row.
        holdout: Contexts to hold out.
        seed: Seed of the dealing.
        val_fraction: Share of source conditions to validate on, where validation is not a context.
        calib_fraction: Share of source conditions to calibrate on.
        min_controls: Smallest number of controls on each side, per context.
        filter_unshared: Drop interventions that no source context has from the test instead of refusing.

    Returns:
        A split that is not frozen. `params` holds the options, `match` of the labels and what was decided: `modes`,
        `dropped` interventions, `validation` (`context:<name>` or `conditions`), `n_conditions` per fold,
        `not_in_train` (interventions of the test that no train condition has) and `excluded` (rows in no fold, by
        reason).

    Raises:
        UnknownContext: A context is not in the data.
        NoSharedPerturbation: Interventions of the test occur nowhere else in their mode.
        TooFewConditions: A fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
        BadValue: An option is out of range.
        DuplicateNames: Two rows have one id, so that dealing by id is undefined.
    """
    options = _Options.of(labels, holdout, seed, val_fraction, calib_fraction, min_controls, filter_unshared)
    table = _Table.of(labels, options.holdout)
    dropped = _unshared(table, options)
    test = [c for c in table.test if c[1] not in dropped]
    tested = frozenset(intervention for _, intervention in test)
    modes = sorted({table.mode[intervention] for intervention in tested})
    sources = [c for c in table.source if table.mode[c[1]] in modes]
    val, calib, validation = _deal(sources, tested, options)
    train = sorted({*sources} - {*val} - {*calib})

    folds = {"train": train, "val": val, "calib": calib, "test": test}
    rows = {name: table.rows_of(conditions) for name, conditions in folds.items()}
    used = np.concatenate(list(rows.values()))
    input_idx, reference_idx = _deal_controls(labels, used, options)
    return Split(
        train_idx=rows["train"],
        val_idx=rows["val"],
        calib_idx=rows["calib"],
        test_idx=rows["test"],
        input_control_idx=input_idx,
        reference_control_idx=reference_idx,
        fingerprint=labels.fingerprint,
        data_name=labels.data_name,
        rule="context_ood",
        params={
            **options.params(),
            "match": labels.match,
            "modes": modes,
            "dropped": sorted(dropped),
            "validation": validation,
            "n_conditions": {name: len(conditions) for name, conditions in folds.items()},
            "not_in_train": sorted(tested - {intervention for _, intervention in train}),
            "excluded": _excluded(labels, table, {*test, *sources}, len(input_idx) + len(reference_idx)),
        },
        ood_axes=("context",),
        seed=options.seed,
        n_obs=labels.n_obs,
        unit=labels.unit,
    )


def leave_one_context_out(
    labels: Labels,
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
    filter_unshared: bool = False,
    on_refusal: str = "raise",
    on_skip: Callable[[str, PerturbFMError], None] | None = None,
) -> Iterator[Split]:
    """Hold out each context in turn, in sorted order; see `context_ood` for the other options.

    Each split is exactly what `context_ood` gives for that context, under the same hash.

    Args:
        labels: Names of every row.
        seed: Seed of the dealing.
        val_fraction: See `context_ood`.
        calib_fraction: See `context_ood`.
        min_controls: See `context_ood`.
        filter_unshared: See `context_ood`.
        on_refusal: `raise`, or `skip` to yield nothing for a context that cannot be held out. Where that is every
            context, the first refusal is raised after all.
        on_skip: Told the context and the refusal whenever one is skipped.
    """
    if on_refusal not in ("raise", "skip"):
        raise BadValue(
            "Unknown on_refusal", given=repr(on_refusal), expected="raise or skip", fix="Choose one of these."
        )

    def splits() -> Iterator[Split]:
        refusals: list[NoSharedPerturbation | TooFewConditions | TooFewControls] = []
        contexts = sorted({str(context) for context in labels.context_n})
        for context in contexts:
            try:
                split = context_ood(
                    labels,
                    [context],
                    seed=seed,
                    val_fraction=val_fraction,
                    calib_fraction=calib_fraction,
                    min_controls=min_controls,
                    filter_unshared=filter_unshared,
                )
            except (NoSharedPerturbation, TooFewConditions, TooFewControls) as refusal:
                refusals.append(refusal)
                if on_skip is not None and on_refusal == "skip":
                    on_skip(context, refusal)
                if on_refusal == "raise" or len(refusals) == len(contexts):
                    raise refusals[0] from None
                continue
            yield split

    return splits()


def hash_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Names in the order of the SHA-256 of `seed`, `purpose` and name, joined by the unit separator."""
    return sorted(names, key=lambda name: _digest(seed, purpose, name))


def _digest(seed: int, purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{purpose}\x1f{name}".encode()).digest()


# --- options and labels --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Options:
    holdout: tuple[str, ...]
    seed: int
    val_fraction: float
    calib_fraction: float
    min_controls: int
    filter_unshared: bool

    @classmethod
    def of(
        cls,
        labels: Labels,
        holdout: Sequence[str],
        seed: int,
        val_fraction: float,
        calib_fraction: float,
        min_controls: int,
        filter_unshared: bool,
    ) -> _Options:
        """Checked options."""
        if not isinstance(filter_unshared, bool):
            raise BadValue(
                "filter_unshared is not a switch", given=repr(filter_unshared), expected="true or false", fix="Set one."
            )
        checked = cls(
            holdout=_known_contexts(labels, holdout),
            seed=whole_number("seed", seed, least=0),
            val_fraction=_fraction("val_fraction", val_fraction),
            calib_fraction=_fraction("calib_fraction", calib_fraction),
            min_controls=whole_number("min_controls", min_controls, least=1, most=MOST_REFERENCE),
            filter_unshared=filter_unshared,
        )
        if checked.val_fraction + checked.calib_fraction >= 1:
            raise BadValue(
                "val_fraction and calib_fraction leave nothing to train on",
                given=f"{val_fraction} and {calib_fraction}",
                expected="a sum below 1",
                fix="Make one of them smaller.",
            )
        return checked

    def params(self) -> dict[str, object]:
        """What goes into the split; the seed has its own field there."""
        return {
            "holdout": list(self.holdout),
            "val_fraction": self.val_fraction,
            "calib_fraction": self.calib_fraction,
            "min_controls": self.min_controls,
            "filter_unshared": self.filter_unshared,
        }


def _fraction(name: str, value: object) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool) and 0 < value < 1:
        return float(value)
    raise BadValue(
        f"{name} is out of range",
        given=repr(value),
        expected="a number between 0 and 1, both excluded",
        fix=f"Set {name} within that range.",
    )


def _known_contexts(labels: Labels, holdout: Sequence[str]) -> tuple[str, ...]:
    names = () if isinstance(holdout, str) else tuple(str(name) for name in holdout)
    if not names or len(set(names)) != len(names):
        raise BadValue(
            "holdout is not a list of contexts",
            given=repr(holdout),
            expected="at least one context, each once",
            fix='Pass a list such as ["A172"].',
        )
    known = {str(context) for context in labels.context_n}
    unknown = sorted(set(names) - known)
    if unknown:
        close = "; ".join(f"nearest to {name}: {nearest(name, known)}" for name in unknown)
        raise UnknownContext(
            "Held-out contexts are not in the data",
            given=", ".join(unknown),
            expected=f"some of {', '.join(sorted(known))}",
            fix=f"Check the spelling ({close}).",
        )
    return tuple(sorted(names))


@dataclass(frozen=True)
class _Table:
    """Perturbed rows by condition, on the two sides of the hold-out."""

    test: Mapping[Condition, np.ndarray]
    source: Mapping[Condition, np.ndarray]
    mode: Mapping[str, str]

    @classmethod
    def of(cls, labels: Labels, holdout: Collection[str]) -> _Table:
        """Group the rows that are not controls."""
        if len(set(labels.cell_n)) != labels.n_obs:
            raise DuplicateNames(
                "Cell ids are not unique",
                given=f"{labels.n_obs} rows with {len(set(labels.cell_n))} ids",
                expected="one id per row",
                fix="Make the ids unique; dealing goes by them.",
            )
        intervention_n = labels.intervention_n
        by_condition = _group(np.flatnonzero(~labels.is_control_n.astype(bool)), labels.context_n, intervention_n)
        mode = {condition[1]: str(labels.mode_n[rows[0]]) for condition, rows in by_condition.items()}
        test = {condition: rows for condition, rows in by_condition.items() if condition[0] in holdout}
        source = {condition: rows for condition, rows in by_condition.items() if condition[0] not in holdout}
        idle = sorted(set(holdout) - {context for context, _ in test})
        if idle:
            raise TooFewConditions(
                "Held-out contexts have no perturbed rows",
                given=", ".join(idle),
                expected="at least one perturbed row in each",
                fix="Hold out contexts in which something was perturbed.",
            )
        return cls(test, source, mode)

    def rows_of(self, conditions: Iterable[Condition]) -> np.ndarray:
        """Rows of some conditions."""
        pieces = [self.test[c] if c in self.test else self.source[c] for c in conditions]
        return np.concatenate([np.empty(0, dtype=np.int64), *pieces])


def _group(rows: np.ndarray, left_n: np.ndarray, right_n: np.ndarray) -> dict[Condition, np.ndarray]:
    """Rows by a pair of labels, sorted by the pair."""
    lefts, left = np.unique(left_n[rows].astype(str), return_inverse=True)
    rights, right = np.unique(right_n[rows].astype(str), return_inverse=True)
    code = left * len(rights) + right
    order = np.argsort(code, kind="stable")
    codes, starts = np.unique(code[order], return_index=True)
    pieces = np.split(rows[order], starts[1:]) if len(codes) else []
    pairs = [(str(lefts[c // len(rights)]), str(rights[c % len(rights)])) for c in codes]
    return dict(zip(pairs, pieces, strict=True))


def _excluded(labels: Labels, table: _Table, used: Collection[Condition], n_controls: int) -> dict[str, int]:
    """Rows that are in no fold and no role, by reason."""
    return {
        "other_mode": sum(len(rows) for condition, rows in table.source.items() if condition not in used),
        "unshared": sum(len(rows) for condition, rows in table.test.items() if condition not in used),
        "control": int(labels.is_control_n.sum()) - n_controls,
    }


# --- which interventions can be asked ------------------------------------------------------------------


def _unshared(table: _Table, options: _Options) -> set[str]:
    """Interventions to drop from the test; refuses where dropping is not asked for or would leave nothing."""
    tested = {intervention for _, intervention in table.test}
    unshared = tested - {intervention for _, intervention in table.source}
    if not unshared or (options.filter_unshared and unshared != tested):
        return unshared
    shown = ", ".join(sorted(unshared)[:SHOWN])
    more = f" and {len(unshared) - SHOWN} more" if len(unshared) > SHOWN else ""
    drop = "Pass filter_unshared=true to drop them from the test, or hold out another context."
    raise NoSharedPerturbation(
        f"Held-out interventions occur in no source context in the same mode ({_why(table, unshared)})",
        given=f"{len(unshared)} unshared of {len(tested)}: {shown}{more}",
        expected=f"interventions of {', '.join(options.holdout)} that another context has too",
        fix="Hold out another context; nothing of this one can be transferred." if unshared == tested else drop,
    )


def _why(table: _Table, unshared: set[str]) -> str:
    if not table.source:
        return "every context with perturbed rows is held out"
    elsewhere = {table.mode[intervention] for _, intervention in table.source}
    lonely = {table.mode[intervention] for intervention in unshared} - elsewhere
    if not lonely:
        return "the other contexts have the mode but not these interventions"
    contexts = sorted({context for context, intervention in table.test if table.mode[intervention] in lonely})
    only = (
        f"{contexts[0]} is the only context" if len(contexts) == 1 else f"{', '.join(contexts)} are the only contexts"
    )
    return f"{only} with mode {', '.join(sorted(lonely))}; the others have {', '.join(sorted(elsewhere))}"


# --- folds ---------------------------------------------------------------------------------------------


def _deal(
    sources: Sequence[Condition], tested: frozenset[str], options: _Options
) -> tuple[list[Condition], list[Condition], str]:
    """Validation conditions, calibration conditions, and how validation was chosen."""
    if len(sources) < 3:
        raise TooFewConditions(
            "Not enough source conditions for train, validation and calibration",
            given=f"{len(sources)} ({', '.join('|'.join(c) for c in sorted(sources))})",
            expected="at least 3",
            fix="Hold out fewer contexts, or use data with more conditions.",
        )
    n_calib = max(1, round(options.calib_fraction * len(sources)))
    context = _validation_context(sources, tested, n_calib, options.seed)
    if context is not None:
        val = sorted(c for c in sources if c[0] == context)
        validation = f"context:{context}"
    else:
        room = _spare(sources, tested) - min(n_calib, 2)
        n_val = max(1, min(round(options.val_fraction * len(sources)), room))
        val = _take(sources, n_val, tested, options.seed, "val")
        validation = "conditions"
    rest = sorted({*sources} - {*val})
    return val, _take(rest, n_calib, tested, options.seed, "calib"), validation


def _validation_context(sources: Sequence[Condition], tested: frozenset[str], n_calib: int, seed: int) -> str | None:
    """The first context, by hash, that can leave train without taking an intervention of the test along.

    Contexts with an intervention of the test come before those without, and those that leave room for the whole
    calibration fold before those that do not.
    """
    contexts = hash_order({context for context, _ in sources}, seed, "val-context")
    if len(contexts) < CONTEXTS_FOR_OOD_VALIDATION:
        return None
    room = {c: _spare([other for other in sources if other[0] != c], tested) for c in contexts}
    asks = {context for context, intervention in sources if intervention in tested}
    best = min(contexts, key=lambda c: (room[c] < 1, c not in asks, -min(room[c], n_calib)))
    return best if room[best] >= 1 else None


def _spare(conditions: Sequence[Condition], tested: frozenset[str]) -> int:
    """How many conditions can be taken while each tested intervention keeps one; -1 if one has none already."""
    if tested - {intervention for _, intervention in conditions}:
        return -1
    return len(conditions) - len(tested)


def _take(conditions: Sequence[Condition], n: int, tested: frozenset[str], seed: int, purpose: str) -> list[Condition]:
    """Up to `n` conditions, one from each context in turn, so that tested interventions stay; one in any case."""
    ordered = sorted(sorted(conditions), key=lambda c: _digest(seed, purpose, "|".join(c)))
    left = Counter(intervention for _, intervention in conditions)
    queues: dict[str, deque[Condition]] = {}
    for condition in ordered:
        queues.setdefault(condition[0], deque()).append(condition)
    contexts = hash_order(queues, seed, purpose)
    taken: list[Condition] = []
    while len(taken) < n and any(queues.values()):
        for context in contexts:
            free = _next_free(queues[context], left, tested) if len(taken) < n else None
            if free is not None:
                taken.append(free)
                left[free[1]] -= 1
    return taken or ordered[:1]


def _next_free(queue: deque[Condition], left: Mapping[str, int], tested: frozenset[str]) -> Condition | None:
    """Drop conditions from a queue up to the first that is not the last of a tested intervention."""
    while queue:
        condition = queue.popleft()
        if condition[1] not in tested or left[condition[1]] > 1:
            return condition
    return None


# --- controls ------------------------------------------------------------------------------------------


def _deal_controls(labels: Labels, used: np.ndarray, options: _Options) -> tuple[np.ndarray, np.ndarray]:
    """Input and reference controls of every context that has rows in a fold."""
    input_rows, reference_rows = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    if labels.controls == "baked_in":
        return input_rows[0], reference_rows[0]
    needed = _group(used, labels.context_n, labels.batch_n)
    contexts = sorted({context for context, _ in needed})
    in_use = np.isin(labels.context_n.astype(str), contexts) & labels.is_control_n.astype(bool)
    strata = _group(np.flatnonzero(in_use), labels.context_n, labels.batch_n)
    counts = {k: {batch: len(rows) for (context, batch), rows in strata.items() if context == k} for k in contexts}
    by_batch = labels.match == "context_batch"
    least = LEAST_IN_BATCH if by_batch else 1
    sizes = {context: _reference_sizes(controls_b, least) for context, controls_b in counts.items()}
    _check_controls(counts, sizes, needed if by_batch else (), options.min_controls)
    for (context, batch), rows in strata.items():
        key = [_digest(options.seed, "control", str(cell)) for cell in labels.cell_n[rows]]
        shuffled = rows[sorted(range(len(rows)), key=key.__getitem__)]
        reference_rows.append(shuffled[: sizes[context][batch]])
        input_rows.append(shuffled[sizes[context][batch] :])
    return np.concatenate(input_rows), np.concatenate(reference_rows)


def _reference_sizes(controls_b: Mapping[str, int], least: int) -> dict[str, int]:
    """Reference controls per batch of one context: half, or `MOST_REFERENCE` shared out in proportion to the halves.

    Every batch keeps `least`, or its half if that is less; this may exceed the limit where there are very many batches.
    """
    half = {batch: n // 2 for batch, n in controls_b.items()}
    total = sum(half.values())
    if total <= MOST_REFERENCE:
        return half
    size = {batch: min(h, max(least, MOST_REFERENCE * h // total)) for batch, h in half.items()}
    growing = sorted(
        (batch for batch in half if size[batch] < half[batch]),
        key=lambda batch: (-(MOST_REFERENCE * half[batch] % total), batch),
    )
    for batch in growing[: max(0, MOST_REFERENCE - sum(size.values()))]:
        size[batch] += 1
    return size


def _check_controls(
    counts: Mapping[str, Mapping[str, int]],
    sizes: Mapping[str, Mapping[str, int]],
    batches: Collection[tuple[str, str]],
    min_controls: int,
) -> None:
    """Refuse contexts with too few controls on a side, and those of the (context, batch) that have not two on each."""
    short = []
    for context, controls_b in counts.items():
        reference = sum(sizes[context].values())
        shown = sum(controls_b.values()) - reference
        if min(reference, shown) < min_controls:
            short.append(f"{context} with {shown} input and {reference} reference")
    for context, batch in sorted(batches):
        reference = sizes[context].get(batch, 0)
        shown = counts[context].get(batch, 0) - reference
        if min(reference, shown) < LEAST_IN_BATCH:
            short.append(f"batch {batch} of {context} with {shown} input and {reference} reference")
    if short:
        more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
        raise TooFewControls(
            "Too few controls for an input and a reference half",
            given="; ".join(short[:SHOWN]) + more,
            expected=f"at least {min_controls} on each side of a context"
            + (f", and {LEAST_IN_BATCH} on each side of a batch" if batches else ""),
            fix="Leave these contexts or batches out of the data, or lower min_controls"
            + ("; or join batches, or set data.match=context." if batches else "."),
        )
