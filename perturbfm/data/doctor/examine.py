"""A file, examined: facts, a proposal, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from perturbfm.data.column import kept_rows
from perturbfm.data.doctor.finding import STOP, Finding
from perturbfm.data.doctor.hazard import HAZARDS
from perturbfm.data.doctor.propose import Proposal, propose
from perturbfm.data.doctor.survey import Survey, survey_all
from perturbfm.data.reader.raw import ReadOptions


@dataclass(frozen=True)
class Examination:
    """What `examine` found.

    Attributes:
        survey: Facts.
        proposal: Keys of the loader.
        findings: What would mislead, and what to do.
    """

    survey: Survey
    proposal: Proposal
    findings: tuple[Finding, ...]

    @property
    def can_be_read(self) -> bool:
        """Whether the proposal is complete and nothing must be mended first."""
        return not self.proposal.is_open and all(f.level != STOP for f in self.findings)

    def about(self) -> str:
        """One line: what this file is."""
        s = self.survey
        kind = "sparse" if s.sample.is_sparse else "dense"
        unit = "conditions" if self.proposal.keys.get("unit") == "pseudobulk" else "cells"
        filled = s.sample.n_stored / max(1, s.n_obs * len(s.genes))
        size = f"{s.n_obs:,} {unit} x {len(s.genes):,} genes"
        name = f"{s.path.name} and {len(s.more)} more" if s.more else s.path.name
        return f"{name}: {size}, {kind} ({filled:.1%} stored), {s.n_bytes / 1e6:.1f} MB"


def examine(
    path: Path | Sequence[Path], name: str, given: dict[str, Any] | None = None, options: ReadOptions | None = None
) -> Examination:
    """Examine a file without reading all of it, where it is large.

    Args:
        path: File or folder, or several that are one data set.
        name: Name of the data set to propose.
        given: Loader keys that are known; they are taken over.
        options: What a reader must know.

    Raises:
        UnreadableFile: Missing, truncated, or of no known format.
    """
    given = given or {}
    paths = [path] if isinstance(path, Path) else list(path)
    facts = survey_all(paths, options or _options(given))
    read = facts.only(_kept(facts, given))
    proposal = propose(read, name, given)
    findings = [finding for hazard in HAZARDS for finding in hazard(read, proposal)]
    return Examination(facts, proposal, tuple(findings))


def _kept(facts: Survey, given: dict[str, Any]) -> np.ndarray:
    """Rows that what is given keeps."""
    keep, drop = ({c: v for c, v in (given.get(key) or {}).items() if c in facts.obs} for key in ("keep", "drop"))
    if not keep and not drop:
        return np.ones(facts.n_obs, dtype=bool)
    return kept_rows(facts.obs, keep, drop)[0]


def _options(given: dict[str, Any]) -> ReadOptions:
    """What a reader must know, among the keys of the loader."""
    known = {f.name for f in fields(ReadOptions)}
    return ReadOptions(**{key: value for key, value in given.items() if key in known})
