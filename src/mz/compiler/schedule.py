"""What runs when and where: the contexts of a dataflow target with their clusters and line buffers, or layer after
layer.

A dataflow target holds the weights and line buffers of all layers of a context on chip; rows of images stream through
them. Where they do not fit together, the network is cut into contexts that run one after the other, with the tensors
between them in external memory. docs/hardware.md states the model's assumptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mz.compiler.clusters import Sharing, share_clusters
from mz.compiler.cycles import cluster_cycles, tensor_bytes, transfer_cycles
from mz.compiler.latency import image_cycles
from mz.compiler.summary import packed_bytes
from mz.graph import Graph, Input, Layer, Quantization
from mz.graph.pipeline import pipeline_flows, pipeline_rows
from mz.zoo import HwArch


@dataclass(frozen=True)
class Context:
    """Layers that are on the target at once; bytes of an image, or of constants.

    reads, writes: tensors that come from external memory and go there. line_buffers: bytes by layer.
    clusters: by layer. interval: compute cycles from one image to the next; latency: of one image alone. fits: whether
    constants and line buffers fit on chip (only a single layer may not).
    """

    layers: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    constant_bytes: int
    line_buffers: dict[str, int]
    clusters: Sharing
    interval: int
    latency: int
    fits: bool = True

    @property
    def buffer_bytes(self) -> int:
        return sum(self.line_buffers.values())


@dataclass(frozen=True)
class Schedule:
    """execution: as the hw_arch has it. order: the accelerator's layers. contexts: in the order they run in."""

    execution: str
    order: tuple[str, ...]
    contexts: tuple[Context, ...]

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        contexts = [asdict(context) | {"buffer_bytes": context.buffer_bytes} for context in self.contexts]
        return {"execution": self.execution, "order": list(self.order), "contexts": contexts}


def schedule(
    arch: HwArch,
    graph: Graph,
    quantization: Quantization,
    constant_bytes: Mapping[str, int],
    order: Sequence[str],
    filling: float = 1.0,
) -> Schedule:
    """constant_bytes: by layer. order: in which a sequential target runs the layers. filling: share of the chip's
    memory up to which contexts are filled; a layer that needs more is alone.
    """
    cycles = cluster_cycles(arch, graph, quantization)
    if arch.execution == "sequential":
        total = sum(cycles.values())
        held = sum(constant_bytes.values())
        inputs = tuple(layer.name for layer in graph.inputs)
        sharing: Sharing = {name: (0,) for name in order if cycles[name]}
        writes = graph.accelerator_outputs()
        whole = Context(tuple(order), inputs, writes, held, {}, sharing, total, total)
        return Schedule("sequential", tuple(order), (whole,))
    assert arch.memory.on_chip_bytes is not None
    layers = [layer for layer in graph.layers if not layer.host and not isinstance(layer, Input)]
    contexts = []
    while layers:
        room = int(filling * arch.memory.on_chip_bytes)
        count = max(1, _how_many_fit(graph, quantization, constant_bytes, layers, room))
        part = subgraph(graph, layers[:count])
        contexts.append(_context(arch, part, quantization, cycles, constant_bytes))
        layers = layers[count:]
    return Schedule("dataflow", tuple(cycles), tuple(contexts))


def subgraph(graph: Graph, layers: Sequence[Layer]) -> Graph:
    """These layers as a network of their own: what they read from outside becomes inputs, what leaves them outputs."""
    names = {layer.name for layer in layers}
    outside = dict.fromkeys(name for layer in layers for name in layer.inputs if name not in names)
    leaving = set(graph.accelerator_outputs())
    outputs = [
        layer.name
        for layer in layers
        if layer.name in leaving or any(reader.name not in names for reader in graph.consumers[layer.name])
    ]
    inputs = [Input(name=name, inputs=(), shape=graph[name].shape) for name in outside]
    return Graph(graph.name, (*inputs, *layers), tuple(outputs))


def line_buffers(graph: Graph, quantization: Quantization) -> dict[str, int]:
    """Bytes that every layer keeps of its inputs while rows stream in; 4-bit values two to a byte."""
    flows = pipeline_flows(graph)
    return {
        name: sum(
            packed_bytes(rows * flows[source].row_values, quantization.tensors[source].bits)
            for rows, source in zip(kept, graph[name].inputs, strict=True)
        )
        for name, kept in pipeline_rows(graph).items()
    }


def _how_many_fit(
    graph: Graph,
    quantization: Quantization,
    constant_bytes: Mapping[str, int],
    layers: Sequence[Layer],
    room: int,
) -> int:
    """How many of the next layers fit on chip together; 0 if not even the first does."""

    def fits(count: int) -> bool:
        part = layers[:count]
        needed = sum(constant_bytes.get(layer.name, 0) for layer in part)
        if needed > room:
            return False
        return needed + sum(line_buffers(subgraph(graph, part), quantization).values()) <= room

    return next((count for count in range(len(layers), 0, -1) if fits(count)), 0)


def _context(
    arch: HwArch,
    part: Graph,
    quantization: Quantization,
    cycles: Mapping[str, int],
    constant_bytes: Mapping[str, int],
) -> Context:
    layers = tuple(layer.name for layer in part.layers if not isinstance(layer, Input))
    interval, sharing = share_clusters({name: cycles[name] for name in layers}, arch.clusters)
    alone = {name: cycles[name] / len(sharing.get(name, (0,))) for name in layers}
    transfer = {
        layer.name: transfer_cycles(arch, tensor_bytes(part, quantization, layer.name))
        for layer in part.inputs
    }
    held = sum(constant_bytes.get(name, 0) for name in layers)
    buffers = {name: size for name, size in line_buffers(part, quantization).items() if size}
    assert arch.memory.on_chip_bytes is not None
    return Context(
        layers=layers,
        reads=tuple(layer.name for layer in part.inputs),
        writes=part.outputs,
        constant_bytes=held,
        line_buffers=buffers,
        clusters=sharing,
        interval=interval,
        latency=max(interval, image_cycles(part, alone, transfer)),
        fits=held + sum(buffers.values()) <= arch.memory.on_chip_bytes,
    )
