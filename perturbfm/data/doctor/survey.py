"""Facts of a file: sizes, columns, and a sample of its matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from perturbfm.data.doctor import vocabulary
from perturbfm.data.doctor.sample import Sample, joined_samples, lacks_x, names_in, sample_of
from perturbfm.data.reader.raw import Raw, ReadOptions
from perturbfm.data.reader.read import read_raw
from perturbfm.data.several import FILE_NAME, stacked, stem_of, with_file

MOST_CODES = 10_000
"""Levels up to which whole numbers may be codes of labels."""


@dataclass(frozen=True)
class Survey:
    """What a file is, before any of it has a meaning.

    Attributes:
        path: Where it is.
        raw: Its tables.
        n_bytes: Its size on disk.
        layers: Names of its layers, `raw` among them where it has a raw matrix.
        uns: Names in `uns`.
        sample: Some rows of its matrix.
        options: How it was read.
        more: Further files, where several are one data set.
    """

    path: Path
    raw: Raw
    n_bytes: int
    layers: tuple[str, ...]
    uns: tuple[str, ...]
    sample: Sample
    options: ReadOptions = field(default_factory=ReadOptions)
    more: tuple[Path, ...] = ()
    _levels: dict[str, pd.Series] = field(default_factory=dict, repr=False)
    _codes: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    _in_layer: dict[str, Survey] = field(default_factory=dict, repr=False)

    @property
    def obs(self) -> pd.DataFrame:
        """Table of cells."""
        return self.raw.obs

    @property
    def genes(self) -> pd.Index:
        """Names of genes."""
        return self.raw.var.index

    @property
    def n_obs(self) -> int:
        """Rows."""
        return len(self.raw.obs)

    @cached_property
    def known_genes(self) -> frozenset[str]:
        """Names of genes, by the index and by columns of symbols."""
        columns = [c for c in self.raw.var.columns if vocabulary.rank(str(c), vocabulary.SYMBOL) is not None]
        return frozenset({*map(str, self.genes), *(str(v) for c in columns for v in self.raw.var[c])})

    @cached_property
    def values(self) -> np.ndarray:
        """Stored values of the sample, float64."""
        x = self.sample.x_ng
        return np.asarray(x.data if sparse.issparse(x) else x, dtype=np.float64).ravel()

    @cached_property
    def text(self) -> dict[str, np.ndarray]:
        """Columns that hold labels, as text; missing values are the empty text."""
        return {c: words(self.obs[c]) for c in dict.fromkeys(self.obs.columns) if not is_number(self.obs[c])}

    @cached_property
    def coded(self) -> dict[str, np.ndarray]:
        """Columns that may hold labels: text, and whole numbers of not too many levels, as text."""
        whole = {
            c: words(self.obs[c])
            for c in self.obs.columns
            if c not in self.text and is_whole(self.obs[c]) and self.obs[c].nunique() <= MOST_CODES
        }
        return {**self.text, **whole}

    def in_layer(self, name: str) -> Survey:
        """The same file with another layer sampled."""
        if name not in self._in_layer:
            self._in_layer[name] = survey_all([self.path, *self.more], replace(self.options, layer=name))
        return self._in_layer[name]

    def only(self, row_n: np.ndarray) -> Survey:
        """Some of the rows; all of them where no row of the sample is among them."""
        sampled = row_n[self.sample.row_n]
        if row_n.all() or not sampled.any():
            return self
        place_n = np.cumsum(row_n) - 1
        sample = replace(self.sample, x_ng=self.sample.x_ng[sampled], row_n=place_n[self.sample.row_n[sampled]])
        raw = replace(self.raw, obs=self.raw.obs[row_n])
        return replace(self, raw=raw, sample=sample, _levels={}, _codes={})

    def words(self, columns: str | Sequence[str] | None) -> np.ndarray:
        """Rows of a column as text, or of several joined by `::`; without a column all rows are one."""
        names = [columns] if isinstance(columns, str) else list(columns or [])
        if not names:
            return np.full(self.n_obs, "all", dtype=object)
        parts = [self.coded[c] if c in self.coded else words(self.obs[c]) for c in names]
        return parts[0] if len(parts) == 1 else np.array(["::".join(p) for p in zip(*parts, strict=True)], dtype=object)

    def levels(self, column: str) -> pd.Series:
        """Rows per level of a column, the most frequent first."""
        if column not in self._levels:
            self._levels[column] = pd.Series(self.words(column), dtype=object).value_counts()
        return self._levels[column]

    def codes(self, column: str) -> np.ndarray:
        """Rows of a column as numbers of its levels."""
        if column not in self._codes:
            self._codes[column] = pd.factorize(self.words(column))[0]
        return self._codes[column]


def survey(path: Path, options: ReadOptions | None = None) -> Survey:
    """Read tables and a sample of the matrix.

    Raises:
        UnreadableFile: Missing, truncated, or of no known format.
    """
    options = _with_layer(path, options or ReadOptions())
    raw = read_raw(path, options)
    n_bytes = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    layers, uns = names_in(path, options)
    return Survey(path, raw, n_bytes, layers, uns, sample_of(path, raw, options), options)


def survey_all(paths: Sequence[Path], options: ReadOptions | None = None) -> Survey:
    """Survey one file, or several as one data set: on common genes, with the file's name in a column.

    Raises:
        UnreadableFile: One is missing, truncated, or of no known format.
        GenesDiffer: They have no gene in common.
    """
    parts = [survey(path, options) for path in paths]
    if len(parts) == 1:
        return parts[0]
    ids = pd.Index([c for p in parts for c in p.obs.index])
    raws = [replace(p.raw, obs=with_file(p.raw, p.path, FILE_NAME, stem_of(p.path), not ids.is_unique)) for p in parts]
    raw = stacked(raws, "intersect")
    layers = [x for x in parts[0].layers if all(x in p.layers for p in parts)]
    uns = tuple(dict.fromkeys(u for p in parts for u in p.uns))
    raw = replace(raw, var=parts[0].raw.var.iloc[_columns(parts[0].genes, raw.var.index)])
    sample = joined_samples([p.sample for p in parts], [_columns(p.genes, raw.var.index) for p in parts])
    size, layer = sum(p.n_bytes for p in parts), parts[0].options
    return Survey(parts[0].path, raw, size, tuple(layers), uns, sample, layer, more=tuple(paths[1:]))


def _columns(genes: pd.Index, wanted: pd.Index) -> np.ndarray:
    return np.arange(len(genes)) if genes.equals(wanted) else genes.get_indexer(wanted)


def _with_layer(path: Path, options: ReadOptions) -> ReadOptions:
    """Where `X` is empty a layer is looked at, one of counts first."""
    if options.layer is not None or not path.exists() or not lacks_x(path, options):
        return options
    layers, _ = names_in(path, options)
    return replace(options, layer=min(layers, key=vocabulary.layer_rank, default=None))


def words(column: pd.Series) -> np.ndarray:
    """A column as text; what is missing is empty."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, unique = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, unique = pd.factorize(column)
    return np.array([*(_word(v) for v in unique), ""], dtype=object)[codes]


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers (truth values are labels, and so are categories that are numbers)."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def is_whole(column: pd.Series) -> bool:
    """Whether a column holds whole numbers, none missing."""
    return bool(pd.api.types.is_integer_dtype(column)) and not bool(column.isna().any())


def _word(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
