"""From what a command names to a parsed network: its configuration, its ONNX file, its archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mz import archive as har
from mz import tasks, zoo
from mz.archive import Archive
from mz.engines.float_ort import FloatSession
from mz.engines.original import OriginalSession
from mz.errors import UserError
from mz.flow.describe import describe, name_of
from mz.flow.options import ModelRef, Note, Progress, no_note, no_progress
from mz.graph import Graph
from mz.parser import ParseResult, cut_model, input_names
from mz.parser import parse as parse_onnx
from mz.parser.onnx_file import with_input_shapes
from mz.parser.parity import require_parity

DEFAULT_HW_ARCH = "mz8"


def configuration(archive: Archive, ref: ModelRef) -> zoo.NetworkConfig:
    """The network's configuration: the YAML that the user names, else the archive's own."""
    if ref.yaml is not None:
        return zoo.load_network(ref.yaml)
    return zoo.from_dict(archive.config, f"{ref.har or archive.name}: network.yaml")


def source_of(ref: ModelRef) -> zoo.NetworkConfig | None:
    """The configuration that `ref` names; None for an ONNX file alone."""
    if ref.yaml is not None:
        return zoo.load_network(ref.yaml)
    return None if ref.model is None else zoo.load_network(ref.model)


def parse_alone(ref: ModelRef) -> ParseResult:
    """The network of an ONNX file that nothing describes. Raises UserError for what the parser does not take."""
    assert ref.ckpt is not None
    shape = ref.images.input_shape
    shapes = dict.fromkeys(input_names(ref.ckpt, ref.start_nodes), shape) if shape else None
    return parse_onnx(
        ref.ckpt,
        name=name_of(ref.ckpt),
        start_nodes=ref.start_nodes,
        end_nodes=ref.end_nodes,
        input_shapes=shapes,
    )


def coverage_line(report: Mapping[str, Any], graph: Graph) -> str:
    """How much of the graph is on the accelerator, and with which layer and why the host's part begins."""
    coverage = graph.coverage()
    line = (
        f"{graph.name}: on the accelerator {coverage.layers_percent:.1f} % of the layers, "
        f"{coverage.macs_percent:.1f} % of the MACs"
    )
    for name, reason in report.get("parse", {}).get("host", {}).items():
        return f"{line}; the rest is float on the host, from {name} on ({reason})"
    return line


def parse(
    ref: ModelRef, *, hw_arch: str | None = None, note: Note = no_note, progress: Progress = no_progress
) -> Archive:
    """Parses the network's ONNX and proves the result equal to it.

    Raises UserError for what the parser does not take, and where the outputs differ from onnxruntime's on the original
    file by more than 80 dB allow.
    """
    config = source_of(ref)
    if config is None:
        assert ref.ckpt is not None
        path, start, end = ref.ckpt, ref.start_nodes, ref.end_nodes
        result = parse_alone(ref)
        described = describe(result, path, ref.images, start_nodes=start, end_nodes=end)
        config = described.config
        for line in described.assumed:
            note(line)
    else:
        folder = None if ref.yaml is None else ref.yaml.parent
        path = ref.ckpt or zoo.model_path(
            config, folder=folder, offline=ref.offline, note=note, progress=progress
        )
        start = ref.start_nodes or config.parser.start_node_names
        end = ref.end_nodes or config.parser.end_node_names
        shapes = config.parser.input_shapes or None
        result = parse_onnx(
            path, name=config.network.name, start_nodes=start, end_nodes=end, input_shapes=shapes
        )
    config = tasks.with_characters(config, path)
    name = config.network.name
    for line in result.notes:
        note(f"  {line}")
    parity_db = require_parity(result, *_runners(result, path, start, end))
    note(f"{name}: {len(result.graph.layers)} layers, outputs equal to the original's to {parity_db:.0f} dB")
    report = {
        "parse": {
            "parity_db": round(parity_db, 1),
            "notes": list(result.notes),
            "host": dict(result.host_reasons),
        }
    }
    arch = zoo.load_hw_arch(hw_arch or DEFAULT_HW_ARCH)
    settings = {"start_node_names": list(start), "end_node_names": list(end), "source_sha256": _sha256(path)}
    return Archive(
        name=name,
        state="parsed",
        hw_arch=arch.name,
        config=zoo.to_dict(config),
        graph=result.graph,
        params=result.params,
        report=report,
        history=[{"stage": "parse", "settings": settings}],
    )


def load(
    ref: ModelRef, *, hw_arch: str | None = None, note: Note = no_note, progress: Progress = no_progress
) -> Archive:
    """The archive that `ref` names, or the network freshly parsed.

    Says so where the host computes a part of the network, in float: figures of the integer network are then not those
    of the whole. A MODEL beside --har must be the archive's own network, else UserError.
    """
    if ref.har is None:
        archive = parse(ref, hw_arch=hw_arch, note=note, progress=progress)
    else:
        archive = har.read(ref.har)
        if ref.model is not None and ref.model != archive.name:
            raise UserError(
                f"{ref.har}: holds {archive.name}, not {ref.model}; leave MODEL out or give its own archive"
            )
    if archive.graph.coverage().macs_percent < 100:
        note(coverage_line(archive.report, archive.graph))
    return archive


def only_input(graph: Graph) -> str:
    """The name of the single input layer. Raises UserError for a network with several."""
    if len(graph.inputs) != 1:
        raise UserError(f"{graph.name}: has {len(graph.inputs)} inputs; mz feeds networks of one image input")
    return graph.inputs[0].name


def working_arch(archive: Archive, hw_arch: str | None) -> zoo.HwArch:
    """The hw_arch in force: the one asked for, else the archive's, which must then be one of the zoo."""
    if hw_arch is None and archive.hw_arch not in zoo.hw_arch_names():
        raise UserError(
            f"{archive.name}: was made for hw_arch {archive.hw_arch}, a file that is not in the zoo: "
            "name it by --hw-arch"
        )
    return zoo.load_hw_arch(hw_arch or archive.hw_arch)


Runner = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def _runners(
    result: ParseResult, path: Path, start: tuple[str, ...], end: tuple[str, ...]
) -> tuple[Runner, Runner]:
    model = cut_model(path, start, end)
    with_input_shapes(
        model, {result.input_names[entry.name]: (1, *entry.shape) for entry in result.graph.inputs}
    )
    layers, tensors = zip(*result.scores.values(), strict=True) if result.scores else ((), ())
    original = OriginalSession(model, taps=tensors, name=str(path))
    return original.run, FloatSession(result.graph, result.params, taps=layers).run


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
