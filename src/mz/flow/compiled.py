"""The files of a compiled archive as sessions, fed what the network inside takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mz.archive import Archive
from mz.compiler.emitters import C_FOLDER
from mz.engines.artefact import ArtefactSession
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


def onnx_session(archive: Archive, content: bytes, taps: Iterable[str] = ()) -> ArtefactSession:
    """The integer ONNX file of an archive, with the integers of `taps` beside its outputs. Raises UserError for a
    damaged one.
    """
    import onnx

    assert archive.quantization is not None
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's errors share no public base
        raise UserError(f"{archive.name}.onnx: the compiled file is damaged: compile again") from error
    graph, params, pixels = archive.working_graph, archive.working_params, own_pixels(archive.input_form)
    return ArtefactSession(model, graph, params, archive.quantization, taps, pixels=pixels)


def c_session(archive: Archive, artefacts: Mapping[str, bytes]) -> NativeSession:
    """Builds the C code of an archive among artefacts. Raises UserError where it cannot be built."""
    return open_native(c_files(artefacts), archive.name, pixels=own_pixels(archive.input_form))


def compiled_c_session(archive: Archive) -> NativeSession:
    """Builds what `mz compile` wrote. Raises UserError where the archive holds no C code, or it cannot be built."""
    if f"{archive.name}.h" not in c_files(archive.artefacts):
        raise UserError(
            f"{archive.name}: the archive (state {archive.state}) holds no C code: run `mz compile --emit c` and give "
            f"{archive.name}_compiled.har by --har"
        )
    return c_session(archive, archive.artefacts)
