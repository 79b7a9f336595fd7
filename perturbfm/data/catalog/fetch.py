"""One file of an entry into a folder: allowed, locked, from its mirrors in order, verified, with a receipt.

pooch verifies and places the file; `download.ResumableDownload` brings the bytes. Nothing lies under the final name
before its checksum has been found right.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
import requests

from perturbfm.data.catalog.download import TIMEOUT, ResumableDownload, assert_room
from perturbfm.data.catalog.entry import Entry, File
from perturbfm.data.catalog.store import (
    assert_not_known_bad,
    assert_published,
    digests,
    recorded_checksum,
    size_of,
    write_receipt,
)
from perturbfm.errors import (
    ChecksumUnpublished,
    DownloadFailed,
    FetchedByHand,
    IntegrityError,
    LicenceNotAccepted,
    NotTheFile,
    OutputNotWritable,
    PageInsteadOfFile,
    PerturbFMError,
    UnreadableFile,
)

TRIES = 5
"""Times one address is asked while every time brings further bytes."""

Say = Callable[[str], None]


def fetch(
    entry: Entry,
    file: File,
    folder: Path,
    accept_non_commercial: bool = False,
    accept_unverified: bool = False,
    local: Path | None = None,
    say: Say = lambda _: None,
    timeout: tuple[float, float] = TIMEOUT,
) -> Path:
    """Put a verified file into a folder, once.

    Args:
        entry: The data set.
        file: One of its files.
        folder: Where it goes.
        accept_non_commercial: The user accepts a non-commercial licence.
        accept_unverified: The user accepts a file that nobody publishes a checksum for.
        local: A copy the user has already; nothing is fetched then.
        say: Told what happens.
        timeout: Seconds to connect, and between two packets.

    Raises:
        LicenceNotAccepted, ChecksumUnpublished: A consent is missing.
        FetchedByHand: The source cannot be fetched over http(s).
        NotTheFile, KnownBadVersion: It is not the published file, or a version that is known to be wrong.
        DownloadFailed, PageInsteadOfFile: No address gave it.
        TooLittleDisk, OutputNotWritable: It cannot be put there.
    """
    assert_allowed(entry, file, accept_non_commercial, accept_unverified, local is not None)
    if file.format == "folder" or not (file.urls or local or (folder / file.name).is_file()):
        raise by_hand(entry, file)
    target = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(target, say):
            if target.is_file():
                return _there_already(target, file, say)
            origin = str(local.absolute()) if local else ""
            if local:
                _register(local, target, file)
            else:
                origin = _from_mirrors(file, target, say, timeout)
            receipt = write_receipt(target, file, origin)
    except BrokenPipeError:  # nobody reads what is said any more
        raise
    except OSError as e:
        raise OutputNotWritable(
            "A file cannot be put into the cache",
            given=f"{target} ({e.strerror or e})",
            expected="a folder with room and write permission",
            fix="Set PERTURBFM_CACHE (or --into) to another folder.",
        ) from e
    word = "as published" if receipt["published"] else "nobody publishes one: recorded, so that a change is noticed"
    say(f"{target}: {receipt['n_bytes']} bytes, {receipt['checksum']} ({word})")
    return target


def assert_allowed(
    entry: Entry, file: File, accept_non_commercial: bool, accept_unverified: bool, local: bool = False
) -> None:
    """Refuse what needs a consent that was not given.

    Args:
        entry: The data set.
        file: One of its files.
        accept_non_commercial: The user accepts a non-commercial licence.
        accept_unverified: The user accepts a file that nobody publishes a checksum for.
        local: A copy is handed over.

    Raises:
        LicenceNotAccepted: The licence is non-commercial.
        ChecksumUnpublished: There is no published checksum.
    """
    if entry.licence.non_commercial and not accept_non_commercial:
        raise LicenceNotAccepted(
            f"{entry.name} may not be used commercially",
            given=f"{entry.licence.tag}: {entry.licence.text}",
            expected="your consent",
            fix="Add --accept-non-commercial if your use is none.",
        )
    obtainable = bool(file.urls or local) and file.format != "folder"
    if file.checksum is None and obtainable and not accept_unverified:
        raise ChecksumUnpublished(
            f"Nobody publishes a checksum of {file.name}",
            given="checksums: null",
            expected="your consent to a file that cannot be verified",
            fix="Add --accept-unverified; its SHA-256 is recorded then, so that a later change is noticed.",
        )


def by_hand(entry: Entry, file: File) -> FetchedByHand:
    """The error that names the step a person has to take."""
    folder = file.format == "folder"
    then = "Then name the folder in data.path." if folder else f"({entry.name}, file {file.name})"
    return FetchedByHand(
        f"{file.name} is not fetched over http(s)" if not folder else f"{file.name} is a folder of files",
        given=entry.record,
        expected="a copy that you fetched",
        fix=f"{file.by_hand} {then}",
    )


@contextmanager
def locked(target: Path, say: Say) -> Iterator[None]:
    """One process at a time per file; the lock goes with the process, whatever becomes of it."""
    with target.with_name(f".{target.name}.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{target.name} is being fetched by another process; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _there_already(target: Path, file: File, say: Say) -> Path:
    """A file that is there is verified, never replaced."""
    assert_published(target, file, target)
    recorded = None if file.checksum else recorded_checksum(target)
    if recorded and digests(target, [recorded.split(":")[0]])[recorded.split(":")[0]] != recorded:
        raise NotTheFile(
            f"{file.name} changed since it was fetched",
            given=target,
            expected=recorded,
            fix="Delete it and fetch it again.",
        )
    if not file.checksum and not recorded:
        write_receipt(target, file, str(target))
    say(f"{target} is there already and verified; nothing was fetched")
    return target


def _register(local: Path, target: Path, file: File) -> None:
    """Verify a copy the user has, then link it into the cache, or copy it where that cannot be."""
    if not local.is_file():
        raise UnreadableFile(
            "There is no such file", given=local.absolute(), expected=f"a copy of {file.name}", fix="Check --from."
        )
    assert_published(local, file, local)
    try:
        os.link(local.resolve(), target)
    except OSError:  # another disk, or a file system without hard links
        assert_room(target.parent, size_of(local))
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        try:
            shutil.copyfile(local, name)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)


def _from_mirrors(file: File, target: Path, say: Say, timeout: tuple[float, float]) -> str:
    """Ask address after address; return the one that gave the file."""
    refusals: list[tuple[str, Exception]] = []
    for url in file.urls:
        refusal = _tried(file, target, url, say, timeout)
        if refusal is None:
            return url
        refusals.append((url, refusal))
        say(f"not from {url}: {_short(refusal)}")
    typed = [e for _, e in refusals if isinstance(e, IntegrityError)]
    if typed:
        raise typed[0]
    if len(refusals) == 1 and isinstance(refusals[0][1], PerturbFMError):
        raise refusals[0][1]
    part = target.with_name(f"{target.name}.part")
    kept = f" {size_of(part)} bytes are kept and will be continued." if size_of(part) else ""
    raise DownloadFailed(
        f"No address gave {file.name}",
        given="; ".join(f"{url}: {_short(e)}" for url, e in refusals),
        expected="the file",
        fix=f"Fetch again later, or hand over a copy with --from.{kept}",
    )


def _tried(file: File, target: Path, url: str, say: Say, timeout: tuple[float, float]) -> Exception | None:
    """One address, asked again as long as that brings further bytes; None if it gave the file."""
    part = target.with_name(f"{target.name}.part")
    download = ResumableDownload(part, file.n_bytes, bool(file.checksums), lambda p: _known_bad(p, file, url), timeout)
    refusal: Exception | None = None
    for _ in range(TRIES):
        before = size_of(part)
        if file.n_bytes:
            assert_room(target.parent, file.n_bytes - before)
        try:
            _retrieved(download, file, target, url)
        except requests.RequestException as e:
            refusal = e
            if size_of(part) <= before:
                break
        except IntegrityError as e:
            refusal = e
            if not download.resumed:  # a part that was wrong from before is worth one try from zero
                break
        except PageInsteadOfFile as e:
            refusal = e
            if size_of(part) == 0:
                download.forget()
            break
        except KeyboardInterrupt:
            say(f"{size_of(part)} bytes of {file.name} are kept; fetch again to continue")
            raise
        else:
            return None
    return refusal


def _retrieved(download: ResumableDownload, file: File, target: Path, url: str) -> None:
    """Let pooch download and verify the file in a folder of its own, then place it."""
    pooch.get_logger().setLevel(logging.WARNING)
    aside = target.with_name(f".{target.name}.fetching")  # a killed process leaves pooch's temporary names here only
    try:
        found = pooch.retrieve(url, known_hash=file.checksum, fname=target.name, path=aside, downloader=download)
        Path(found).chmod(0o644)
        Path(found).replace(target)
        download.forget()
    except requests.RequestException:
        raise
    except ValueError as e:  # pooch's word for a wrong checksum
        try:
            if download.part.is_file():
                assert_published(download.part, file, url)
        finally:
            download.forget()
        raise NotTheFile(
            f"This is not the published {file.name}", given=url, expected=file.checksum, fix="Fetch it again."
        ) from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _known_bad(part: Path, file: File, url: str) -> None:
    """A file without a published checksum can still be a version that is known to be wrong."""
    if file.refused and not file.checksums:
        assert_not_known_bad(digests(part, (b.checksum.split(":")[0] for b in file.refused)), file, url)


def _short(error: Exception) -> str:
    """A reason in a line, without the memory addresses that urllib3 prints."""
    if isinstance(error, PerturbFMError):
        return error.problem
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    text = str(error)
    return "connection refused" if "refused" in text.lower() else f"{type(error).__name__}: {text[:200]}"
