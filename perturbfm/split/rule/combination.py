"""Hold out combinations, by how many of their parts train has alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from perturbfm.errors import BadValue, TooFewConditions
from perturbfm.split.rule import option
from perturbfm.split.rule.axis import COMBINATIONS, axis_rows, n_seen
from perturbfm.split.rule.fold import deal_units
from perturbfm.split.rule.hold_out import by_intervention
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.order import hash_order
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Unit, Units, grouped, parts_of
from perturbfm.split.split import Split
from perturbfm.types import Labels


def unseen_combination(
    labels: Labels,
    *,
    seen: Sequence[int] = (2,),
    holdout: Sequence[str] = (),
    fraction: float = 0.2,
    within: Sequence[str] = (),
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Hold out combinations in all contexts, with the number of their parts that train has alone: 0, 1 or 2 (all).

    Where `seen` has 0 or 1, `fraction` of the genes are held out besides: train has them neither alone nor
    combined. Of combinations whose parts train has alone in their context and mode, `fraction` go to the test where
    `seen` has 2. Named combinations are the test as they are. Each test row stands on the axis `combination_seen_k`
    that it really has, or on `combination_mixed` where train knows a part in other forms only; a combination with a
    held-out gene and no wanted k is in no fold. Single perturbations of tested parts always stay in train;
    validation and calibration are whole combinations in all contexts, and other conditions where combinations do
    not suffice.

    Args:
        labels: Names of every row.
        seen: Wanted numbers of seen parts.
        holdout: Combinations to hold out, instead of dealing.
        fraction: Share to hold out.
        within: Contexts to use; none means all.
        seed: Seed of the dealing.
        val_fraction: Share of the source to validate on.
        calib_fraction: Share of the source to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        BadValue: The data have no delimiter, or an option is out of range.
        TooFewConditions: No combination of a wanted kind, or a fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    wanted = _wanted(seen)
    share = option.fraction("fraction", fraction)
    if labels.delimiter is None:
        raise BadValue(
            "The data have no combinations",
            given="data.delimiter=null",
            expected="what joins the parts of a combination",
            fix="Set data.delimiter, or choose another rule.",
        )
    contexts = option.names_among("within", within, grouped(labels).context.names, "K562")
    units = Units.of(labels, contexts)
    pairs = sorted(unit for unit in units.rows if len(units.parts(unit)) > 1)
    named = option.names_among("holdout", holdout, {units.pert[unit] for unit in pairs}, "A+B")
    hidden = set() if named else _hidden_genes(units, pairs, wanted, share, dealing.seed)
    train_alone = {key for unit in units.rows if (key := _alone(units, unit)) and key[2] not in hidden}
    left = [u for u in units.rows if units.pert[u] not in named and not {*units.parts(u)} & hidden]
    known = {part for unit in left for part in units.parts(unit)}
    class_of = {unit: n_seen(units.parts(unit), _alone_beside(units, unit, train_alone), known) for unit in pairs}
    test = _tested(units, pairs, class_of, wanted, named, hidden, share, dealing.seed)
    other_mode, chosen = units.other_modes(test), {*test}
    asked = {units.parts(unit) for unit in test}
    touching = {u for u in units.rows if set(units.parts(u)) & hidden or units.parts(u) in asked}
    touching -= {*chosen, *other_mode}
    sources = sorted({*units.rows} - chosen - touching - {*other_mode})
    needed = {(*_where(units, unit), part) for unit in test for part in units.parts(unit)}
    protected = [unit for unit in sources if _alone(units, unit) in needed]
    val, calib = _deal(units, sources, protected, dealing)
    train = sorted({*sources} - {*val} - {*calib})
    folds = {"train": train, "val": val, "calib": calib, "test": test}
    by_fold = {name: units.rows_of(found) for name, found in folds.items()}
    on = axis_rows(labels, by_fold["train"], by_fold["test"])
    axes = {axis: rows for axis, rows in on.items() if axis in COMBINATIONS}
    plan = Plan(
        rule="unseen_combination",
        rows=by_fold,
        axes=axes,
        options={"seen": list(wanted), "holdout": list(named), "fraction": share, "within": list(contexts)},
        decided={
            "held_out_genes": sorted(hidden),
            "combinations": {
                axis: len({parts_of(pert, labels.delimiter) for pert in labels.pert_n[rows]})
                for axis, rows in axes.items()
            },
        },
        excluded={
            "other_mode": units.count(other_mode),
            "of_held_out_genes_or_no_wanted_kind": units.count(touching),
            "other_context": int((~labels.is_control_n.astype(bool)).sum()) - units.count(units.rows),
        },
    )
    return split_of(labels, plan, dealing)


def _wanted(seen: Sequence[int]) -> tuple[int, ...]:
    listed = option.listed(seen)
    if not listed or any(isinstance(k, bool) or k not in (0, 1, 2) for k in listed) or len({*listed}) != len(listed):
        raise BadValue(
            "seen is not a list of numbers of seen parts",
            given=repr(seen),
            expected="some of 0, 1, 2, each once",
            fix="Pass a list such as [0, 1, 2].",
        )
    return tuple(sorted(int(k) for k in listed))


def _where(units: Units, unit: Unit) -> tuple[str, str]:
    """Context and mode: a knock-down teaches nothing of an activation, and one context nothing of another here."""
    return unit[0], units.mode[unit]


def _alone(units: Units, unit: Unit) -> tuple[str, str, str] | None:
    """Context, mode and part of a single perturbation."""
    parts = units.parts(unit)
    return (*_where(units, unit), parts[0]) if len(parts) == 1 else None


def _alone_beside(units: Units, unit: Unit, alone: Collection[tuple[str, str, str]]) -> list[str]:
    """Parts of a combination that are alone in its context and mode."""
    return [part for part in units.parts(unit) if (*_where(units, unit), part) in alone]


def _name(units: Units, unit: Unit) -> str:
    """A combination by its sorted parts, whatever its doses, times and contexts."""
    return "+".join(units.parts(unit))


def _hidden_genes(units: Units, pairs: Sequence[Unit], wanted: tuple[int, ...], share: float, seed: int) -> set[str]:
    """Genes that train must not know, where combinations with unseen parts are wanted."""
    if wanted == (2,):
        return set()
    genes = {part for unit in pairs for part in units.parts(unit)}
    return set(hash_order(genes, seed, "hidden-gene")[: max(1, round(share * len(genes)))])


def _tested(
    units: Units,
    pairs: Sequence[Unit],
    class_of: dict[Unit, int],
    wanted: tuple[int, ...],
    named: tuple[str, ...],
    hidden: set[str],
    share: float,
    seed: int,
) -> list[Unit]:
    """Combinations of the test: the named ones, or those of hidden genes and a share of those fully seen."""
    if named:
        return [unit for unit in pairs if units.pert[unit] in named]
    test = [
        unit for unit in pairs if class_of[unit] < 2 and class_of[unit] in wanted and set(units.parts(unit)) & hidden
    ]
    if 2 in wanted:
        full = {unit for unit in pairs if class_of[unit] == 2}
        names = {_name(units, unit) for unit in full}
        chosen = set(hash_order(names, seed, "test-combination")[: max(1, round(share * len(names)))])
        test += [unit for unit in full if _name(units, unit) in chosen]
    missing = [k for k in wanted if not any(class_of[unit] == k for unit in test)]
    if missing:
        raise TooFewConditions(
            "No combination has the wanted number of seen parts",
            given=f"none with {', '.join(map(str, missing))} of its parts alone in train, of {len(pairs)} combinations",
            expected=f"combinations with {', '.join(map(str, wanted))} seen parts",
            fix="Ask for other numbers in seen, or another fraction.",
        )
    return sorted(test)


def _deal(
    units: Units, sources: Sequence[Unit], protected: Sequence[Unit], dealing: Dealing
) -> tuple[list[Unit], list[Unit]]:
    """Validation and calibration: whole combinations where there are three or more, else other conditions."""
    pairs: dict[str, list[Unit]] = {}
    for unit in sources:
        if len(units.parts(unit)) > 1:
            pairs.setdefault(_name(units, unit), []).append(unit)
    if len(pairs) < 3:
        return deal_units(sources, frozenset(), by_intervention, dealing, protected)
    order = hash_order(pairs, dealing.seed, "fold-combination")
    n_val = min(dealing.n_val(len(pairs)), len(pairs) - 2)
    n_calib = min(dealing.n_calib(len(pairs)), len(pairs) - n_val - 1)
    val = [unit for name in order[:n_val] for unit in pairs[name]]
    calib = [unit for name in order[n_val : n_val + n_calib] for unit in pairs[name]]
    return sorted(val), sorted(calib)
