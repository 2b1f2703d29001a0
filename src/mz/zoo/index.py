"""The Python package index: from a wheel's name to its address, by the simple API (PEP 503 and, in JSON, PEP 691).

The index is the one that pip would ask: PIP_INDEX_URL, pip's configuration files, else the public one. pip itself is
neither imported nor run.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from html.parser import HTMLParser
from typing import Any

from mz.errors import UserError
from mz.zoo import http
from mz.zoo.pip_config import pip_setting

PUBLIC_INDEX = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MOST_BYTES = 64 << 20


def wheel_url(package: str, file: str, sha256: str) -> str:
    """The address from which the index offers the wheel.

    Raises UserError where the index cannot be asked, does not have the file, or has another one under its name.
    """
    index = index_url()
    page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', package).lower()}/"
    try:
        with http.get(page, {"Accept": _ACCEPT}) as response:
            body = response.read(_MOST_BYTES)
            kind = response.headers.get_content_type()
            base = response.geturl()
    except http.StatusError as error:
        raise UserError(f"{http.shown(page)}: {error}: the package index does not have {package}") from None
    except http.TROUBLE as error:
        raise UserError(
            f"{http.shown(page)}: the package index cannot be asked: {http.explain(error)}"
        ) from error
    offers = _from_json(body, page) if kind.endswith("json") else _from_html(body)
    if file not in offers:
        raise UserError(f"{http.shown(page)}: the package index has no {file}")
    address, announced = offers[file]
    if announced not in (None, sha256):
        raise UserError(f"{http.shown(page)}: {file} has sha256 {announced} there; wanted {sha256}")
    return _with_credentials(urllib.parse.urljoin(base, address), index)


def index_url() -> str:
    """The index that pip is configured to use, else the public one."""
    return pip_setting("index-url") or PUBLIC_INDEX


Offers = dict[str, tuple[str, str | None]]
"""By file name: its address (perhaps relative) and, where the index says it, its sha256."""


def _from_json(body: bytes, page: str) -> Offers:
    try:
        files: list[dict[str, Any]] = json.loads(body)["files"]
        return {str(entry["filename"]): (str(entry["url"]), entry["hashes"].get("sha256")) for entry in files}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{http.shown(page)}: the answer is not that of a package index") from error


def _from_html(body: bytes) -> Offers:
    parser = _Links()
    parser.feed(body.decode("utf-8", "replace"))
    offers: Offers = {}
    for link in parser.links:
        address, _, fragment = link.partition("#")
        announced = urllib.parse.parse_qs(fragment).get("sha256", [None])[0]
        offers[urllib.parse.unquote(address.rpartition("/")[2])] = (address, announced)
    return offers


class _Links(HTMLParser):
    """Collects the targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "a" and target:
            self.links.append(target)


def _with_credentials(url: str, index: str) -> str:
    """The address with the credentials of the index, if it is on the same host."""
    of_url, of_index = urllib.parse.urlsplit(url), urllib.parse.urlsplit(index)
    user, at, host = of_index.netloc.rpartition("@")
    if at and of_url.netloc == host and of_url.scheme == of_index.scheme:
        return urllib.parse.urlunsplit(of_url._replace(netloc=f"{user}@{host}"))
    return url
