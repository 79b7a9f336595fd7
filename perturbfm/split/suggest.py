"""Which splits a data set can carry: every rule is tried, and what it gives or why it refuses is told."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perturbfm.errors import ConfigError, InputError, PerturbFMError, TooFewControls
from perturbfm.split.rule import (
    context_ood,
    covariate_ood,
    covariate_transfer,
    dose_ood,
    random_cells,
    several_axes,
    time_ood,
    unseen_combination,
    unseen_perturbation,
)
from perturbfm.split.split import Split
from perturbfm.types import Labels

FEWER_CONTROLS = (30, 10, 5)
"""Least controls of a side, tried in turn."""

MOST_LEVELS = 12
"""Levels of one axis that are tried one by one; of more, those with most perturbed rows."""

Rule = Callable[..., Split]


@dataclass(frozen=True)
class Suggestion:
    """One rule with its options, tried on a data set.

    Attributes:
        rule: Name of the rule.
        options: Options besides the defaults.
        split: What it gives, not frozen; None where it refuses.
        refusal: Why it refuses.
    """

    rule: str
    options: dict[str, Any]
    split: Split | None
    refusal: PerturbFMError | None

    @property
    def feasible(self) -> bool:
        """Whether it gives a split."""
        return self.split is not None

    def words(self) -> list[str]:
        """The rule and its options as a shell and `perturbfm splits create` take them."""
        return ["--rule", self.rule, *(shlex.quote(f"{key}={_written(value)}") for key, value in self.options.items())]


def suggest(labels: Labels) -> Iterator[Suggestion]:
    """Try every rule that names alone can decide, with the levels that are there.

    Splits derived of a frozen one (few shots, scaling, imbalance) and official ones need more than the data and are
    not tried. Where controls are few, `min_controls` is lowered to what works, down to 5, and shown.
    """
    for rule, name, options in _candidates(labels):
        yield _tried(labels, rule, name, options)


def _tried(labels: Labels, rule: Rule, name: str, options: dict[str, Any]) -> Suggestion:
    refusal: PerturbFMError | None = None
    for least in FEWER_CONTROLS:
        given = options if least == FEWER_CONTROLS[0] else {**options, "min_controls": least}
        try:
            return Suggestion(name, given, rule(labels, **given), None)
        except TooFewControls as error:
            refusal = error
        except (InputError, ConfigError) as error:
            return Suggestion(name, options, None, error)
    return Suggestion(name, options, None, refusal)


def _candidates(labels: Labels) -> Iterator[tuple[Rule, str, dict[str, Any]]]:
    contexts = _levels(labels, labels.context_n)
    if len(contexts) > 1:
        for context in contexts:
            yield context_ood, "context_ood", {"holdout": [context]}
        yield covariate_transfer, "covariate_transfer", {}
        yield several_axes, "several_axes", {"contexts": [contexts[0]]}
    yield unseen_perturbation, "unseen_perturbation", {}
    if len(contexts) > 1:
        for context in contexts:
            yield unseen_perturbation, "unseen_perturbation", {"within": [context]}
    if labels.delimiter is not None:
        yield unseen_combination, "unseen_combination", {"seen": [2]}
        yield unseen_combination, "unseen_combination", {"seen": [0, 1, 2]}
    if labels.dose_n is not None:
        for dose in _levels(labels, labels.dose_n):
            yield dose_ood, "dose_ood", {"holdout": [dose]}
    if labels.time_n is not None:
        for time in _levels(labels, labels.time_n):
            yield time_ood, "time_ood", {"holdout": [time]}
    for column, values in {"batch": labels.batch_n, **labels.covariates}.items():
        if 1 < _n_levels(labels, values) <= labels.n_obs // 20:
            for level in _levels(labels, values):
                yield covariate_ood, "covariate_ood", {"column": column, "holdout": [level]}
    yield random_cells, "random_cells", {}


def _levels(labels: Labels, column_n: np.ndarray) -> list[str]:
    """Levels of a column among perturbed rows: those with most rows where there are many, sorted."""
    n_of = Counter(map(str, column_n[~labels.is_control_n.astype(bool)]))
    n_of.pop("", None)
    most = sorted(n_of, key=lambda name: (-n_of[name], name))[:MOST_LEVELS]
    return sorted(most)


def _n_levels(labels: Labels, column_n: np.ndarray) -> int:
    return len(set(map(str, column_n[~labels.is_control_n.astype(bool)])))


def _written(value: Any) -> str:
    """A value in Hydra's grammar; words are quoted, so that none is read as a number, a switch or nothing."""
    if isinstance(value, list):
        return f"[{','.join(_written(item) for item in value)}]"
    if not isinstance(value, str):
        return str(value)
    text = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)
    return '"' + text.replace("${", "\\${") + '"'
