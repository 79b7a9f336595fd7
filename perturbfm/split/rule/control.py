"""Controls: halved into input and reference within context and batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from perturbfm.errors import TooFewControls
from perturbfm.split.rule.option import MOST_REFERENCE, Dealing
from perturbfm.split.rule.order import digest
from perturbfm.split.rule.unit import Unit, group_rows, grouped
from perturbfm.types import Labels

LEAST_IN_BATCH = 2
"""Controls on each side of a batch, where matching is within batches: a variance and a resampling need two."""

SHOWN = 10


def deal_controls(labels: Labels, used: np.ndarray, dealing: Dealing) -> tuple[np.ndarray, np.ndarray]:
    """Input and reference controls of every context that has rows in a fold."""
    input_rows, reference_rows = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    if labels.controls == "baked_in":
        return input_rows[0], reference_rows[0]
    names = grouped(labels)
    by = names.context, names.batch
    needed = group_rows(used, by)
    contexts = sorted({context for context, _ in needed})
    controls = np.flatnonzero(labels.is_control_n.astype(bool))
    strata = {unit: rows for unit, rows in group_rows(controls, by).items() if unit[0] in contexts}
    counts = {k: {batch: len(rows) for (context, batch), rows in strata.items() if context == k} for k in contexts}
    by_batch = labels.match == "context_batch"
    least = LEAST_IN_BATCH if by_batch else 1
    sizes = {context: _reference_sizes(controls_b, least) for context, controls_b in counts.items()}
    _check_controls(counts, sizes, needed if by_batch else (), dealing.min_controls)
    for (context, batch), rows in strata.items():
        key = [digest(dealing.seed, "control", str(cell)) for cell in labels.cell_n[rows]]
        shuffled = rows[sorted(range(len(rows)), key=key.__getitem__)]
        reference_rows.append(shuffled[: sizes[context][batch]])
        input_rows.append(shuffled[sizes[context][batch] :])
    return np.concatenate(input_rows), np.concatenate(reference_rows)


def _reference_sizes(controls_b: Mapping[str, int], least: int) -> dict[str, int]:
    """Reference controls per batch of one context: half, or `MOST_REFERENCE` shared out in proportion to the halves.

    Every batch keeps `least`, or its half if that is less; this may exceed the limit where there are very many batches.
    """
    half = {batch: n // 2 for batch, n in controls_b.items()}
    total = sum(half.values())
    if total <= MOST_REFERENCE:
        return half
    size = {batch: min(h, max(least, MOST_REFERENCE * h // total)) for batch, h in half.items()}
    growing = sorted(
        (batch for batch in half if size[batch] < half[batch]),
        key=lambda batch: (-(MOST_REFERENCE * half[batch] % total), batch),
    )
    for batch in growing[: max(0, MOST_REFERENCE - sum(size.values()))]:
        size[batch] += 1
    return size


def _check_controls(
    counts: Mapping[str, Mapping[str, int]],
    sizes: Mapping[str, Mapping[str, int]],
    batches: Collection[Unit],
    min_controls: int,
) -> None:
    """Refuse contexts with too few controls on a side, and those of the (context, batch) that have not two on each."""
    short = []
    for context, controls_b in counts.items():
        reference = sum(sizes[context].values())
        shown = sum(controls_b.values()) - reference
        if min(reference, shown) < min_controls:
            short.append(f"{context} with {shown} input and {reference} reference")
    for context, batch in sorted(batches):
        reference = sizes[context].get(batch, 0)
        shown = counts[context].get(batch, 0) - reference
        if min(reference, shown) < LEAST_IN_BATCH:
            short.append(f"batch {batch} of {context} with {shown} input and {reference} reference")
    if short:
        more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
        raise TooFewControls(
            "Too few controls for an input and a reference half",
            given="; ".join(short[:SHOWN]) + more,
            expected=f"at least {min_controls} on each side of a context"
            + (f", and {LEAST_IN_BATCH} on each side of a batch" if batches else ""),
            fix="Leave these contexts or batches out of the data, or lower min_controls"
            + ("; or join batches, or set data.match=context." if batches else "."),
        )
