"""Who may see which row, for ever: labels in, a frozen and hash-locked `Split` out.

In:      `Labels` (names per row, no expression) and a rule of `rule/`.
Out:     `Split`: four folds, two control roles, how they were dealt, and a hash that covers all of it.
Imports: numpy, the standard library, `perturbfm.types`, `perturbfm.errors`. No room of the house.

`audit` is a room of its own: it holds a split against labels, expression and declared origins before a run, and what
leaks is refused, however it was frozen.

Where a split lives: `SplitStore` writes `<data>-<rule>-<hash12>.json` once and never again. A run names a hash; nothing
here deals folds on the way to a run.

To add a rule: one function in a file of `rule/`, and one yaml in `conf/split/rule/`; see the sign of `rule`. Deal by
the hash of names (`rule/order.py`), never by row number, so that the same cells land in the same folds however the
file is sorted. `suggest` tries every rule on a data set.
"""

from perturbfm.split.audit import Audit, Evidence, Finding, Prior, audit
from perturbfm.split.rule import context_ood, leave_one_context_out
from perturbfm.split.split import FOLDS, ROLES, Split
from perturbfm.split.store import SplitStore
from perturbfm.split.suggest import Suggestion, suggest

__all__ = [
    "FOLDS",
    "ROLES",
    "Audit",
    "Evidence",
    "Finding",
    "Prior",
    "Split",
    "SplitStore",
    "Suggestion",
    "audit",
    "context_ood",
    "leave_one_context_out",
    "suggest",
]
