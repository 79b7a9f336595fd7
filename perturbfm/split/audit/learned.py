"""Checks of what was learned from rows: vocabularies, gene selections, scalers, differential genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from perturbfm.split.audit.case import PLACES, Case
from perturbfm.split.audit.evidence import DeGenes, rows_of
from perturbfm.split.audit.finding import Finding, found, not_applicable, not_checked
from perturbfm.types import Learned

DE = "de_genes"
GRAPH = "graph"
"""First word of `Learned.what` for differential genes and for graphs made from expression."""


def is_de(learned: Learned) -> bool:
    """Whether something learned is a list of differential genes."""
    return isinstance(learned, DeGenes) or learned.what.casefold().startswith(DE)


def is_graph(learned: Learned) -> bool:
    """Whether something learned is a graph."""
    return learned.what.casefold().startswith(GRAPH)


def learned_outside_train(case: Case) -> Iterator[Finding]:
    """A gene selection, scaler, vocabulary or target of normalisation looked at rows outside train.

    Allowed are train rows and input controls of train's contexts. Genes chosen because they vary in the test, or a
    scaler that knows its mean, hand the model a part of the answer.
    """
    mine = (one for one in case.evidence.learned or () if not is_de(one) and not is_graph(one))
    yield from _looked(case, tuple(mine), "was learned outside train", "nothing was learned from rows")


def de_genes_chosen_on_test(case: Case) -> Iterator[Finding]:
    """Differential genes were computed on rows of the test (or of any row outside train).

    A model that is told, or scored on, the genes that changed in the test knows where the effect is.
    """
    mine = tuple(one for one in case.evidence.learned or () if is_de(one))
    yield from _looked(case, mine, "was computed outside train", "no differential genes were computed")


def _looked(case: Case, mine: Sequence[Learned], message: str, none: str) -> Iterator[Finding]:
    if case.evidence.learned is None:
        yield not_checked("nobody said what was learned from which rows", "Give the learned stages in the evidence.")
    elif not mine:
        yield not_applicable(none)
    for one in mine:
        yield from outside_train(case, one.what, rows_of(one), message)


def allowed_rows(case: Case) -> np.ndarray:
    """Mask of what may be learned from: train, and input controls of train's contexts."""
    allowed = np.zeros(case.labels.n_obs, dtype=bool)
    allowed[case.split.train_idx] = True
    shown = case.split.input_control_idx
    contexts = np.unique(case.context.code_n[case.split.train_idx])
    allowed[shown[np.isin(case.context.code_n[shown], contexts)]] = True
    return allowed


def outside_train(case: Case, what: str, rows: np.ndarray, message: str) -> Iterator[Finding]:
    """A refusal for rows of folds or roles outside train, a warning for rows in no fold."""
    beyond = rows[(rows < 0) | (rows >= case.labels.n_obs)]
    if beyond.size:
        yield found(
            "refuse",
            f"{what} names rows that the data do not have",
            given=f"{beyond.size} row numbers, first {beyond[0]}",
            expected=f"row numbers from 0 to {case.labels.n_obs - 1}",
            fix="Learn it again on the data at hand.",
            n=int(beyond.size),
        )
        return
    outside = rows[~allowed_rows(case)[rows]]
    place = case.place_n[outside]
    for verdict, some in (("refuse", outside[place >= 0]), ("warn", outside[place < 0])):
        if some.size:
            yield found(
                verdict,
                f"{what} {message}",
                given=_counts(case, some),
                expected="train rows, and input controls of the contexts of train",
                fix="Learn it again on those rows only.",
                n=int(some.size),
                examples=[str(case.labels.cell_n[row]) for row in some],
            )


def _counts(case: Case, rows: np.ndarray) -> str:
    names: Sequence[str] = (*PLACES, "left out")
    numbers = np.bincount(case.place_n[rows] % len(names), minlength=len(names))
    return ", ".join(f"{n} rows of {name}" for name, n in zip(names, numbers.tolist(), strict=True) if n)
