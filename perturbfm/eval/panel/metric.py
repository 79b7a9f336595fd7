"""What a line of a panel is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from perturbfm.eval.case import Case, PerCondition, nowhere

HIGHER, LOWER, TARGET, NONE = "higher", "lower", "target", "none"

ALWAYS = ("permute_cells", "permute_genes", "permute_conditions", "relabel")
"""What no metric of ours depends on: the order of cells, genes and conditions, and what conditions are called."""

INVARIANCES = (*ALWAYS, "subset_conditions", "shift_both", "scale_both", "scale_prediction")
"""Changes that leave every condition's value as it is: dropping other conditions; adding one vector to truth,
prediction and controls; multiplying all of them by a positive number; multiplying the predicted delta alone by one."""


@dataclass(frozen=True)
class Metric:
    """One metric of a panel.

    Attributes:
        identifier: Name that carries every choice which moves the number.
        function: Its statistics.
        better: `higher`, `lower`, `target` (a level to be met) or `none` (a description).
        meaning: One line a biologist can read.
        lead: Whether it stands in the headline.
        effect: Whether it speaks of effects, and is undefined where a context has no measurable signal.
        ratio: Whether an aggregate is a ratio of sums whose denominator must be clear of zero.
        worst: What an undefined condition is charged in the strict aggregate; None where nothing sensible exists.
        skill: Whether skill between train mean and replicate is given.
        interval: Whether a two-way interval is given.
        centred: Whether the panel is centred, so that the noise of shared controls cancels and conditions are
            exchangeable: only then is a sign-flip test of conditions valid.
        aliases: Names under which benchmark suites publish this very number, `<suite>_<version>.<name>`.
        unbounded: Whether no value is the best one, although a direction is better (a likelihood, a width).
        title: Short name for a table; the identifier's own name where it is empty.
        invariances: Which of `INVARIANCES` leave its values as they are, beside `ALWAYS`.
        follows: Which of `ALWAYS` it depends on all the same, because the suite that it reproduces does.
    """

    identifier: str
    function: Callable[[Case], PerCondition]
    better: str
    meaning: str
    lead: bool = False
    effect: bool = False
    ratio: bool = False
    worst: float | None = None
    skill: bool = False
    interval: bool = False
    centred: bool = False
    aliases: tuple[str, ...] = ()
    invariances: tuple[str, ...] = ()
    unbounded: bool = False
    title: str = ""
    follows: tuple[str, ...] = ()

    @property
    def best(self) -> float | None:
        """The best value there is: 1 where higher is better, 0 where lower is; None where there is none."""
        known = {HIGHER: 1.0, LOWER: 0.0}
        return None if self.unbounded else known.get(self.better)

    @property
    def always(self) -> tuple[str, ...]:
        """What of `ALWAYS` leaves its values as they are."""
        return tuple(name for name in ALWAYS if name not in self.follows)

    @property
    def on_cells(self) -> bool:
        """Whether it compares cells of both sides, which costs more than a look at means."""
        return isinstance(self.function, OnCells)


@dataclass(frozen=True)
class Panel:
    """A complete set of metrics with a name and a version.

    Attributes:
        name: Name.
        version: Changes whenever a number could.
        comparable: Whether runs with it may stand in one table with others.
        metrics: Its lines.
    """

    name: str
    version: str
    comparable: bool
    metrics: tuple[Metric, ...]

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Identifiers in order."""
        return tuple(m.identifier for m in self.metrics)


@dataclass(frozen=True)
class OnCells:
    """A metric that compares cells as a line of a panel: not applicable where a case has none to compare.

    Attributes:
        function: Its statistics, from the case's comparison.
        whole_case: Whether the function looks at the case itself, deltas and all, beside its cells.
    """

    function: Callable[..., PerCondition]
    whole_case: bool = False

    def __call__(self, case: Case) -> PerCondition:
        """Statistics of the case's own cells."""
        if case.comparison is None:
            return nowhere(case.n_conditions, case.incomparable)
        return self.function(case if self.whole_case else case.comparison)


def merged(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Lines of several suites: one line per identifier, under all the names that suites give it."""
    found: dict[str, Metric] = {}
    for m in metrics:
        known = found.get(m.identifier)
        aliases = m.aliases if known is None else tuple(dict.fromkeys((*known.aliases, *m.aliases)))
        found[m.identifier] = replace(known or m, aliases=aliases)
    return tuple(found.values())


NO_VARIANCE = "the prediction states no variance"


@dataclass(frozen=True)
class OnVariance:
    """A metric of stated uncertainty as a line of a panel: not applicable where a prediction states none."""

    function: Callable[[Case], PerCondition]

    def __call__(self, case: Case) -> PerCondition:
        """Statistics of the stated variance."""
        if not case.has_variance:
            return nowhere(case.n_conditions, NO_VARIANCE)
        return self.function(case)


def of_variance(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Lines of a panel that speak of a stated variance."""
    return tuple(replace(m, function=OnVariance(m.function)) for m in metrics)
