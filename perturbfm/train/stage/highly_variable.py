"""Genes worth predicting: highly variable, perturbed, differential."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from perturbfm.errors import BadValue, MissingColumn, PackageAbsent, StageCannotLearn, StageOutOfPlace, nearest
from perturbfm.train.stage.abstract import LOG1P, AbstractStage
from perturbfm.train.stage.differential import TESTS, differential_genes
from perturbfm.train.stage.rows import Rows

ON_COUNTS = ("seurat_v3", "seurat_v3_paper", "pearson_residuals")
ON_LOG = ("seurat", "cell_ranger")
FLAVORS = (*ON_COUNTS, *ON_LOG)


class HighlyVariable(AbstractStage):
    """Keep the genes that vary most, those that train perturbs, and those that answer.

    Args:
        n_top: How many highly variable genes.
        flavor: `seurat` and `cell_ranger` rank dispersions of the log values; `seurat_v3`, `seurat_v3_paper` and
            `pearson_residuals` work on the raw counts, whatever stages came before.
        batch_by: Columns of the labels (`context_id`, `batch_id`, covariates) within whose combinations genes are
            ranked before ranks are merged; none ranks all rows together.
        span: Share of the genes in each local fit of `seurat_v3`.
        plus_perturbed: Keep genes too that bear the name of a perturbation (or of a part of one) learned on.
        plus_de: Keep as many genes too for each context and intervention: see `differential_genes`.
        de_test: `t-test` or `wilcoxon`.
        subset: Drop the other genes; false records the lists and keeps every gene.

    Raises:
        BadValue: An option outside its vocabulary or range.

    Source:
        scanpy.pp.highly_variable_genes, scanpy.experimental.pp.highly_variable_genes (`pearson_residuals`).
    """

    def __init__(
        self,
        n_top: int = 2000,
        flavor: str = "seurat",
        batch_by: Sequence[str] = (),
        span: float = 0.3,
        plus_perturbed: bool = False,
        plus_de: int = 0,
        de_test: str = "t-test",
        subset: bool = True,
    ) -> None:
        for key, value, allowed in (("flavor", flavor, FLAVORS), ("de_test", de_test, TESTS)):
            if value not in allowed:
                raise BadValue(
                    f"Unknown {key} of HighlyVariable",
                    given=value,
                    expected=f"one of {', '.join(allowed)}",
                    fix=f"Did you mean {nearest(value, allowed)}?",
                )
        if n_top < 1 or plus_de < 0 or not 0 < span <= 1:
            raise BadValue(
                "HighlyVariable has an option out of range",
                given=f"n_top={n_top}, plus_de={plus_de}, span={span}",
                expected="n_top from 1 on, plus_de from 0 on, span above 0 and at most 1",
                fix="Set it within that range.",
            )
        self.n_top, self.flavor, self.batch_by, self.span = n_top, flavor, list(batch_by), span
        self.plus_perturbed, self.plus_de, self.de_test, self.subset = plus_perturbed, plus_de, de_test, subset
        self.params = {
            "n_top": n_top,
            "flavor": flavor,
            "batch_by": self.batch_by,
            "span": span,
            "plus_perturbed": plus_perturbed,
            "plus_de": plus_de,
            "de_test": de_test,
            "subset": subset,
        }
        self.takes = (LOG1P,) if flavor in ON_LOG or plus_de else AbstractStage.takes

    def learn(self, rows: Rows) -> dict[str, Any]:
        """The lists, each in the order of the data, and the genes kept."""
        variable = self._variable(rows)
        perturbed = _perturbed(rows) if self.plus_perturbed else set()
        differential, left_out = differential_genes(rows, self.plus_de, self.de_test) if self.plus_de else (set(), 0)
        chosen = variable | perturbed | differential
        return {
            "genes": [g for g in rows.genes if g in chosen],
            "variable": [g for g in rows.genes if g in variable],
            "perturbed": [g for g in rows.genes if g in perturbed],
            "differential": [g for g in rows.genes if g in differential],
            "conditions_too_small_to_test": left_out,
        }

    def apply(self, rows: Rows, learned: Mapping[str, Any]) -> Rows:
        """The genes kept; all of them without `subset`."""
        return rows.take(learned["genes"]) if self.subset else rows

    def _variable(self, rows: Rows) -> set[str]:
        import scanpy

        x_ng = self._counts(rows) if self.flavor in ON_COUNTS else rows.x_ng
        adata = AnnData(x_ng, obs=_batches(rows, self.batch_by), var=pd.DataFrame(index=list(rows.genes)))
        key = "batch" if self.batch_by else None
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # fewer genes than asked for; bins with one gene
            try:
                if self.flavor == "pearson_residuals":
                    table = scanpy.experimental.pp.highly_variable_genes(
                        adata, n_top_genes=self.n_top, batch_key=key, inplace=False
                    )
                else:
                    table = scanpy.pp.highly_variable_genes(
                        adata, n_top_genes=self.n_top, flavor=self.flavor, batch_key=key, span=self.span, inplace=False
                    )
            except ValueError as e:
                raise self._too_few(adata, e) from e
        return set(table.index[table["highly_variable"].to_numpy(dtype=bool)])

    def _counts(self, rows: Rows) -> Any:
        if rows.counts_ng is None:
            raise StageOutOfPlace(
                f"HighlyVariable with flavor={self.flavor} needs counts",
                given="values that are logarithms, without the counts they were made of",
                expected="counts, or one of the flavors " + ", ".join(ON_LOG),
                fix="Choose preprocess=log_hvg, or point the data yaml to the counts.",
            )
        if self.flavor.startswith("seurat_v3"):
            try:
                import_module("skmisc.loess")
            except ImportError as e:
                raise PackageAbsent(
                    f"flavor={self.flavor} needs the package scikit-misc",
                    given="no module skmisc",
                    expected="scikit-misc 0.5 or later",
                    fix='Install it with `pip install "perturbfm[hvg]"`, or choose another flavor.',
                ) from e
        return rows.counts_ng

    def _too_few(self, adata: AnnData, error: ValueError) -> StageCannotLearn:
        cause = str(error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error).strip()
        sizes = adata.obs["batch"].value_counts()
        return StageCannotLearn(
            f"Highly variable genes ({self.flavor}) cannot be learned from these rows",
            given=f"groups of {', '.join(f'{n} ({name})' for name, n in sizes.items())}; scanpy says: {cause}",
            expected="enough cells in every group for a smooth fit of variance on mean",
            fix="Widen the fit (preprocess.stages.3.span=0.75, where 3 is the place of this stage, from 0), or rank "
            "all rows together (preprocess.stages.3.batch_by=[]), or choose another flavor.",
        )


def _batches(rows: Rows, columns: Sequence[str]) -> pd.DataFrame:
    """One column `batch`: the combination of some label columns."""
    absent = [c for c in columns if c not in rows.obs]
    if absent:
        raise MissingColumn(
            f"No label column {absent[0]!r} to rank genes within",
            given=f"columns {', '.join(rows.obs.columns)}",
            expected=", ".join(columns),
            fix="Name columns of the data set in batch_by; data.covariates brings further ones.",
        )
    parts = [rows.obs[c].astype(str).to_numpy(dtype=object) for c in columns]
    name = ["|".join(p) for p in zip(*parts, strict=True)] if parts else ["all"] * len(rows.obs)
    return pd.DataFrame({"batch": pd.Categorical(name)}, index=rows.obs.index)


def _perturbed(rows: Rows) -> set[str]:
    """Genes that are named by a perturbation, or by a part of one."""
    names = rows.obs["pert_id"].to_numpy(dtype=object)[~rows.obs["is_control"].to_numpy(dtype=bool)]
    parts = {p.strip() for n in set(names.tolist()) for p in (n.split(rows.delimiter) if rows.delimiter else [n])}
    return parts & set(rows.genes)
