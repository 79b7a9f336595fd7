"""Hold out genes or compounds: interventions that train has seen in no context."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from perturbfm.errors import GuidesNotGenes, TooFewConditions
from perturbfm.split.rule import option
from perturbfm.split.rule.fold import check_enough
from perturbfm.split.rule.option import Dealing
from perturbfm.split.rule.order import hash_order
from perturbfm.split.rule.plan import Plan, split_of
from perturbfm.split.rule.unit import Unit, Units, grouped
from perturbfm.split.split import Split
from perturbfm.types import Labels

_GUIDE = re.compile(
    r"(?P<sign>.+?)[_.-](?:s?g(?:RNA|rna)?|guide)\d{1,2}"  # JAK2_sg3
    r"|(?P<bar>.+?)_\d{1,2}"  # ZAP70_1
    r"|(?P<dash>.*[A-Z].*?)-\d{1,2}"  # STAT1-2; not the worm's daf-2
    r"|(?P<glued>[A-Z0-9.-]+)g\d{1,2}"  # STAT1g2; not the mouse's Atg5 or Pla2g6
    r"|(?P<sequence>.+?)_[ACGT]{17,24}"
    r"|(?P<strand>.+?)_[+-]_\d+\.\d+(?:-\w+)?"  # AARS_+_70323216.23-P1P2
)
_SYMBOL = re.compile(
    r"(?:NKX\d|KRTAP\d+|MIR\d+\w*|(?:HSA-)?MIR-\d+\w*|SNOR[AD]\d+|RNU\d\w*|ERV\w+|RP\d+"
    r"|IG[HKL][VDJC]\d+|TR[ABDG][VDJC]\d+)-\d+",
    re.IGNORECASE,
)
"""Families whose own symbols end in a dash and a number."""

NO_GUIDES = ("drug", "ligand")
"""Modes whose labels are compounds or proteins: `IL-2` is no second guide of `IL`."""


def unseen_perturbation(
    labels: Labels,
    *,
    holdout: Sequence[str] = (),
    fraction: float = 0.2,
    within: Sequence[str] = (),
    combinations: str = "exclude",
    seed: int = 0,
    val_fraction: float = 0.1,
    calib_fraction: float = 0.2,
    min_controls: int = 30,
) -> Split:
    """Hold out genes (or compounds) with everything that is done to them: all guides, doses, modes and contexts.

    Genes are dealt, not labels: a fold has whole genes, so validation and calibration ask about unseen genes too.
    A combination with genes of one fold besides train belongs to that fold, with `combinations="include"`; with
    `"exclude"` (and wherever its genes are of several such folds) it is in no fold. Train has combinations of train
    genes only.

    Args:
        labels: Names of every row.
        holdout: Genes to hold out; none means `fraction` of them, dealt by the hash of their names.
        fraction: Share of genes to hold out where none are named.
        within: Contexts to use; none means all.
        combinations: `exclude` or `include` combinations with held-out genes.
        seed: Seed of the dealing.
        val_fraction: Share of the other genes to validate on.
        calib_fraction: Share of the other genes to calibrate on.
        min_controls: Smallest number of controls on each side, per context.

    Raises:
        GuidesNotGenes: Labels look like guides; two guides of one gene would fall on both sides.
        TooFewConditions: A fold would be empty.
        TooFewControls: A context or batch in use has too few controls.
        BadValue: An option is out of range, or names what is not in the data.
    """
    dealing = Dealing.of(seed, val_fraction, calib_fraction, min_controls)
    option.choice("combinations", combinations, ("exclude", "include"))
    contexts = option.names_among("within", within, grouped(labels).context.names, "K562")
    units = Units.of(labels, contexts)
    refuse_guides(units)
    genes = {part for unit in units.rows for part in units.parts(unit)}
    named = option.names_among("holdout", holdout, genes, "STAT1")
    tested = named or _dealt(units, genes, option.fraction("fraction", fraction), dealing.seed)
    fold_of = _genes_by_fold(_of_modes(units, set(tested), combinations), genes, set(tested), dealing)
    folds: dict[str, list[Unit]] = {"train": [], "val": [], "calib": [], "test": [], "excluded": []}
    for unit in units.rows:
        folds[_fold(units.parts(unit), fold_of, combinations)].append(unit)
    other_mode = {*units.other_modes(folds["test"])}
    folds = {name: [unit for unit in found if unit not in other_mode] for name, found in folds.items()}
    check_enough([*folds["train"], *folds["val"], *folds["calib"]])
    plan = Plan(
        rule="unseen_perturbation",
        rows={name: units.rows_of(found) for name, found in folds.items()},
        axes={"perturbation": None},
        options={"holdout": sorted(tested), "within": list(contexts), "combinations": combinations},
        decided={"genes": {f: sum(g == f for g in fold_of.values()) for f in ("train", "val", "calib", "test")}},
        excluded={
            "other_mode": units.count(other_mode),
            "combination_with_held_out_genes": units.count(folds["excluded"]),
            "other_context": int((~labels.is_control_n.astype(bool)).sum()) - units.count(units.rows),
        },
    )
    return split_of(labels, plan, dealing)


def refuse_guides(units: Units) -> None:
    """Refuse labels most of which are several guides of one gene; one stem for all of them is a numbering."""
    labels = {part for unit in units.rows if units.mode[unit] not in NO_GUIDES for part in units.parts(unit)}
    stem = {label: found for label in labels if (found := guide_stem(label))}
    n_of = Counter(stem.values())
    guides = sorted(label for label, of in stem.items() if n_of[of] > 1)
    if len({stem[label] for label in guides}) > 1 and len(guides) > len(labels) / 2:
        raise GuidesNotGenes(
            "Perturbation labels look like guides, not genes",
            given=f"{len(guides)} of {len(labels)} labels share a stem: {', '.join(guides[:6])}",
            expected="one label per gene",
            fix="Set data.guide_pattern, or data.pert_column to the column of target genes.",
        )


def guide_stem(label: str) -> str | None:
    """What would be the gene if a label were of a guide; None where it is written as no guide is."""
    match = _GUIDE.fullmatch(label)
    if match is None or _SYMBOL.fullmatch(label):
        return None
    return next(stem for stem in match.groups() if stem is not None)


def _dealt(units: Units, genes: Collection[str], share: float, seed: int) -> list[str]:
    """Genes by hash; those that are perturbed alone come first, for they can be tested without combinations."""
    alone = {parts[0] for unit in units.rows if len(parts := units.parts(unit)) == 1}
    pool = alone or set(genes)
    return hash_order(pool, seed, "test-gene")[: max(1, round(share * len(pool)))]


def _of_modes(units: Units, tested: set[str], combinations: str) -> list[tuple[str, ...]]:
    """Parts of every unit whose mode the test has."""
    test = [
        u for u in units.rows if tested & {*units.parts(u)} and (combinations == "include" or len(units.parts(u)) == 1)
    ]
    other_mode = {*units.other_modes(test)}
    return [units.parts(unit) for unit in units.rows if unit not in other_mode]


def _genes_by_fold(
    parts: Sequence[tuple[str, ...]], genes: Collection[str], tested: set[str], dealing: Dealing
) -> dict[str, str]:
    """Fold of each gene; validation and calibration genes are among those perturbed alone, where there are enough."""
    rest = set(genes) - tested
    alone = {found[0] for found in parts if len(found) == 1} - tested
    pool = alone if len(alone) >= 3 else {part for found in parts for part in found} - tested
    if len(pool) < 3:
        raise TooFewConditions(
            "Too few genes are left for train, validation and calibration",
            given=f"{len(pool)} of {len(genes)}, with {len(tested)} held out",
            expected="at least 3",
            fix="Hold out fewer genes.",
        )
    order = hash_order(pool, dealing.seed, "fold-gene")
    n_val, n_calib = dealing.n_val(len(pool)), dealing.n_calib(len(pool))
    n_val = min(n_val, len(pool) - 2)
    n_calib = min(n_calib, len(pool) - n_val - 1)
    fold_of = dict.fromkeys(rest, "train") | dict.fromkeys(tested, "test")
    fold_of |= dict.fromkeys(order[:n_val], "val") | dict.fromkeys(order[n_val : n_val + n_calib], "calib")
    return fold_of


def _fold(parts: Sequence[str], fold_of: dict[str, str], combinations: str) -> str:
    folds = {fold_of[part] for part in parts} - {"train"}
    if not folds:
        return "train"
    if len(folds) > 1 or (len(parts) > 1 and combinations == "exclude"):
        return "excluded"
    return folds.pop()
