"""The user's cache of fetched files: named by sha256, checked whenever they are read, there whole or not at all.

`MZ_CACHE` names the folder; otherwise the system's rule for caches applies (XDG on Linux). Its parts: `files/`
(complete and verified), `built/` (ONNX built from a checkpoint), `partial/` (downloads to be resumed), `tuning/` and
`statistics/` (what `mz.flow` keeps from run to run).
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from mz.errors import UserError

_CHUNK_BYTES = 1 << 20


def cache_root() -> Path:
    """The cache's folder, which need not exist yet."""
    if named := os.environ.get("MZ_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mz" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mz"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "mz"


def file_path(sha256: str, name: str) -> Path:
    """Where the verified file of that content lies, once it is there."""
    return cache_root() / "files" / sha256 / name


def built_path(key: str, name: str) -> Path:
    """Where the ONNX lies that was built from what `key` (hex) stands for, once it is there."""
    return cache_root() / "built" / key / name


def partial_path(sha256: str) -> Path:
    """Where the beginning of a file lies that is being downloaded, or was."""
    return cache_root() / "partial" / sha256


def cached(sha256: str, name: str) -> Path | None:
    """The file of that content, or None. A file that was damaged since it landed is removed."""
    path = file_path(sha256, name)
    if not path.is_file():
        return None
    if digest(path) == sha256:
        return path
    discard(sha256, name)
    return None


def discard(sha256: str, name: str) -> None:
    """Takes a file out of the cache, if it is there."""
    path = file_path(sha256, name)
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def make_folder(folder: Path) -> None:
    """Raises UserError where the cache cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made: {error.strerror or error}; MZ_CACHE names another folder for the cache"
        ) from error


def digest(path: Path) -> str:
    """sha256 (hex) of a file. Raises UserError where it cannot be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found.hexdigest()
