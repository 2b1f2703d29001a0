"""Where the zoo's files lie, and the names in it. Nothing here reads a file, so that listing names is immediate.

A wheel carries a copy of `cfg/` as `mz/zoo/cfg`; a checkout (and an editable installation) has it at its top.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def config_root() -> Path:
    """The folder `cfg`: the wheel's own copy, else the checkout's."""
    packaged = _HERE / "cfg"
    return packaged if packaged.is_dir() else _HERE.parents[2] / "cfg"


def bundled_root() -> Path:
    """The folder of the networks and data that come with mz."""
    return _HERE / "bundled"


def network_names(glob: str = "*") -> list[str]:
    """Names of the zoo's networks that match the shell pattern, sorted."""
    return _names("networks", glob)


def hw_arch_names(glob: str = "*") -> list[str]:
    """Names of the hw_archs that match the shell pattern, sorted."""
    return _names("hw_archs", glob)


def _names(folder: str, glob: str) -> list[str]:
    stems = (path.stem for path in (config_root() / folder).glob("*.yaml"))
    return sorted(name for name in stems if fnmatchcase(name, glob))


def nearest(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the names closest to the word, at most three, or nothing."""
    close = difflib.get_close_matches(word, list(names), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def shown(path: Path) -> str:
    """The path as an error message names it: the zoo's own files from `cfg/` on, others as they came."""
    root = config_root()
    return f"cfg/{path.relative_to(root).as_posix()}" if path.is_relative_to(root) else str(path)
