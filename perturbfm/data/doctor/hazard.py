"""What would mislead: each hazard looks at the facts and the proposal, and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from perturbfm.data.column import names_of
from perturbfm.data.doctor import place, vocabulary
from perturbfm.data.doctor.finding import NOTE, STOP, WARN, Finding, listed
from perturbfm.data.doctor.hazard_amount import doses, times, units
from perturbfm.data.doctor.hazard_gene import gene_ids, perturbed_genes_measured
from perturbfm.data.doctor.hazard_label import (
    combinations,
    control_flag,
    control_labels,
    guides,
    label_variants,
    missing_labels,
    number_of_parts,
    other_columns,
    other_spellings,
    second_targets,
    unused_categories,
)
from perturbfm.data.doctor.propose import UNKNOWN, Proposal, layer_scale
from perturbfm.data.doctor.scale import SCALED, UNLOGGED
from perturbfm.data.doctor.survey import Survey

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
        held = "the layer of counts" if p.keys.get("scale") == "counts" else "the layer"
        fix = f"Use {held} that the yaml names." if "layer" in p.keys and s.options.layer is None else _no_scale(found)
        yield Finding("scale", WARN if fix.startswith("Use") else STOP, f"X is {found}: {p.scale.reason}", fix)
    elif found == "counts" and s.values.size and s.sample.is_float:
        sums = p.reasons.get("size_column") or p.further.get("size_column", "")
        yield Finding(
            "counts_as_float", NOTE, f"counts, stored as floats; {sums}", "Nothing: they are read as integers."
        )
    elif found == "log1p":
        named = [x for x in s.layers if x.lower() in vocabulary.COUNT_LAYERS and x != s.options.layer]
        counts = [x for x in named if layer_scale(s, x) == "counts"]
        if counts:
            fix = f"Set layer: {counts[0]}, scale: counts and target_sum to normalise yourself."
            yield Finding("counts_in_layer", NOTE, f"X is logged; counts lie in {', '.join(counts)}", fix)
        else:
            message = f"logged values and no counts ({p.scale.reason})"
            yield Finding(
                "no_counts", NOTE, message, "Never normalise them again; presets that start from counts do not fit."
            )


def groups(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Conditions of a few cells, controls rarer than a treatment, contexts without any control."""
    if p.pert is None or p.is_control_n is None:
        return
    label_n = s.words(p.pert.name)
    treated = ~p.is_control_n & ~np.isin(label_n, list(p.pert.missing))
    if not treated.any():
        yield Finding("nothing_perturbed", STOP, "no row is perturbed", "Name the right column in pert_column.")
        return
    context = [c for c in names_of(p.keys.get("context_column")) if c in s.obs.columns]
    place_n = s.words(context)
    size = pd.DataFrame({"c": place_n[treated], "p": label_n[treated]}).value_counts()
    if p.keys.get("unit") == "pseudobulk":
        yield Finding(
            "pseudobulk", NOTE, "one row per condition: no spread of cells", "Metrics that need cells say so."
        )
    elif (few := int((size < FEW_CELLS).sum())) > 0:
        share = f"{few} of {len(size)} conditions have fewer than {FEW_CELLS} cells (smallest {int(size.min())})"
        yield Finding(
            "few_cells", WARN, share, "Their deltas are mostly noise; set preprocess.cells or read their intervals."
        )
    if p.keys.get("controls") not in ("baked_in", "subtract") and p.pert.controls:
        yield from _controls_of_groups(p, context, place_n, treated, int(size.max()))


def _controls_of_groups(
    p: Proposal, context: list[str], place_n: np.ndarray, treated: np.ndarray, largest: int
) -> Iterator[Finding]:
    n_control = pd.Series(place_n[p.is_control_n], dtype=object).value_counts()
    lacking = sorted(set(place_n[treated]) - set(n_control.index))
    if lacking:
        drop = f"Set drop: {{{context[0]}: [{listed(lacking)}]}}, or declare" if len(context) == 1 else "Declare"
        fix = f"{drop} the label their controls carry."
        yield Finding("context_without_controls", STOP, f"no control in {listed(lacking, 8)}", fix)
    rare = [f"{k} {n}" for k, n in n_control.items() if n < FEW_CONTROLS]
    if rare:
        fix = "Splits halve them; lower min_controls, or leave these contexts out."
        yield Finding("few_controls", WARN, f"contexts with fewer than {FEW_CONTROLS} controls: {listed(rare, 8)}", fix)
    if len(n_control) and int(n_control.max()) < largest:
        message = f"controls ({int(n_control.max())} at most) are rarer than the largest treatment ({largest})"
        yield Finding("controls_rarer", NOTE, message, "Noise of the controls sits in every delta; intervals count it.")


def batches(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Batches without controls of their own: a difference between batches would pass for an effect."""
    if p.pert is None or not p.pert.controls or "batch_column" in p.keys or p.keys.get("controls") == "baked_in":
        return
    context = [c for c in names_of(p.keys.get("context_column")) if c in s.obs.columns]
    found = place.unmatched_batches(s, p.pert, context)
    if found is None or p.keys.get("unit") == "pseudobulk":
        return
    c, lacking, n = found
    message = (
        f"{len(lacking)} of {n} levels of {c} hold perturbed rows with fewer than {place.LEAST_CONTROLS} controls "
        f"beside them ({listed(lacking, 4)}): deltas are taken over all of them, with their differences"
    )
    fix = f"Set batch_column: {c} and leave those out with drop: {{{c}: [{listed(lacking, 2)}]}}."
    if len(lacking) == n:
        fix = "Nothing can mend that; hold out whole levels (covariates), and read effects with care."
    yield Finding("batch_without_controls", WARN, message, fix)


def confounding(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A context that is one study, one batch or one kind of intervention cannot be told from it."""
    context = [c for c in names_of(p.keys.get("context_column")) if c in s.obs.columns]
    place_n = s.words(context)
    if len(pd.unique(place_n)) < 2:
        return
    others = [*names_of(p.keys.get("covariates")), p.keys.get("mode_column"), *names_of(p.keys.get("batch_column"))]
    for c in dict.fromkeys(others):
        if not isinstance(c, str) or c not in s.obs.columns or c in context:
            continue
        table = pd.crosstab(place_n, s.words(c))
        alone = [k for k in table.columns if (table[k] > 0).sum() == 1]
        if alone and (table > 0).sum(axis=1).max() == 1:
            only = "; ".join(f"{listed([k])} only in {listed([table.index[table[k] > 0][0]])}" for k in alone[:4])
            fix = "A difference between them is not a difference of contexts; splits across modes are refused."
            yield Finding("context_confounded", WARN, f"{listed(context)} is confounded with {c}: {only}", fix)


def skipped_contexts(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A column of contexts with missing values is not proposed."""
    if p.pert is None:
        return
    labelled = s.only(~np.isin(s.words(p.pert.name), list(p.pert.missing)))
    used = names_of(p.keys.get("context_column"))
    for c, values in labelled.text.items():
        n = int((values == "").sum())
        if vocabulary.rank(c, vocabulary.CONTEXT) is None or c in (p.pert.name, *used) or not 0 < n < len(values):
            continue
        fix = f"Leave these rows out or fill them in, and set context_column: {c} if it names the contexts."
        yield Finding("context_missing", WARN, f"{c} is missing in {n} of {len(values)} rows: not proposed", fix)


def settings(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Cells may have been treated in another way beside; then an effect under one treatment is not another's."""
    if p.pert is None:
        return
    context = names_of(p.keys.get("context_column"))
    if len(context) > 1 and all(c in s.obs.columns for c in context):
        message = f"{listed(context)} together are the context: {listed(pd.unique(s.words(context)), 4)}"
        fix = f"Set context_column: {context[0]} if the others do not change the cells."
        yield Finding("joined_context", NOTE, message, fix)
    for c in s.text:
        known = vocabulary.rank(c, vocabulary.SETTING) is not None
        if not known or c in context or c == p.pert.name or s.levels(c).size < 2:
            continue
        if s.levels(c).size <= place.MOST_SETTINGS and not place.follows(s, c, p.pert.name):
            joined = [*context, c]
            if any(place.same(s, c, o) for o in context if o in s.obs.columns):
                continue
            message = f"perturbations were done under several {c}: {listed(s.levels(c).index, 4)}; they are pooled"
            fix = f"Set context_column: [{', '.join(joined)}], or keep: {{{c}: [one of them]}}."
            yield Finding("second_treatment", WARN, message, fix)
    if any(vocabulary.rank(c, vocabulary.CLUSTER) is not None for c in context):
        message = f"{listed(context)} are clusters of expression, which the perturbation moves"
        yield Finding("context_of_clusters", WARN, message, "Name a column of cell types or lines in context_column.")


def flags(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Columns that say which rows the authors trust."""
    for c, values in s.text.items():
        levels = {str(v).lower() for v in pd.unique(values)}
        if levels == {"true", "false"} and re.search(r"pass|confident|keep|good|qc|filter|singlet", c.lower()):
            n = int(np.isin(values, [v for v in pd.unique(values) if str(v).lower() == "false"]).sum())
            yes = next(str(v) for v in pd.unique(values) if str(v).lower() == "true")
            fix = f"Set keep: {{{c}: [{yes!r}]}} to leave them out."
            yield Finding("quality_flag", NOTE, f"{c} says False in {n} of {s.n_obs} rows, which are read too", fix)


def size(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A file without cells or genes."""
    if not s.n_obs or not len(s.genes):
        message = f"{s.n_obs} cells and {len(s.genes)} genes"
        yield Finding("empty", STOP, message, "Look at the file: nothing is in it.")


def names(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Repeated cell ids, huge texts, statistics left behind in `uns`."""
    if not s.obs.index.is_unique:
        n = int(s.obs.index.duplicated().sum())
        yield Finding("cell_ids", STOP, f"{n} cell ids are repeated", "anndata: obs_names_make_unique(), then save.")
    if not s.obs.columns.is_unique:
        repeated = listed(s.obs.columns[s.obs.columns.duplicated()])
        yield Finding("repeated_columns", STOP, f"columns are there twice: {repeated}", "Rename one in the file.")
    for c in s.text:
        longest = int(s.levels(c).index.str.len().max()) if s.levels(c).size else 0
        if longest > LONGEST_TEXT:
            yield Finding("long_text", WARN, f"{c} holds texts of {longest:,} signs", "Drop that column from the file.")
    found = [u for u in s.uns if re.search(r"rank_genes|_de_|deg|non_zeros_gene|top_non_dropout", u)]
    if found:
        message = f"uns holds statistics of all cells: {listed(found)}"
        yield Finding(
            "statistics_in_uns", WARN, message, "They are not read; never choose genes by them, they saw the test."
        )


def _no_scale(found: str) -> str:
    if found == SCALED:
        return "Save the counts or the logged values before scaling, and read those."
    return "Take log1p once (scanpy.pp.log1p) and save, or name a layer of counts."


def open_keys(s: Survey, p: Proposal) -> Iterator[Finding]:
    """What cannot be told from the file."""
    for key, value in p.keys.items():
        if value == UNKNOWN:
            yield Finding(f"open_{key}", STOP, f"{key} cannot be told: {p.reasons[key]}", f"Fill in {key} in the yaml.")
    if p.keys.get("mode") == "other":
        fix = "Set mode: activation, knockdown, knockout, drug or ligand; modes never transfer into each other."
        yield Finding("mode_unknown", WARN, "the file does not say what was done to the cells", fix)


HAZARDS: tuple[Hazard, ...] = (
    size,
    open_keys,
    control_labels,
    control_flag,
    combinations,
    guides,
    scale,
    doses,
    units,
    times,
    perturbed_genes_measured,
    groups,
    batches,
    confounding,
    skipped_contexts,
    settings,
    flags,
    number_of_parts,
    missing_labels,
    gene_ids,
    label_variants,
    other_spellings,
    second_targets,
    unused_categories,
    other_columns,
    names,
)
