"""Models fitted by gradient.

Comes in: `Batch`. Goes out: mean and cell variance per row. May import: torch, types, errors.
To add one: a class with `mean` and `cell_variance` in its own file, and a yaml in `conf/model/`.
"""
