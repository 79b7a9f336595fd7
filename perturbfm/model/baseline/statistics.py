"""Sufficient statistics of one pass over train rows, and the table of conditions they give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from perturbfm.errors import ModelNotFitted
from perturbfm.types import Batch


@dataclass(frozen=True)
class ConditionTable:
    """Train conditions (context x intervention), one row each, float64.

    Attributes:
        delta_cg: Mean delta, batches weighted by their rows.
        noise_cg: Its sampling variance V: within-batch variance of rows over their number, plus that of the controls.
        x_cg: Mean of the matched input controls.
        x_var_cg: Variance of single input-control cells.
        x_count_c: Number of input-control cells.
        n_c: Number of rows.
        intervention_c: Index of the intervention.
        context_c: Index of the context.
        parts_cp: Multi-hot of the parts of the intervention.
    """

    delta_cg: Tensor
    noise_cg: Tensor
    x_cg: Tensor
    x_var_cg: Tensor
    x_count_c: Tensor
    n_c: Tensor
    intervention_c: Tensor
    context_c: Tensor
    parts_cp: Tensor

    def __len__(self) -> int:
        return len(self.n_c)

    def take(self, rows_c: Tensor) -> ConditionTable:
        """Some of the conditions."""
        return replace(self, **{f.name: getattr(self, f.name)[rows_c] for f in fields(self)})

    def as_batch(self) -> Batch:
        """The conditions as queries; what they answered is not in it."""
        unknown = torch.full_like(self.context_c, -1)
        return Batch(
            x_ng=self.x_cg,
            x_var_ng=self.x_var_cg,
            x_count_n=self.x_count_c,
            intervention_n=self.intervention_c,
            parts_np=self.parts_cp,
            context_n=self.context_c,
            batch_n=unknown,
            row_n=unknown,
        )

    def inner_folds(self, most: int) -> Iterator[tuple[ConditionTable, ConditionTable]]:
        """Leave one context out in turn; with a single context, leave out groups of interventions instead.

        Yields:
            (kept, left out). A left-out context is marked unknown, as a held-out one is.
        """
        group_c = self.context_c if len(self.context_c.unique()) > 1 else self.intervention_c % most
        groups = group_c.unique()
        if len(groups) < 2:
            return
        for group in groups[:most]:
            out = group_c == group
            left = self.take(out)
            yield self.take(~out), replace(left, context_c=torch.full_like(left.context_c, -1))


class ConditionStatistics:
    """Sums over rows per (intervention, context, batch); memory grows with conditions, never with rows.

    Batches of one context may share a control mean (where rows match by context); its noise then counts once.
    """

    def __init__(self) -> None:
        self.row_of: dict[tuple[int, int, int], int] = {}
        self.control_of: dict[bytes, int] = {}
        self.control_r: list[int] = []
        self.sum_rg: Tensor | None = None
        self.square_rg: Tensor | None = None
        self.n_r: Tensor | None = None
        self.controls: list[tuple[Tensor, Tensor, Tensor]] = []
        self.parts_r: list[Tensor] = []

    def add(self, batch: Batch) -> None:
        """Add the rows of a batch."""
        if batch.delta_ng is None:
            raise ModelNotFitted(
                "A batch has no response", given="delta_ng=None", expected="train rows", fix="Fit on the train fold."
            )
        key_n3 = torch.stack([batch.intervention_n, batch.context_n, batch.batch_n], dim=1).cpu()
        unique, inverse = torch.unique(key_n3, dim=0, return_inverse=True)
        row_u = torch.tensor([self._row(tuple(k), batch, inverse, i) for i, k in enumerate(unique.tolist())])
        row_n = row_u[inverse]
        delta = batch.delta_ng.double().cpu()
        self._grow(delta.shape[1])
        self.sum_rg.index_add_(0, row_n, delta)  # type: ignore[union-attr]
        self.square_rg.index_add_(0, row_n, delta**2)  # type: ignore[union-attr]
        self.n_r.index_add_(0, row_n, torch.ones(len(row_n), dtype=torch.float64))  # type: ignore[union-attr]

    def _row(self, key: tuple[int, ...], batch: Batch, inverse: Tensor, unique_row: int) -> int:
        found = self.row_of.setdefault((key[0], key[1], key[2]), len(self.row_of))
        if found == len(self.control_r):
            i = int(torch.nonzero(inverse == unique_row)[0])
            shown = tuple(t.double().cpu() for t in (*batch.controls_of(i), batch.x_count_n[i]))
            name = b"".join(t.numpy().tobytes() for t in shown)
            control = self.control_of.setdefault(name, len(self.control_of))
            if control == len(self.controls):
                self.controls.append((shown[0], shown[1], shown[2]))
            self.control_r.append(control)
            self.parts_r.append(batch.parts_np[i].cpu())
        return found

    def _grow(self, n_genes: int) -> None:
        have = 0 if self.sum_rg is None else len(self.sum_rg)
        more = len(self.row_of) - have
        if more <= 0:
            return
        zeros = torch.zeros(more, n_genes, dtype=torch.float64)
        if self.sum_rg is None or self.square_rg is None or self.n_r is None:
            self.sum_rg, self.square_rg, self.n_r = zeros, zeros.clone(), torch.zeros(more, dtype=torch.float64)
            return
        self.sum_rg = torch.cat([self.sum_rg, zeros])
        self.square_rg = torch.cat([self.square_rg, zeros])
        self.n_r = torch.cat([self.n_r, torch.zeros(more, dtype=torch.float64)])

    def table(self) -> ConditionTable:
        """Merge batches and return one row per condition, in the order of (intervention, context)."""
        if self.sum_rg is None or self.square_rg is None or self.n_r is None:
            raise ModelNotFitted(
                "No train row was seen",
                given="no batches",
                expected="one epoch of the train fold",
                fix="Call fit first.",
            )
        key_r3 = torch.tensor(list(self.row_of))
        condition, of_r = torch.unique(key_r3[:, :2], dim=0, return_inverse=True)
        member = torch.zeros(len(condition), len(key_r3), dtype=torch.float64)
        member[of_r, torch.arange(len(key_r3))] = 1.0
        n_c = member @ self.n_r
        control_r = torch.tensor(self.control_r)
        rows_ck = torch.zeros(len(condition), len(self.controls), dtype=torch.float64)
        rows_ck.index_put_((of_r, control_r), self.n_r, accumulate=True)
        weight = rows_ck / n_c.unsqueeze(1)
        x, x_var, x_count = (torch.stack([c[i] for c in self.controls]) for i in range(3))
        within = (self.square_rg - self.sum_rg**2 / self.n_r.unsqueeze(1)).clamp_min(0.0)
        free = n_c - member.sum(1)
        scatter = member @ within
        spread = torch.where(
            (free > 0).unsqueeze(1),
            scatter / free.clamp_min(1.0).unsqueeze(1),
            scatter.sum(0) / free.sum().clamp_min(1.0),
        )  # a condition without two rows in one batch takes the spread of all conditions
        control = weight**2 @ torch.where(
            x_count.unsqueeze(1) > 0, x_var / x_count.clamp_min(1.0).unsqueeze(1), torch.zeros(()).double()
        )
        first_row = torch.tensor([int(torch.nonzero(of_r == i)[0]) for i in range(len(condition))])
        return ConditionTable(
            delta_cg=(member @ self.sum_rg) / n_c.unsqueeze(1),
            noise_cg=spread / n_c.unsqueeze(1) + control,
            x_cg=weight @ x,
            x_var_cg=weight @ x_var,
            x_count_c=(rows_ck > 0).double() @ x_count,
            n_c=n_c,
            intervention_c=condition[:, 0],
            context_c=condition[:, 1],
            parts_cp=torch.stack(self.parts_r)[first_row],
        )
