"""Checks of names: is one perturbation, gene or donor on both sides under two labels?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

import numpy as np

from perturbfm.split.audit.case import COMBINATION, OTHERS, TEST, Case, Column
from perturbfm.split.audit.finding import Finding, found, not_applicable, not_checked
from perturbfm.split.audit.naming import canonical, gene_of_guide, likeness, parts_of
from perturbfm.split.split import FOLDS

UNDECLARED = ("+", ",", "|", "&", ";", "_", "/")
"""Signs that may join the parts of a combination where none is declared."""

GENETIC = ("activation", "knockdown", "knockout")
GUIDE_COLUMNS = ("guide", "grna", "sgrna", "sgid")
TARGET_COLUMNS = ("target", "gene", "gene_symbol", "target_gene", "grna_target", "gene_target")
DONOR_COLUMNS = ("donor", "patient", "subject", "individual", "mouse", "animal", "replicate", "bio_rep", "sample")
_ELSEWHERE = ("context", "perturbation", "few_shot", "none", "covariate_transfer")
_OWN = {"batch_id": "batch_n", "batch": "batch_n", "context_id": "context_n", "context": "context_n"}


def perturbation_under_two_labels(case: Case) -> Iterator[Finding]:
    """One perturbation has two labels, one in each of two folds.

    Labels that differ in case, spaces, order of parts, delimiter or a control part (`ctrl+A`), and aliases where a
    table of them is given (KIAA1804 is MAP3K21), are one perturbation. Refused where the split holds out perturbations,
    or where both names make one condition; warned of otherwise: a model then takes a known perturbation for new.
    """
    table = case.table(case.pert)[:, : len(FOLDS)] > 0
    by_name: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for code, name in enumerate(case.canonical_names):
        if name and table[code].any():
            by_name[name].append(code)
    groups = [c for c in by_name.values() if len(c) > 1 and _apart(table[c])]
    if not groups and case.evidence.aliases is None:
        yield Finding("", "pass", "Nothing found in the spelling; for want of a table aliases were not compared")
    yield from _alike(case, table)
    refused = [c for c in groups if _leaks(case, c, table[c])]
    for verdict, some in (("refuse", refused), ("warn", [c for c in groups if c not in refused])):
        if some:
            pairs = [" = ".join(case.pert.names[code] for code in codes) for codes in some]
            yield found(
                verdict,
                "Perturbations stand in different folds under two labels",
                given=f"{len(pairs)} of them, first {min(pairs)}",
                expected="one label per perturbation",
                fix="Correct the labels in the file (or set data.delimiter), then make a new split.",
                n=len(pairs),
                examples=pairs,
            )


def _alike(case: Case, table: np.ndarray) -> Iterator[Finding]:
    """Labels that are one perturbation if a separator, a guide's prefix or the kind of hit is no part of the name."""
    by_likeness: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for code, name in enumerate(case.pert.names):
        if table[code].any() and (like := likeness(name, case.labels.delimiter, case.other_names)):
            by_likeness[like].append(code)
    names = case.canonical_names
    pairs = [
        " = ".join(case.pert.names[code] for code in codes)
        for codes in by_likeness.values()
        if len({names[code] for code in codes}) > 1 and _apart(table[codes])
    ]
    if pairs:
        yield found(
            "warn",
            "Perturbations of different folds may be one under two labels",
            given=f"{len(pairs)} of them, first {min(pairs)}",
            expected="labels that differ in more than separators, a guide's prefix or how a gene was hit",
            fix="If they are one, correct the labels or name them in data.aliases, then make a new split.",
            n=len(pairs),
            examples=pairs,
        )


def _apart(in_fold: np.ndarray) -> bool:
    """Whether labels of one perturbation are not all in the same single fold."""
    return int(in_fold.any(axis=0).sum()) > 1


def _leaks(case: Case, codes: list[int], in_fold: np.ndarray) -> bool:
    """Whether the test holds one of the labels, and perturbations are held out or one condition is in two folds."""
    if case.about_perturbations and in_fold[:, TEST].any():
        return True
    rows = np.flatnonzero((case.place_n >= 0) & (case.place_n < len(FOLDS)) & np.isin(case.pert.code_n, codes))
    names = Column.of(f"{c}|{m}" for c, m in zip(case.labels.context_n[rows], case.labels.mode_n[rows], strict=True))
    places: dict[int, set[int]] = defaultdict(set)
    for name, place in zip(names.code_n.tolist(), case.place_n[rows].tolist(), strict=True):
        places[name].add(place)
    return not case.within_conditions and any(len(found_in) > 1 for found_in in places.values())


def combination_parts_held_out(case: Case) -> Iterator[Finding]:
    """A combination outside the test holds a gene that the split holds out, or its stated class is not what train has.

    `A+B` in train tells of A. And a combination of which both genes were seen is a far easier question than one of
    which none was, so `seen 0`, `1` and `2` must be what they say.
    """
    if not case.about_perturbations:
        yield not_applicable("perturbations are not held out")
        return
    aliases, delimiter = case.other_names, case.labels.delimiter
    known = {*case.pert.names}
    cut = [parts_of(n, delimiter) if delimiter else undeclared_parts(n, known) for n in case.pert.names]
    parts = [[canonical(p, None, aliases) for p in some] for some in cut]
    parts = [[p for p in some if p] for some in parts]
    if "perturbation" in case.axes:
        yield from _combinations_elsewhere(case, parts)
    for axis in case.axes:
        if axis.startswith(COMBINATION):  # `combination_mixed` states no class
            yield from _class_stated(case, parts, axis)


def undeclared_parts(name: str, known: Collection[str]) -> list[str]:
    """Parts of a label that is a combination although no delimiter is declared: each of them is a label too."""
    for sign in UNDECLARED:
        parts = [part.strip() for part in name.split(sign)]
        if len(parts) > 1 and all(part in known for part in parts):
            return parts
    return [name]


def _combinations_elsewhere(case: Case, parts: list[list[tuple[str, ...]]]) -> Iterator[Finding]:
    aliases = case.other_names
    tested = np.unique(case.pert.code_n[case.tested("perturbation")])
    held = {parts[code][0] for code in tested if len(parts[code]) == 1}
    held |= {canonical(n.partition("@")[0], case.labels.delimiter, aliases) for n in case.holdout("perturbation") or ()}
    table = case.table(case.pert)
    for number, name in enumerate(OTHERS):
        telling = [
            case.pert.names[code]
            for code in np.flatnonzero(table[:, number])
            if len(parts[code]) > 1 and held & set(parts[code])
        ]
        if telling:
            verdict, more = case.elsewhere(name)
            yield found(
                verdict,
                f"Combinations in {name} hold a gene that is held out{more}",
                given=f"{len(telling)} combinations, first {min(telling)}",
                expected="no part that the test holds out as an unseen perturbation",
                fix="Hold such combinations out as well, or leave them out of every fold.",
                n=len(telling),
                examples=telling,
            )


def _class_stated(case: Case, parts: list[list[tuple[str, ...]]], axis: str) -> Iterator[Finding]:
    stated = int(axis.removeprefix(COMBINATION))
    train = np.unique(case.pert.code_n[case.fold("train")])
    seen = {part for code in train for part in parts[code]}
    tested = [c for c in np.unique(case.pert.code_n[case.tested(axis)]) if len(parts[c]) > 1]
    count = {case.pert.names[c]: _n_seen(parts[c], seen) for c in tested}
    for verdict, wrong in (
        ("refuse", [n for n, k in count.items() if k > stated]),
        ("warn", [n for n, k in count.items() if k < stated]),
    ):
        if wrong:
            first = min(wrong)
            yield found(
                verdict,
                f"Combinations are not of the class that the split states ({axis})",
                given=f"{len(wrong)} combinations, first {first} with {count[first]} parts in train",
                expected=f"{stated} parts of each in train",
                fix="Make a new split; the class must follow from what train holds.",
                n=len(wrong),
                examples=wrong,
            )


def _n_seen(parts: list[tuple[str, ...]], seen: set[tuple[str, ...]]) -> int:
    """How many parts train has in any form; 2 stands for all of them, 1 for some, as in the names of the axes."""
    n = sum(part in seen for part in parts)
    return 2 if n == len(parts) else min(n, 1)


def guides_of_one_gene_split(case: Case) -> Iterator[Finding]:
    """Guides of one gene stand in the test and in another fold, where perturbations are held out.

    Two guides of a gene have nearly the same effect: to split by guide is to test on what was trained on. Genes are
    told by a target column among the covariates, or from labels like `GENE_1` and `GENEg2`; where the latter cannot be
    confirmed (no such gene is measured or labelled), it is a warning.
    """
    if "perturbation" not in case.axes:
        yield not_applicable("perturbations are not held out")
        return
    test = np.zeros(case.labels.n_obs, dtype=bool)
    test[case.tested("perturbation")] = True
    measured = {g.casefold() for g in (*case.evidence.genes, *case.evidence.other_names)}
    known = measured | {p.casefold() for p in case.pert.names}
    for source, guide, gene_of, sure in _guide_columns(case, measured):
        by_gene: dict[str, set[int]] = defaultdict(set)
        for code in range(len(guide.names)):
            if gene := gene_of.get(code):
                by_gene[gene].add(code)
        tested = set(np.unique(guide.code_n[test]).tolist())
        codes_in = {name: set(np.unique(guide.code_n[case.fold(name)]).tolist()) for name in OTHERS}
        other = set().union(*codes_in.values())
        firm = set().union(*(codes for name, codes in codes_in.items() if case.elsewhere(name)[0] == "refuse"))
        split = [g for g, codes in by_gene.items() if len(codes) > 1 and codes & tested and codes & other]
        confirmed = [g for g in split if (sure or g.casefold() in known) and by_gene[g] & firm]
        for verdict, genes in (("refuse", confirmed), ("warn", [g for g in split if g not in confirmed])):
            if genes:
                yield found(
                    verdict,
                    f"Guides of one gene are in different folds ({source})",
                    given=f"{len(genes)} genes, first {min(genes)}",
                    expected="all guides of a gene in one fold",
                    fix="Use the gene as the perturbation (data.pert_column), and the guide as a covariate.",
                    n=len(genes),
                    examples=genes,
                )


def _guide_columns(case: Case, measured: Collection[str]) -> Iterator[tuple[str, Column, dict[int, str], bool]]:
    """Columns that may tell guides apart: what they are, the guides, the gene of each, and whether that is certain."""
    genetic = set(case.mode.at(case.split.test_idx)) & set(GENETIC)
    perturbed = np.flatnonzero(~case.labels.is_control_n.astype(bool))
    for name in sorted(case.labels.covariates):
        if name.casefold() in TARGET_COLUMNS:
            target = case.covariate(name)
            pairs = dict(zip(case.pert.code_n[perturbed].tolist(), target.code_n[perturbed].tolist(), strict=True))
            yield f"column {name}", case.pert, {c: target.names[t] for c, t in pairs.items()}, True
        elif genetic and any(word in name.casefold() for word in GUIDE_COLUMNS):
            guide = case.covariate(name)
            yield f"column {name}", guide, _genes_by_name(guide, measured), False
    if genetic:
        yield "labels", case.pert, _genes_by_name(case.pert, measured), False


def _genes_by_name(column: Column, measured: Collection[str]) -> dict[int, str]:
    return {code: gene for code, name in enumerate(column.names) if (gene := gene_of_guide(name, measured))}


def donor_in_two_folds(case: Case) -> Iterator[Finding]:
    """A donor (batch, data set, time point...) that the split holds out has rows in another fold.

    Cells of one donor share genotype, handling and depth: who has seen the donor has seen most of it.
    """
    axes = [a for a in case.axes if a not in _ELSEWHERE and not a.startswith(("combination", "dose"))]
    if not axes:
        yield not_applicable("no donor, batch, data set or time is held out")
    for axis in axes:
        column = _held_out_column(case, axis)
        if column is None:
            yield not_checked(
                f"no column among the labels says which {axis} a row is of", f"Name it among data.covariates ({axis})."
            )
            continue
        tested = column.at(case.tested(axis))
        for name in OTHERS:
            both = sorted(column.at(case.fold(name)) & tested)
            if both:
                yield found(
                    "refuse",
                    f"Held out by {axis}, and in {name} as well",
                    given=f"{len(both)} values, first {both[0]}",
                    expected=f"no {axis} of the test in another fold",
                    fix=f"Make a new split that deals each {axis} as a whole.",
                    n=len(both),
                    examples=both,
                )


def _held_out_column(case: Case, axis: str) -> Column | None:
    labels, name = case.labels, case.column_name(axis)
    if name in labels.covariates:
        return case.covariate(str(name))
    own = _OWN.get(name or axis) or {"time": "time_n", "dose": "dose_n"}.get(axis)
    if own:
        values = getattr(labels, own)
        return None if values is None else Column.of(values)
    words = DONOR_COLUMNS if axis == "donor" else (axis, "study") if axis == "dataset" else (axis,)
    near = [c for c in sorted(labels.covariates) if any(word in c.casefold() for word in words)]
    return case.covariate(near[0]) if near else None
