"""Names of genes: which column, which translation, and what becomes of repeated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.errors import BadValue, GeneNameAmbiguous, MissingColumn, UnreadableFile


def gene_names(var: pd.DataFrame, column: str | None, gene_map: str | None) -> tuple[pd.Index, list[str]]:
    """Names of the genes, and what was done, for the record.

    Args:
        var: The file's table of genes.
        column: Column of names; None means the index.
        gene_map: Two-column TSV from identifier to name; None means none. Versions (`ENSG00000000003.15`) are
            dropped where the versioned identifier is not in it; genes that are not in it keep their identifier.

    Raises:
        MissingColumn: The column is not there.
        GeneNameAmbiguous: An identifier has two names, or the map knows none of the genes.
    """
    if column is None:
        names = pd.Index(var.index.astype(str), dtype=object)
    elif column in var.columns:
        names = _column_names(var[column], column)
    else:
        raise MissingColumn(
            f"Missing column {column!r} in var",
            given=f"columns {', '.join(map(str, var.columns)) or 'none'}",
            expected=repr(column),
            fix="Set data.gene_column to one of them, or to null for the index.",
        )
    if gene_map is None:
        return names, []
    table = read_gene_map(Path(gene_map))
    found = [table.get(n, table.get(n.partition(".")[0])) for n in names]
    known = sum(f is not None for f in found)
    if not known:
        raise GeneNameAmbiguous(
            "The gene map knows none of the genes",
            given=f"{gene_map}: genes such as {', '.join(names[:3])}",
            expected="a map from the identifiers of this file",
            fix="Check the order of its columns (identifier, then name), or data.gene_column.",
        )
    mapped = pd.Index([n if f is None else f for n, f in zip(names, found, strict=True)], dtype=object)
    return mapped, [f"genes named by {Path(gene_map).name}: {known} of {len(names)}"]


def _column_names(values: pd.Series, column: str) -> pd.Index:
    lacking = values.isna().to_numpy() | values.astype(str).str.strip().isin(["", "nan"]).to_numpy()
    if lacking.any():
        raise GeneNameAmbiguous(
            "Genes have no name",
            given=f"{int(lacking.sum())} in column {column!r}, first {str(values.index[lacking][0])!r}",
            expected="a name for every gene",
            fix="Use another column in data.gene_column, or the index with data.gene_map.",
        )
    return pd.Index(values.astype(str).to_numpy(), dtype=object)


def read_gene_map(path: Path) -> dict[str, str]:
    """A two-column TSV as a mapping; an identifier with two names is refused."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UnreadableFile(
            "A gene map cannot be read", given=f"{path}: {e}", expected="a TSV of two columns", fix="Check its path."
        ) from e
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = [w.strip() for w in line.split("\t")]
        if len(words) != 2 or not all(words):
            raise UnreadableFile(
                "A line of the gene map has not two columns",
                given=f"{path.name} line {number}: {line[:80]!r}",
                expected="identifier, tab, name",
                fix="Correct the line.",
            )
        if table.setdefault(words[0], words[1]) != words[1]:
            raise GeneNameAmbiguous(
                "The gene map gives an identifier two names",
                given=f"{words[0]}: {table[words[0]]} and {words[1]}",
                expected="one name each",
                fix="Decide for one of them in the map.",
            )
    return table


def check_duplicate_option(duplicates: str, scale: str) -> None:
    """Refuse an unknown way with repeated genes, and sums of what cannot be summed."""
    if duplicates not in ("refuse", "sum") or (duplicates == "sum" and scale != "counts"):
        raise BadValue(
            "data.duplicate_genes does not fit",
            given=f"{duplicates!r} with scale={scale}",
            expected="refuse, or sum for counts",
            fix="Logarithms of two genes have no sum: go back to counts, or name genes by another column.",
        )


def merge_genes(x_ng: Any, genes: pd.Index) -> tuple[Any, pd.Index, list[str]]:
    """Sum the counts of genes that share a name; the order is that of their first places."""
    if genes.is_unique:
        return x_ng, genes, []
    code_g, names = pd.factorize(genes)
    member = sparse.csr_matrix(
        (np.ones(len(code_g), np.float32), (np.arange(len(code_g)), code_g)), shape=(len(code_g), len(names))
    )
    summed = x_ng @ member
    if sparse.issparse(summed):
        summed = sparse.csr_matrix(summed)
        summed.sort_indices()
    note = f"counts of {len(genes) - len(names)} repeated gene names summed"
    return summed, pd.Index(names, dtype=object), [note]
