"""What is declared of a data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Declaration:
    """What is declared of a data set, never guessed.

    Attributes:
        name: Short name, used in file names.
        scale: `counts`, `log1p`, `log2` or `delta`: what the matrix of the view holds.
        unit: `cells`, or `pseudobulk` where a row is a condition.
        controls: `cells`, or `baked_in` where the values are differences already.
        delimiter: What joins the parts of a combination, or None.
        match: How a row finds its control: `context`, `context_batch` or `draw`.
        match_seed: Seed of `draw`.
        counts_hashed: The matrix is `log1p(counts / size_factor)` of exact integers, with `size_factor` in `obs`.
        dose_unit: Unit of `dose` in `obs`, for example `uM`.
        time_unit: Unit of `time` in `obs`, for example `h`.
        variance: What `layers["variance"]` holds beside a pseudobulk mean: `cells`, the variance of single cells, or
            `sampling`, the squared standard error of the mean; empty where there is none.
        source: Where the values came from and what was done to them, for people.
    """

    name: str
    scale: str
    unit: str = "cells"
    controls: str = "cells"
    delimiter: str | None = None
    match: str = "context"
    match_seed: int = 0
    counts_hashed: bool = False
    dose_unit: str = ""
    time_unit: str = ""
    variance: str = ""
    source: str = ""
