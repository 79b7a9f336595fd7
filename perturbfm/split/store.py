"""Where frozen splits lie: one file each, written once, found by hash."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from perturbfm.errors import (
    AmbiguousSplit,
    BadValue,
    OutputNotWritable,
    PerturbFMError,
    SplitEdited,
    SplitExists,
    UnknownSplit,
    UnreadableFile,
)
from perturbfm.split.split import HASH12, Split

Stored = list[tuple[Path, Split]]
Problems = list[tuple[Path, PerturbFMError]]

_FILE = re.compile(r".+-([0-9a-f]{12})\.json")
_ASKED = re.compile(r"(?:sha256:|(?P<stem>.+-))?(?P<hex>[0-9a-fA-F]{4,64})(?:\.json)?")


class SplitStore:
    """Frozen splits in a folder.

    Args:
        folder: Where new splits go, and the first place to look.
        also_read: Further folders to look in, never written to; the earlier folder wins where names are equal.
    """

    def __init__(self, folder: str | Path = "splits", also_read: Sequence[str | Path] = ()) -> None:
        self.folder = Path(folder)
        self.also_read = tuple(Path(other) for other in also_read)

    def save(self, split: Split) -> Path:
        """Write a frozen split under its name; writing the same content again changes nothing.

        Raises:
            SplitNotFrozen: The split has no frozen hash.
            SplitEdited: The split has changed since it was frozen.
            SplitExists: A file of this name holds other content; it is left as it is.
            OutputNotWritable: The folder cannot be made or written.
        """
        split.assert_frozen()
        path, text = self.folder / split.file_name, split.to_json()
        if not path.exists():
            self._create(path, text)
        if path.read_text(encoding="utf-8", errors="replace") != text:
            raise SplitExists(
                f"{path} holds another split",
                given=f"new content under the name {path.name}",
                expected="the content that is there",
                fix="Move the file that is there away, or restore it from version control.",
            )
        return path

    def find(self, asked: str) -> Path:
        """Path of the one split file whose name fits a hash; the content is not read.

        Args:
            asked: At least 4 hexadecimal characters of the hash, bare, after `sha256:`, or as a file name.
        """
        match = _ASKED.fullmatch(asked)
        if match is None:
            raise BadValue(
                "This is no split hash",
                given=repr(asked),
                expected="4 to 64 hexadecimal characters",
                fix=f"Splits there are: {self._names()}.",
            )
        stem, digits = match["stem"] or "", match["hex"].lower()
        fits = {p.name: p for p in self._files() if p.name.startswith(stem) and _hash12(p).startswith(digits[:HASH12])}
        hashes = sorted({_hash12(path) for path in fits.values()})
        if len(hashes) > 1:
            raise AmbiguousSplit(
                f"{asked} fits more than one split",
                given=", ".join(sorted(fits)),
                expected="a hash that fits one",
                fix="Give more characters.",
            )
        if not hashes:
            raise self._unknown(asked)
        return next(iter(fits.values()))

    def load(self, asked: str) -> Split:
        """Read the split with a hash and verify content, hash and file name.

        Raises:
            UnknownSplit: There is none.
            AmbiguousSplit: There are several.
            SplitEdited: The content no longer gives the hash in it, or the hash in the file name.
            UnreadableFile: The file is not a split.
        """
        split = _read(self.find(asked))
        match = _ASKED.fullmatch(asked)
        if match is None or split.frozen_hash is None or not split.frozen_hash.startswith(match["hex"].lower()):
            raise self._unknown(asked)
        return split

    def list(self) -> Stored:
        """All splits that verify, with their paths, sorted by name; `verify` reports the rest."""
        return [(path, found) for path, found in self._survey() if isinstance(found, Split)]

    def verify(self) -> Problems:
        """All files that do not verify, with the reason; empty when everything is as it was frozen."""
        return [(path, found) for path, found in self._survey() if isinstance(found, PerturbFMError)]

    def _survey(self) -> Sequence[tuple[Path, Split | PerturbFMError]]:
        found: dict[Path, Split | PerturbFMError] = {}
        for path in self._files():
            try:
                found[path] = _read(path)
            except PerturbFMError as error:
                found[path] = error
        return tuple(found.items())

    def _files(self) -> Sequence[Path]:
        """Files of all folders, sorted by name; of two with one name the one in the earlier folder."""
        by_name: dict[str, Path] = {}
        for folder in (self.folder, *self.also_read):
            for path in folder.glob("*.json"):
                by_name.setdefault(path.name, path)
        return tuple(by_name[name] for name in sorted(by_name))

    def _names(self) -> str:
        return ", ".join(path.name for path in self._files()) or "none"

    def _unknown(self, asked: str) -> UnknownSplit:
        folders = ", ".join(str(folder) for folder in (self.folder, *self.also_read))
        return UnknownSplit(
            f"No split has the hash {asked}",
            given=f"the folders {folders}",
            expected=f"one of: {self._names()}",
            fix="Name one of these, or make the split first.",
        )

    def _create(self, path: Path, text: str) -> None:
        """Write a whole file under a name that is free, or leave the file that someone else put there first."""
        part = self.folder / f".{path.name}.{uuid4().hex}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _publish(part, path)
        except OSError as error:
            raise OutputNotWritable(
                f"Cannot write the split {path.name}",
                given=f"{self.folder} ({error.strerror})",
                expected="a folder that can be written",
                fix="Choose another folder for splits, or change its rights.",
            ) from error
        finally:
            if self.folder.is_dir():
                part.unlink(missing_ok=True)


def _publish(part: Path, path: Path) -> None:
    """Give a finished file its name without replacing another; rename where the disk has no hard links."""
    try:
        os.link(part, path)
    except FileExistsError:
        return
    except OSError:
        if not path.exists():
            part.replace(path)


def _hash12(path: Path) -> str:
    match = _FILE.fullmatch(path.name)
    return match[1] if match else ""


def _read(path: Path) -> Split:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(
            f"Cannot read the split {path}",
            given=str(error),
            expected="a split file in UTF-8",
            fix="Restore the file from version control.",
        ) from error
    split = Split.from_json(text, str(path))
    split.assert_frozen()
    if path.name != split.file_name:
        raise SplitEdited(
            f"Name and content of {path} disagree",
            given=f"the content of {split.file_name}",
            expected=f"the content of {path.name}",
            fix="Restore the file from version control; a split file is never renamed or edited.",
        )
    return split
