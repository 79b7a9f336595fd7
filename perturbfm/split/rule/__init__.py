"""Rules: pure functions from labels to an unfrozen split, one file each.

In:      `Labels`, and options that are plain values.
Out:     an unfrozen `Split`, or an iterator of them; what it decided and why rows are in no fold stands in `params`.
Imports: numpy, the standard library, `perturbfm.types`, `perturbfm.errors`, `perturbfm.split.split`.

To add one: a function `(labels, ...) -> Split` in a file of its own, and `conf/split/rule/<name>.yaml` with its
`_target_` and the defaults of its options; `perturbfm splits create --rule <name>` finds it there. The shared parts:
`unit` groups perturbed rows, `fold` deals validation and calibration, `control` halves the controls, `plan` writes the
split down, `axis` says what is out of distribution. Random is an order of digests (`order`), so that dealing depends on
names and seed alone.
"""

from perturbfm.split.rule.combination import unseen_combination
from perturbfm.split.rule.context import context_ood, leave_one_context_out
from perturbfm.split.rule.covariate import covariate_ood
from perturbfm.split.rule.crossed import several_axes
from perturbfm.split.rule.derived import few_shot, imbalance_series, scaling_series
from perturbfm.split.rule.dose import dose_ood
from perturbfm.split.rule.negative import random_cells
from perturbfm.split.rule.official import official_split
from perturbfm.split.rule.pairing import covariate_transfer
from perturbfm.split.rule.perturbation import unseen_perturbation
from perturbfm.split.rule.time_point import time_ood

__all__ = [
    "context_ood",
    "covariate_ood",
    "covariate_transfer",
    "dose_ood",
    "few_shot",
    "imbalance_series",
    "leave_one_context_out",
    "official_split",
    "random_cells",
    "scaling_series",
    "several_axes",
    "time_ood",
    "unseen_combination",
    "unseen_perturbation",
]
