"""Hazards of gene identifiers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from perturbfm.data.doctor import vocabulary
from perturbfm.data.doctor.finding import NOTE, STOP, WARN, Finding, listed
from perturbfm.data.doctor.propose import Proposal, symbol_columns
from perturbfm.data.doctor.survey import Survey

LEAST_NAMES = 3
_ENSEMBL = r"ENS[A-Z]*G\d{11}(?:\.\d+)?"


def gene_ids(s: Survey, p: Proposal) -> Iterator[Finding]:
    """Symbols, Ensembl ids, both at once, repeated ones."""
    name = pd.Series(s.genes.astype(str))
    ensembl = name.str.fullmatch(_ENSEMBL)
    if ensembl.mean() > 0.5:
        symbols = [c for c in s.raw.var.columns if vocabulary.rank(str(c), vocabulary.SYMBOL) is not None]
        good = next(iter(symbol_columns(s)), None)
        if "gene_column" in p.keys:
            fix = f"Nothing: gene_column: {p.keys['gene_column']} names them."
        elif good is not None:
            fix = f"Set gene_column: {good} to use symbols, as labels and graphs do."
        elif symbols:
            n = int(s.raw.var[symbols[0]].duplicated().sum())
            fix = f"{symbols[0]} has {n} repeats: gene_column: {symbols[0]} with duplicate_genes: sum, for counts."
        else:
            fix = "Set gene_map to a two-column TSV from Ensembl to symbol."
        level = NOTE if "gene_column" in p.keys else WARN
        yield Finding("ensembl_ids", level, f"{int(ensembl.sum())} of {len(name)} genes are Ensembl ids", fix)
    elif ensembl.any():
        message = f"{int(ensembl.sum())} of {len(name)} genes are Ensembl ids, the others are not"
        yield Finding("mixed_ids", WARN, message, "They match no graph and no label; leave them out or map them.")
    if not name.is_unique and "gene_column" not in p.keys:
        repeated = name[name.duplicated()]
        fix = "Set duplicate_genes: sum for counts, or gene_column to a unique column of var."
        level = WARN if "duplicate_genes" in p.keys else STOP
        yield Finding("repeated_genes", level, f"{len(repeated)} gene names repeat, first {repeated.iloc[0]!r}", fix)
    dated = name[name.str.fullmatch(r"\d{1,2}-(?:Mar|Sep|Dec|Oct)|(?:Mar|Sep|Dec)-\d{1,2}")]
    if len(dated):
        message = f"{len(dated)} gene names became dates in a spreadsheet, e.g. {dated.iloc[0]}"
        yield Finding("dates_for_genes", WARN, message, "Restore MARCH/SEPT names in the file.")


def perturbed_genes_measured(s: Survey, p: Proposal) -> Iterator[Finding]:
    """A perturbed gene that is not measured has no effect of its own to read off, and no index to embed by."""
    if p.pert is None or p.keys.get("mode") in ("drug", "ligand"):
        return
    labels = [str(x) for x in s.levels(p.pert.name).index if str(x) not in (*p.pert.controls, *p.pert.missing)]
    parts = {q.strip() for x in labels for q in (x.split(p.pert.delimiter) if p.pert.delimiter else [x])}
    parts -= {*p.pert.controls}
    column = p.keys.get("gene_column")
    genes = set((s.raw.var.get(column, s.genes)).astype(str))
    measured = parts & genes
    if not parts or (not measured and not _look_like_genes(parts)):
        return
    if len(measured) < len(parts):
        message = f"{len(measured)} of {len(parts)} perturbed genes are among the {len(genes):,} measured ones"
        lower = {g.lower() for g in genes}
        cased = sum(q.lower() in lower for q in parts)
        absent = listed(sorted(parts - genes), 3)
        fix = f"A model must know genes by name, not by column; set aliases for old symbols among {absent}."
        if cased > len(measured):
            fix = f"{cased} agree if case is ignored: is that another species, or another spelling? Set aliases."
        yield Finding("perturbed_not_measured", NOTE if measured else WARN, message, fix)


def _look_like_genes(parts: set[str]) -> bool:
    """Whether names read like symbols; one or two words (`STIM`, `stimulated`) say nothing."""
    if len(parts) < LEAST_NAMES:
        return False
    return pd.Series(sorted(parts)).str.fullmatch(r"[A-Z][A-Z0-9-]{1,14}|[A-Z][a-z0-9]{1,14}").mean() > 0.6
