"""What lies in the cache folder, and whether it is still what was put there.

Beside every file stands `<file>.receipt.json`: where it came from, its size and the checksum it is verified by, which
is the published one, or its own SHA-256 where nobody publishes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perturbfm import places
from perturbfm.data.catalog.entry import Entry, File
from perturbfm.errors import KnownBadVersion, NotTheFile

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Verdict:
    """What became of a file in the cache: `right`, `changed` or `unrecorded` (nothing to verify it by)."""

    entry: str
    path: Path
    state: str
    detail: str


def folder_of(entry: Entry, into: Path | None = None) -> Path:
    """Where the files of an entry lie."""
    return into.absolute() if into else places.cache_dir() / entry.name


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def stored(entry: Entry, into: Path | None = None) -> tuple[File, ...]:
    """The files of an entry that are there."""
    folder = folder_of(entry, into)
    return tuple(f for f in entry.files if (folder / f.name).is_file())


def digests(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Checksums of a file, in one pass: `{"md5": "md5:...", "sha256": "sha256:..."}`."""
    hashes = {a: hashlib.new(a, usedforsecurity=False) for a in set(algorithms)}
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for h in hashes.values():
                h.update(block)
    return {a: f"{a}:{h.hexdigest()}" for a, h in hashes.items()}


def assert_published(path: Path, file: File, origin: object) -> None:
    """Refuse a known bad version, another size and another checksum, in this order.

    Args:
        path: The bytes.
        file: What they should be.
        origin: Where they come from, for people.

    Raises:
        KnownBadVersion: It is a version that is known to be wrong.
        NotTheFile: It is not the published file.
    """
    wanted = [*file.checksums, *(b.checksum for b in file.refused)]
    found = digests(path, (c.split(":")[0] for c in wanted))
    assert_not_known_bad(found, file, origin)
    differs = [c for c in file.checksums if found[c.split(":")[0]] != c]
    if differs or (file.n_bytes is not None and size_of(path) != file.n_bytes):
        shown = found[differs[0].split(":")[0]] if differs else ""
        raise NotTheFile(
            f"This is not the published {file.name}",
            given=f"{origin}: {size_of(path)} bytes {shown}".rstrip(),
            expected=f"{differs[0] if differs else f'{file.n_bytes} bytes'}",
            fix="A broken download or another version: delete it and fetch again, or look at the record.",
        )


def assert_not_known_bad(found: dict[str, str], file: File, origin: object) -> None:
    """Refuse a version that is known to be wrong.

    Raises:
        KnownBadVersion: With what is wrong with it.
    """
    for bad in file.refused:
        if bad.checksum in found.values():
            raise KnownBadVersion(
                f"A known bad version of {file.name}: {bad.reason}",
                given=f"{origin} ({bad.checksum})",
                expected=file.checksum or "another version",
                fix="Fetch the current record with `perturbfm data fetch`; `perturbfm data show` names it.",
            )


def receipt_of(path: Path) -> Path:
    """Where the receipt of a file lies."""
    return path.with_name(f"{path.name}.receipt.json")


def write_receipt(path: Path, file: File, origin: str) -> dict[str, Any]:
    """Note where a file came from and what it will be verified by."""
    from perturbfm.files import write_json

    checksum = file.checksum or digests(path, ["sha256"])["sha256"]
    receipt = {
        "file": file.name,
        "origin": origin,
        "n_bytes": size_of(path),
        "checksum": checksum,
        "published": file.checksum is not None,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(receipt_of(path), receipt)
    return receipt


def recorded_checksum(path: Path) -> str | None:
    """The checksum in a receipt, or None where there is no receipt that can be read."""
    try:
        value = json.loads(receipt_of(path).read_text())["checksum"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) and value.startswith(("md5:", "sha256:")) else None


def verify(entry: Entry, into: Path | None = None) -> list[Verdict]:
    """Hash again what is there."""
    return [_verdict(entry, file, folder_of(entry, into) / file.name) for file in stored(entry, into)]


def _verdict(entry: Entry, file: File, path: Path) -> Verdict:
    """A published checksum decides; a recorded one where none is published."""
    wanted = file.checksum or recorded_checksum(path)
    if wanted is None:
        return Verdict(entry.name, path, "unrecorded", "no published checksum and no receipt")
    found = digests(path, [wanted.split(":")[0]])[wanted.split(":")[0]]
    kind = "published" if file.checksum else "recorded when fetched"
    return Verdict(entry.name, path, "right" if found == wanted else "changed", f"{wanted} ({kind})")


def assert_verified(verdicts: Iterable[Verdict]) -> None:
    """Refuse if anything is not what it was.

    Raises:
        NotTheFile: A file changed, or there is nothing to verify it by.
    """
    wrong = [v for v in verdicts if v.state != "right"]
    if wrong:
        raise NotTheFile(
            "Files in the cache are not what was fetched",
            given="; ".join(f"{v.path} {v.state}" for v in wrong),
            expected=wrong[0].detail,
            fix="Delete them and fetch them again.",
        )
