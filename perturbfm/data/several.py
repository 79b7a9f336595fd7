"""Several files as one data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.check import check_names
from perturbfm.data.gene import gene_names
from perturbfm.data.reader.raw import Raw, ReadOptions
from perturbfm.data.reader.read import read_raw
from perturbfm.errors import BadValue, DuplicateNames, GenesDiffer, UnknownValue, UnreadableFile, nearest

FILE_NAME = "file_name"
"""Column that holds the file's name where the context is that and no column is named."""

_SUFFIXES = (".gz", ".bz2", ".h5ad", ".h5mu", ".h5", ".hdf5", ".zarr", ".csv", ".tsv", ".txt", ".mtx")


def paths_of(path: str | Sequence[str]) -> list[Path]:
    """The files that a path, a pattern with `*`, or a list of either names; sorted within a pattern."""
    found: list[Path] = []
    for name in [path] if isinstance(path, str) else list(path):
        plain = Path(name)
        pattern = any(sign in name for sign in "*?[") and not plain.exists()
        matches = sorted(Path(plain.anchor).glob(str(plain.relative_to(plain.anchor)))) if pattern else [plain]
        if not matches:
            raise UnreadableFile(
                "There is no such file", given=name, expected="a pattern that files match", fix="Check data.path."
            )
        found += matches
    repeated = sorted({str(p) for p in found if found.count(p) > 1})
    if repeated or not found:
        raise BadValue(
            "data.path names a file twice" if repeated else "data.path names no file",
            given=", ".join(repeated) or "[]",
            expected="each file once",
            fix="Correct the list.",
        )
    return found


def stem_of(path: Path) -> str:
    """File name without the suffixes of formats."""
    name = path.name
    while name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name or path.name


def read_files(
    paths: Sequence[Path],
    options: ReadOptions,
    *,
    gene_column: str | None,
    gene_map: str | None,
    genes: str,
    file_column: str | None,
    file_values: Mapping[str, str],
    prefix_cells: bool,
) -> Raw:
    """Read files and put them below one another; genes get their names before they are compared.

    Raises:
        GenesDiffer: Files have other genes and no intersection is declared.
        DuplicateNames: A cell id occurs in two files.
    """
    _check_genes_option(genes)
    values = _file_values(paths, file_column, file_values)
    parts = []
    for path in paths:
        raw = read_raw(path, options)
        names, notes = gene_names(raw.var, gene_column, gene_map)
        obs = with_file(raw, path, file_column, values[path], prefix_cells)
        parts.append(Raw(raw.name, obs, pd.DataFrame(index=names), raw.load, (*raw.notes, *notes), _stored_by(raw)))
    return parts[0] if len(parts) == 1 else stacked(parts, genes)


def _stored_by(raw: Raw) -> Callable[[], dict[str, dict[str, Any]]]:
    """What a file stores beside its matrix, with its table of genes as it was before they got their names."""
    var = raw.var

    def stored() -> dict[str, dict[str, Any]]:
        columns = {str(name): var[name].to_numpy() for name in var.columns}
        return {**raw.stored(), "var": {**columns, "index": var.index.astype(str).to_numpy(dtype=object)}}

    return stored


def _check_genes_option(genes: str) -> None:
    if genes not in ("same", "intersect"):
        raise BadValue(
            "Unknown data.genes", given=repr(genes), expected="same | intersect", fix="Set data.genes to one of them."
        )


def _file_values(paths: Sequence[Path], column: str | None, values: Mapping[str, str]) -> dict[Path, str]:
    stems = [stem_of(p) for p in paths]
    unknown = [key for key in values if key not in stems]
    lacking = [stem for stem in stems if stem not in values]
    if unknown or (values and (lacking or column is None)):
        raise UnknownValue(
            "data.file_values does not fit the files",
            given=f"{unknown[0]!r} is no file"
            if unknown
            else f"no value for {lacking[0] if lacking else 'a column'!r}",
            expected=f"a value for each of {nearest(unknown[0], stems) if unknown else ', '.join(stems[:8])}, "
            "and data.file_column or data.file_context",
            fix="Name every file by its name without the suffix.",
        )
    return {p: str(values.get(s, s)) for p, s in zip(paths, stems, strict=True)}


def with_file(raw: Raw, path: Path, column: str | None, value: str, prefix_cells: bool) -> pd.DataFrame:
    """A file's table of cells with a column that names the file, and its name before each id."""
    obs = raw.obs
    if column is not None:
        if column in obs.columns:
            raise BadValue(
                "data.file_column is a column of the file",
                given=f"{column!r} in {path.name}",
                expected="a name of its own",
                fix="Choose another name.",
            )
        obs = obs.assign(**{column: value})
    if prefix_cells:
        obs = obs.set_axis(pd.Index([f"{stem_of(path)}:{c}" for c in obs.index], dtype=object), axis=0)
    return obs


def stacked(parts: list[Raw], genes: str) -> Raw:
    """Files below one another, on the genes they have in common, which are all of them unless `intersect` is said."""
    _check_cells(parts)
    names, notes = _common_genes(parts, genes)
    order = [None if p.var.index.equals(names) else p.var.index.get_indexer(names) for p in parts]
    obs = pd.concat([p.obs.astype(object) for p in parts])

    def load(layer: str | None) -> Any:
        blocks = [p.matrix(layer) for p in parts]
        blocks = [b if o is None else b[:, o] for b, o in zip(blocks, order, strict=True)]
        if all(sparse.issparse(b) for b in blocks):
            return sparse.vstack(blocks, format="csr")
        return np.vstack([b.toarray() if sparse.issparse(b) else b for b in blocks])

    name = f"{parts[0].name} and {len(parts) - 1} more"
    read = [note for p in parts for note in p.notes]

    def stored() -> dict[str, dict[str, Any]]:
        return _stored_together([(p.name, p.stored(), o is None) for p, o in zip(parts, order, strict=True)])

    told = (*dict.fromkeys(read), *notes)
    return Raw(name, _numbers_kept(obs, parts), pd.DataFrame(index=names), load, told, stored)


def _stored_together(parts: list[tuple[str, dict[str, dict[str, Any]], bool]]) -> dict[str, dict[str, Any]]:
    """What files store beside their matrices; what is per gene only of files with the genes of all."""
    uns: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for name, stored, same_genes in parts:
        per_gene = {key: stored.get(key, {}) for key in ("varm", "var")} if same_genes else {}
        uns[name] = {**stored.get("uns", {}), **{key: found for key, found in per_gene.items() if found}}
        for part, keys in stored.get("names", {}).items():
            names[part] = sorted({*names.get(part, ()), *keys})
    first = next((stored.get("var", {}) for _, stored, same_genes in parts if same_genes), {})
    return {"uns": uns, "names": names, "var": first}


def _numbers_kept(obs: pd.DataFrame, parts: list[Raw]) -> pd.DataFrame:
    """Columns that are numbers in every file stay numbers."""
    for column in obs.columns:
        kinds = [p.obs[column].dtype for p in parts if column in p.obs.columns]
        if len(kinds) == len(parts) and all(pd.api.types.is_numeric_dtype(k) for k in kinds):
            obs[column] = pd.to_numeric(obs[column])
    return obs


def _check_cells(parts: list[Raw]) -> None:
    seen: dict[str, str] = {}
    for part in parts:
        repeated = next((c for c in part.obs.index if c in seen), None)
        if repeated is not None:
            raise DuplicateNames(
                "A cell id occurs in two files",
                given=f"{repeated!r} in {seen[repeated]} and {part.name}",
                expected="ids that are unique over all files",
                fix="If they are different cells, set data.prefix_cells=true; if they are the same, name one file.",
            )
        seen.update(dict.fromkeys(part.obs.index, part.name))


def _common_genes(parts: list[Raw], genes: str) -> tuple[pd.Index, list[str]]:
    first = parts[0].var.index
    if all(p.var.index.equals(first) for p in parts):
        return first, []
    for part in parts:
        check_names(pd.Index([]), part.var.index)
    common = first[np.logical_and.reduce([first.isin(p.var.index) for p in parts])]
    if len(common) == max(len(p.var.index) for p in parts):
        return first, []  # the same genes in another order
    if genes != "intersect" or not len(common):
        counts = ", ".join(f"{p.name} {len(p.var.index)}" for p in parts[:8])
        raise GenesDiffer(
            "The files do not have the same genes",
            given=f"{counts}; {len(common)} in common",
            expected="the same genes in every file",
            fix="Set data.genes=intersect to keep the common ones."
            if len(common)
            else "Name the genes by the same identifiers: data.gene_column or data.gene_map.",
        )
    return common, [f"{len(common)} genes common to {len(parts)} files"]
