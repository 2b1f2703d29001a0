"""One file per form of deployable artefact, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mz.compiler.emitters import c99, onnx, qdq
from mz.graph import Graph, Params, Pixels, Quantization


@dataclass(frozen=True)
class Source:
    """What an emitter writes files of.

    metadata: where it all comes from, for files that have a place for it. pixels: where the network takes pixels and
    the files normalized images.
    """

    name: str
    graph: Graph
    params: Params
    quantization: Quantization
    metadata: dict[str, str] = field(default_factory=dict)
    pixels: Pixels | None = None


Emitter = Callable[[Source], dict[str, bytes]]
"""The files of a form, by relative path; the same source gives the same bytes."""


def _onnx(source: Source) -> dict[str, bytes]:
    model = onnx.emit(source.graph, source.params, source.quantization, source.metadata, source.pixels)
    return {f"{source.name}.onnx": model}


def _qdq(source: Source) -> dict[str, bytes]:
    model = qdq.emit(source.graph, source.params, source.quantization, source.metadata, source.pixels)
    return {f"{source.name}.qdq.onnx": model}


def _c(source: Source) -> dict[str, bytes]:
    files = c99.emit(
        source.name, source.graph, source.params, source.quantization, source.metadata, source.pixels
    )
    return {f"{C_FOLDER}{file}": content for file, content in files.items()}


C_FOLDER = "c/"
"""Where the C target's files lie, among the artefacts and in the compiled folder."""
EMITTERS: dict[str, Emitter] = {"onnx": _onnx, "qdq": _qdq, "c": _c}
"""By form, as the `emit` key of hw_archs and the option --emit name them."""
