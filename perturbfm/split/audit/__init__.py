"""Does this split leak? Named checks of a split against labels, expression and declared origins.

In:      a `Split`, the `Labels` of its data, and `Evidence`: plain things that the caller has gathered (matrix, what
         the file stores, what was learned from which rows, where priors come from, aliases).
Out:     an `Audit`: a `Finding` per check, verdict pass < warn < refuse; `not_checked` where evidence is absent.
Imports: numpy, scipy, yaml, `perturbfm.types`, `perturbfm.errors` and the split itself. No room of the house.

A frozen hash proves that a split is what it was, not that it was right: rules have bugs, splits are made by hand, and
files hold cells twice. Every run is audited before it trains.

    row.py          cells: twice by id, barcode or expression
    label.py        names: aliases, combinations, guides, donors
    fold.py         what is held out, and whole conditions
    role.py         input and reference controls
    learned.py      what was learned from which rows
    stored.py       what the file stores beside its matrix
    prior.py        graphs, embeddings, weights; `prior_file.py` reads what is declared of them
    confounding.py  batches that coincide with what is held out

To add a check: one function `Case -> Iterator[Finding]` in the file of its meaning, its name the name to be cited, its
docstring the leak and why it matters; one line in `CHECKS`; one planted leak in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from perturbfm.split.audit.case import Case, ood_rows
from perturbfm.split.audit.confounding import axis_confounded_with_batch
from perturbfm.split.audit.evidence import DeGenes, Evidence, Prior
from perturbfm.split.audit.finding import Audit, Finding
from perturbfm.split.audit.fold import (
    calibration_overlaps_test,
    condition_in_two_folds,
    held_out_context_elsewhere,
    held_out_perturbation_elsewhere,
    mode_transfer,
    random_split,
    validation_overlaps_calibration,
)
from perturbfm.split.audit.label import (
    combination_parts_held_out,
    donor_in_two_folds,
    guides_of_one_gene_split,
    perturbation_under_two_labels,
)
from perturbfm.split.audit.learned import de_genes_chosen_on_test, learned_outside_train
from perturbfm.split.audit.prior import graph_from_test_rows, prior_trained_on_test
from perturbfm.split.audit.prior_file import read_aliases, read_prior
from perturbfm.split.audit.role import control_halves_by_batch, control_match, controls_shared
from perturbfm.split.audit.row import duplicated_expression, same_cell_in_two_folds
from perturbfm.split.audit.stored import target_statistics_in_uns
from perturbfm.split.split import Split
from perturbfm.types import Labels

CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    controls_shared,
    same_cell_in_two_folds,
    duplicated_expression,
    held_out_context_elsewhere,
    held_out_perturbation_elsewhere,
    combination_parts_held_out,
    perturbation_under_two_labels,
    guides_of_one_gene_split,
    donor_in_two_folds,
    condition_in_two_folds,
    calibration_overlaps_test,
    validation_overlaps_calibration,
    mode_transfer,
    control_match,
    control_halves_by_batch,
    random_split,
    learned_outside_train,
    de_genes_chosen_on_test,
    graph_from_test_rows,
    prior_trained_on_test,
    target_statistics_in_uns,
    axis_confounded_with_batch,
)
"""All checks, in the order in which they are told; the name of a function is the name of its check."""

OF_LEARNING = ("learned_outside_train", "de_genes_chosen_on_test", "graph_from_test_rows")
"""Checks that need to know what was learned, so a run asks them when its encoder is there."""


def audit(split: Split, labels: Labels, evidence: Evidence | None = None, only: Collection[str] | None = None) -> Audit:
    """Hold a split against labels and evidence; call it after `Split.assert_fits`.

    Args:
        split: The split.
        labels: Labels of the data set it is locked to.
        evidence: What else is known; checks that need more than there is say so.
        only: Names of checks to make; None makes all.

    Returns:
        At least one finding per check. `Audit.assert_no_leak` refuses what leaks.
    """
    case = Case(split, labels, evidence or Evidence())
    findings: list[Finding] = []
    for check in CHECKS:
        if only is None or check.__name__ in only:
            findings += [replace(f, check=check.__name__) for f in check(case)] or [
                Finding(check.__name__, "pass", "Nothing found")
            ]
    return Audit(tuple(findings))


__all__ = [
    "CHECKS",
    "OF_LEARNING",
    "Audit",
    "DeGenes",
    "Evidence",
    "Finding",
    "Prior",
    "audit",
    "ood_rows",
    "read_aliases",
    "read_prior",
]
