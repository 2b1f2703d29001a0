"""The file around the members: a plain tar, written whole or not at all, read without trust and without unpacking."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mz.archive.files import writing
from mz.archive.members import METADATA, archive_of, is_safe_path, members, metadata_of
from mz.archive.model import Archive
from mz.errors import UserError


def write(archive: Archive, path: Path | str) -> None:
    """Writes the archive to `path`; the same archive gives the same bytes.

    Raises UserError where the file cannot be written, ValueError for an archive that contradicts itself.
    """
    content = members(archive)
    with writing(Path(path)) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(
                name
            )  # time 0, owner 0, mode 0644: the defaults say nothing of the machine
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def read(path: Path | str) -> Archive:
    """The archive in the file `path`.

    Raises UserError, naming the file and the member at fault, for whatever is not an undamaged archive that this
    version knows.
    """
    try:
        return archive_of(read_members(path))
    except UserError as error:
        raise _at(path, error) from error.__cause__


def read_members(path: Path | str) -> dict[str, bytes]:
    """Every member's bytes by name, their checksums verified. Raises UserError as `read` does."""
    try:
        content = dict(_members(Path(path)))
        _verify(content)
    except UserError as error:
        raise _at(path, error) from error.__cause__
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    # tarfile lets int() and decode() errors of broken headers through
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a readable archive: {error}") from error
    return content


def extract(path: Path | str, folder: Path) -> list[Path]:
    """Writes the members of an undamaged archive as files under `folder`; returns their paths.

    Raises UserError as `read` does, before anything is written, and where a file cannot be written.
    """
    content = read_members(path)
    paths = []
    for name, data in content.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create {target.parent}: {error.strerror}") from error
        with writing(target) as file:
            file.write(data)
        paths.append(target)
    return paths


def _at(path: Path | str, error: UserError) -> UserError:
    message = str(error)
    return error if message.startswith(f"{path}: ") else UserError(f"{path}: {message}")


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    total_bytes = path.stat().st_size
    seen: dict[str, None] = {}
    with tarfile.open(path, "r:") as tar:
        while info := _next(tar, seen):
            if info.type != tarfile.REGTYPE or not is_safe_path(info.name):
                raise UserError(f"member {info.name!r} is not a plain file inside the archive")
            if info.name in seen:
                raise UserError(f"member {info.name} is there twice")
            if not 0 <= info.size <= total_bytes - info.offset_data:
                raise UserError(f"member {info.name} is cut off: the file is truncated")
            seen[info.name] = None
            file = tar.extractfile(info)
            assert file is not None
            yield info.name, file.read()


def _next(tar: tarfile.TarFile, seen: dict[str, None]) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except tarfile.TarError as error:
        raise UserError(
            f"the file is damaged after member {list(seen)[-1]}: {error}" if seen else str(error)
        ) from error


def _verify(content: dict[str, bytes]) -> None:
    names = [name for name in content if name.endswith(METADATA) and "/" not in name]
    if len(names) != 1:
        raise UserError("not an archive of mz: it holds no metadata")
    try:
        metadata = metadata_of(content[names[0]])
        checksums, name = dict(metadata["sha256"]), metadata["name"]
        if not isinstance(metadata["history"], list) or not isinstance(metadata["hw_arch"], str):
            raise ValueError("history or hw_arch is of the wrong type")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"member {names[0]}: {error}") from error
    if name + METADATA != names[0]:
        raise UserError(f"member {names[0]} says that its network is {name!r}")
    if extra := sorted(set(content) - set(checksums) - set(names)):
        raise UserError(f"member {extra[0]} is not listed in {names[0]}")
    for member, checksum in checksums.items():
        if member not in content:
            raise UserError(f"member {member} is missing: the file is truncated or was edited")
        if hashlib.sha256(content[member]).hexdigest() != checksum:
            raise UserError(f"member {member}: checksum mismatch: the file is damaged or was edited")
