"""Does a fetched file come whole, once and unchanged, whatever the server does?"""

import errno
import hashlib
import json
import random
import threading

import pytest

from perturbfm.data.catalog import download, fetch
from perturbfm.data.catalog.entry import KnownBad
from perturbfm.data.catalog.store import receipt_of, verify
from perturbfm.errors import (
    ChecksumUnpublished,
    DownloadFailed,
    FetchedByHand,
    KnownBadVersion,
    LicenceNotAccepted,
    NotTheFile,
    OutputNotWritable,
    PageInsteadOfFile,
    TooLittleDisk,
    UnreadableFile,
)

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
FLIPPED = bytes([BODY[0] ^ 1]) + BODY[1:]
N = len(BODY)


def md5(body):
    return f"md5:{hashlib.md5(body, usedforsecurity=False).hexdigest()}"


def sha256(body):
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """So small that lines go dead between two of them."""
    monkeypatch.setattr(download, "CHUNK", 1000)


@pytest.fixture
def get(tmp_path):
    """Fetches the only file of an entry into a folder of its own."""

    def call(entry, **more):
        return fetch.fetch(entry, entry.files[0], tmp_path / "cache", timeout=(5, 5), **more)

    call.folder = tmp_path / "cache"
    return call


@pytest.fixture
def pinned(server, made):
    """A file with a published size and checksum."""
    server.answers["a"] = server.Answer(BODY)
    return made([server.url("a")], N, [md5(BODY)])


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


# --- the straight way ----------------------------------------------------------------------------------


def test_a_file_is_fetched_whole_with_a_receipt_and_nothing_else_stays(server, get, pinned):
    said = []
    path = get(pinned, say=said.append)
    assert path.read_bytes() == BODY
    assert visible(get.folder) == ["cells.h5ad", "cells.h5ad.receipt.json"]
    assert server.requests == [("a", None, N)]
    receipt = json.loads(receipt_of(path).read_text())
    assert (receipt["checksum"], receipt["published"], receipt["n_bytes"]) == (md5(BODY), True, N)
    assert receipt["origin"] == server.url("a")
    assert said[-1].endswith("(as published)")
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_a_killed_process_left_is_swept_and_nothing_else(server, get, pinned):
    (get.folder / ".cells.h5ad.fetching").mkdir(parents=True)
    (get.folder / ".cells.h5ad.fetching" / "tmp1234").write_bytes(b"half")
    (get.folder / "tmp_of_mine").write_text("mine")
    get(pinned)
    left = {p.name for p in get.folder.iterdir()}
    assert left == {"cells.h5ad", "cells.h5ad.receipt.json", ".cells.h5ad.lock", "tmp_of_mine"}


def test_fetching_twice_downloads_once(server, get, pinned):
    assert get(pinned) == get(pinned)
    assert len(server.requests) == 1


def test_a_file_that_changed_in_the_cache_is_refused_and_never_replaced(server, get, pinned):
    path = get(pinned)
    path.write_bytes(FLIPPED)
    with pytest.raises(NotTheFile, match=r"not the published cells\.h5ad"):
        get(pinned)
    assert path.read_bytes() == FLIPPED
    assert len(server.requests) == 1


def test_two_at_once_download_once(server, get, pinned):
    gate = server.answers["a"].gate = threading.Event()
    said, paths = [], []

    def listen(text):
        said.append(text)
        if "another process" in text:
            gate.set()

    threads = [threading.Thread(target=lambda: paths.append(get(pinned, say=listen))) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert [p.read_bytes() == BODY for p in paths] == [True, True]
    assert len(server.requests) == 1
    assert any("waiting for it" in text for text in said)


# --- interruptions -------------------------------------------------------------------------------------


def test_a_dead_line_is_continued_with_the_missing_bytes_only(server, get, pinned):
    server.answers["a"].cuts = [100_000, 50_000]
    assert get(pinned).read_bytes() == BODY
    assert server.requests == [
        ("a", None, 100_000),
        ("a", "bytes=100000-", 50_000),
        ("a", "bytes=150000-", N - 150_000),
    ]


def test_what_is_there_is_kept_and_continued_next_time(server, get, pinned):
    server.answers["a"].cuts = [100_000, 0]
    with pytest.raises(DownloadFailed, match="100000 bytes are kept and will be continued"):
        get(pinned)
    assert visible(get.folder) == ["cells.h5ad.part", "cells.h5ad.part.json"]
    server.requests.clear()
    assert get(pinned).read_bytes() == BODY
    assert server.requests == [("a", "bytes=100000-", N - 100_000)]


def test_an_interrupt_in_mid_file_keeps_the_part(server, get, pinned, monkeypatch):
    written, said = [], []

    def interrupted(stream, chunk, part):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(stream.write(chunk))

    with monkeypatch.context() as m:
        m.setattr(download, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(pinned, say=said.append)
    assert said == ["3000 bytes of cells.h5ad are kept; fetch again to continue"]
    assert get(pinned).read_bytes() == BODY
    assert server.requests[-1] == ("a", "bytes=3000-", N - 3000)


def test_an_interrupt_while_the_checksum_is_taken_loses_nothing(server, get, pinned, monkeypatch):
    def interrupted(*words, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr("pooch.core.hash_matches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(pinned)
    assert "cells.h5ad" not in visible(get.folder)
    assert get(pinned).read_bytes() == BODY
    assert len(server.requests) == 1


def test_a_redirected_address_is_continued_too(server, get, made):
    server.answers["doi"] = server.Answer(b"", status=302)
    server.answers["doi"].location = server.url("a")
    server.answers["a"] = server.Answer(BODY, cuts=[100_000])
    assert get(made([server.url("doi")], N, [md5(BODY)])).read_bytes() == BODY
    assert server.requests[-1] == ("a", "bytes=100000-", N - 100_000)


def test_a_server_without_ranges_is_asked_from_the_start(server, get, pinned):
    server.answers["a"].cuts, server.answers["a"].ranges = [100_000], False
    assert get(pinned).read_bytes() == BODY
    assert server.requests == [("a", None, 100_000), ("a", "bytes=100000-", N)]


@pytest.mark.parametrize(
    ("tag", "body"),
    [('"new"', OTHER), (None, OTHER + b"longer"), ('"old"', OTHER[:50_000])],
    ids=["tag", "longer", "shorter"],
)
def test_a_file_that_changed_on_the_server_is_begun_again(server, get, made, tag, body):
    """Another tag, another total, or a file shorter than what is there; nobody publishes a checksum."""
    server.answers["a"] = server.Answer(BODY, etag='"old"' if tag else None, cuts=[100_000, 0])
    entry = made([server.url("a")])
    with pytest.raises(DownloadFailed, match="cut off|broken|IncompleteRead"):
        get(entry, accept_unverified=True)
    server.answers["a"] = server.Answer(body, etag=tag)
    assert get(entry, accept_unverified=True).read_bytes() == body
    assert [asked for _, asked, _ in server.requests[-2:]] == ["bytes=100000-", None]


def test_a_strong_tag_is_sent_back_with_the_range(server, get, made):
    server.answers["a"] = server.Answer(BODY, etag='"t"', cuts=[100_000])
    get(made([server.url("a")], N, [md5(BODY)]))
    assert server.headers[-1]["If-Range"] == '"t"'


def test_a_part_without_a_checksum_is_not_continued_from_another_address(server, get, made):
    server.answers["a"] = server.Answer(BODY, cuts=[100_000, 0])
    server.answers["b"] = server.Answer(OTHER)
    assert get(made([server.url("a"), server.url("b")]), accept_unverified=True).read_bytes() == OTHER
    assert server.requests[-1] == ("b", None, N)


def test_with_a_checksum_a_mirror_continues_what_another_began(server, get, made):
    server.answers["a"] = server.Answer(BODY, cuts=[100_000, 0])
    server.answers["b"] = server.Answer(BODY)
    assert get(made([server.url("a"), server.url("b")], N, [md5(BODY)])).read_bytes() == BODY
    assert server.requests[-1] == ("b", "bytes=100000-", N - 100_000)


def test_a_part_that_was_wrong_from_before_is_begun_again(server, get, pinned):
    server.answers["a"].cuts = [100_000, 0]
    with pytest.raises(DownloadFailed, match="kept"):
        get(pinned)
    part = get.folder / "cells.h5ad.part"
    part.write_bytes(b"x" * 100_000)
    assert get(pinned).read_bytes() == BODY
    assert server.requests[-1] == ("a", None, N)


def test_a_body_of_unknown_length_is_taken_as_it_comes(server, get, made):
    server.answers["a"] = server.Answer(BODY)
    server.answers["a"].length = False
    assert get(made([server.url("a")], None, [md5(BODY)])).read_bytes() == BODY


# --- what is not the file ------------------------------------------------------------------------------


def test_a_wrong_checksum_leaves_nothing_behind(server, get, made):
    server.answers["a"] = server.Answer(OTHER)
    with pytest.raises(NotTheFile, match=f"expected {md5(BODY)}"):
        get(made([server.url("a")], N, [md5(BODY)]))
    assert visible(get.folder) == []


def test_another_size_is_refused_before_it_is_downloaded(server, get, made):
    server.answers["a"] = server.Answer(BODY + b"more", cuts=[0] * 9)
    with pytest.raises(NotTheFile, match=r"another size.*300004 bytes, expected 300000 bytes"):
        get(made([server.url("a")], N, [md5(BODY)]))
    assert visible(get.folder) == []


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (BODY, "text/html; charset=utf-8", "Content-Type text/html"),
        (b"\n<!DOCTYPE html><p>quota exceeded", "application/octet-stream", "first bytes are HTML"),
        (b"<html><p>log in", "application/x-hdf5", "first bytes are HTML"),
    ],
    ids=["type", "doctype", "html"],
)
def test_a_page_served_as_a_file_is_named_as_one(server, get, made, body, kind, why):
    server.answers["a"] = server.Answer(body, kind=kind)
    with pytest.raises(PageInsteadOfFile, match=f"web page was served.*{why}"):
        get(made([server.url("a")]), accept_unverified=True)
    assert visible(get.folder) == []


def test_a_page_in_place_of_the_rest_keeps_what_is_there(server, get, pinned):
    server.answers["a"].cuts = [100_000]
    server.answers["a"].kind = "application/octet-stream"
    whole = server.answer

    def then_a_page(handler):
        whole(handler)
        server.answers["a"].kind = "text/html"

    server.answer = then_a_page
    with pytest.raises(PageInsteadOfFile, match="web page"):
        get(pinned)
    assert (get.folder / "cells.h5ad.part").stat().st_size == 100_000


@pytest.mark.parametrize("published", [True, False])
def test_a_known_bad_version_is_refused_with_what_is_wrong_with_it(server, get, made, published):
    server.answers["a"] = server.Answer(OTHER)
    bad = (KnownBad(sha256(OTHER), "gene labels off by one row"),)
    entry = made([server.url("a")], None, [md5(BODY)] if published else [], bad)
    with pytest.raises(KnownBadVersion, match="gene labels off by one row"):
        get(entry, accept_unverified=True)
    assert visible(get.folder) == []


# --- mirrors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 500, 403])
def test_the_next_mirror_is_asked_when_one_refuses(server, get, made, status):
    server.answers["a"] = server.Answer(b"", status=status)
    server.answers["b"] = server.Answer(BODY)
    said = []
    assert get(made([server.url("a"), server.url("b")], N, [md5(BODY)]), say=said.append).read_bytes() == BODY
    assert said[0] == f"not from {server.url('a')}: HTTP {status}"


def test_a_mirror_that_serves_a_page_or_another_file_is_passed_over(server, get, made):
    server.answers["a"] = server.Answer(b"<html>")
    server.answers["b"] = server.Answer(OTHER)
    server.answers["c"] = server.Answer(BODY)
    entry = made([server.url(p) for p in "abc"], None, [md5(BODY)])
    assert get(entry).read_bytes() == BODY


def test_when_all_fail_each_is_named_with_its_reason(server, get, made):
    server.answers["b"] = server.Answer(b"", status=500)
    hang = server.answers["c"] = server.Answer(BODY, gate=threading.Event())
    closed = "http://127.0.0.1:1/x"
    entry = made([server.url("a"), server.url("b"), server.url("c"), closed], N, [md5(BODY)])
    with pytest.raises(DownloadFailed, match="No address gave") as caught:
        fetch.fetch(entry, entry.files[0], get.folder, timeout=(5, 0.3))
    hang.gate.set()
    for reason in ("/a: HTTP 404", "/b: HTTP 500", "/c: timed out", f"{closed}: connection refused"):
        assert reason in caught.value.given
    assert visible(get.folder) == []


def test_what_one_mirror_corrupts_is_an_integrity_error_when_the_rest_are_down(server, get, made):
    server.answers["a"] = server.Answer(OTHER)
    with pytest.raises(NotTheFile, match="not the published"):
        get(made([server.url("a"), server.url("gone")], N, [md5(BODY)]))


# --- consent -------------------------------------------------------------------------------------------


def test_a_non_commercial_licence_needs_a_consent(server, get, made):
    server.answers["a"] = server.Answer(BODY)
    entry = made([server.url("a")], N, [md5(BODY)], non_commercial=True)
    with pytest.raises(LicenceNotAccepted, match=r"may not be used commercially.*--accept-non-commercial"):
        get(entry)
    assert server.requests == []
    assert get(entry, accept_non_commercial=True).is_file()


def test_a_file_without_a_checksum_needs_a_consent_and_is_recorded(server, get, made):
    server.answers["a"] = server.Answer(BODY)
    entry, said = made([server.url("a")]), []
    with pytest.raises(ChecksumUnpublished, match=r"Nobody publishes a checksum.*--accept-unverified"):
        get(entry)
    assert server.requests == []
    path = get(entry, accept_unverified=True, say=said.append)
    assert json.loads(receipt_of(path).read_text())["checksum"] == sha256(BODY)
    assert "recorded, so that a change is noticed" in said[-1]
    path.write_bytes(OTHER)
    with pytest.raises(NotTheFile, match="changed since it was fetched"):
        get(entry, accept_unverified=True)


# --- disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["size published", "size from the server"])
def test_too_little_disk_is_said_before_the_first_byte(server, get, made, monkeypatch, known):
    server.answers["a"] = server.Answer(BODY)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("U", (), {"free": N - 1})())
    with pytest.raises(TooLittleDisk, match=f"{N - 1} bytes free.*expected {N} bytes"):
        get(made([server.url("a")], N if known else None, [md5(BODY)]))
    assert len(server.requests) == (0 if known else 1)
    assert visible(get.folder) == []


def test_a_disk_that_fills_up_is_said_and_the_part_stays(server, get, pinned, monkeypatch):
    class Full:
        def write(self, chunk):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(TooLittleDisk, match="disk filled up"):
        download._write(Full(), b"x", get.folder / "cells.h5ad.part")


def test_a_folder_that_cannot_be_made_is_named(get, pinned):
    get.folder.write_text("a file")
    with pytest.raises(OutputNotWritable, match="cannot be put into the cache"):
        get(pinned)


# --- copies and steps by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [True, False], ids=["link", "copy"])
def test_a_copy_is_verified_and_placed_without_asking_anybody(server, get, pinned, tmp_path, monkeypatch, linked):
    mine = tmp_path / "mine.h5ad"
    mine.write_bytes(BODY)
    if not linked:
        monkeypatch.setattr(fetch.os, "link", lambda a, b: (_ for _ in ()).throw(OSError(errno.EXDEV, "other disk")))
    path = get(pinned, local=mine)
    assert path.read_bytes() == BODY
    assert (path.stat().st_ino == mine.stat().st_ino) is linked
    assert server.requests == []
    assert json.loads(receipt_of(path).read_text())["origin"] == str(mine)
    assert visible(get.folder) == ["cells.h5ad", "cells.h5ad.receipt.json"]


def test_a_copy_that_is_not_the_file_is_refused(get, pinned, made, tmp_path):
    mine = tmp_path / "mine.h5ad"
    with pytest.raises(UnreadableFile, match=r"no such file.*Check --from"):
        get(pinned, local=mine)
    mine.write_bytes(OTHER)
    with pytest.raises(NotTheFile, match="not the published"):
        get(pinned, local=mine)
    bad = made(["http://127.0.0.1:1/x"], None, [md5(BODY)], (KnownBad(md5(OTHER), "off by one"),))
    with pytest.raises(KnownBadVersion, match="off by one"):
        get(bad, local=mine)
    assert visible(get.folder) == []


def test_a_source_that_is_not_on_the_web_names_the_step(get, made, tmp_path):
    entry = made(by_hand="`gcloud storage cp gs://x .`, then `--from` it.")
    with pytest.raises(FetchedByHand, match=r"not fetched over http\(s\).*gcloud storage cp gs://x"):
        get(entry)
    (tmp_path / "mine").write_bytes(BODY)
    assert get(entry, accept_unverified=True, local=tmp_path / "mine").read_bytes() == BODY
    shards = made(by_hand="`hf download x`.", format="folder", name="shards")
    with pytest.raises(FetchedByHand, match=r"folder of files.*hf download x.*data\.path"):
        get(shards, local=tmp_path / "mine")


# --- verifying again -----------------------------------------------------------------------------------


def test_verify_catches_a_changed_byte_and_what_nobody_recorded(server, get, pinned, made):
    path = get(pinned)
    assert [v.state for v in verify(pinned, get.folder)] == ["right"]
    path.write_bytes(FLIPPED)
    assert [v.state for v in verify(pinned, get.folder)] == ["changed"]
    unpinned = made([server.url("a")])
    receipt_of(path).write_text("no json")
    assert [v.state for v in verify(unpinned, get.folder)] == ["unrecorded"]
    path.write_bytes(BODY)
    get(unpinned, accept_unverified=True)
    assert [v.state for v in verify(unpinned, get.folder)] == ["right"]
    path.write_bytes(OTHER)
    assert [v.state for v in verify(unpinned, get.folder)] == ["changed"]
