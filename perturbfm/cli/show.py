"""What a person sees in the terminal when a run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def print_result(metrics: dict[str, Any], folder: Path) -> None:
    """Print gate, headline with floors and replicate, and where the report lies."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140)
    run = metrics["run"]
    for context, gate in metrics["gate"].items():
        console.print(f"{context}: {gate['verdict']} ({gate['reason']})", highlight=False)
    floors = list(metrics["floors"])
    table = Table(title=f"{run['model']} on {run['data']}, split {run['split_hash'][:12]}")
    for column in ("metric", "model", "95 %", *floors):
        table.add_column(column, justify="left" if column == "metric" else "right", overflow="fold")
    for identifier, entry in metrics["metrics"].items():
        if entry["lead"]:
            values = [_cell(metrics["floors"][f][identifier]) for f in floors]
            table.add_row(
                identifier.split("[")[0] + _mark(identifier), _cell(entry), _interval(metrics, identifier), *values
            )
    console.print(table)
    if not metrics["panel"]["comparable"]:
        console.print(f"Panel {metrics['panel']['name']}: NOT comparable with runs of the full panel.", highlight=False)
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _mark(identifier: str) -> str:
    inside = identifier.partition("[")[2].rstrip("]")
    return f" [{inside.split(',')[0]}]" if inside else ""


def _cell(entry: dict[str, Any]) -> str:
    return f"{entry['value']:.3f}" if entry["status"] == "ok" else entry["status"].replace("_", " ")


def _interval(metrics: dict[str, Any], identifier: str) -> str:
    found = metrics["intervals"]["metrics"].get(identifier, {})
    return f"{found['low']:.3f} to {found['high']:.3f}" if found.get("low") is not None else ""
