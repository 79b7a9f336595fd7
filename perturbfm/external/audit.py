"""What a prediction file must be before it is judged: each check refuses with what to do, or notes what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from perturbfm.data.check import LARGEST_LOG1P
from perturbfm.errors import (
    ConditionsDiffer,
    ControlsTouched,
    DuplicateNames,
    GenesDiffer,
    PredictionOfOtherSplit,
    RowsOutsideFold,
    ScaleMismatch,
    TruthCopied,
    ValuesNegative,
    ValuesNotFinite,
)
from perturbfm.eval.comparison import dense
from perturbfm.eval.truth import Truth
from perturbfm.external.copies import SAME_TO, copies_of, detailed, distinct, nearness
from perturbfm.external.labels import CONTROL, OTHER, Rows
from perturbfm.external.table import Foreign

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.split import Split

PASS, WARN = "pass", "warn"

NEGATIVE_MASS = 0.25
"""Share of negative values in the sum of absolute ones from which rows look like changes rather than expression."""

LEVEL = 4.0
"""Mean predicted expression in units of that of the controls from which it cannot be on the same scale."""

COUNTS_FROM = 5
"""Values of a row that are not zero from which on it is no accident that all are integers."""

COPIES = 0.05
"""Share of predicted cells that repeat another one up to which they are a sample."""

POINT = "point prediction: {}; declare model.unit=pseudobulk to have its means judged as those of a mean-only model"
NEAR = 0.5
"""Distance to the nearest judged cell, in units of that between judged cells, below which cells look like copies."""

ACCIDENT = 1
"""Predicted cells that may equal a judged cell by accident."""


@dataclass(frozen=True)
class Finding:
    """One check: what it is about, `pass` or `warn`, and what was found."""

    check: str
    verdict: str
    message: str


def to_plain(findings: list[Finding]) -> dict[str, Any]:
    """The verdict of all checks and each finding, plain values."""
    worst = WARN if any(f.verdict == WARN for f in findings) else PASS
    return {"verdict": worst, "findings": [asdict(f) for f in findings]}


def check_lock(foreign: Foreign, split: Split, fingerprint: str) -> Finding:
    """A hash of a split or of data that the file carries must be that of what it is judged on."""
    told = foreign.words.get("split_hash", "")
    expected = str(split.frozen_hash)
    for what, given, wanted in (
        ("split", told, expected),
        ("data", foreign.words.get("fingerprint", ""), fingerprint),
    ):
        if given and (len(given) < 7 or not wanted.startswith(given)):
            raise PredictionOfOtherSplit(
                f"The predictions say they were made for other {what}",
                given=f"{given[:12]} in {foreign.name}",
                expected=wanted[:12],
                fix="Judge them on what they were made for, or make them anew.",
            )
    return Finding("split_hash", PASS, f"carries split {told[:12]}" if told else "carries no split hash")


def gene_order(foreign: Foreign, genes_g: tuple[str, ...], extra: str) -> tuple[np.ndarray, Finding]:
    """For each gene of the data its column in the file.

    Raises:
        DuplicateNames: A gene is there twice.
        GenesDiffer: Genes are missing; or there are others, and `extra` is not `drop`.
    """
    place = {name: i for i, name in enumerate(foreign.genes_g)}
    if len(place) < len(foreign.genes_g):
        seen = next(n for i, n in enumerate(foreign.genes_g) if place[n] != i)
        raise DuplicateNames(
            "A prediction file has genes twice",
            given=f"{len(foreign.genes_g) - len(place)} repeats, first {seen!r}",
            expected="unique gene names",
            fix="Keep one of each, or name another column: model.gene_column=...",
        )
    missing = [n for n in genes_g if n not in place]
    known = set(genes_g)
    more = [n for n in foreign.genes_g if n not in known]
    if missing or (more and extra != "drop"):
        what, names = ("lacks genes of the data", missing) if missing else ("has genes that are not judged", more)
        fix = "Predict every gene of the data (after preprocessing, where a run has any)."
        raise GenesDiffer(
            f"The prediction file {what}",
            given=f"{len(names)} genes, first {', '.join(names[:5])}",
            expected=f"the {len(genes_g)} genes of the data, in any order",
            fix=fix if missing else "Leave them out, or say so: model.extra_genes=drop.",
        )
    order = np.array([place[n] for n in genes_g])
    moved = not np.array_equal(order, np.arange(len(genes_g)))
    words = "put into the data's order by name" if moved else "in the data's order"
    dropped = f"; {len(more)} others left out" if more else ""
    return order, Finding("genes", WARN if more else PASS, f"{len(genes_g)} genes {words}{dropped}")


def check_finite(x_mg: Any, what: str, row_names: Any, genes_g: tuple[str, ...]) -> None:
    """Refuse NaN and infinite values, with the first place of one."""
    values = x_mg.data if sparse.issparse(x_mg) else np.asarray(x_mg)
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    coo = x_mg.tocoo() if sparse.issparse(x_mg) else None
    first = int(np.flatnonzero(bad.ravel())[0])
    row, gene = divmod(first, len(genes_g)) if coo is None else (int(coo.row[first]), int(coo.col[first]))
    raise ValuesNotFinite(
        f"A predicted {what} is not finite",
        given=f"{int(bad.sum())} NaN or infinite entries, first in row {str(row_names[row])!r}, gene {genes_g[gene]!r}",
        expected="finite values everywhere",
        fix="Find out where they come from; they are not filled here, and a metric that skipped them would flatter.",
    )


def check_conditions(rows: Rows, known: set[str], extra: str) -> Finding:
    """Rows that are about no judged condition are refused, or left out where that was asked for.

    Args:
        rows: What each row is about.
        known: `context|perturbation` of every condition of the data.
        extra: `refuse` or `drop`.
    """
    other = rows.name_m[rows.code_m == OTHER]
    if not len(other):
        return Finding("conditions", PASS, f"{len(np.unique(rows.code_m[rows.code_m >= 0]))} conditions, all judged")
    names = sorted(set(map(str, other)))
    told = [f"{n} ({'of another fold' if n in known else 'not in the data'})" for n in names]
    if extra != "drop":
        raise ConditionsDiffer(
            "The prediction file is about conditions that are not judged",
            given=f"{len(names)} conditions in {len(other)} rows: {', '.join(told[:6])}",
            expected="conditions of the test fold, and of the calibration fold if you like",
            fix="Leave them out, correct their labels, or say so: model.extra_conditions=drop.",
        )
    return Finding("conditions", WARN, f"{len(names)} conditions that are not judged left out: {', '.join(told[:6])}")


def check_row_names(foreign: Foreign, rows: Rows, dataset: PerturbDataset, judged: np.ndarray) -> Finding:
    """Rows that carry the id of a cell of the data must be about a judged cell of that condition."""
    labels = dataset.labels()
    place = {str(c): i for i, c in enumerate(labels.cell_n) if not str(c).isdecimal()}
    named = [(m, place[n]) for m, n in enumerate(foreign.obs.index) if n in place and rows.code_m[m] >= 0]
    wanted = set(judged.tolist())
    table = rows.table
    wrong = [
        (m, i)
        for m, i in named
        if i not in wanted
        or (labels.context_n[i], labels.intervention_n[i])
        != (table["context"][rows.code_m[m]], table["intervention"][rows.code_m[m]])
    ]
    if wrong:
        m, i = wrong[0]
        raise RowsOutsideFold(
            "Predicted rows carry the names of cells that are not judged as that",
            given=f"{len(wrong)} rows, first {foreign.obs.index[m]!r} as {rows.name_m[m]!r}, "
            f"in the data {labels.condition_n[i]!r}",
            expected="names of cells of the judged fold and of the same condition, or names of your own",
            fix="Rename the rows, or correct their labels.",
        )
    return Finding(
        "row_names", PASS, f"{len(named)} rows are named after judged cells" if named else "names of its own"
    )


def check_scale(x_mg: Any, scale: str, rows: Rows, truth: Truth, name_of: Callable[[int], str]) -> Finding:
    """Values must look like the scale of the data, row by row, so that no mixture of scales passes.

    Raises:
        ScaleMismatch: A row holds counts, values too large for a logarithm, or expression at another level.
        ValuesNegative: Counts are negative, or rows look like changes.
    """
    if scale not in ("log1p", "counts"):
        return Finding("scale", PASS, f"declared as {scale}, which values cannot contradict")
    x_mg = sparse.csr_matrix(x_mg)
    negative = float(-x_mg.data[x_mg.data < 0].sum(dtype=np.float64))
    total = float(np.abs(x_mg.data).sum(dtype=np.float64))
    if negative and (scale == "counts" or negative > NEGATIVE_MASS * total):
        raise ValuesNegative(
            f"Predicted values are negative on the scale {scale}",
            given=f"{negative / total:.0%} of the summed size, lowest {x_mg.data.min():.4g}",
            expected="predicted expression" if scale == "counts" else "expression, which is hardly ever below zero",
            fix="If rows are changes from control, say so: model.scale=delta with model.unit=pseudobulk.",
        )
    if scale == "log1p":
        _check_counts(x_mg, name_of)
        _check_level(x_mg, rows, truth)
    share = float((x_mg.data < 0).sum()) / max(1, x_mg.shape[0] * x_mg.shape[1])
    empty = int((np.diff(x_mg.indptr) == 0).sum())
    notes = ([f"{share:.1%} of values below zero"] if share else []) + ([f"{empty} rows of zeros"] if empty else [])
    return Finding("scale", WARN if notes else PASS, f"looks like {scale}" + "".join(f"; {n}" for n in notes))


def _check_counts(x_mg: Any, name_of: Callable[[int], str]) -> None:
    n_m = np.diff(x_mg.indptr)
    row_of = np.repeat(np.arange(x_mg.shape[0]), n_m)
    nonzero = x_mg.data != 0
    whole_m = np.bincount(row_of, nonzero & (x_mg.data == np.rint(x_mg.data)), minlength=x_mg.shape[0])
    filled_m = np.bincount(row_of, nonzero, minlength=x_mg.shape[0])
    counts = np.flatnonzero((whole_m == filled_m) & (filled_m >= COUNTS_FROM))
    high = np.unique(row_of[x_mg.data > LARGEST_LOG1P])
    if len(counts) or len(high):
        wrong, given = (counts, "are all integers") if len(counts) else (high, f"exceed {LARGEST_LOG1P:g}")
        raise ScaleMismatch(
            "Predicted values are not on the data's scale log1p",
            given=f"{len(wrong)} of {x_mg.shape[0]} rows {given}, first of {name_of(int(wrong[0]))}",
            expected="logarithms in every row",
            fix="Normalise and log predicted counts as the data were; a mixture of scales is never judged.",
        )


def _check_level(x_mg: Any, rows: Rows, truth: Truth) -> None:
    usual = float(truth.input_cg.mean())
    code = np.flatnonzero(rows.code_m >= 0)
    n = len(rows.table)
    total = np.bincount(rows.code_m[code], np.asarray(x_mg[code].mean(axis=1)).ravel(), minlength=n)
    mean_c = total / np.maximum(np.bincount(rows.code_m[code], minlength=n), 1)
    high = np.flatnonzero(mean_c > LEVEL * usual)
    if usual > 0 and len(high):
        c = int(high[np.argmax(mean_c[high])])
        raise ScaleMismatch(
            "Predicted expression is far above that of the controls",
            given=f"{rows.table.context[c]}|{rows.table.intervention[c]}: mean {mean_c[c]:.3g}",
            expected=f"about {usual:.3g}, as in the input controls",
            fix="Normalise to the data's target and log once.",
        )


def check_controls(
    x_mg: Any, rows: Rows, dataset: PerturbDataset, split: Split, *, cells: bool, changes: bool
) -> Finding:
    """Control rows must be the data's own: whoever moves predicted controls moves every metric that subtracts them.

    Raises:
        ControlsTouched: A control row is none of the data's controls of its context, or is there too often.
    """
    mine = np.flatnonzero(rows.code_m == CONTROL)
    if not len(mine):
        return Finding("controls", PASS, "the file holds none; the data's own input controls are used")
    labels = dataset.labels()
    parts = []
    for context in sorted({str(c) for c in rows.context_m[mine]}):
        some = mine[np.array([str(c) == context for c in rows.context_m[mine]])]
        known = labels.is_control_n & ((labels.context_n == context) | (context == "None"))
        parts.append(
            _same_cells(x_mg[some], dataset, np.flatnonzero(known), split, context)
            if cells
            else _same_mean(x_mg[some], dataset, np.flatnonzero(known), split, context, changes)
        )
    partly = any("part" in p for p in parts)
    return Finding("controls", WARN if partly else PASS, "the data's own: " + "; ".join(parts))


def _same_cells(x_mg: Any, dataset: PerturbDataset, pool: np.ndarray, split: Split, context: str) -> str:
    pool_ng = dataset.adata.X[pool]
    found = copies_of(x_mg, pool_ng)
    strange = int((found < 0).sum())
    group = _equal_groups(pool_ng)
    given = np.bincount(group[found[found >= 0]], minlength=len(pool)) if len(pool) else np.zeros(0)
    repeated = int(np.maximum(given - np.bincount(group, minlength=len(pool)), 0).sum())
    if strange or repeated:
        raise _touched(
            f"{strange} of {x_mg.shape[0]} control rows of {context} that are none of the data's"
            if strange
            else f"{repeated} control rows of {context} too often"
        )
    shown = np.isin(pool, split.input_control_idx)
    if x_mg.shape[0] == len(pool):
        return f"all {len(pool)} of {context}"
    if x_mg.shape[0] == int(shown.sum()) and shown[found].all():
        return f"the {x_mg.shape[0]} input controls of {context}"
    return f"a part, {x_mg.shape[0]} of {len(pool)}, of {context}, which is not read"


def _equal_groups(pool_ng: Any) -> np.ndarray:
    """For each row the first row that equals it, so that equal cells are counted together."""
    from perturbfm.external.copies import projected

    _, first, of = np.unique(np.round(projected(pool_ng), 9), axis=0, return_index=True, return_inverse=True)
    return np.asarray(first[of.reshape(-1)])


def _same_mean(x_mg: Any, dataset: PerturbDataset, pool: np.ndarray, split: Split, context: str, changes: bool) -> str:
    wanted = {"zero change": np.zeros(dataset.n_genes)}
    if not changes:
        shown = pool[np.isin(pool, split.input_control_idx)]
        means = {"all controls": pool, "the input controls": shown}
        wanted = {k: np.asarray(dataset.adata.X[v].mean(axis=0)).ravel() for k, v in means.items() if len(v)}
    row_mg = np.asarray(x_mg.toarray() if sparse.issparse(x_mg) else x_mg)
    for name, mean_g in wanted.items():
        if np.abs(row_mg - mean_g).max() <= SAME_TO:
            return f"{name} of {context}"
    raise _touched(f"control rows of {context} that are the mean of neither all controls nor the input controls")


def _touched(given: str) -> ControlsTouched:
    return ControlsTouched(
        "The prediction file holds controls that are not the data's",
        given=given,
        expected="the data's control cells as they are, each once, or none",
        fix="Copy the data's controls unchanged, or leave controls out: judging reads its own.",
    )


def check_copies(x_mg: Any, rows: Rows, truth: Truth) -> list[Finding]:
    """Predicted cells must not be the judged cells; that they are withheld controls is said.

    Raises:
        TruthCopied: More than one predicted cell is a judged cell.
    """
    mine = np.flatnonzero(rows.code_m >= 0)
    x_mg = x_mg[mine]
    telling = detailed(x_mg)
    o = truth.observed
    taken = (copies_of(x_mg, o.x_ng) >= 0) & telling
    if taken.sum() > ACCIDENT:
        first = rows.name_m[mine[np.flatnonzero(taken)[0]]]
        raise _copied(f"{int(taken.sum())} of {len(mine)} predicted cells are cells of the test fold, first of {first}")
    withheld = int(((copies_of(x_mg, o.reference_rg) >= 0) & telling).sum())
    near = check_near(x_mg, rows.code_m[mine], rows, truth)
    found = [Finding("copied_truth", PASS, "no predicted cell is a judged cell"), near]
    words = f"{withheld} of {len(mine)} predicted cells are reference controls, which are withheld: they share noise "
    fine = "no predicted cell is a withheld control"
    return [*found, Finding("withheld_controls", *((WARN, words + "with the truth") if withheld else (PASS, fine)))]


def check_near(x_mg: Any, code_m: np.ndarray, rows: Rows, truth: Truth) -> Finding:
    """Whether predicted cells lie suspiciously near to single judged cells: jittered copies are no copies to the eye.

    Args:
        x_mg: Predicted cells.
        code_m: Condition of each, row of `rows.table`.
        rows: What the rows of the file are about.
        truth: The judged cells.
    """
    number = {pair: c for c, pair in enumerate(zip(truth.context_c, truth.intervention_c, strict=True))}
    near = []
    for code, pair in enumerate(zip(rows.table["context"], rows.table["intervention"], strict=True)):
        mine, c = np.flatnonzero(code_m == code), number.get(pair, -1)
        if c >= 0 and len(mine) and truth.n_c[c] > 1:
            near.append(nearness(dense(x_mg[mine]), dense(truth.x_ng[truth.condition_rows(c)])))
    known = [v for v in near if np.isfinite(v)]
    if not known:
        return Finding("near_copies", PASS, "too few cells to tell")
    typical = float(np.median(known))
    words = (
        f"predicted cells lie {typical:.2f} times as far from the nearest judged cell as judged cells from each other"
    )
    made = ": were they made from them? Distances would then be better than any prediction could be"
    return Finding("near_copies", WARN if typical < NEAR else PASS, words + (made if typical < NEAR else ""))


def check_copied_means(truth: Truth, delta_cg: np.ndarray) -> Finding:
    """A predicted mean must not be the measured mean of the judged cells.

    Raises:
        TruthCopied: It is, to a hundred thousandth of the change.
    """
    true_cg = truth.mean_cg - truth.input_cg
    size_c = np.linalg.norm(true_cg, axis=1)
    same_c = (np.linalg.norm(delta_cg - true_cg, axis=1) <= 1e-5 * size_c) & (size_c > 0)
    if same_c.any():
        c = int(np.flatnonzero(same_c)[0])
        name = f"{truth.context_c[c]}|{truth.intervention_c[c]}"
        raise _copied(
            f"{int(same_c.sum())} of {len(same_c)} predicted means are those of the test fold, first of {name}"
        )
    return Finding("copied_means", PASS, "no predicted mean is a measured one")


def _copied(given: str) -> TruthCopied:
    return TruthCopied(
        "The predictions are the truth they would be judged against",
        given=given,
        expected="predictions made without the test fold",
        fix="Look for a join, a cache or a fallback that put measured values into the predictions.",
    )


def cell_sample(x_mg: Any, rows: Rows, codes: list[int]) -> tuple[str, Finding]:
    """Whether the rows of each condition are cells: at least two different ones, and hardly any repeated.

    Any condition without makes the whole file a point prediction, or a tool could choose where its distributions are
    judged.

    Args:
        x_mg: Predicted rows.
        rows: What each is about.
        codes: Conditions of the test fold, rows of `rows.table`.

    Returns:
        Why there is nothing to compare as a distribution, empty where there is; and the finding.
    """
    n = len(rows.table)
    n_c = np.bincount(rows.code_m[rows.code_m >= 0], minlength=n)[codes]
    different_c = distinct(x_mg, rows.code_m, n)[codes]
    point = int((different_c < 2).sum())
    if point:
        tiled = int(((different_c < 2) & (n_c > 1)).sum())
        what = f"tiled: one cell repeated in {tiled}" if tiled else f"one cell in {point}"
        reason = POINT.format(f"{what} of {len(codes)} conditions")
        return reason, Finding("cells", WARN, reason)
    repeated = 1.0 - different_c.sum() / n_c.sum()
    if repeated > COPIES:
        reason = f"{repeated:.0%} of the predicted cells repeat another one, so they are no sample of cells"
        return reason, Finding("cells", WARN, reason)
    words = f"{int(n_c.min())} to {int(n_c.max())} cells per condition, {repeated:.1%} of them repeats"
    return "", Finding("cells", PASS, words)
