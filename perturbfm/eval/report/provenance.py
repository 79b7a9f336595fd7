"""Where the numbers come from: the split and the run."""

from __future__ import annotations

from typing import Any

from perturbfm.eval.report.entries import Facts
from perturbfm.eval.report.words import names_or_dash, plain, real, shortened


def split_view(metrics: Facts, calibration: Facts, manifest: Facts, card: Facts) -> dict[str, Any]:
    """What was held out, and how often the test fold was opened."""
    unknown = manifest.get("unknown_to_train") or {}
    facts = [
        ("Rule", plain(card.get("rule"))),
        ("Hash", plain((metrics.get("run") or {}).get("split_hash") or manifest.get("split_hash"))),
        ("Out-of-distribution axes", _axes(card)),
        (
            "Contexts of the test fold",
            names_or_dash(sorted(metrics.get("gate") or calibration.get("measured_in") or [])),
        ),
        *((f"Test {k} that train never saw", shortened(v) if v else "none") for k, v in sorted(unknown.items())),
    ]
    counts = card.get("counts") or {}
    return {
        "facts": facts,
        "params": [(k, plain(v)) for k, v in sorted((card.get("params") or {}).items())],
        "counts": [(k.replace("_", " "), v) for k, v in counts.items()],
        "openings": _openings_words(manifest.get("test_openings")),
    }


def _axes(card: Facts) -> str:
    """Axes with the number of their test rows, where it is known."""
    n_of = card.get("ood_rows") or {}
    named = [f"{axis} ({n_of[axis]:,} rows)" if axis in n_of else str(axis) for axis in card.get("ood_axes") or []]
    return ", ".join(named) or "none"


def _openings_words(openings: Any) -> str:
    n = real(openings)
    if n is None:
        return "How often this test fold was opened on this machine is not recorded."
    if n <= 1:
        return "On this machine this test fold has been opened once: by this run."
    return (
        f"On this machine this test fold has been opened {n:,.0f} times, this run included. "
        "Every look that leads to a choice makes it less of a test."
    )


def provenance(metrics: Facts, manifest: Facts) -> dict[str, Any]:
    """Where the numbers come from."""
    run, panel = metrics.get("run") or {}, metrics.get("panel") or {}
    data = manifest.get("data") or {}
    preprocess = run.get("preprocess") or {}
    facts = [
        ("Run", manifest.get("run_id")),
        ("Started (UTC)", manifest.get("started_utc")),
        ("Command line", manifest.get("command_line")),
        ("Git commit", manifest.get("git_commit") or "not run from a git checkout with a commit"),
        ("Data fingerprint", run.get("fingerprint") or data.get("fingerprint")),
        ("Split hash", run.get("split_hash") or manifest.get("split_hash")),
        ("Config hash", run.get("config_hash") or manifest.get("config_hash")),
        ("Preprocessing", preprocess.get("stages") or "none in this run"),
        ("Preprocessing learned from", _learned_from(preprocess)),
        ("Seed", run.get("seed", manifest.get("seed"))),
        ("Panel", f"{plain(panel.get('name'))}, version {plain(panel.get('version'))}"),
        ("Schema", f"{plain(metrics.get('schema'))}, {plain(manifest.get('schema'))}"),
        ("Sweep", manifest.get("sweep")),
        ("Python", manifest.get("python")),
    ]
    return {
        "facts": [(k, plain(v)) for k, v in facts],
        "data": [(k.replace("_", " "), plain(v)) for k, v in sorted(data.items())],
        "packages": [(k, plain(v)) for k, v in sorted((manifest.get("packages") or {}).items())],
    }


def _learned_from(preprocess: Facts) -> str | None:
    """Which rows the stages looked at, in words."""
    if not preprocess:
        return None
    rows = f"{preprocess.get('rows')} rows with SHA-256 {str(preprocess.get('rows_sha256'))[:12]}"
    if preprocess.get("leaking"):
        return f"ALL CELLS ({rows}): this leaks"
    return f"train rows and the input controls of their contexts ({rows})"
