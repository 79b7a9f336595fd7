"""Checks of what comes from elsewhere: graphs, embeddings and weights that have seen the test."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from perturbfm.split.audit.case import Case
from perturbfm.split.audit.evidence import Prior, rows_of
from perturbfm.split.audit.finding import Finding, found, not_applicable, not_checked
from perturbfm.split.audit.learned import is_graph, outside_train
from perturbfm.split.audit.naming import (
    WHITELIST,
    author_year,
    barcode_in,
    beyond_chance,
    canonical,
    same_name,
)

JUDGED = ("test", "reference_control")
"""Places whose rows no prior may have seen."""

LEARNABLE = ("train", "input_control")

DECLARE = "Declare their origin: priors=[FILE] in the configuration, or --prior FILE."

ANOTHER = "Use one that was made without these data, or without the test."


def graph_from_test_rows(case: Case) -> Iterator[Finding]:
    """A gene graph has edges that were derived from test rows: co-expression over all cells, for example.

    Its edges then say which genes answer together in the very cells that are to be predicted.
    """
    graphs = None if case.evidence.learned is None else [one for one in case.evidence.learned if is_graph(one)]
    for one in graphs or []:
        yield from outside_train(case, one.what, rows_of(one), "has edges derived from rows outside train")
    if case.evidence.priors is None and not graphs:
        yield not_checked("nobody said which graphs are in use", DECLARE)
    yield from _each(case, ("graph",), "no graph is declared to be in use")


def prior_trained_on_test(case: Case) -> Iterator[Finding]:
    """Embeddings, pretrained weights or gene lists were made from data that hold the test.

    Told by fingerprint, name of the data set, ids of cells, perturbations and contexts, as their owner declares them.
    An origin that nobody declares is warned of: it may be these very cells.
    """
    if case.evidence.priors is None:
        yield not_checked("nobody said which priors are in use", DECLARE)
    kinds = ("embedding", "weights", "gene_list")
    yield from _each(case, kinds, "no embedding, weights or gene list is declared to be in use")


def _each(case: Case, kinds: tuple[str, ...], none: str) -> Iterator[Finding]:
    mine = [prior for prior in case.evidence.priors or () if prior.kind in kinds]
    if case.evidence.priors is not None and not mine:
        yield not_applicable(none)
    for prior in mine:
        if not prior.declared:
            yield found(
                "warn",
                f"Nobody declares what {prior.name} was made from",
                given="an unknown origin",
                expected="data sets, fingerprints, cells, perturbations or contexts",
                fix="Declare its origin in its provenance file, or do without it.",
                n=1,
            )
            continue
        if not (yield from _data(case, prior)):
            yield from _names(case, prior)
        yield from _cells(case, prior)


# --- the same data -------------------------------------------------------------------------------------


def _data(case: Case, prior: Prior) -> Generator[Finding, None, bool]:
    """Findings on the data set itself; returns whether the prior says which of its rows it was made from."""
    finger = case.split.fingerprint in (prior.fingerprints or ())
    named = [n for n in prior.data_sets or () if same_name(n) == same_name(case.labels.data_name)]
    if finger and prior.rows is not None:
        rows = np.unique(np.array(prior.rows, dtype=np.int64))
        yield from outside_train(case, prior.name, rows, "was made from rows outside train")
        return True
    if prior.folds is not None:
        beyond = [name for name in prior.folds if name not in LEARNABLE]
        if beyond:
            yield _seen(prior, "folds", f"folds {', '.join(beyond)}", f"{' and '.join(LEARNABLE)} only", beyond)
        return True
    if (finger or named) and prior.cell_ids is None:
        what = f"data {case.split.fingerprint[:12]}" if finger else f"the data set {named[0]}"
        yield _seen(prior, "data", f"{what}, with no word on which cells", "other data, or train rows only", named)
    elif not (finger or named):
        mine = author_year(case.labels.data_name)
        near = [n for n in prior.data_sets or () if author_year(n) & mine]
        if near and prior.cell_ids is None:
            yield found(
                "warn",
                f"{prior.name} was made from data of a like name",
                given=", ".join(sorted(near)),
                expected=f"data that share no cell with {case.labels.data_name}",
                fix="Declare the ids of its cells (cell_ids), so that they can be compared.",
                n=len(near),
                examples=near,
            )
    return False


def _seen(prior: Prior, what: str, given: str, expected: str, examples: list[str]) -> Finding:
    return found(
        "refuse",
        f"{prior.name} ({prior.kind}) was made from {what} of the test",
        given=given,
        expected=expected,
        fix=ANOTHER,
        n=max(1, len(examples)),
        examples=examples,
    )


# --- the same cells ------------------------------------------------------------------------------------


def _cells(case: Case, prior: Prior) -> Iterator[Finding]:
    if not prior.cell_ids:
        return
    judged = np.concatenate([case.fold(name) for name in JUDGED])
    ids = [str(case.labels.cell_n[row]) for row in judged]
    theirs = set(prior.cell_ids)
    same = [cell for cell in ids if cell in theirs]
    if same:
        yield _seen(prior, "cells", f"{len(same)} cells, first {min(same)}", f"no cell of {' or '.join(JUDGED)}", same)
        return
    barcodes = {b for cell in theirs if (b := barcode_in(cell))}
    shared = [cell for cell in ids if barcode_in(cell) in barcodes]
    expected = len(barcodes) * len(ids) / WHITELIST
    if shared:
        certain = beyond_chance(len(shared), expected)
        yield found(
            "refuse" if certain else "warn",
            f"{prior.name} ({prior.kind}) was made from cells with barcodes of the test",
            given=f"{len(shared)} barcodes, first {min(shared)}",
            expected=f"about {expected:.1f} by chance",
            fix=ANOTHER if certain else "So few may be chance; compare the files if you can.",
            n=len(shared),
            examples=shared,
        )


# --- the same names ------------------------------------------------------------------------------------


def _names(case: Case, prior: Prior) -> Iterator[Finding]:
    """Perturbations and contexts that the split calls unseen, and the prior has seen."""
    if case.about_perturbations and prior.perturbations:
        aliases, delimiter = case.other_names, case.labels.delimiter
        theirs = {canonical(p, delimiter, aliases) for p in prior.perturbations}
        theirs |= {(part,) for name in theirs for part in name}
        tested = {code for a in case.axes for code in np.unique(case.pert.code_n[case.tested(a)]).tolist()}
        same = [case.pert.names[c] for c in sorted(tested) if case.canonical_names[c] in theirs]
        if same:
            given = f"{len(same)} perturbations, first {min(same)}"
            yield _seen(prior, "perturbations", given, "no perturbation that the test holds out", same)
    if "context" in case.axes and prior.contexts:
        theirs_c = {same_name(c) for c in prior.contexts}
        same = sorted(c for c in case.context.at(case.tested("context")) if same_name(c) in theirs_c)
        if same and prior.perturbations == ():
            yield found(
                "warn",
                f"{prior.name} ({prior.kind}) was made from unperturbed cells of held-out contexts",
                given=", ".join(same),
                expected="contexts that the test does not hold out",
                fix="Say so beside the result: the context was not new to the model.",
                n=len(same),
                examples=same,
            )
        elif same:
            yield _seen(prior, "contexts", ", ".join(same), "no context that the test holds out", same)
