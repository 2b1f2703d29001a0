"""A web server on this machine that serves what a test says, rightly or in one of the ways in which servers fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """files: content by path. What fails, by path: see the fields. asked: (path, Range header) of every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    breaks_after: dict[str, list[int]] = field(default_factory=dict)
    """Bytes of the body after which the connection closes: one entry for each of the first requests."""
    stalls_after: dict[str, int] = field(default_factory=dict)
    no_ranges: bool = False
    no_length: bool = False
    statuses: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    address: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            _answer(self, site)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = request.headers.get("Range")
    path = request.path
    site.asked.append((path, wanted))
    site.authorizations.append(request.headers.get("Authorization"))
    if path in site.redirects:
        request.send_response(302)
        request.send_header("Location", site.redirects[path])
        request.end_headers()
        return
    status = site.statuses.get(path, 200 if path in site.files else 404)
    if status != 200:
        request.send_error(status)
        return
    content, start = site.files[path], 0
    if wanted and not site.no_ranges:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    body = content[start:]
    request.send_header("Content-Type", site.types.get(path, "application/octet-stream"))
    if not site.no_length:
        request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if site.breaks_after.get(path):
        body = body[: site.breaks_after[path].pop(0)]
    if path in site.stalls_after:
        request.wfile.write(body[: site.stalls_after[path]])
        request.wfile.flush()
        site.released.wait(10)
        return
    request.wfile.write(body)
