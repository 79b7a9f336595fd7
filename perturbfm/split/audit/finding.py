"""What an audit says: a finding per check and thing found, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from perturbfm.errors import SplitLeaks

VERDICTS = ("pass", "warn", "refuse")
"""From best to worst; `not_checked` is none of them: it says that nobody looked, and why."""

SCHEMA = "perturbfm.audit/1"

EXAMPLES = 8
"""How many names a finding spells out."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: Name of the check; stable, to be cited.
        verdict: `pass`, `warn`, `refuse` or `not_checked`.
        message: What is wrong, in one clause without a full stop; for `not_checked`, why nobody looked.
        given: What was found.
        expected: What would have been right.
        fix: What the reader can do, as a sentence.
        n: How many things were found.
        examples: The first of them, sorted.
    """

    check: str
    verdict: str
    message: str
    given: str = ""
    expected: str = ""
    fix: str = ""
    n: int = 0
    examples: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {**asdict(self), "examples": list(self.examples)}


@dataclass(frozen=True)
class Audit:
    """All findings of an audit, at least one per check, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """The worst of the findings; what was not checked does not count."""
        found = {f.verdict for f in self.findings}
        return next((v for v in reversed(VERDICTS) if v in found), VERDICTS[0])

    def of(self, check: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(f for f in self.findings if f.check == check)

    def with_verdict(self, verdict: str) -> tuple[Finding, ...]:
        """The findings with one verdict."""
        return tuple(f for f in self.findings if f.verdict == verdict)

    def updated(self, later: Audit) -> Audit:
        """This audit, with the findings of another in place of those of the same checks."""
        new = {f.check for f in later.findings}
        place = {check: n for n, check in enumerate(dict.fromkeys(f.check for f in (*self.findings, *later.findings)))}
        kept = [f for f in self.findings if f.check not in new]
        return Audit(tuple(sorted((*kept, *later.findings), key=lambda f: place[f.check])))

    def tolerating(self, checks: Iterable[str]) -> Audit:
        """This audit with the refusals of some checks as warnings, which say that they were allowed."""
        named = {*checks}
        return Audit(
            tuple(
                replace(f, verdict="warn", message=f"{f.message}; allowed by name")
                if f.check in named and f.verdict == "refuse"
                else f
                for f in self.findings
            )
        )

    def to_plain(self) -> dict[str, Any]:
        """The audit as JSON values: schema, verdict, checks per verdict, findings."""
        names = (*VERDICTS, "not_checked")
        checks = {v: list(dict.fromkeys(f.check for f in self.with_verdict(v))) for v in names}
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "checks": checks,
            "findings": [f.to_plain() for f in self.findings],
        }

    def assert_no_leak(self) -> None:
        """Refuse a split with any refusal.

        Raises:
            SplitLeaks: With the four parts of the first refusal, and the names of all checks that refuse.
        """
        refusals = self.with_verdict("refuse")
        if not refusals:
            return
        first, names = refusals[0], dict.fromkeys(f.check for f in refusals)
        raise SplitLeaks(
            first.message,
            given=first.given,
            expected=first.expected,
            fix=f"{first.fix} Refused by: {', '.join(names)}.",
        )


def shown(names: Iterable[str]) -> tuple[str, ...]:
    """The first names in sorted order, as many as a finding spells out."""
    return tuple(sorted(set(names))[:EXAMPLES])


def found(
    verdict: str, message: str, *, given: str, expected: str, fix: str, n: int, examples: Iterable[str] = ()
) -> Finding:
    """A finding whose check is filled in by `audit`."""
    return Finding("", verdict, message, given, expected, fix, n, shown(examples))


def not_checked(why: str, fix: str) -> Finding:
    """A finding that says that nobody looked, and why."""
    return Finding("", "not_checked", why, fix=fix)


def not_applicable(why: str) -> Finding:
    """A pass that says that the question does not arise."""
    return Finding("", "pass", f"Does not apply: {why}")
