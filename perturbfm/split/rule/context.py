"""Hold out whole contexts: known interventions in cells that train has not seen perturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perturbfm.errors import BadValue, NoSharedPerturbation, PerturbFMError, TooFewConditions, TooFewControls
from perturbfm.split.rule.hold_out import HoldOut, hold_out, known_levels
from perturbfm.split.rule.option import Dealing, switch
from perturbfm.split.rule.unit import Units, grouped
from perturbfm.split.split import Split
from perturbfm.types import Labels


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
    question = HoldOut(
        rule="context_ood",
        axis="context",
        noun="context",
        units=(units := Units.of(labels)),
        level={unit: unit[0] for unit in units.rows},
        identity={unit: unit[1] for unit in units.rows},
        holdout=known_levels("context", holdout, grouped(labels).context.names),
        filter_unshared=switch("filter_unshared", filter_unshared),
    )
    return hold_out(labels, question, Dealing.of(seed, val_fraction, calib_fraction, min_controls), {})


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
        contexts = sorted(grouped(labels).context.names)
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
