"""All suites at once: a verdict per alias, and what the register accepts."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from perturbfm.errors import UnknownChoice, nearest
from perturbfm.parity.check import Check
from perturbfm.parity.reference import References

SUITES: tuple[str, ...] = ("cell_eval", "papers", "perturbench", "scperturbench", "uncertainty")
"""Modules of this room with a function `checks(references)`."""

REGISTER = Path(__file__).with_name("register.yaml")


@dataclass(frozen=True)
class Row:
    """Verdict of one alias.

    Attributes:
        alias: The suite's name with its version.
        n: Numbers compared.
        n_accepted: Of them, differences that the register accepts.
        worst: The comparison of largest difference that is not accepted (or of all, where all agree).
        missed: Comparisons that are neither within the tolerance nor accepted.
    """

    alias: str
    n: int
    n_accepted: int
    worst: Check
    missed: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """`agrees`, `accepted` or `MISS`."""
        if self.missed:
            return "MISS"
        return "accepted" if self.n_accepted else "agrees"


@dataclass(frozen=True)
class Accepted:
    """One line of the register."""

    alias: str
    where: str
    reason: str

    def covers(self, check: Check) -> bool:
        """Whether this line speaks of a comparison."""
        return fnmatchcase(check.alias, self.alias) and fnmatchcase(check.where, self.where)


def register() -> tuple[tuple[Accepted, ...], tuple[dict[str, str], ...]]:
    """Accepted differences, and official keys that no panel owns (`file`, `key`, `reason`)."""
    found: dict[str, Any] = yaml.safe_load(REGISTER.read_text())
    return tuple(Accepted(**line) for line in found["accepted"]), tuple(found["not_owned"])


def without_reference() -> tuple[tuple[str, str], ...]:
    """Patterns of aliases that no official number is at hand for, and why."""
    found: dict[str, Any] = yaml.safe_load(REGISTER.read_text())
    return tuple((str(line["alias"]), str(line["reason"])) for line in found["no_reference"])


def unchecked(aliases: Iterable[str], checks: Iterable[Check]) -> list[str]:
    """Aliases that are neither compared nor known to have no reference."""
    known = {c.alias for c in checks}
    patterns = [alias for alias, _ in without_reference()]
    return [a for a in aliases if a not in known and not any(fnmatchcase(a, p) for p in patterns)]


def all_checks(references: References, suites: Sequence[str] = SUITES) -> list[Check]:
    """Recompute every number of some suites.

    Raises:
        UnknownChoice: A suite of that name is not compared.
        UnreadableFile: A reference file is missing.
    """
    for suite in suites:
        if suite not in SUITES:
            raise UnknownChoice(
                f"No suite {suite!r} is compared",
                given=suite,
                expected=f"some of {', '.join(SUITES)}",
                fix=f"Did you mean {nearest(suite, SUITES, most=1)}?",
            )
    return [c for s in suites for c in importlib.import_module(f"perturbfm.parity.{s}").checks(references)]


def rows(checks: Iterable[Check], accepted: Sequence[Accepted]) -> list[Row]:
    """One row per alias, in the order of first appearance."""
    by_alias: dict[str, list[Check]] = {}
    for check in checks:
        by_alias.setdefault(check.alias, []).append(check)
    return [_row(alias, found, accepted) for alias, found in by_alias.items()]


def idle(checks: Sequence[Check], accepted: Sequence[Accepted]) -> list[Accepted]:
    """Lines of the register that no disagreement needs."""
    wrong = [c for c in checks if not c.agrees]
    return [line for line in accepted if not any(line.covers(c) for c in wrong)]


def _row(alias: str, checks: Sequence[Check], accepted: Sequence[Accepted]) -> Row:
    wrong = [c for c in checks if not c.agrees]
    missed = tuple(c for c in wrong if not any(line.covers(c) for line in accepted))
    pool = missed or [c for c in checks if c.agrees] or checks
    worst = max(pool, key=lambda c: float("inf") if c.difference is None and not c.agrees else c.difference or 0.0)
    return Row(alias, len(checks), len(wrong) - len(missed), worst, missed)
