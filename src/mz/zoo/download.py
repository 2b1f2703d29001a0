"""One file from an address into the cache: resumed where a connection broke, verified, then landed in one step.

What arrives is written under `partial/` and moves to its place only if size and sha256 are the wanted ones. It is
never executed, imported or unpickled here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from mz.errors import UserError
from mz.zoo import http
from mz.zoo.cache import cached, digest, file_path, make_folder, partial_path
from mz.zoo.telling import Progress, no_progress

_CONNECTIONS = 20
_CHUNK_BYTES = 1 << 16


def download(url: str, sha256: str, size_bytes: int, name: str, *, progress: Progress = no_progress) -> Path:
    """The file of that size and content, in the cache.

    A connection that breaks is taken up again where it broke, at once while that gets further, and by the next call.
    Two processes that want the same file take turns. Raises UserError naming the address for whatever goes wrong; then
    the cache holds no such file, and a file that proved to be a wrong one leaves nothing at all.
    """
    partial, target = partial_path(sha256), file_path(sha256, name)
    make_folder(partial.parent)
    make_folder(target.parent)
    try:
        with _locked(partial) as file:
            if (landed := cached(sha256, name)) is not None:
                return landed
            with progress(name, size_bytes, "B") as advance:
                _fill(file, url, sha256, size_bytes, _meter(advance))
            os.replace(partial, target)
    except OSError as error:
        raise UserError(f"{partial}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            target.parent.rmdir()  # only if it is empty
    return target


def _fill(file: BinaryIO, url: str, sha256: str, size_bytes: int, reach: Callable[[int], None]) -> None:
    """Brings the open file to its full and verified content, or raises UserError."""
    resumed = _size(file) > 0
    # What an earlier call left may not fit what the server has now: then once more from the beginning.
    for _ in range(1 + resumed):
        _complete(file, url, size_bytes, reach)
        file.flush()
        os.fsync(file.fileno())
        found = digest(Path(file.name))
        if found == sha256:
            return
        file.truncate(0)
    raise UserError(
        f"{http.shown(url)}: not the file that the configuration names: sha256 {found}, wanted {sha256}; "
        "nothing was kept"
    )


def _complete(file: BinaryIO, url: str, size_bytes: int, reach: Callable[[int], None]) -> None:
    """Brings the file to its full length, over as many connections as get further. Raises UserError otherwise."""
    if _size(file) > size_bytes:
        file.truncate(0)
    for _ in range(_CONNECTIONS):
        furthest = _size(file)
        if furthest == size_bytes:
            return
        trouble = _receive(file, url, size_bytes, reach)
        if _size(file) <= furthest:
            break
    if _size(file) < size_bytes:
        raise _ended_early(file, url, trouble, size_bytes)


def _ended_early(file: BinaryIO, url: str, trouble: str, size_bytes: int) -> UserError:
    kept = _size(file)
    rest = ", kept for the next try" if kept else ""
    return UserError(f"{http.shown(url)}: {trouble} ({kept:,} of {size_bytes:,} bytes came{rest})")


def _meter(advance: Callable[[int], Any]) -> Callable[[int], None]:
    """Tells `advance` how far the file has come; bytes that come a second time are not counted again."""
    counted = 0

    def reach(position: int) -> None:
        nonlocal counted
        if position > counted:
            advance(position - counted)
            counted = position

    return reach


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _receive(file: BinaryIO, url: str, size_bytes: int, reach: Callable[[int], None]) -> str:
    """Appends what one connection brings; what it ended with, in words. Raises UserError where trying on is no use."""
    start = _size(file)
    # "identity": a server that compresses on the way would count other bytes than those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with http.get(url, headers) as response:
            if start and not _continues(response, start):
                start = file.truncate(0)
            announced = response.headers.get("Content-Length", "")
            if announced.isdecimal() and start + int(announced) != size_bytes:
                _refuse_size(file, url, f"{start + int(announced):,} bytes", size_bytes)
            reach(start)
            while chunk := response.read1(_CHUNK_BYTES):
                if start + len(chunk) > size_bytes:
                    _refuse_size(file, url, "more bytes", size_bytes)
                _write(file, chunk)
                start += len(chunk)
                reach(start)
    except http.StatusError as error:
        if error.status == 416:  # what we hold is longer than what the server has
            file.truncate(0)
        elif error.status < 500:
            raise UserError(f"{http.shown(url)}: {error}") from None
        return str(error)
    except TimeoutError as error:  # to wait as long again would try the user's patience
        raise _ended_early(file, url, http.explain(error), size_bytes) from None
    except http.TROUBLE as error:
        return http.explain(error)
    return "the file ended too early"


def _refuse_size(file: BinaryIO, url: str, found: str, size_bytes: int) -> NoReturn:
    file.truncate(0)
    raise UserError(
        f"{http.shown(url)}: not the file that the configuration names: {found}, wanted {size_bytes:,} bytes; "
        "nothing was kept"
    )


def _continues(response: Any, start: int) -> bool:
    """Whether the server goes on where we asked it to, rather than from the beginning."""
    found: str = response.headers.get("Content-Range", "")
    return response.status == 206 and found.replace(" ", "").startswith(f"bytes{start}-")


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:  # a full disk must not be taken for a broken connection
        raise UserError(f"{file.name}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, open for appending; other processes that open it so wait until it is closed.

    Removed at the end if it is empty.
    """
    while True:
        with partial.open("ab") as file:
            _lock(file)
            # While we waited, the one before us may have moved the file to its place.
            if _is(file, partial):
                try:
                    yield file
                finally:
                    if _is(file, partial) and _size(file) == 0:
                        partial.unlink()
                return


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one that has the name `path` now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows, where a second process fails to move the file instead
        return
    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
