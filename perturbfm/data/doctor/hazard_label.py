"""Hazards of perturbation labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from perturbfm.data.column import names_of
from perturbfm.data.doctor import column, place, vocabulary
from perturbfm.data.doctor.finding import NOTE, STOP, WARN, Finding, listed
from perturbfm.data.doctor.propose import Proposal
from perturbfm.data.doctor.survey import Survey


def control_labels(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Several labels may mean untouched cells, and a label that reads so may not."""
    if p.pert is None or not p.pert.controls:
        return
    if len(p.pert.controls) > 1:
        n = s.levels(p.pert.name)
        shown = listed([f"{c} {int(n.get(c, 0))}" for c in p.pert.controls])
        fix = "Take out of control_labels what is a treatment of its own (a vehicle beside untouched cells)."
        yield Finding("several_controls", WARN, f"read as one control: {shown}", fix)
    weak = [
        str(x)
        for x in s.levels(p.pert.name).index
        if vocabulary.is_weak_control(str(x)) and str(x) not in (*p.pert.controls, *p.pert.missing)
    ]
    if weak:
        fix = "Add them to control_labels if they are, or to missing_labels."
        yield Finding("perhaps_controls", WARN, f"may be controls too: {listed(weak)}", fix)


def control_flag(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A column that says which cells are controls must agree with the labels; without labels it is all there is."""
    if p.pert is None or p.pert.flag is None or p.is_control_n is None:
        return
    c, yes = p.pert.flag, column.flagged_rows(s, p.pert.flag)
    if p.pert.by_flag:
        fix = "Nothing, if that column is right: these labels are no perturbation anywhere."
        yield Finding("controls_by_flag", NOTE, f"control labels {listed(p.pert.controls)} were read off {c}", fix)
    elif not p.pert.controls:
        message = f"{c} marks {int(yes.sum())} rows, whose labels in {p.pert.name} do not say so"
        fix = f"Write a label of their own (control) into {p.pert.name} for these rows and save the file."
        yield Finding("controls_without_label", STOP, message, fix)
    elif (off := yes != p.is_control_n).any():
        label_n = s.words(p.pert.name)
        message = f"{c} disagrees with the labels in {int(off.sum())} rows: {listed(pd.unique(label_n[off]))}"
        fix = "Labels count. Positive controls are treatments; set control_labels if the column is right."
        yield Finding("control_flag", WARN, message, fix)


def combinations(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Signs in names look like delimiters, and delimiters like signs in names."""
    if p.pert is None:
        return
    labels = [str(x) for x in s.levels(p.pert.name).index if str(x) not in (*p.pert.controls, *p.pert.missing)]
    sign = p.pert.delimiter
    if sign is not None:
        named = {str(x) for x in p.keys.get("aliases") or {}}
        yield from _joined([x for x in labels if x not in named], sign, p.pert.controls)
        return
    for other in ("+", ",", "|", "&", ";"):
        with_sign = [x for x in labels if other in x.strip(other)]
        if with_sign:
            message = (
                f"{len(with_sign)} labels contain {other!r}, e.g. {listed(with_sign[:1])}, but their parts do not recur"
            )
            fix = f"Set delimiter: {other!r} if they are combinations after all."
            yield Finding("sign_in_names", NOTE, message, fix)


def _joined(labels: list[str], sign: str, controls: tuple[str, ...]) -> Iterator[Finding]:
    cut_of = {x: [q for q in map(str.strip, x.split(sign)) if q not in controls] for x in labels}
    joined = [x for x, parts in cut_of.items() if len(parts) > 1]
    if not joined:
        return
    message = f"{len(joined)} of {len(labels)} labels are combinations joined by {sign!r}, e.g. {listed(joined[:1])}"
    yield Finding("combinations", NOTE, message, "Set delimiter: null if that sign belongs to names.")
    cut = [cut_of[x] for x in joined]
    odd = [x for x, parts in zip(joined, cut, strict=True) if _is_cut_wrongly(parts)]
    if odd:
        fix = f"Give each another name: aliases: {{{odd[0]!r}: ...}}; the sign belongs to the name."
        yield Finding("delimiter_in_name", STOP, f"{listed(odd)} would be cut in the middle of a name", fix)
    alone = {parts[0] for parts in cut_of.values() if len(parts) == 1}
    parts = {part for parts in cut for part in parts}
    lacking = sorted(parts - alone)
    if lacking:
        message = f"{len(lacking)} of {len(parts)} parts never occur alone, e.g. {listed(lacking)}"
        yield Finding("parts_not_alone", NOTE, message, "Additive baselines and seen-2 splits lack them.")
    orders = pd.Series([sign.join(sorted(parts)) for parts in cut], dtype=object).value_counts()
    if (orders > 1).any():
        n = int((orders > 1).sum())
        yield Finding("order_of_parts", NOTE, f"{n} combinations occur in both orders", "They are read as one.")


def _is_cut_wrongly(parts: list[str]) -> bool:
    """Whether a part is empty or has half of a bracket: the loader refuses both."""
    return "" in parts or any(p.count(a) != p.count(b) for p in parts for a, b in ("()", "[]", "{}"))


def guides(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Labels of guides are not labels of genes."""
    if p.pert is None:
        return
    if p.pert.guide_pattern is not None:
        n = s.levels(p.pert.name).size
        other = next((c for c in p.pert.others if s.levels(c).size < n), None)
        fix = (
            f"Set pert_column: {other}, or keep guide_pattern."
            if other
            else "Keep guide_pattern, and check what it gives."
        )
        yield Finding("guide_labels", WARN, f"{n} labels of {p.pert.name} look like several guides of a gene", fix)
        return
    labels = [str(x) for x in s.levels(p.pert.name).index if str(x) not in (*p.pert.controls, *p.pert.missing)]
    if "guide_pattern" not in p.keys and column.look_like_guides(labels):
        fix = "Set guide_pattern to one whose first group is the target, or guide labels become perturbations."
        message = f"many labels of {p.pert.name} look like several guides of a gene, and some do not: {listed(labels)}"
        yield Finding("guide_labels", WARN, message, fix)
    c = place.named(s, vocabulary.GUIDE, numbers=False, least=2)
    if c is not None and c != p.pert.name:
        fix = f"Set guide_column: {c} to keep it, so that the audit can watch guides of one gene."
        yield Finding("guide_column", NOTE, f"{c} names {s.levels(c).size} guides", fix)


def missing_labels(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Rows without a perturbation are no controls."""
    if p.pert is None or not p.pert.missing:
        return
    n = s.levels(p.pert.name)
    shown = listed([f"{m or 'missing'!r} {int(n[m])}" for m in p.pert.missing])
    fix = "drop_missing leaves them out, counted; if one of them means untouched cells, move it to control_labels."
    yield Finding("missing_labels", WARN, f"rows without a perturbation: {shown}", fix)


def number_of_parts(s: Survey, p: Proposal) -> Iterator[Finding]:
    """`nperts` columns are wrong in several public files."""
    c = place.named(s, vocabulary.N_PARTS)
    if c is None or p.pert is None:
        return
    labels = s.words(p.pert.name)
    sign, controls = p.pert.delimiter, {*p.pert.controls, *p.pert.missing}
    names = {str(x) for x in set(labels)}
    parts = {x: 0 if x in controls else len({*x.split(sign)} - controls) if sign else 1 for x in names}
    said = pd.to_numeric(s.obs[c], errors="coerce").to_numpy(float)
    wrong = said != np.array([parts[str(x)] for x in labels], dtype=float)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        shown = f"{listed([labels[first]])} has {said[first]:g}"
        message = f"{c} disagrees with the label in {int(wrong.sum())} rows, e.g. {shown}"
        yield Finding("number_of_parts", WARN, message, "The column is not used; check delimiter if labels are right.")


def label_variants(s: Survey, p: Proposal) -> Iterator[Finding]:
    """One perturbation under two spellings would stand on both sides of a split."""
    if p.pert is None:
        return
    written = [str(x) for x in s.levels(p.pert.name).index]
    if spaced := [x for x in written if x != x.strip()]:
        message = f"{len(spaced)} labels begin or end with a space: {listed(map(repr, spaced))}"
        yield Finding("spaces", NOTE, message, "They are read without it.")
    labels = pd.Series(list(dict.fromkeys(x.strip() for x in written)), dtype=object)
    plain = labels.str.lower().str.replace(r"[\s_\-]+", "", regex=True)
    same = labels.groupby(plain).agg(list)
    same = same[same.str.len() > 1]
    same = same[[len({*x} - {*p.pert.controls}) > 1 for x in same]]
    if len(same):
        shown = "; ".join(" = ".join(listed([v]) for v in x) for x in same[:3])
        yield Finding(
            "label_variants", WARN, f"{len(same)} labels in several spellings: {shown}", "Set aliases: {one: other}."
        )


def other_spellings(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Contexts and batches in two spellings are two."""
    for c in dict.fromkeys([*names_of(p.keys.get("context_column")), *names_of(p.keys.get("batch_column"))]):
        if c not in s.text:
            continue
        names = pd.Series([str(x) for x in s.levels(c).index], dtype=object)
        same = names.groupby(names.str.strip().str.casefold()).agg(list)
        same = same[same.str.len() > 1]
        if len(same):
            shown = "; ".join(" = ".join(repr(v) for v in x) for x in same[:3])
            message = f"{len(same)} levels of {c} in several spellings: {shown}"
            yield Finding("level_variants", WARN, message, "Write each one way in the file: they are read as two.")


def second_targets(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A second column of the same labels, other than the first in treated rows, makes combinations of them."""
    if p.pert is None:
        return
    first, controls = s.words(p.pert.name), [*p.pert.controls, *p.pert.missing]
    known = set(s.levels(p.pert.name).index) - {*controls, ""}
    for c in p.pert.others:
        if place.told_by(s, c, [p.pert.name]) or place.told_by(s, p.pert.name, [c]):
            continue  # other names of the same labels
        second = s.words(c)
        own = set(s.levels(c).index) - {*controls, ""}
        both = ~np.isin(first, controls) & ~np.isin(second, controls) & (second != "") & (first != second)
        if len(own & known) < 2 or len(own & known) < 0.5 * len(own) or not both.any():
            continue
        i = int(np.flatnonzero(both)[0])
        n, pair = int(both.sum()), f"{first[i]} and {second[i]}"
        message = f"{n} rows have one target in {p.pert.name} and another in {c}, e.g. {pair}"
        fix = "Join the two into a column of their own (A+B) in the file and name it in pert_column, with delimiter."
        yield Finding("second_target", STOP, message, fix)


def unused_categories(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Categories without rows are no conditions."""
    for c in dict.fromkeys([p.keys.get("pert_column"), *names_of(p.keys.get("context_column"))]):
        if isinstance(c, str) and c in s.obs and isinstance(s.obs[c].dtype, pd.CategoricalDtype):
            empty = sorted(map(str, set(s.obs[c].cat.categories) - set(s.obs[c].dropna().unique())))
            if empty:
                message = f"{c} has {len(empty)} categories without rows, e.g. {listed(empty)}"
                yield Finding("unused_categories", NOTE, message, "They are not read as conditions.")


def other_columns(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Another column of perturbations may be the one that is meant; GEARS files name a cell type that is wrong."""
    if p.pert is None:
        return
    used = {c for key in ("context_column", "covariates", "guide_column") for c in names_of(p.keys.get(key))}
    for c in p.pert.others:
        if c not in used and not place.same(s, p.pert.name, c) and s.levels(c).size > 1:
            message = f"{p.pert.name} ({s.levels(p.pert.name).size} labels) or {c} ({s.levels(c).size})?"
            yield Finding(
                "pert_column", NOTE, f"which column is meant: {message}", f"Set pert_column: {c} if it is that."
            )
    if p.pert.drop_control_parts and p.pert.delimiter == "+" and "ctrl" in p.pert.controls:
        context = p.keys.get("context_column")
        said = listed(s.levels(context).index, 3) if isinstance(context, str) else "none"
        fix = "GEARS' Norman file says A549 for K562 cells: check, and set context_column: null with context: K562."
        yield Finding("gears_form", WARN, f"labels as GEARS writes them; the cell type is said to be {said}", fix)
