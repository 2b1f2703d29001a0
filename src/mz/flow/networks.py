"""From what a command names to a parsed network: its configuration, its ONNX file, its archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mz import archive as har
from mz import zoo
from mz.archive import Archive
from mz.engines.float_ort import FloatSession
from mz.engines.original import OriginalSession
from mz.errors import UserError
from mz.flow.options import ModelRef, Note, no_note
from mz.graph import Graph
from mz.parser import ParseResult, cut_model
from mz.parser import parse as parse_onnx
from mz.parser.parity import require_parity

DEFAULT_HW_ARCH = "mz8"


def configuration(archive: Archive, ref: ModelRef) -> zoo.NetworkConfig:
    """The network's configuration: the YAML that the user names, else the archive's own."""
    if ref.yaml is not None:
        return zoo.load_network(ref.yaml)
    return zoo.from_dict(archive.config, f"{ref.har or archive.name}: network.yaml")


def _source_configuration(ref: ModelRef) -> zoo.NetworkConfig:
    if ref.yaml is not None:
        return zoo.load_network(ref.yaml)
    if ref.model is not None:
        return zoo.load_network(ref.model)
    raise UserError(
        f"{ref.ckpt}: an ONNX file alone says nothing of its images: name a MODEL of the zoo or give --yaml"
    )


def parse(ref: ModelRef, *, hw_arch: str | None = None, note: Note = no_note) -> Archive:
    """Parses the network's ONNX and proves the result equal to it.

    Raises UserError for what the parser does not take, and where the outputs differ from onnxruntime's on the original
    file by more than 80 dB allow.
    """
    config = _source_configuration(ref)
    name = config.network.name
    path = ref.ckpt or zoo.model_path(config)
    start = ref.start_nodes or config.parser.start_node_names
    end = ref.end_nodes or config.parser.end_node_names
    shapes = config.parser.input_shapes or None
    result = parse_onnx(path, name=name, start_nodes=start, end_nodes=end, input_shapes=shapes)
    for line in result.notes:
        note(f"  {line}")
    parity_db = require_parity(result, *_runners(result, path, start, end))
    note(f"{name}: {len(result.graph.layers)} layers, outputs equal to the original's to {parity_db:.0f} dB")
    arch = zoo.load_hw_arch(hw_arch or DEFAULT_HW_ARCH)
    settings = {"start_node_names": list(start), "end_node_names": list(end), "source_sha256": _sha256(path)}
    return Archive(
        name=name,
        state="parsed",
        hw_arch=arch.name,
        config=zoo.to_dict(config),
        graph=result.graph,
        params=result.params,
        report={"parse": {"parity_db": round(parity_db, 1), "notes": list(result.notes)}},
        history=[{"stage": "parse", "settings": settings}],
    )


def load(ref: ModelRef, *, hw_arch: str | None = None, note: Note = no_note) -> Archive:
    """The archive that `ref` names, or the network freshly parsed.

    A MODEL beside --har must be the archive's own network, else UserError.
    """
    if ref.har is None:
        return parse(ref, hw_arch=hw_arch, note=note)
    loaded = har.read(ref.har)
    if ref.model is not None and ref.model != loaded.name:
        raise UserError(
            f"{ref.har}: holds {loaded.name}, not {ref.model}; leave MODEL out or give its own archive"
        )
    return loaded


def only_input(graph: Graph) -> str:
    """The name of the single input layer. Raises UserError for a network with several."""
    if len(graph.inputs) != 1:
        raise UserError(f"{graph.name}: has {len(graph.inputs)} inputs; mz feeds networks of one image input")
    return graph.inputs[0].name


def working_arch(archive: Archive, hw_arch: str | None) -> zoo.HwArch:
    """The hw_arch in force: the one asked for, else the archive's."""
    return zoo.load_hw_arch(hw_arch or archive.hw_arch)


Runner = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def _runners(
    result: ParseResult, path: Path, start: tuple[str, ...], end: tuple[str, ...]
) -> tuple[Runner, Runner]:
    original = OriginalSession(cut_model(path, start, end) if start or end else path)
    return original.run, FloatSession(result.graph, result.params).run


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
