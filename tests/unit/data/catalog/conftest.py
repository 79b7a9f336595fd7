"""A web server on this machine that misbehaves as told, and a data set that lies on it."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from perturbfm.data.catalog.entry import Entry, File, Licence


class Answer:
    """How the server answers for one path.

    `cuts` holds, for one request after another, how many body bytes are sent before the line goes dead; then all are.
    """

    def __init__(self, body, status=200, kind="application/octet-stream", ranges=True, etag=None, cuts=(), gate=None):
        self.body, self.status, self.kind, self.ranges, self.etag = body, status, kind, ranges, etag
        self.cuts, self.gate, self.length, self.location = list(cuts), gate, True, None


class Server:
    """Answers by path; remembers every request as (path, Range header, body bytes sent)."""

    def __init__(self):
        self.answers, self.requests, self.headers = {}, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    def answer(self, handler):
        asked, a = handler.headers.get("Range"), self.answers.get(handler.path.strip("/"), Answer(b"", status=404))
        self.headers.append(dict(handler.headers))
        if a.gate:
            a.gate.wait(20)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and a.ranges else 0
        status = a.status if a.status != 200 or not (asked and a.ranges) else 206 if start < len(a.body) else 416
        body = a.body[start:] if status == 206 else a.body if status == 200 else b"no"
        handler.send_response(status)
        handler.send_header("Content-Type", a.kind)
        if a.length:
            handler.send_header("Content-Length", str(len(body)))
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(a.body) - 1}/{len(a.body)}")
        if a.location:
            handler.send_header("Location", a.location)
        if a.etag:
            handler.send_header("ETag", a.etag)
        sent = min(a.cuts.pop(0), len(body)) if a.cuts else len(body)
        self.requests.append((handler.path.strip("/"), asked, sent))
        handler.end_headers()
        handler.wfile.write(body[:sent])

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    """The server; the environment names a proxy that is not there, and says that this machine needs none."""
    for name in [n for n in os.environ if n.lower() in ("all_proxy", "no_proxy", "http_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Server()
    found.Answer = Answer
    yield found
    found.close()


@pytest.fixture
def made():
    """Makes an entry of one file."""

    def make(urls=(), n_bytes=None, checksums=(), refused=(), non_commercial=False, name="cells.h5ad", **more):
        facts = {"format": "h5ad", "columns": None, **more}
        file = File(name=name, urls=tuple(urls), n_bytes=n_bytes, checksums=tuple(checksums), refused=refused, **facts)
        licence = Licence("CC-BY-NC-4.0" if non_commercial else "CC0-1.0", "as it says", non_commercial)
        return Entry("here", "a set", None, None, None, "nobody", licence, "record 1", (file,), {}, (), "nowhere")

    return make
