"""What is kept between evaluations: scores of one that was killed, and what stands beside every model of a split.

Nothing kept is believed without its key: the content of the data, the split, the panel, the effort and the code that
computed it. Another key, or files that are not what was written, and it is computed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from perturbfm.errors import UnreadableFile
from perturbfm.eval.case import PerCondition
from perturbfm.eval.standing import Standing
from perturbfm.files import Expanded, write_gzip, write_json, write_npz, write_text
from perturbfm.predictions import read_prediction, write_prediction
from perturbfm.record import digest

if TYPE_CHECKING:
    from perturbfm.types import Prediction

STANDING, SCORES = "standing", "scores"
"""Folder of outputs that holds what stands beside models, and folder of a run that holds scores until it is judged."""

WRITE_EVERY = 5.0
"""Seconds of scoring that a kill may cost."""

COMPUTES = ("eval", "model", "train", "calibrate", "types.py", "judging.py", "floors.py")
"""Parts of the package whose code decides a score."""


def key_of(facts: Mapping[str, Any]) -> str:
    """Hash of facts and of the code and libraries that compute with them."""
    content = json.dumps({"facts": facts, "code": code_digest()}, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


@cache
def code_digest() -> str:
    """Hash of the sources that decide a score, and of the versions of the libraries below them."""
    root, found = Path(__file__).parent, hashlib.sha256()
    for name in COMPUTES:
        place = root / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    for library in ("numpy", "scipy", "torch"):
        found.update(f"{library}={version(library)}".encode())
    return found.hexdigest()


class KeptScores:
    """Statistics of metrics in one file, so that a killed evaluation goes on where it stopped.

    Args:
        folder: Where the file lies; emptied when it holds those of another key.
        key: What they are scores of.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.path, self._written = folder, folder / "scores.npz", time.monotonic()
        if _text(folder / "key.txt") != key:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(folder / "key.txt", key)
        self._known = self._read()

    def get(self, identifier: str) -> PerCondition | None:
        """What was kept, or None."""
        return self._known.get(identifier)

    def put(self, identifier: str, stats: PerCondition) -> None:
        """Keep statistics; the file is written anew when the last writing is some seconds ago."""
        self._known[identifier] = stats
        if time.monotonic() - self._written > WRITE_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is known, whole or not at all."""
        arrays: dict[str, np.ndarray | Expanded] = {"identifiers": np.array(list(self._known), dtype=str)}
        for number, stats in enumerate(self._known.values()):
            for name in _COLUMNS:
                column = getattr(stats, name)
                arrays[f"{number}.{name}"] = column if name in _NUMBERS else np.array(column, dtype=str)
        write_npz(self.path, arrays)
        self._written = time.monotonic()

    def drop(self) -> None:
        """Forget them: the panel is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> dict[str, PerCondition]:
        """What the file holds; one that cannot be read holds nothing."""
        try:
            with np.load(self.path, allow_pickle=False) as npz:
                return {
                    identifier: PerCondition(*(_column(npz[f"{n}.{name}"], name) for name in _COLUMNS))
                    for n, identifier in enumerate(npz["identifiers"].tolist())
                }
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
            return {}


_NUMBERS = ("num_c", "den_c")
_COLUMNS = (*_NUMBERS, "status_c", "reason_c")


def _column(array: np.ndarray, name: str) -> np.ndarray:
    return array if name in _NUMBERS else array.astype(object)


@dataclass(frozen=True)
class KeptStanding:
    """Floors' predictions and what stands beside every model, under one key.

    Attributes:
        folder: Folder of outputs that holds all of them.
        key: Key of this one.
    """

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """Folder of this key."""
        return self.folder / self.key[:20]

    def scores(self, floor: str) -> KeptScores:
        """Scores of one floor while they are made."""
        return KeptScores(self.path / SCORES / floor, self.key)

    def keep_floors(self, floors: Mapping[str, Mapping[str, Prediction]]) -> None:
        """Keep the floors' predictions."""
        names = {}
        for floor, folds in floors.items():
            for fold, prediction in folds.items():
                names[f"{floor}.{fold}"] = f"{floor}.{fold}.npz"
                write_prediction(self.path / names[f"{floor}.{fold}"], prediction, 1.0)
        self._seal("floors.json", names)

    def floors(self) -> dict[str, dict[str, Prediction]] | None:
        """The floors' predictions; None where they are not kept, or not what was kept."""
        names = self._sealed("floors.json")
        if names is None:
            return None
        found: dict[str, dict[str, Prediction]] = {}
        try:
            for name, file in names.items():
                floor, fold = name.split(".")
                found.setdefault(floor, {})[fold] = read_prediction(self.path / file)[0]
        except UnreadableFile:
            return None
        return found

    def keep(self, standing: Standing) -> None:
        """Keep what stands beside every model, and forget the scores it was made from."""
        write_json(self.path / "standing.json", standing.to_plain())
        write_gzip(self.path / "table.csv.gz", standing.table.to_csv(index=False, float_format="%.17g"))
        self._seal("sealed.json", {"standing": "standing.json", "table": "table.csv.gz"})
        shutil.rmtree(self.path / SCORES, ignore_errors=True)

    def standing(self) -> Standing | None:
        """What stands beside every model; None where it is not kept, or not what was kept."""
        if self._sealed("sealed.json") is None:
            return None
        plain = json.loads((self.path / "standing.json").read_text())
        text = io.BytesIO((self.path / "table.csv.gz").read_bytes())
        table = pd.read_csv(text, compression="gzip", keep_default_na=False, float_precision="round_trip")
        table["value"] = pd.to_numeric(table["value"], errors="coerce")
        return Standing.from_plain(plain, table)

    def _seal(self, name: str, files: Mapping[str, str]) -> None:
        write_json(self.path / name, {"key": self.key, "files": files, "sha256": self._digests(files)})

    def _digests(self, files: Mapping[str, str]) -> dict[str, str]:
        return {f: digest(self.path / f) for f in files.values()}

    def _sealed(self, name: str) -> dict[str, str] | None:
        """Names of the files under a seal, if they are all there as they were written."""
        try:
            seal = json.loads((self.path / name).read_text())
            whole = seal["key"] == self.key and seal["sha256"] == self._digests(seal["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(seal["files"]) if whole else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
