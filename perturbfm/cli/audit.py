"""`perturbfm splits audit`: does a stored split leak, with these data and these priors?"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from perturbfm.cli.options import add_data, load_data

if TYPE_CHECKING:
    from perturbfm.split import Audit


def add(inner: Any) -> None:
    """Add the verb below `splits`."""
    p = inner.add_parser(
        "audit",
        help="look for leaks in a split",
        description="Hold a stored split against labels, expression, what the file stores and declared origins. "
        "Fails with the exit code of SplitLeaks when a check refuses.",
    )
    p.add_argument("hash", help="full or short hash")
    add_data(p)
    p.add_argument(
        "--prior",
        action="append",
        default=[],
        metavar="FILE",
        help="provenance of a graph, embedding or weights (yaml)",
    )
    p.add_argument("--aliases", metavar="FILE", help="gene symbols and official symbols, a pair per line")
    p.add_argument("--json", action="store_true", help="print the audit as JSON")
    p.set_defaults(call=audit_split)


def audit_split(arguments: argparse.Namespace) -> None:
    """Audit, print a line per finding and the verdict last, and refuse what leaks."""
    from perturbfm.auditing import evidence_of, priors_of
    from perturbfm.cli.splits import store
    from perturbfm.split.audit import audit, read_aliases

    split = store().load(arguments.hash)
    priors = priors_of(arguments.prior) if arguments.prior else None
    aliases = read_aliases(arguments.aliases) if arguments.aliases else None
    dataset = load_data(arguments)
    split.assert_fits(dataset.fingerprint, dataset.n_obs)
    found = audit(split, dataset.labels(), evidence_of(dataset, priors, aliases))
    if arguments.json:
        print(json.dumps({"split_hash": split.frozen_hash, **found.to_plain()}, indent=1))
    else:
        _print_table(found)
    found.assert_no_leak()


def _print_table(found: Audit) -> None:
    from rich.console import Console
    from rich.table import Table

    # names come from data and may hold brackets: nothing here is markup
    console = Console(width=None if Console().is_terminal else 140, markup=False, emoji=False, highlight=False)
    table = Table()
    for column in ("check", "verdict", "what was found"):
        table.add_column(column, overflow="fold", no_wrap=column != "what was found")
    for finding in found.findings:
        table.add_row(finding.check, finding.verdict.replace("_", " "), _words(finding))
    console.print(table)
    print(f"Verdict: {found.verdict}")


def _words(finding: Any) -> str:
    given = f": {finding.given}" if finding.given else ""
    fix = f" {finding.fix}" if finding.fix else ""
    return f"{finding.message}{given}.{fix}"
