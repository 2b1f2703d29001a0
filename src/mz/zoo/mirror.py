"""`MZ_MIRROR`: a folder of files that mz would otherwise fetch, searched at any depth before anything is downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mz.errors import UserError
from mz.zoo.cache import digest


@dataclass(frozen=True, slots=True)
class Search:
    """found: the file of the wanted content, under whatever name. impostors: others of the wanted name."""

    found: Path | None = None
    impostors: tuple[Path, ...] = ()


def mirror_root() -> Path | None:
    """The folder that MZ_MIRROR names, if it is set. Raises UserError if it is no folder."""
    named = os.environ.get("MZ_MIRROR")
    if not named:
        return None
    root = Path(named).expanduser()
    if not root.is_dir():
        raise UserError(f"MZ_MIRROR: {named} is not a folder")
    return root


def search(sha256: str, size_bytes: int, name: str) -> Search:
    """Looks for a file by its content, whatever its name is; files of the same name that hold something else are told.

    Only files of the wanted size are read, those of the wanted name first, so that a mirror of many gigabytes is quick.
    """
    root = mirror_root()
    if root is None:
        return Search()
    named, others = [], []
    for entry in _files(root):
        if entry.name == name:
            named.append(Path(entry.path))
        elif _size(entry) == size_bytes:
            others.append(Path(entry.path))
    for path in (*named, *others):
        if path.stat().st_size == size_bytes and digest(path) == sha256:
            return Search(path)
    return Search(None, tuple(named))


def _files(root: Path) -> Iterator[os.DirEntry[str]]:
    """All files below a folder in a fixed order; what cannot be listed is passed over, links to folders too."""
    try:
        with os.scandir(root) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield entry


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1
