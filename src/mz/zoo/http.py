"""HTTP as mz uses it: GET with a limit on silence, http and https alone, credentials only for the host they are for.

Nothing here writes files. Proxies come from the environment, as for every program of Python.
"""

from __future__ import annotations

import base64
import functools
import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import mz
from mz.errors import UserError
from mz.zoo.pip_config import pip_setting

TIMEOUT_SECONDS = 30.0
"""How long a server may say nothing, while connecting or in the middle of a file."""

TROUBLE = (OSError, http.client.HTTPException)
"""What a connection may end with: refused, broken, silent, closed too early."""


class StatusError(Exception):
    """The server answered, but not with the file."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status


def get(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """The open response (200 or 206). Raises StatusError for any other answer, one of TROUBLE where there is none."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{shown(url)}: only http and https are fetched")
    request = urllib.request.Request(without_credentials(url), headers={"User-Agent": f"mz/{mz.__version__}"})
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        token = base64.b64encode(pair.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    try:
        return _opener(pip_setting("cert")).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise StatusError(error.code, error.reason) from None


@functools.cache
def _opener(ca_file: str | None) -> urllib.request.OpenerDirector:
    """Without the handlers for file:, ftp: and data: addresses, so that no redirection leads to them."""
    opener = urllib.request.OpenerDirector()
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UserError(f"{ca_file}: the certificates cannot be read: {error.strerror or error}") from error
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def explain(error: BaseException) -> str:
    """What went wrong with a connection, in a few words."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"the server said nothing for {TIMEOUT_SECONDS:g} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke off"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def without_credentials(url: str) -> str:
    """The address without the user's name and password."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def shown(url: str) -> str:
    """The address as messages show it: without credentials and query."""
    return urllib.parse.urlunsplit(
        urllib.parse.urlsplit(without_credentials(url))._replace(query="", fragment="")
    )
