"""One address to one file, continued where it stopped: what pooch calls to download.

The bytes go to `<file>.part`, with `<file>.part.json` saying where they come from. They are continued only if the
server grants the range, of the same file as before; in every other case the download begins again from zero.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from perturbfm.data.catalog.store import size_of
from perturbfm.errors import IntegrityError, NotTheFile, PageInsteadOfFile, TooLittleDisk
from perturbfm.files import write_json

CHUNK = 1 << 16
"""Bytes read at a time; what a dead line breaks off within one is asked for again."""

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two packets."""

_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)


class ResumableDownload:
    """A downloader for pooch that continues a part.

    Args:
        part: Where the bytes gather.
        n_bytes: Size as published, or None.
        pinned: A checksum is published, so bytes of different mirrors belong to one file.
        check: Called with the whole part before pooch gets it; raises what it refuses.
        timeout: Seconds to connect, and between two packets.

    Attributes:
        resumed: The last download continued a part.
    """

    def __init__(
        self,
        part: Path,
        n_bytes: int | None,
        pinned: bool,
        check: Callable[[Path], None],
        timeout: tuple[float, float] = TIMEOUT,
    ) -> None:
        self.part, self.state = part, part.with_name(f"{part.name}.json")
        self.n_bytes, self.pinned, self.check, self.timeout = n_bytes, pinned, check, timeout
        self.resumed = False

    def __call__(self, url: str, output_file: str, pooch: Any = None, check_only: bool = False) -> None:
        """Download to the part, then hand it over under the name pooch asked for.

        Raises:
            requests.RequestException: Refused, not found, timed out, or cut off.
            PageInsteadOfFile: A web page was served.
            NotTheFile: The size is not the published one.
            TooLittleDisk: It does not fit.
        """
        have, total = self._have(url)
        self.resumed = have > 0
        if not (have and have == total):
            self._stream(url, have)
        try:
            _assert_size(self.part, url, self.n_bytes)
            self.check(self.part)
        except IntegrityError:
            self.forget()
            raise
        hand_over(self.part, Path(output_file))

    def forget(self) -> None:
        """Remove the part and what is known of it."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def _have(self, url: str) -> tuple[int, int | None]:
        """Bytes that can be continued from this address, and the size the file should get."""
        known = self._known()
        have, total = size_of(self.part), known.get("total") or self.n_bytes
        mine = known.get("url") == url or (self.pinned and bool(known))
        return (have, total) if mine and (total is None or have <= total) else (0, total)

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self.state.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _stream(self, url: str, have: int) -> None:
        """Ask for what is missing; whatever does not continue the part begins it again."""
        with requests.get(url, headers=self._headers(url, have), stream=True, timeout=self.timeout) as response:
            continued = have > 0 and response.status_code == 206 and self._continues(response, url, have)
            if have and not continued and response.status_code in (206, 416):
                again = True
            else:
                again = False
                response.raise_for_status()
                self._receive(response, url, have if continued else 0)
        if again:
            self.resumed = False
            self._stream(url, 0)

    def _headers(self, url: str, have: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # a compressed answer has no byte positions to continue from
        if have:
            headers["Range"] = f"bytes={have}-"
            tag, known = self._known().get("etag"), self._known()
            if tag and not tag.startswith("W/") and known.get("url") == url:
                headers["If-Range"] = tag
        return headers

    def _continues(self, response: requests.Response, url: str, have: int) -> bool:
        """Whether an answer holds the rest of the file that the part was begun from."""
        known = self._known()
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have:
            return False
        total, before = found[2], known.get("total")
        if total != "*" and before is not None and int(total) != before:
            return False
        tag, old = response.headers.get("ETag"), known.get("etag")
        return known.get("url") != url or not (tag and old) or tag == old

    def _receive(self, response: requests.Response, url: str, have: int) -> None:
        """Write the body behind the `have` bytes that are there."""
        self.resumed = have > 0
        _refuse_page(url, response.headers.get("Content-Type", ""))
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None and self.n_bytes is not None and total != self.n_bytes:
            raise _wrong_size(url, total, self.n_bytes)
        assert_room(self.part.parent, (total or self.n_bytes or 0) - have)
        tag = response.headers.get("ETag")
        if not have:
            self.part.unlink(missing_ok=True)
        write_json(self.state, {"url": url, "etag": tag, "total": total})
        with self.part.open("ab") as stream, _progress(self.part.stem, have, total) as advance:
            for chunk in response.iter_content(CHUNK):
                if not have and stream.tell() == 0 and _PAGE.match(chunk[:512]):
                    raise _page(url, "its first bytes are HTML")
                _write(stream, chunk, self.part)
                advance(len(chunk))
        if total is not None and size_of(self.part) < total:
            raise requests.ConnectionError(f"cut off after {size_of(self.part)} of {total} bytes")


def _assert_size(part: Path, url: str, n_bytes: int | None) -> None:
    if n_bytes is not None and size_of(part) != n_bytes:
        raise _wrong_size(url, size_of(part), n_bytes)


def hand_over(part: Path, output: Path) -> None:
    """Give the part a second name, so that it survives an interruption of what pooch does with it."""
    output.unlink(missing_ok=True)
    try:
        os.link(part, output)
    except OSError:  # a file system without hard links
        part.replace(output)


def assert_room(folder: Path, needed: int) -> None:
    """Refuse to begin what does not fit.

    Raises:
        TooLittleDisk: Fewer bytes are free than needed.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TooLittleDisk(
            "The file does not fit on the disk",
            given=f"{free} bytes free in {folder}",
            expected=f"{needed} bytes",
            fix="Free some, or set PERTURBFM_CACHE (or --into) to a larger disk.",
        )


def _write(stream: Any, chunk: bytes, part: Path) -> None:
    try:
        stream.write(chunk)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        raise TooLittleDisk(
            "The disk filled up while a file was fetched",
            given=part,
            expected="room for the rest of it",
            fix="Free some and fetch again: what is there is continued.",
        ) from e


def _refuse_page(url: str, kind: str) -> None:
    if kind.split(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        raise _page(url, f"Content-Type {kind}")


def _page(url: str, why: str) -> PageInsteadOfFile:
    return PageInsteadOfFile(
        "A web page was served instead of the file",
        given=f"{url} ({why})",
        expected="a data file",
        fix="Open the address in a browser: a login, a limit or a moved record; then hand the file over with --from.",
    )


def _wrong_size(url: str, found: int, expected: int) -> NotTheFile:
    return NotTheFile(
        "The file at this address has another size than the published one",
        given=f"{url} with {found} bytes",
        expected=f"{expected} bytes",
        fix="Another version lies there now. Look at the record; nothing was kept under the final name.",
    )


@contextmanager
def _progress(name: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=have)
        yield lambda n: bar.advance(task, n)
