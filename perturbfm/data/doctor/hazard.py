"""What would mislead: each hazard looks at the facts and the proposal, and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from perturbfm.data.doctor import column, vocabulary
from perturbfm.data.doctor.finding import NOTE, STOP, WARN, Finding
from perturbfm.data.doctor.hazard_gene import gene_ids, perturbed_genes_measured
from perturbfm.data.doctor.hazard_label import (
    combinations,
    control_labels,
    guides,
    label_variants,
    missing_labels,
    number_of_parts,
    other_columns,
    unused_categories,
)
from perturbfm.data.doctor.propose import UNKNOWN, Proposal
from perturbfm.data.doctor.scale import SCALED, UNLOGGED
from perturbfm.data.doctor.survey import Survey, words

FEW_CELLS, FEW_CONTROLS = 20, 60
LONGEST_TEXT = 10_000

Hazard = Callable[[Survey, Proposal], Iterator[Finding]]


def scale(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Counts, logarithms and differences may sit in X, in a layer, or nowhere."""
    found = p.scale.scale
    if not np.isfinite(s.values).all():
        yield Finding(
            "values_not_finite", STOP, "the matrix holds NaN or infinite values", "Find out where they come from."
        )
    if found in (UNLOGGED, SCALED):
        fix = "Use the layer of counts that the yaml names." if "layer" in p.keys else _no_scale(found)
        yield Finding("scale", WARN if "layer" in p.keys else STOP, f"X is {found}: {p.scale.reason}", fix)
    elif found == "counts" and s.values.size and s.sample.x_ng.dtype.kind == "f":
        sums = p.reasons.get("size_column") or p.further.get("size_column", "")
        yield Finding(
            "counts_as_float", NOTE, f"counts, stored as floats; {sums}", "Nothing: they are read as integers."
        )
    elif found == "log1p":
        counts = [x for x in s.layers if x.lower() in vocabulary.COUNT_LAYERS]
        if counts:
            fix = f"Set layer: {counts[0]}, scale: counts and target_sum to normalise yourself."
            yield Finding("counts_in_layer", NOTE, f"X is logged; counts lie in {', '.join(counts)}", fix)
        else:
            message = f"logged values and no counts ({p.scale.reason})"
            yield Finding(
                "no_counts", NOTE, message, "Never normalise them again; presets that start from counts do not fit."
            )


def doses(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Doses may be text, carry codes for missing, disagree with their label, or be in another unit than is said."""
    c = p.keys.get("dose_column")
    if not isinstance(c, str) or c not in s.obs.columns or p.pert is None:
        plain = column.named(s, vocabulary.DOSE)
        if plain is not None:
            yield Finding("dose_says_nothing", NOTE, f"{plain} has one value per perturbation", "It is not used.")
        return
    text = words(s.obs[c])
    control = column.is_control(s, p.pert)
    number = pd.to_numeric(pd.Series(text), errors="coerce").to_numpy(float)
    codes = sorted({t for t, x in zip(text, number, strict=True) if x < 0})
    if codes:
        rows = int(np.isin(text, codes).sum())
        yield Finding(
            "dose_codes", WARN, f"{c} has {', '.join(codes)} in {rows} rows", "missing_doses reads them as none."
        )
    bare = int((~control & (text == "")).sum())
    if bare:
        fix = "Leave these rows out with drop, or give them a dose."
        yield Finding("dose_missing", WARN, f"{bare} perturbed rows have no dose", fix)
    if control.any() and bool((number[control] > 0).any()):
        yield Finding("dose_of_controls", NOTE, "controls have doses", "They are read as none: a control has no dose.")
    if (number.size and np.nanmax(number) >= 1000) or "nm" in c.lower():
        fix = "Set dose_unit: uM with dose_factor: 0.001 if that is nM."
        yield Finding("dose_unit", WARN, f"{c} goes up to {np.nanmax(number):g}, as nM would", fix)
    yield from _dose_label(s, c, number)


def groups(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Conditions of a few cells, controls rarer than a treatment, contexts without any control."""
    if p.pert is None or p.is_control_n is None:
        return
    context = p.keys.get("context_column")
    place = words(s.obs[context]) if isinstance(context, str) else np.full(s.n_obs, "all", dtype=object)
    gone = np.isin(s.text[p.pert.name], list(p.pert.missing))
    treated = ~p.is_control_n & ~gone
    size = pd.DataFrame({"c": place[treated], "p": s.text[p.pert.name][treated]}).value_counts()
    if not len(size):
        yield Finding("nothing_perturbed", STOP, "no row is perturbed", "Name the right column in pert_column.")
        return
    if p.keys.get("unit") == "pseudobulk":
        yield Finding(
            "pseudobulk", NOTE, "one row per condition: no spread of cells", "Metrics that need cells say so."
        )
    elif (few := int((size < FEW_CELLS).sum())) > 0:
        share = f"{few} of {len(size)} conditions have fewer than {FEW_CELLS} cells (smallest {int(size.min())})"
        yield Finding(
            "few_cells", WARN, share, "Their deltas are mostly noise; set preprocess.cells or read their intervals."
        )
    if p.keys.get("controls") == "baked_in":
        return
    n_control = pd.Series(place[p.is_control_n], dtype=object).value_counts()
    lacking = sorted(set(place[treated]) - set(n_control.index))
    if lacking and p.pert.controls:
        fix = f"Set drop: {{{context}: [{', '.join(lacking[:5])}]}}, or declare the label their controls carry."
        yield Finding("context_without_controls", STOP, f"no control in {', '.join(lacking[:8])}", fix)
    rare = {str(k): int(n) for k, n in n_control.items() if n < FEW_CONTROLS}
    if rare:
        shown = ", ".join(f"{k} {n}" for k, n in list(rare.items())[:8])
        fix = "Splits halve them; lower min_controls, or leave these contexts out."
        yield Finding("few_controls", WARN, f"contexts with fewer than {FEW_CONTROLS} controls: {shown}", fix)
    largest = int(size.max())
    if len(n_control) and int(n_control.max()) < largest:
        message = f"controls ({int(n_control.max())} at most) are rarer than the largest treatment ({largest})"
        yield Finding("controls_rarer", NOTE, message, "Noise of the controls sits in every delta; intervals count it.")


def confounding(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A context that is one study, one batch or one kind of intervention cannot be told from it."""
    context = p.keys.get("context_column")
    if not isinstance(context, str) or s.levels(context).size < 2:
        return
    for c in dict.fromkeys([*p.keys.get("covariates", []), p.keys.get("mode_column")]):
        if not isinstance(c, str) or c not in s.text:
            continue
        table = pd.crosstab(s.text[context], s.text[c])
        alone = [str(k) for k in table.columns if (table[k] > 0).sum() == 1]
        if alone and (table > 0).sum(axis=1).max() == 1:
            only = "; ".join(f"{k} only in {table.index[table[k] > 0][0]}" for k in alone[:4])
            fix = "A difference between them is not a difference of contexts; splits across modes are refused."
            yield Finding("context_confounded", WARN, f"{context} is confounded with {c}: {only}", fix)


def names(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Repeated cell ids, huge texts, statistics left behind in `uns`."""
    if not s.obs.index.is_unique:
        n = int(s.obs.index.duplicated().sum())
        yield Finding("cell_ids", STOP, f"{n} cell ids are repeated", "anndata: obs_names_make_unique(), then save.")
    for c, values in s.text.items():
        longest = max((len(v) for v in pd.unique(values)), default=0)
        if longest > LONGEST_TEXT:
            yield Finding("long_text", WARN, f"{c} holds texts of {longest:,} signs", "Drop that column from the file.")
    found = [u for u in s.uns if re.search(r"rank_genes|_de_|deg|non_zeros_gene|top_non_dropout", u)]
    if found:
        message = f"uns holds statistics of all cells: {', '.join(found[:5])}"
        yield Finding(
            "statistics_in_uns", WARN, message, "They are not read; never choose genes by them, they saw the test."
        )


def _no_scale(found: str) -> str:
    if found == SCALED:
        return "Save the counts or the logged values before scaling, and read those."
    return "Take log1p once (scanpy.pp.log1p) and save, or name a layer of counts."


def _dose_label(s: Survey, c: str, number: np.ndarray) -> Iterator[Finding]:
    """A second column that says the dose in words must say the same number."""
    label = column.named(s, vocabulary.DOSE_LABEL)
    if label is None or label == c:
        return
    said = np.array([_first_number(t) for t in words(s.obs[label])])
    both = np.isfinite(said) & np.isfinite(number) & (said > 0) & (number > 0)
    off = both & ~np.isclose(said, number, rtol=1e-3)
    if off.any():
        first = int(np.flatnonzero(off)[0])
        message = f"{c} and {label} disagree in {int(off.sum())} rows, first {s.obs.index[first]!r}"
        yield Finding("dose_disagrees", STOP, message, "Correct the file; dose_label_column keeps checking it.")
    lost = np.isfinite(said) & (said > 0) & ~(number > 0)
    if lost.any():
        message = f"{int(lost.sum())} rows have a dose in {label} and none in {c}"
        yield Finding("dose_disagrees", STOP, message, "Correct the file, or leave these rows out.")


def _first_number(text: str) -> float:
    match = re.match(r"\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)", text)
    return float(match[1]) if match else np.nan


def open_keys(s: Survey, p: Proposal) -> Iterator[Finding]:
    """What cannot be told from the file."""
    for key, value in p.keys.items():
        if value == UNKNOWN:
            yield Finding(f"open_{key}", STOP, f"{key} cannot be told: {p.reasons[key]}", f"Fill in {key} in the yaml.")
    if p.keys.get("mode") == "other":
        fix = "Set mode: activation, knockdown, knockout, drug or ligand; modes never transfer into each other."
        yield Finding("mode_unknown", WARN, "the file does not say what was done to the cells", fix)


HAZARDS: tuple[Hazard, ...] = (
    open_keys,
    control_labels,
    combinations,
    guides,
    scale,
    doses,
    perturbed_genes_measured,
    groups,
    confounding,
    number_of_parts,
    missing_labels,
    gene_ids,
    label_variants,
    unused_categories,
    other_columns,
    names,
)
