"""The loader's keys for a file, each with its reason; what cannot be told stays open and is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data.column import names_of
from perturbfm.data.doctor import amount, column, place, vocabulary
from perturbfm.data.doctor.column import PertColumn
from perturbfm.data.doctor.finding import listed
from perturbfm.data.doctor.scale import SCALED, UNLOGGED, ScaleEvidence, row_sums, scale_of
from perturbfm.data.doctor.survey import Survey, words
from perturbfm.data.several import FILE_NAME, stem_of
from perturbfm.errors import UnreadableFile

TARGET_SUM = 10000.0
UNKNOWN = "???"
LEAST_DIVIDED = 10
"""Control rows of a context from which splits can give a half to the model and a half to the truth."""

READABLE = ("counts", "log1p", "log2")
"""What a layer that is taken instead of X may hold."""


@dataclass
class Proposal:
    """Keys of `perturbfm.data.file.load_file` with reasons.

    Attributes:
        keys: What goes into the yaml.
        reasons: Why, by key.
        pert: How perturbation labels read; None where no column can hold them.
        scale: What the matrix says.
        is_control_n: Which rows are controls.
    """

    keys: dict[str, Any]
    reasons: dict[str, str]
    pert: PertColumn | None
    scale: ScaleEvidence
    is_control_n: np.ndarray | None = None
    further: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Any, reason: str) -> None:
        """Propose a value."""
        self.keys[key], self.reasons[key] = value, reason

    @property
    def is_open(self) -> bool:
        """Whether something must be filled in by hand."""
        return UNKNOWN in map(str, self.keys.values())


def propose(survey: Survey, name: str, given: dict[str, Any]) -> Proposal:
    """Propose keys; what is given is taken over as it is, and the rest is read in its light."""
    pert = column.pert_column(survey, given)
    control = column.is_control(survey, pert) if pert is not None else None
    scale = scale_of(survey, control)
    p = Proposal({"name": name, "path": _path(survey)}, {}, pert, scale, control)
    _files(survey, p)
    _matrix(survey, p, given)
    if pert is None:
        p.set("pert_column", UNKNOWN, f"no column reads like perturbations: {listed(survey.obs.columns, 12) or 'none'}")
    else:
        _labels(survey, p, pert)
        _genes(survey, p, pert, given)
        read = survey.only(~np.isin(survey.words(pert.name), list(pert.missing)))
        _places(read, p, pert, given)
        _amounts(read, p, pert, given)
        _times(read, p, pert, given)
        _mode(read, p, pert)
        _unit(read, p, pert)
    for key, value in given.items():
        p.set(key, value, "given")
    if {"mode", "mode_column"} & set(given):
        for key in {"mode", "mode_column", "mode_values"} - set(given):
            p.keys.pop(key, None)
    if p.keys.get("scale") != "counts":
        for key in {"target_sum", "size_column"} - set(given):
            p.keys.pop(key, None)
    return p


def _path(survey: Survey) -> str | list[str]:
    paths = [str(path.absolute()) for path in (survey.path, *survey.more)]
    return paths if survey.more else paths[0]


def _files(survey: Survey, p: Proposal) -> None:
    """What several files need to be one data set."""
    if survey.more and str(survey.obs.index[0]).startswith(f"{stem_of(survey.path)}:"):
        p.set("prefix_cells", True, "the same cell ids occur in several files")
    if survey.raw.notes and any("genes common to" in note for note in survey.raw.notes):
        p.set("genes", "intersect", survey.raw.notes[-1])


def _matrix(survey: Survey, p: Proposal, given: dict[str, Any]) -> None:
    scale = p.scale.scale
    if scale in (UNLOGGED, SCALED):
        layer = None if "layer" in given else _readable_layer(survey)
        if layer is not None:
            held = scale_of(survey.in_layer(layer))
            p.set("layer", layer, f"X is {scale}; this layer holds {held.scale}: {held.reason}")
            scale = held.scale
        else:
            p.set("scale", UNKNOWN, f"X is {scale} ({p.scale.reason}), which is no scale of a data set")
            return
    p.set("scale", scale, p.scale.reason if "layer" not in p.keys else p.reasons["layer"])
    if scale == "counts":
        p.set("target_sum", TARGET_SUM, "explicit, so that no median of all cells leaks; null leaves it to preprocess=")
        sums = row_sums(survey)
        size, reason = place.size_column(survey, sums) if "layer" not in p.keys else (None, "")
        if size is not None:
            p.set("size_column", size, reason)
        elif reason:
            p.further["size_column"] = reason
    if "layer" not in p.keys and survey.options.layer is not None:
        p.set("layer", survey.options.layer, f"X is empty; layers: {listed(survey.layers)}")


def _readable_layer(survey: Survey) -> str | None:
    """A layer of a known name that a loader can read, one of counts first."""
    named = sorted((rank, x) for x in survey.layers if (rank := vocabulary.layer_rank(x)) < vocabulary.N_LAYERS)
    return next((x for _, x in named if layer_scale(survey, x) in READABLE), None)


def layer_scale(survey: Survey, layer: str) -> str:
    """What a layer holds, from a sample of it; nothing that can be told where it is broken."""
    try:
        return scale_of(survey.in_layer(layer)).scale
    except UnreadableFile:
        return "unreadable"


def _labels(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    n = survey.levels(pert.name).size
    others = f"; also {listed(pert.others)}" if pert.others else ""
    p.set("pert_column", pert.name, f"{n} labels{others}")
    if pert.controls:
        rows = int(column.is_control(survey, pert).sum())
        where = f"{rows} rows, by column {pert.flag}" if pert.by_flag else f"{rows} rows"
        p.set("control_labels", list(pert.controls), where)
    elif p.scale.scale == "delta":
        p.set("control_labels", [], "no label reads so, and values are differences from control already")
    else:
        p.set("control_labels", UNKNOWN, f"none of {listed(survey.levels(pert.name).index, 8)} reads so")
    if p.scale.scale == "delta":
        p.set("controls", "baked_in", "values are differences from control already")
    if pert.delimiter is not None:
        p.set("delimiter", pert.delimiter, "joins parts that occur elsewhere")
    if pert.drop_control_parts:
        p.set("drop_control_parts", True, "singles are written with a control part")
    if pert.guide_pattern is not None:
        p.set("guide_pattern", pert.guide_pattern, "labels are guides; their target is the perturbation")
    if pert.missing:
        gone = int(np.isin(survey.words(pert.name), list(pert.missing)).sum())
        p.set("drop_missing", True, f"{gone} rows without a label")
        extra = [m for m in pert.missing if m.lower() not in ("", "nan")]
        if extra:
            p.set("missing_labels", extra, "labels that say there is none")


def _genes(survey: Survey, p: Proposal, pert: PertColumn, given: dict[str, Any]) -> None:
    """Genes go by the column that knows more of the perturbed ones than the index does."""
    if {"gene_column", "gene_map"} & set(given):
        return
    parts = {q.strip() for x in survey.levels(pert.name).index for q in (x.split(pert.delimiter or "\0"))}
    genes = parts - {*pert.controls, *pert.missing}
    if pert.guide_pattern is not None:
        genes = {m[1] if (m := re.fullmatch(pert.guide_pattern, g)) else g for g in genes}
    best, c = len(genes.intersection(survey.genes)), None
    for name in symbol_columns(survey):
        n = len(genes.intersection(survey.raw.var[name].astype(str)))
        best, c = (n, name) if n > best else (best, c)
    if c is not None:
        p.set("gene_column", c, f"it names {best} of {len(genes)} perturbed genes, the index fewer")


def symbol_columns(survey: Survey) -> list[str]:
    """Columns of gene symbols that name every gene, each once."""
    var = survey.raw.var
    named = [c for c in var.columns if vocabulary.rank(str(c), vocabulary.SYMBOL) is not None]
    return [c for c in named if var[c].is_unique and not var[c].isna().any() and (var[c].astype(str) != "").all()]


def _places(survey: Survey, p: Proposal, pert: PertColumn, given: dict[str, Any]) -> None:
    context = _context(survey, p, pert, given)
    batch = place.batch_column(survey, pert, context) if p.keys.get("controls") != "baked_in" else None
    if batch is not None:
        p.set("batch_column", batch, f"{survey.levels(batch).size} batches, each with controls; deltas compare within")
    found = place.covariates(survey, [pert.name, *pert.others, *context, batch])
    if found:
        p.set("covariates", found, "may be held out, or explain away an effect")


def _context(survey: Survey, p: Proposal, pert: PertColumn, given: dict[str, Any]) -> list[str]:
    """Propose the context: a column of cell lines or types, with what else was done to the cells."""
    if "context_column" in given or "context" in given:
        return [c for c in names_of(given.get("context_column")) if c in survey.obs.columns]
    one = place.context_column(survey, pert)
    more = place.setting_columns(survey, pert, one)
    context = [c for c in (one, *more) if c is not None]
    if not context:
        p.set("context_column", None, "no column of cell lines or types: one context, named after the data set")
    elif context == [FILE_NAME] and survey.more:
        p.set("context_column", None, "the context is the file's name")
        p.set("file_context", True, f"{len(survey.more) + 1} files: {listed(survey.levels(FILE_NAME).index)}")
    elif len(context) == 1:
        p.set("context_column", context[0], f"{survey.levels(context[0]).size} contexts")
    else:
        n = len(pd.unique(survey.words(context)))
        why = f"the same perturbation under another {listed(more)} is another effect"
        p.set("context_column", context, f"{n} contexts: {why}")
    return context


def _times(survey: Survey, p: Proposal, pert: PertColumn, given: dict[str, Any]) -> None:
    """Controls of several times are compared within their time, or a time effect passes for the perturbation's."""
    c = given.get("time_column", p.keys.get("time_column", place.named(survey, vocabulary.TIME, least=2)))
    if "batch_column" in given or not isinstance(c, str) or c not in survey.obs or "baked_in" in p.keys.values():
        return
    if not several_times(survey, pert, c):
        return
    context = [x for x in names_of(given.get("context_column", p.keys.get("context_column"))) if x in survey.obs]
    batch = [x for x in names_of(p.keys.get("batch_column")) if x != c]
    why = "controls were taken at several times: deltas compare within"
    for columns in ([*batch, c], [c]):
        if place.controls_everywhere(survey, pert, [*context, *columns], place.LEAST_CONTROLS):
            p.set("batch_column", columns if len(columns) > 1 else c, why)
            return


def several_times(survey: Survey, pert: PertColumn, c: str) -> bool:
    """Whether controls carry several times."""
    said = survey.words(c)[column.is_control(survey, pert)]
    return len(set(said.tolist()) - {""}) > 1


def is_guide_screen(survey: Survey, pert: PertColumn) -> bool:
    """Whether guides perturb: controls are guides without target, or labels are genes and no control is a vehicle."""
    if any(vocabulary.is_no_target(x) for x in pert.controls):
        return True
    if any(vocabulary.is_vehicle(x) for x in pert.controls):
        return False
    parts = {q for x in survey.levels(pert.name).index for q in (x.split(pert.delimiter) if pert.delimiter else [x])}
    genes = list(parts - {*pert.controls, *pert.missing})
    return bool(genes) and len(survey.known_genes.intersection(genes)) >= 0.3 * len(genes)


def is_second_dose(survey: Survey, pert: PertColumn, c: str) -> bool:
    """Whether a dose is not the guides' own: their controls carry it too."""
    number = amount.numbers(survey, c, pert)
    speaks = is_guide_screen(survey, pert) and informative(survey, c, pert)
    return speaks and bool((number[column.is_control(survey, pert)] > 0).any())


def _join_dose(survey: Survey, p: Proposal, pert: PertColumn, c: str, given: dict[str, Any]) -> None:
    """A dose of a second treatment belongs to the context, where each has controls."""
    context = names_of(p.keys.get("context_column"))
    if {"context_column", "context"} & set(given) or survey.levels(c).size > place.MOST_SETTINGS:
        return
    if place.told_by(survey, c, context):
        return
    if c not in context and place.controls_everywhere(survey, pert, [*context, c]):
        p.set("context_column", [*context, c], f"{c} is a dose of what else was done: controls carry it too")


def _amounts(survey: Survey, p: Proposal, pert: PertColumn, given: dict[str, Any]) -> None:
    for kind, names, units in (
        ("dose", vocabulary.DOSE, vocabulary.DOSE_UNIT),
        ("time", vocabulary.TIME, vocabulary.TIME_UNIT),
    ):
        c = place.named(survey, names, least=2)
        if c is None or not informative(survey, c, pert):
            continue
        plain = amount.are_numbers(survey, c, pert.delimiter)
        worded = None if plain else amount.worded(survey, c, pert)
        if not plain and worded is None:
            continue
        if kind == "dose" and is_second_dose(survey, pert, c):
            _join_dose(survey, p, pert, c, given)
            continue
        p.set(f"{kind}_column", c, f"{survey.obs[c].nunique()} values")
        codes = [v for v in pd.unique(words(survey.obs[c])) if _negative(v)]
        if codes and kind == "dose":
            p.set("missing_doses", sorted(codes), "negative numbers stand for none")
        if worded is not None:
            p.set(
                f"{kind}_pattern", worded.pattern, f"the number stands among words: {listed(survey.levels(c).index, 2)}"
            )
        unit = place.named(survey, units)
        known = [] if unit is None else [u for u in map(str, survey.levels(unit).index) if u and not _negative(u)]
        if len(known) == 1:
            p.set(f"{kind}_unit", known[0], f"column {unit}")
        elif worded is not None and worded.unit:
            p.set(f"{kind}_unit", worded.unit, f"the words of {c}")
        elif vocabulary.unit_of(c)[1]:
            p.set(f"{kind}_unit", vocabulary.unit_of(c)[1], f"the name of {c}")


def informative(survey: Survey, c: str, pert: PertColumn) -> bool:
    """Whether some perturbation has several values: `1` for singles and `1+1` for doubles says nothing."""
    treated = ~column.is_control(survey, pert)
    pairs = pd.DataFrame({"p": survey.words(pert.name)[treated], "v": words(survey.obs[c])[treated]}).drop_duplicates()
    return bool((pairs.groupby("p").size() > 1).any())


def _negative(text: str) -> bool:
    try:
        return float(text) < 0
    except ValueError:
        return False


def _mode(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    treated = ~column.is_control(survey, pert)
    for name in vocabulary.MODE:
        for c, values in survey.text.items():
            if vocabulary.plain(c) != vocabulary.plain(name):
                continue
            levels = sorted(set(pd.unique(values[treated])) - {""})
            table = {
                v: vocabulary.MODE_OF[k] for v in levels if (k := v.lower().replace("-", "_")) in vocabulary.MODE_OF
            }
            if not levels or len(table) != len(levels):
                continue
            if len(set(table.values())) == 1:
                p.set("mode", next(iter(table.values())), f"column {c}: {', '.join(levels)}")
            else:
                p.set("mode_column", c, ", ".join(levels))
                p.set("mode_values", table, "so that no mode passes for another")
            return
    dosed = "dose_column" in p.keys and not is_guide_screen(survey, pert)
    if dosed or any(x.lower().startswith(("dmso", "vehicle", "dimethyl")) for x in pert.controls):
        p.set("mode", "drug", "doses or a vehicle control")
    else:
        p.set("mode", "other", "the file does not tell: activation, knockdown, knockout, drug or ligand, if you know")


def _unit(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    """Rows are conditions where hardly any condition has two."""
    treated = ~column.is_control(survey, pert)
    if "drop_missing" in p.keys:
        treated &= ~np.isin(survey.words(pert.name), list(pert.missing))
    keys = [pert.name, *(p.keys.get(k) for k in ("context_column", "batch_column", "dose_column", "time_column"))]
    used = [c for k in keys for c in names_of(k) if c in survey.obs.columns]
    size = pd.DataFrame({c: survey.words(c)[treated] for c in dict.fromkeys(used)}).value_counts()
    if len(size) and float((size == 1).mean()) > 0.9:
        p.set("unit", "pseudobulk", f"{len(size)} conditions, one row each")
        _subtract(survey, p, pert)


def _subtract(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    """Controls of a pseudobulk that are too few to be divided are subtracted."""
    place_of = [c for k in ("context_column", "batch_column") for c in names_of(p.keys.get(k)) if c in survey.obs]
    control = column.is_control(survey, pert)
    fewest = pd.Series(survey.words(place_of)[control], dtype=object).value_counts().min()
    if control.any() and p.keys.get("scale") in READABLE and fewest < LEAST_DIVIDED:
        p.set(
            "controls", "subtract", f"{int(fewest)} control rows in a context cannot be divided: differences from them"
        )
