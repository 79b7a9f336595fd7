"""`perturbfm metrics parity`: our numbers beside the official ones."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from perturbfm.errors import ParityMissed

PARITY = "PERTURBFM_PARITY"


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser("metrics", help="what the metrics are, and whether they are what their names say")
    inner = p.add_subparsers(dest="what", required=True)
    q = inner.add_parser(
        "parity",
        help="recompute every suite's alias on reference inputs",
        description="Compute every alias of every suite on inputs that the suite's own code has scored, and compare. "
        "Exit code 6 on a difference that the register does not accept.",
    )
    q.add_argument("--references", type=Path, help=f"folder of references (default: {PARITY}, or ../shared/parity)")
    q.add_argument("--suite", action="append", help="only this suite; may be repeated")
    q.set_defaults(call=parity)


def parity(arguments: argparse.Namespace) -> None:
    """Print the table of all aliases.

    Raises:
        ParityMissed: A number is neither within its tolerance nor accepted.
    """
    from perturbfm.parity.reference import References
    from perturbfm.parity.table import SUITES, all_checks, register, rows

    folder = arguments.references or Path(os.environ.get(PARITY, "../shared/parity"))
    accepted, _ = register()
    found = rows(all_checks(References(folder), arguments.suite or SUITES), accepted)
    for row in found:
        w = row.worst
        print(
            f"{row.verdict:9}{row.alias:58} n={row.n:<5} worst {w.where}: official {w.official} ours {w.ours} "
            f"difference {w.difference} (tolerance {w.relative:g} relative, {w.absolute:g} absolute)"
        )
    missed = [c for row in found for c in row.missed]
    print(f"{len(found)} aliases, {sum(r.n for r in found)} numbers, {len(missed)} missed")
    if missed:
        raise ParityMissed(
            f"{len(missed)} numbers are not those of the official code",
            given="; ".join(f"{c.alias} {c.where}: {c.ours} for {c.official}" for c in missed[:5]),
            expected="every number within its tolerance, or a line in perturbfm/parity/register.yaml that says why not",
            fix="Mend the metric; a difference that is right needs its reason in the register.",
        )
