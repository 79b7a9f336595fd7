"""`perturbfm metrics list | explain | parity | vcc2026`: what the metrics are, and whether they are what they say."""

from __future__ import annotations

import argparse
import inspect
import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbfm.errors import ParityMissed, UnknownChoice, UnreadableFile, nearest

if TYPE_CHECKING:
    from perturbfm.eval.panel import Metric

PARITY = "PERTURBFM_PARITY"


def add(verbs: Any) -> None:
    """Add the verb."""
    p = verbs.add_parser("metrics", help="what the metrics are, and whether they are what their names say")
    inner = p.add_subparsers(dest="what", required=True)
    q = inner.add_parser("list", help="every metric of a panel, by identifier, with its aliases")
    q.add_argument("--panel", default="full", help="name of the panel (default: full)")
    q.set_defaults(call=show_list)
    q = inner.add_parser("explain", help="definition, source, direction, invariances, and when it is undefined")
    q.add_argument("name", help="identifier, alias, or the beginning of one")
    q.add_argument("--panel", default="full", help="name of the panel (default: full)")
    q.set_defaults(call=explain)
    q = inner.add_parser(
        "vcc2026",
        help="run the Virtual Cell Challenge's preset by its own library (extra vcc)",
        description="Score predicted counts against measured counts of one context with cell-eval2's preset vcc2026.",
    )
    q.add_argument("predicted", type=Path, help="an .h5ad of predicted counts, controls among them")
    q.add_argument("truth", type=Path, help="an .h5ad of measured counts, same genes and labels")
    q.add_argument("--column", default="target_gene", help="column of the perturbation (default: target_gene)")
    q.add_argument("--control", default="non-targeting", help="its value for controls (default: non-targeting)")
    q.set_defaults(call=vcc)
    q = inner.add_parser(
        "parity",
        help="recompute every suite's alias on reference inputs",
        description="Compute every alias of every suite on inputs that the suite's own code has scored, and compare. "
        "Exit code 6 on a difference that the register does not accept.",
    )
    q.add_argument("--references", type=Path, help=f"folder of references (default: {PARITY}, or ../shared/parity)")
    q.add_argument("--suite", action="append", help="only this suite; may be repeated")
    q.set_defaults(call=parity)


def show_list(arguments: argparse.Namespace) -> None:
    """Print the metrics of a panel: headline first, a line each."""
    from perturbfm.eval.panel import panel_named

    panel = panel_named(arguments.panel)
    print(f"panel {panel.name}, version {panel.version}: {len(panel.metrics)} metrics; * stands in the headline")
    for m in sorted(panel.metrics, key=lambda m: not m.lead):
        aliases = f"  = {', '.join(m.aliases)}" if m.aliases else ""
        print(f"{'*' if m.lead else ' '} {m.identifier}  ({m.better}){aliases}")


def explain(arguments: argparse.Namespace) -> None:
    """Print all that is known of one metric.

    Raises:
        UnknownChoice: No metric of the panel has that name, or several do.
    """
    from perturbfm.eval.panel import panel_named

    m = found(arguments.name, panel_named(arguments.panel).metrics)
    choices, definition = definition_of(m)
    better = {"target": "a level to be met", "none": "a description, neither direction is better"}
    print(m.identifier)
    print(f"  {m.meaning}")
    print(f"  better:      {better.get(m.better, m.better)}" + ("" if m.best is None else f"; {m.best:g} is best"))
    print(f"  aliases:     {', '.join(m.aliases) or 'none: no benchmark publishes this number'}")
    print(f"  invariances: {', '.join((*m.always, *m.invariances))}")
    if m.follows:
        print(f"  depends, as its suite does, on: {', '.join(w.removeprefix('permute_') for w in m.follows)} in order")
    print(f"  undefined where the gate finds no effect: {'yes' if m.effect else 'no'}")
    if m.worst is not None:
        print(f"  an undefined condition is charged {m.worst:g} in the strict aggregate")
    if choices:
        print("  choices:     " + ", ".join(f"{k}={v!r}" for k, v in choices.items()))
    print("\n" + inspect.cleandoc(definition))


def vcc(arguments: argparse.Namespace) -> None:
    """Print what the library gives, as JSON.

    Raises:
        PackageAbsent: The extra `vcc` is not installed.
        UnreadableFile: A file cannot be read.
        PredictionMismatch: The library refuses the two files.
    """
    from anndata import read_h5ad

    from perturbfm.eval.vcc2026 import vcc2026

    files = []
    for path in (arguments.predicted, arguments.truth):
        try:
            files.append(read_h5ad(path))
        except (OSError, KeyError, ValueError) as e:
            raise UnreadableFile(
                "A file of counts cannot be read",
                given=f"{path}: {e}",
                expected="an .h5ad file",
                fix="Look at the path.",
            ) from e
    result = vcc2026(files[0], files[1], column=arguments.column, control=arguments.control)
    print(json.dumps(asdict(result), indent=1, sort_keys=True))


def found(name: str, metrics: tuple[Metric, ...]) -> Metric:
    """The metric of an identifier, an alias, or of the beginning of one.

    Raises:
        UnknownChoice: No metric has that name, or several do.
    """
    exact = [m for m in metrics if name == m.identifier or name in m.aliases]
    begins = exact or [m for m in metrics if any(n.startswith(name) for n in (m.identifier, *m.aliases))]
    if len(begins) == 1:
        return begins[0]
    names = [n for m in metrics for n in (m.identifier, *m.aliases)]
    raise UnknownChoice(
        f"{'No metric is' if not begins else 'Several metrics are'} named {name!r}",
        given=name,
        expected="an identifier or alias of `perturbfm metrics list`, or the beginning of just one",
        fix=f"Closest: {', '.join(m.identifier for m in begins[:4]) if begins else nearest(name, names, most=3)}.",
    )


def definition_of(metric: Metric) -> tuple[dict[str, Any], str]:
    """The choices a line of the panel makes, and the definition of its function."""
    function = getattr(metric.function, "function", metric.function)
    choices: dict[str, Any] = {}
    while isinstance(function, partial):
        choices = {**function.keywords, **choices}
        function = function.func
    return choices, str(function.__doc__)


def parity(arguments: argparse.Namespace) -> None:
    """Print the table of all aliases.

    Raises:
        ParityMissed: A number is neither within its tolerance nor accepted.
    """
    from perturbfm.parity.reference import References
    from perturbfm.parity.table import SUITES, all_checks, register, rows, without_reference

    folder = arguments.references or Path(os.environ.get(PARITY, "../shared/parity"))
    accepted, _ = register()
    found = rows(all_checks(References(folder), arguments.suite or SUITES), accepted)
    for alias, reason in without_reference():
        print(f"no number {alias:58} {reason}")
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
