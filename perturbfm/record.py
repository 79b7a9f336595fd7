"""A run's folder: claimed once, its manifest always says how far the run came."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perturbfm.errors import OutputNotWritable
from perturbfm.files import write_json, write_text

PACKAGES = (
    "perturbfm",
    "torch",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "pandas",
    "anndata",
    "scanpy",
)
JUDGED_FROM = ("config.yaml", "calibration.json", "predictions.npz")
"""What the numbers of a run can be computed from again; sealed as soon as it is written."""

ALSO_JUDGED_FROM = ("predictions_calib.npz", "predicted_cells.npz", "preprocess.json")
"""Further such files, which only some runs have: another tool may be silent on the calibration fold, or emit cells."""

OPENINGS = "test_openings.jsonl"
LOGGER = logging.getLogger("perturbfm")


class RunFolder:
    """One run's artifacts.

    Args:
        outputs: Folder that holds all runs.
        split_hash: Hash of the split.
        model: Name of the model.
        config_hash: Hash of the configuration.
        facts: What the manifest says from the start.

    Raises:
        OutputNotWritable: The folder cannot be made.
    """

    def __init__(self, outputs: Path, split_hash: str, model: str, config_hash: str, facts: dict[str, Any]) -> None:
        self.outputs, self.started = outputs, time.monotonic()
        now = datetime.now(UTC)
        self.path = _claim(outputs, f"{now:%Y%m%d-%H%M%S}_{split_hash[:7]}_{_slug(model)}_{config_hash[:7]}")
        self.facts: dict[str, Any] = {
            "schema": "perturbfm.manifest/1",
            "run_id": self.path.name,
            "status": "started",
            "started_utc": now.isoformat(timespec="seconds"),
            "split_hash": split_hash,
            "config_hash": config_hash,
            "model": model,
            "command_line": " ".join(sys.argv),
            "python": platform.python_version(),
            "packages": {p: _version(p) for p in PACKAGES},
            "git_commit": git_commit(),
            **facts,
        }
        self._handler = logging.FileHandler(self.path / "run.log")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(self._handler)
        LOGGER.setLevel(logging.INFO)
        self._write()
        self.event("started")

    def event(self, name: str, **fields: Any) -> None:
        """Append an event to `events.jsonl` and `run.log`."""
        line = {"seconds": round(time.monotonic() - self.started, 3), "event": name, **fields}
        _append(self.path / "events.jsonl", json.dumps(line))
        LOGGER.info("%s %s", name, " ".join(f"{k}={v}" for k, v in fields.items()))

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        self.facts.update(facts)
        self._write()

    def seal(self, names: Iterable[str]) -> None:
        """Put the SHA-256 of files of this folder into the manifest, so that a later edit is seen."""
        self.note(files={**self.facts.get("files", {}), **{n: digest(self.path / n) for n in names}})

    def open_test(self, split_hash: str, model: str) -> int:
        """Record that this run opens the test fold of a split; returns how often that happened on this machine."""
        path = self.outputs / OPENINGS
        line = {
            "utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": self.path.name,
            "split_hash": split_hash,
            "model": model,
        }
        _append(path, json.dumps(line))
        return openings(self.outputs, split_hash)

    def finish(self, status: str, error: str | None = None) -> None:
        """Close the manifest with `finished`, `failed` or `interrupted`."""
        self.note(
            status=status,
            error=error,
            wall_seconds=round(time.monotonic() - self.started, 3),
            peak_memory_mb=round(_peak_memory_mb(), 1),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.event(status, error=error)
        LOGGER.removeHandler(self._handler)
        self._handler.close()

    def _write(self) -> None:
        write_text(self.path / "split_hash.txt", self.facts["split_hash"] + "\n")  # who sees a manifest sees the hash
        write_json(self.path / "manifest.json", self.facts)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _peak_memory_mb() -> float:
    """Most memory this process ever held; the system counts in KiB, macOS in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024**2 if sys.platform == "darwin" else 1024)


def assert_writable(folder: Path) -> None:
    """Refuse, before anything is computed, a folder that results cannot go into."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise OutputNotWritable(
            "The output folder cannot be written",
            given=f"{folder} ({e.strerror})",
            expected="a folder with room and write permission",
            fix="Set PERTURBFM_OUTPUTS to another folder.",
        ) from e


def openings(outputs: Path, split_hash: str) -> int:
    """How many runs on this machine have opened the test fold of a split."""
    path = outputs / OPENINGS
    if not path.is_file():
        return 0
    return sum(f'"split_hash": "{split_hash}"' in line for line in path.read_text().splitlines())


def git_commit() -> str | None:
    """Commit of the checkout the package runs from, with `+` when it has changes; None outside a checkout."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        state = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def _slug(name: str) -> str:
    """A name that is one folder, whatever signs are in it."""
    return re.sub(r"[^\w.+-]+", "_", name)[:80]


def _claim(outputs: Path, name: str) -> Path:
    """Make a folder that nobody else has; the second one in a second gets `_2`."""
    for number in range(1, 10_000):
        path = outputs / (name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as e:
            raise OutputNotWritable(
                "A run folder cannot be made",
                given=f"{path} ({e.strerror})",
                expected="a folder with room and write permission",
                fix="Set PERTURBFM_OUTPUTS to another folder.",
            ) from e
        return path
    raise OutputNotWritable(
        "Too many runs in one second", given=name, expected="fewer than 10,000", fix="Wait a second."
    )


def _append(path: Path, line: str) -> None:
    """Append one line in one write, so that concurrent runs do not mix theirs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (line + "\n").encode())
    finally:
        os.close(descriptor)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
