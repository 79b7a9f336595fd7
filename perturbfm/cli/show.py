"""What a person sees in the terminal when a run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def print_result(metrics: dict[str, Any], folder: Path) -> None:
    """Print gate, headline with floors and replicate, and where the report lies."""
    from rich.console import Console
    from rich.table import Table

    # names come from data and metrics hold brackets: nothing here is markup
    console = Console(width=None if Console().is_terminal else 140, markup=False, emoji=False, highlight=False)
    run = metrics["run"]
    for context, gate in metrics["gate"].items():
        console.print(f"{context}: {gate['verdict']} ({gate['reason']})")
    floors = list(metrics["floors"])
    table = Table(title=f"{run['model']} on {run['data']}, split {run['split_hash'][:12]}")
    for column in ("metric", "model", "95 %", *floors):
        table.add_column(column.replace("_", " "), justify="left" if column == "metric" else "right")
    for identifier in _headline(metrics["metrics"]):
        values = [_cell(entries[identifier]) for entries in (metrics["metrics"], *metrics["floors"].values())]
        table.add_row(
            str(metrics["metrics"][identifier]["title"]), values[0], _interval(metrics, identifier), *values[1:]
        )
    console.print(table)
    if "external" in metrics:
        _print_external(console, metrics)
    if not metrics["panel"]["comparable"]:
        console.print(f"NOT comparable with other runs: {_why_not(metrics)}.")
    if run.get("preprocess", {}).get("leaking"):
        console.print("PREPROCESSING LEAKED: it learned from all cells, those of the test fold among them.")
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True)


def _print_external(console: Any, metrics: dict[str, Any]) -> None:
    """What the audit of another tool's file found, and what becomes of its uncertainty."""
    e = metrics["external"]
    console.print(f"{e['file']}: audit {e['verdict']}; variance {e['variance']}; batches {e['batches']}")
    for finding in e["findings"]:
        if finding["verdict"] != "pass":
            console.print(f"  {finding['check']}: {finding['message']}")
    if note := metrics["calibration"].get("note"):
        console.print(f"  calibration: {note}")


def _why_not(metrics: dict[str, Any]) -> str:
    name = metrics["panel"]["name"]
    return f"the panel is {name!r}" if name != "full" else "the file has no cells, so the noise of its truth is unknown"


def _headline(entries: dict[str, Any]) -> list[str]:
    """The leading metrics; the share of observation noise follows coverage, which says little without it."""
    lead = [i for i, e in entries.items() if e["lead"]]
    share = [i for i in entries if i.startswith("pfm.obs_share") and i not in lead]
    place = max((n for n, i in enumerate(lead, 1) if i.startswith("coverage")), default=len(lead))
    return [*lead[:place], *share, *lead[place:]]


def _cell(entry: dict[str, Any]) -> str:
    return f"{entry['value']:.3f}" if entry["status"] == "ok" else entry["status"].replace("_", " ")


def _interval(metrics: dict[str, Any], identifier: str) -> str:
    found = metrics["intervals"]["metrics"].get(identifier, {})
    return f"{found['low']:.3f} to {found['high']:.3f}" if found.get("low") is not None else ""
