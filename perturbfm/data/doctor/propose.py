"""The loader's keys for a file, each with its reason; what cannot be told stays open and is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from perturbfm.data.doctor import column, vocabulary
from perturbfm.data.doctor.column import PertColumn
from perturbfm.data.doctor.scale import SCALED, UNLOGGED, ScaleEvidence, row_sums, scale_of
from perturbfm.data.doctor.survey import Survey, words

TARGET_SUM = 10000.0
UNKNOWN = "???"


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
    """Propose keys; what is given is taken over as it is."""
    pert = column.pert_column(survey)
    control = column.is_control(survey, pert) if pert is not None else None
    scale = scale_of(survey, control)
    p = Proposal({"name": name, "path": str(survey.path.absolute())}, {}, pert, scale, control)
    _matrix(survey, p)
    if pert is None:
        p.set("pert_column", UNKNOWN, f"no column reads like perturbations: {', '.join(survey.obs.columns[:12])}")
    else:
        _labels(survey, p, pert)
        _places(survey, p, pert)
        _amounts(survey, p, pert)
        _mode(survey, p, pert)
        _unit(survey, p, pert)
    for key, value in given.items():
        p.set(key, value, "given")
    return p


def _matrix(survey: Survey, p: Proposal) -> None:
    counts = next((x for name in vocabulary.COUNT_LAYERS for x in survey.layers if x.lower() == name), None)
    scale = p.scale.scale
    if scale in (UNLOGGED, SCALED):
        if counts is not None:
            p.set("layer", counts, f"X is {scale}; this layer is named like counts")
            scale = "counts"
        else:
            p.set("scale", UNKNOWN, f"X is {scale} ({p.scale.reason}), which is no scale of a data set")
            return
    p.set("scale", scale, p.scale.reason if "layer" not in p.keys else p.reasons["layer"])
    if scale == "counts":
        p.set("target_sum", TARGET_SUM, "explicit, so that no median of all cells leaks; null leaves it to preprocess=")
        sums = row_sums(survey, unlogged=False)
        size, reason = column.size_column(survey, sums) if "layer" not in p.keys else (None, "")
        if size is not None:
            p.set("size_column", size, reason)
        elif reason:
            p.further["size_column"] = reason


def _labels(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    n = survey.levels(pert.name).size
    others = f"; also {', '.join(pert.others)}" if pert.others else ""
    p.set("pert_column", pert.name, f"{n} labels{others}")
    if pert.controls:
        rows = int(column.is_control(survey, pert).sum())
        p.set("control_labels", list(pert.controls), f"{rows} rows")
    elif p.scale.scale == "delta":
        p.set("controls", "baked_in", "no control label, and values are differences")
    else:
        p.set("control_labels", UNKNOWN, f"none of {', '.join(map(repr, survey.levels(pert.name).index[:8]))} reads so")
    if p.scale.scale == "delta":
        p.set("controls", "baked_in", "values are differences from control already")
    if pert.delimiter is not None:
        p.set("delimiter", pert.delimiter, "joins parts that occur elsewhere")
    if pert.drop_control_parts:
        p.set("drop_control_parts", True, "singles are written with a control part")
    if pert.guide_pattern is not None:
        p.set("guide_pattern", pert.guide_pattern, "labels are guides; their target is the perturbation")
    if pert.missing:
        gone = int(np.isin(survey.text[pert.name], list(pert.missing)).sum())
        p.set("drop_missing", True, f"{gone} rows without a label")
        extra = [m for m in pert.missing if m.lower() not in ("", "nan")]
        if extra:
            p.set("missing_labels", extra, "labels that say there is none")


def _places(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    context = column.context_column(survey, pert)
    if context is None:
        p.set("context_column", None, "no column of cell lines or types")
        p.set("context", str(p.keys["name"]), "one context, named after the file")
    else:
        p.set("context_column", context, f"{survey.levels(context).size} contexts")
    batch = column.batch_column(survey, pert, context) if p.keys.get("controls") != "baked_in" else None
    if batch is not None:
        p.set("batch_column", batch, f"{survey.obs[batch].nunique()} batches, each with controls")
        p.set("match", "context_batch", "so that deltas compare within batches")
    used = [pert.name, *pert.others, context, batch]
    found = column.covariates(survey, used)
    if found:
        p.set("covariates", found, "may be held out, or explain away an effect")


def _amounts(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    for key, names in (("dose_column", vocabulary.DOSE), ("time_column", vocabulary.TIME)):
        c = column.named(survey, names, least=2)
        if c is None or not _informative(survey, p, c, pert):
            continue
        p.set(key, c, f"{survey.obs[c].nunique()} values")
        text = [v for v in pd.unique(words(survey.obs[c])) if _negative(v)]
        if text and key == "dose_column":
            p.set("missing_doses", sorted(text), "negative numbers stand for none")
        unit = column.named(survey, vocabulary.DOSE_UNIT if key == "dose_column" else vocabulary.TIME_UNIT)
        if unit is not None:
            known = [u for u in map(str, survey.levels(unit).index) if not _negative(u) and u]
            if len(known) == 1:
                p.set(key.replace("column", "unit"), known[0], f"column {unit}")


def _informative(survey: Survey, p: Proposal, c: str, pert: PertColumn) -> bool:
    """Whether some perturbation has several values: `1` for singles and `1+1` for doubles says nothing."""
    treated = ~column.is_control(survey, pert)
    pairs = pd.DataFrame({"p": survey.text[pert.name][treated], "v": words(survey.obs[c])[treated]}).drop_duplicates()
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
            levels = sorted({str(v) for v in values[treated]} - {""})
            table = {
                v: vocabulary.MODE_OF[k] for v in levels if (k := v.lower().replace("-", "_")) in vocabulary.MODE_OF
            }
            if c.lower() != name or not levels or len(table) != len(levels):
                continue
            if len(set(table.values())) == 1:
                p.set("mode", next(iter(table.values())), f"column {c}: {', '.join(levels)}")
            else:
                p.set("mode_column", c, ", ".join(levels))
                p.set("mode_values", table, "so that no mode passes for another")
            return
    if "dose_column" in p.keys or any(x.lower().startswith(("dmso", "vehicle", "dimethyl")) for x in pert.controls):
        p.set("mode", "drug", "doses or a vehicle control")
    else:
        p.set("mode", "other", "the file does not tell: activation, knockdown, knockout, drug or ligand, if you know")


def _unit(survey: Survey, p: Proposal, pert: PertColumn) -> None:
    """Rows are conditions where hardly any condition has two."""
    treated = ~column.is_control(survey, pert)
    if "drop_missing" in p.keys:
        treated &= ~np.isin(survey.text[pert.name], list(pert.missing))
    keys = [pert.name, *(p.keys.get(k) for k in ("context_column", "batch_column", "dose_column", "time_column"))]
    used = [k for k in keys if isinstance(k, str)]
    size = pd.DataFrame({k: words(survey.obs[k])[treated] for k in used}).value_counts()
    if len(size) and float((size == 1).mean()) > 0.9:
        p.set("unit", "pseudobulk", f"{len(size)} conditions, one row each")
