"""The C code of a compiled archive as a session."""

from __future__ import annotations

from collections.abc import Mapping

from mz.archive import Archive
from mz.compiler.emitters import C_FOLDER
from mz.engines.native import NativeSession, open_native
from mz.errors import UserError
from mz.optimize import own_pixels


def c_files(artefacts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The C target's files among artefacts, by name."""
    return {
        path.removeprefix(C_FOLDER): content
        for path, content in artefacts.items()
        if path.startswith(C_FOLDER)
    }


def compiled_c_session(archive: Archive) -> NativeSession:
    """Builds what `mz compile` wrote. Raises UserError where the archive holds no C code, or it cannot be built."""
    files = c_files(archive.artefacts)
    if f"{archive.name}.h" not in files:
        raise UserError(
            f"{archive.name}: the archive (state {archive.state}) holds no C code: run `mz compile --emit c` and give "
            f"{archive.name}_compiled.har by --har"
        )
    return open_native(files, archive.name, pixels=own_pixels(archive.input_form))
