"""`PerturbDataset`: a checked view of AnnData in which every row knows its matched control."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from perturbfm.data.check import OWN_COLUMNS, check_labels, check_matrix, check_names, check_options, check_variance
from perturbfm.data.controls import ControlMatch, match_controls
from perturbfm.data.declaration import Declaration
from perturbfm.data.fingerprint import fingerprint
from perturbfm.types import Labels

if TYPE_CHECKING:
    import torch


class Tensors(NamedTuple):
    """Dense float32 tensors of one data set on one device, each [n, g]."""

    X_control: torch.Tensor
    X_pert: torch.Tensor
    delta: torch.Tensor


class PerturbDataset:
    """Typed view of an AnnData: every row of the file is a row of the view, controls too.

    Args:
        adata: `X` on the declared scale; `obs` with `pert_id`, `context_id`, `batch_id`, `is_control`, `mode`, where
            declared `dose` and `time` (canonical text, "" for none), and covariates; gene names as `var_names`;
            `layers["variance"]` where a variance is declared.
        declared: What is declared of it.
        match: The control of each row, when it was decided elsewhere (a slice, an artifact).
        locked_to: Fingerprint of the data set that this one was preprocessed from, row by row.

    Raises:
        InputError: One of the checks of `validate`.
    """

    def __init__(
        self, adata: AnnData, declared: Declaration, match: ControlMatch | None = None, locked_to: str | None = None
    ) -> None:
        self.adata, self.declared, self._match, self._locked_to = adata, declared, match, locked_to
        self.validate()

    def validate(self) -> None:
        """Refuse what would mislead: names, labels, values, scale, controls. Each refusal says how to mend it."""
        check_options(self.declared)
        check_names(self.adata.obs_names, self.adata.var_names)
        check_labels(self.adata.obs, self.declared, needs_controls=self._match is None)
        check_matrix(self.adata.X, self.declared.scale)
        check_variance(self.adata, self.declared)

    def __len__(self) -> int:
        return int(self.adata.n_obs)

    def __repr__(self) -> str:
        d = self.declared
        size = f"{self.n_obs} {d.unit} x {self.n_genes} genes"
        return f"PerturbDataset({d.name}: {size}, {d.scale}, {self.fingerprint[:12]})"

    @property
    def n_obs(self) -> int:
        """Number of rows, controls included."""
        return int(self.adata.n_obs)

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return int(self.adata.n_vars)

    @property
    def obs(self) -> pd.DataFrame:
        """Labels of every row, cell ids as index."""
        return self.adata.obs

    @property
    def var(self) -> pd.DataFrame:
        """Genes, names as index."""
        return self.adata.var

    @property
    def genes(self) -> tuple[str, ...]:
        """Gene names in order."""
        return tuple(self.adata.var_names)

    @property
    def metadata(self) -> dict[str, Any]:
        """What is declared, plus the fingerprint."""
        return {**asdict(self.declared), "fingerprint": self.fingerprint}

    @property
    def X_pert(self) -> Any:
        """Each row's own expression, [n, g], sparse if the file is."""
        return self.adata.X

    @property
    def X_control(self) -> np.ndarray:
        """Each row's matched control over *all* controls, dense float32 [n, g] (a run matches input controls only)."""
        return self.match.take(slice(None))

    @property
    def delta(self) -> np.ndarray:
        """`X_pert - X_control`, dense float32 [n, g]."""
        return self.dense(slice(None)) - self.X_control

    @cached_property
    def match(self) -> ControlMatch:
        """The control of each row."""
        if self._match is not None:
            return self._match
        if self.declared.controls == "baked_in":
            return ControlMatch(np.zeros((1, self.n_genes), np.float32), np.zeros(self.n_obs, np.int64))
        columns = self._columns()
        return match_controls(
            self.adata.X,
            columns["context_id"],
            columns["batch_id"],
            np.flatnonzero(columns["is_control"]),
            by=self.declared.match,
            seed=self.declared.match_seed,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Content hash: matrix, cell ids, labels, genes, order and scale."""
        d = self.declared
        size = self.obs["size_factor"].to_numpy(np.float64) if d.counts_hashed else None
        labels = self.obs.drop(columns="size_factor") if d.counts_hashed else self.obs
        declared: dict[str, object] = {
            "scale": d.scale,
            "unit": d.unit,
            "controls": d.controls,
            "delimiter": d.delimiter,
        }
        later = {"dose_unit": d.dose_unit, "time_unit": d.time_unit, "variance": d.variance}
        declared.update({key: value for key, value in later.items() if value})  # older fingerprints stay as they are
        return fingerprint(self.adata.X, size, labels, self.genes, declared, self.adata.layers.get("variance"))

    @property
    def locked_fingerprint(self) -> str:
        """What splits are held against: the fingerprint before learned stages, where there were any."""
        return self._locked_to or self.fingerprint

    @property
    def given_match(self) -> ControlMatch | None:
        """The control of each row where it was decided elsewhere; None where it is computed from the rows."""
        return self._match

    def labels(self) -> Labels:
        """What a split rule may see; one object, so that what is derived of it is derived once."""
        return self._labels

    @cached_property
    def _labels(self) -> Labels:
        columns = self._columns()
        return Labels(
            cell_n=self.obs.index.to_numpy(dtype=object),
            pert_n=columns["pert_id"],
            context_n=columns["context_id"],
            batch_n=columns["batch_id"],
            mode_n=columns["mode"],
            is_control_n=columns["is_control"],
            fingerprint=self.locked_fingerprint,
            data_name=self.declared.name,
            unit=self.declared.unit,
            controls=self.declared.controls,
            delimiter=self.declared.delimiter,
            match="context" if self.declared.match == "context" else "context_batch",
            dose_n=columns.get("dose"),
            time_n=columns.get("time"),
            covariates={c: self.obs[c].to_numpy() for c in self.obs.columns if c not in OWN_COLUMNS},
        )

    def dense(self, rows: np.ndarray | slice) -> np.ndarray:
        """Expression of some rows as dense float32, cut from CSR in one slice."""
        block = self.adata.X[rows]
        return np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float32)

    def __getitem__(self, rows: np.ndarray | slice | list[int]) -> PerturbDataset:
        """Aligned slice: expression, labels and the controls matched in the whole data set."""
        index = np.atleast_1d(np.arange(self.n_obs)[rows])
        return PerturbDataset(self.adata[index].copy(), self.declared, self.match.sliced(index))

    def to(self, device: str) -> Tensors:
        """Dense tensors of the whole view on a device."""
        import torch

        arrays = (self.X_control, self.dense(slice(None)), self.delta)
        return Tensors(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))

    def _columns(self) -> dict[str, np.ndarray]:
        names = [c for c in ("pert_id", "context_id", "batch_id", "mode", "dose", "time") if c in self.obs]
        text = {c: self.obs[c].to_numpy(dtype=object) for c in names}
        return {**text, "is_control": self.obs["is_control"].to_numpy(dtype=bool)}
