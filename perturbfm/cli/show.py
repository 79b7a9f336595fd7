"""What a person sees in the terminal when a run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHORT = {
    "no_change": "no change",
    "train_mean": "train mean",
    "source_delta": "source delta",
    "matching_mean": "matching mean",
    "random_other": "random other",
    "interpolated": "interpol.",
}
"""Headings of the table where the name is long; it breaks between the words."""
STATUS = {"undefined": "undef.", "not_applicable": "n/a"}
NARROW = 110
"""In a window narrower than this only the floors of `FEW` are shown; the report has all of them."""
FEW = ("no_change", "train_mean", "replicate")
LOW = "*"
"""Marks a metric whose dynamic range on this data is low."""


def print_result(metrics: dict[str, Any], folder: Path) -> None:
    """Print gate, headline with floors and replicate, and where the report lies."""
    from rich.console import Console

    # names come from data and metrics hold brackets: nothing here is markup
    console = Console(width=None if Console().is_terminal else 140, markup=False, emoji=False, highlight=False)
    run = metrics["run"]
    for context, gate in metrics["gate"].items():
        console.print(f"{context}: {gate['verdict']} ({gate['reason']})")
    _print_headline(console, metrics)
    if "external" in metrics:
        _print_external(console, metrics)
    if not metrics["panel"]["comparable"]:
        console.print(f"NOT comparable with other runs: {_why_not(metrics)}.")
    if run.get("preprocess", {}).get("leaking"):
        console.print("PREPROCESSING LEAKED: it learned from all cells, those of the test fold among them.")
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True)


def _print_headline(console: Any, metrics: dict[str, Any]) -> None:
    """The table: a row per leading metric, the interval under the model's value, a column per floor."""
    from rich.table import Table

    run = metrics["run"]
    floors = [f for f in metrics["floors"] if console.width >= NARROW or f in FEW]
    table = Table(title=f"{run['model']} on {run['data']}, split {run['split_hash'][:12]}")
    table.add_column("metric", no_wrap=True)
    intervals = any(_interval(metrics, i) for i in _headline(metrics["metrics"]))
    table.add_column("model\n(95 %)" if intervals else "model", justify="right", no_wrap=True)
    for f in floors:
        table.add_column(_heading(f), justify="right", no_wrap=True)
    low = False
    for i in _headline(metrics["metrics"]):
        flagged = bool((metrics.get("dynamic_range", {}).get(i) or {}).get("flagged"))
        low |= flagged
        values = [_cell(entries[i]) for entries in (metrics["metrics"], *(metrics["floors"][f] for f in floors))]
        interval = _interval(metrics, i)
        title = str(metrics["metrics"][i]["title"]) + (LOW if flagged else "")
        table.add_row(title, values[0] + (f"\n{interval}" if interval else ""), *values[1:])
    console.print(table)
    _print_legend(console, metrics, len(floors) < len(metrics["floors"]), low)


def _print_legend(console: Any, metrics: dict[str, Any], shortened: bool, low: bool) -> None:
    """What stands in the table that needs a word."""
    if low:
        console.print(
            f"{LOW} dynamic range under 0.3 on this data: a replicate hardly does better than the train mean."
        )
    shown = _headline(metrics["metrics"])
    if any(
        entries[i]["status"] != "ok" for entries in (metrics["metrics"], *metrics["floors"].values()) for i in shown
    ):
        console.print("undef. = undefined, n/a = not applicable; the report gives every reason.")
    if shortened:
        console.print("The report has the other floors too.")


def _heading(floor: str) -> str:
    return SHORT.get(floor, floor.replace("_", " ")).replace(" ", "\n")


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
    status = str(entry["status"])
    return f"{entry['value']:.3f}" if status == "ok" else STATUS.get(status, status)


def _interval(metrics: dict[str, Any], identifier: str) -> str:
    found = metrics["intervals"]["metrics"].get(identifier, {})
    return f"{found['low']:.3f} to {found['high']:.3f}" if found.get("low") is not None else ""
