"""Check of what a file stores beside its matrix: are the answers of the test in it?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse

from perturbfm.split.audit.case import OTHERS, Case
from perturbfm.split.audit.finding import Finding, found, not_checked
from perturbfm.split.audit.naming import canonical

EQUAL = 0.999
"""Correlation with a true delta from which a vector is that delta."""

SAME_MEAN = 1.0 - 1e-6
"""Correlation with a true mean from which a vector is that mean; means of any two conditions correlate highly."""

LEAST_GENES = 20
"""Below so many genes vectors correlate by chance, so only equal ones count."""

GENE_LISTS = (
    "rank_genes_groups",
    "non_zeros_gene_idx",
    "non_dropout_gene_idx",
    "top_non_dropout_de_20",
    "top_non_zero_de_20",
)
"""Names under which scanpy and GEARS store what they computed on all cells."""

_ROWS_IN_BLOCK = 8192
_MOST_VECTORS = 4096
_GEARS_SUFFIX = re.compile(r"_\d+(\+\d+)*$")


def target_statistics_in_uns(case: Case) -> Iterator[Finding]:
    """The file stores statistics of test conditions: means or deltas, or effects and gene lists per perturbation.

    Whatever reads them (a loss on differential genes, a filter, a prior) reads the answer. An array that *is* the mean
    or the delta of a test condition is refused, and so are numbers kept under the name of a test condition, or of a
    perturbation that only the test has. Gene lists under such names, and numbers under names that train has too, are
    warned of: they were computed on rows that the file does not tell.
    """
    stored = case.evidence.uns
    if stored is None:
        yield not_checked(
            "nobody gathered what the file stores in uns, varm and var", "Give it as uns in the evidence."
        )
        return
    yield from _keyed(case)
    if case.evidence.x_ng is None:
        yield not_checked("no matrix was shown, so stored vectors were not compared with the test", "Give the matrix.")
        return
    vectors = {p: v for p, a in stored.items() if (v := _per_gene(a, case.evidence.x_ng.shape[1])) is not None}
    if vectors:
        truth = _truth(case)
        equal = [path for path, rows in sorted(vectors.items()) if _is_truth(rows, truth)]
        if equal:
            yield found(
                "refuse",
                "The file stores means or deltas of test conditions",
                given=f"{len(equal)} arrays, first {equal[0]}",
                expected="no array equal to what is to be predicted",
                fix="Remove them from the file; a run needs nothing of them.",
                n=len(equal),
                examples=equal,
            )


# --- by name -------------------------------------------------------------------------------------------


def _keyed(case: Case) -> Iterator[Finding]:
    names, stored = _TestNames(case), case.evidence.uns or {}
    by_verdict: dict[str, list[str]] = {"refuse": [], "warn": []}
    beside: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for path, value in stored.items():
        beside[path.rpartition("/")[0]].append((path, np.asarray(value)))
    for path, value in sorted(stored.items()):
        parent, _, key = path.rpartition("/")
        array = np.asarray(value)
        if key in ("index", "columns") or (array.ndim == 0 and not np.issubdtype(array.dtype, np.floating)):
            continue
        effects = np.issubdtype(array.dtype, np.floating)
        kinds = {names.kind(key)} | {names.kind(part) for part in parent.split("/")[1:]}
        if effects or _is_of(array, case.evidence.genes):
            kinds |= {kind for labels in _labels_of(path, array, beside) for kind in names.among(labels)}
        if kinds & {"test", "shared"}:
            by_verdict["refuse" if effects and "test" in kinds else "warn"].append(path)
        elif any(part.startswith(GENE_LISTS) for part in path.split("/")):
            by_verdict["warn"].append(path)
    for part, keys in (case.evidence.names or {}).items():
        by_verdict["warn"] += [f"{part}/{key}" for key in keys if part != "varm" and names.kind(key)]
    for verdict, paths in by_verdict.items():
        if paths:
            yield found(
                verdict,
                "The file stores statistics under names of test conditions"
                if verdict == "refuse"
                else "The file stores gene lists or statistics that may have been computed on test rows",
                given=f"{len(paths)} entries, first {paths[0]}",
                expected="statistics of train rows only, or none",
                fix="Remove them from the file, or compute them on train rows; a run needs nothing of them.",
                n=len(paths),
                examples=paths,
            )


def _labels_of(
    path: str, array: np.ndarray, beside: Mapping[str, list[tuple[str, np.ndarray]]]
) -> Iterator[np.ndarray]:
    """What may name the rows or columns of an array: an index, column names, or text of that length beside it."""
    for place, labels in (*beside.get(path, ()), *beside.get(path.rpartition("/")[0], ())):
        named = place.rpartition("/")[2] in ("index", "columns")
        text = place.startswith("uns/") and labels.dtype.kind in "OUT" and _fit(labels, array)
        if place != path and (named or text):
            yield labels


def _fit(labels: np.ndarray, array: np.ndarray) -> bool:
    """Whether there is a label for each entry or row."""
    return labels.ndim == 1 and array.ndim > 0 and len(labels) == len(array)


def _is_of(array: np.ndarray, genes: Collection[str]) -> bool:
    """Whether text is mostly names of measured genes."""
    if array.dtype.kind not in "OUT" or not array.size:
        return False
    known = {*genes}
    values = [str(value) for value in np.ravel(array).tolist()]
    return 2 * sum(value in known for value in values) > len(values)


class _TestNames:
    """Whether a key names a test condition (`test`), or a perturbation that train has as well (`shared`)."""

    def __init__(self, case: Case) -> None:
        labels, rows = case.labels, case.split.test_idx
        others = set().union(*(case.pert.at(case.fold(name)) for name in OTHERS))
        self._aliases, self._delimiter = case.other_names, labels.delimiter
        self._pert = {self._canonical(p): "shared" if p in others else "test" for p in sorted(case.pert.at(rows))}
        self._known = {*case.canonical_names}
        pairs = {(str(labels.context_n[r]), str(labels.pert_n[r]), str(labels.mode_n[r])) for r in rows}
        self._condition = {f"{c}|{p}@{m}".casefold() for c, p, m in pairs}
        self._contexts = sorted({c.casefold() for c, _, _ in pairs}, key=len, reverse=True)

    def kind(self, key: str) -> str | None:
        text = _GEARS_SUFFIX.sub("", key.strip().casefold())
        if key.strip().casefold() in self._condition:
            return "test"
        for context in self._contexts:
            for rest in (text.removeprefix(context), text.removesuffix(context)):
                if rest != text and self._pert_kind(rest.strip(" _|:-")):
                    return "test"
        return self._pert_kind(key) or self._pert_kind(text)

    def among(self, labels: np.ndarray) -> set[str | None]:
        """What some labels name, where most of them name perturbations or conditions of the data at all."""
        kinds = {text: self.kind(text) for text in {str(label) for label in np.ravel(labels).tolist()}}
        others = [text for text, kind in kinds.items() if kind is None]
        strange = [text for text in others if self._canonical(text.partition("@")[0]) not in self._known]
        return {*kinds.values()} if 2 * len(strange) <= len(kinds) else set()

    def _pert_kind(self, text: str) -> str | None:
        name = self._canonical(text.partition("@")[0]) if text else ()
        return self._pert.get(name) if name else None

    def _canonical(self, text: str) -> tuple[str, ...]:
        return canonical(text, self._delimiter, self._aliases)


# --- by value ------------------------------------------------------------------------------------------


def _per_gene(value: Any, n_genes: int) -> np.ndarray | None:
    """The vectors over genes that an array holds, [k, g], or None."""
    array = np.asarray(value)
    if array.ndim > 2 and array.shape[-1] == n_genes:
        array = array.reshape(-1, n_genes)
    numbers = array.dtype.kind in "iuf"
    if array.ndim not in (1, 2) or not numbers or n_genes not in array.shape:
        return None
    rows = array[None, :] if array.ndim == 1 else array if array.shape[1] == n_genes else array.T
    rows = rows[:_MOST_VECTORS].astype(np.float64)
    return rows[np.isfinite(rows).all(axis=1)]


def _truth(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Means of test conditions and of test perturbations, and their deltas from several means of controls."""
    test = case.split.test_idx
    mean_cg, context_c = _means(case, test, case.condition.code_n)
    means, deltas = [mean_cg], []
    controls = np.flatnonzero(case.labels.is_control_n.astype(bool))
    for rows in (controls, case.split.reference_control_idx, case.split.input_control_idx):
        if not rows.size:
            continue
        by_context = dict(zip(*reversed(_means(case, rows, case.context.code_n)), strict=True))
        here = [n for n, c in enumerate(context_c) if c in by_context]
        deltas.append(mean_cg[here] - np.array([by_context[context_c[n]] for n in here]).reshape(-1, mean_cg.shape[1]))
        deltas.append(mean_cg - _means(case, rows, np.zeros_like(case.context.code_n))[0])
    mean_pg, _ = _means(case, test, case.gene_mode.code_n)
    means.append(mean_pg)
    if controls.size:
        deltas.append(mean_pg - _means(case, controls, np.zeros_like(case.context.code_n))[0])
    return np.concatenate(means), np.concatenate(deltas) if deltas else np.zeros((0, mean_cg.shape[1]))


def _means(case: Case, rows: np.ndarray, code_n: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Mean expression of each group of rows, [groups, g], and the context of each group's first row."""
    groups, first, member = np.unique(code_n[rows], return_index=True, return_inverse=True)
    x_ng = case.evidence.x_ng
    total = np.zeros((len(groups), x_ng.shape[1]))
    for low in range(0, len(rows), _ROWS_IN_BLOCK):
        part = rows[low : low + _ROWS_IN_BLOCK]
        block = x_ng[part]
        ones = np.ones(len(part))
        pick = sparse.csr_matrix(
            (ones, (member[low : low + len(part)], np.arange(len(part)))), (len(groups), len(part))
        )
        summed = pick @ (block.astype(np.float64) if sparse.issparse(block) else np.asarray(block, dtype=np.float64))
        total += summed.toarray() if sparse.issparse(summed) else summed
    count = np.bincount(member, minlength=len(groups))
    return total / count[:, None], case.context.code_n[rows[first]].tolist()


def _is_truth(rows_kg: np.ndarray, truth: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether one of some vectors is a true mean or a true delta, up to scale and offset."""
    means, deltas = truth
    if rows_kg.shape[1] < LEAST_GENES:
        every = np.concatenate([means, deltas])
        near = [np.abs(every - row) <= 1e-7 + 1e-5 * np.abs(row) for row in rows_kg if row.any()]
        return any(bool(same.all(axis=1).any()) for same in near)
    return bool((_correlation(rows_kg, means) > SAME_MEAN).any() or (_correlation(rows_kg, deltas) > EQUAL).any())


def _correlation(one_kg: np.ndarray, other_cg: np.ndarray) -> np.ndarray:
    """Absolute Pearson correlation of each row with each row, [k, c]; 0 for constant rows."""
    return np.abs(_unit(one_kg) @ _unit(other_cg).T)


def _unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)
