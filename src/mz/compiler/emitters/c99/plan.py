"""Where every tensor stands in the arena: first fit, the largest first, in the graph's order, nothing in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mz.compiler.emitters.c99.layout import storage_bytes
from mz.graph import Graph, Input, Quantization

ALIGNMENT = 16


@dataclass(frozen=True)
class Plan:
    """Bytes throughout. order: accelerator layers as they run, inputs first. offsets: of every tensor; scratch_offsets:
    of the layers that need some.
    """

    order: tuple[str, ...]
    offsets: dict[str, int]
    scratch_offsets: dict[str, int]
    arena_bytes: int


def plan_memory(graph: Graph, quantization: Quantization, scratch: Mapping[str, int]) -> Plan:
    """A tensor lives from its layer to its last reader, inputs from the beginning, outputs to the end; scratch while its
    layer runs.
    """
    layers = sorted((one for one in graph.layers if not one.host), key=lambda one: not isinstance(one, Input))
    step = {layer.name: index for index, layer in enumerate(layers)}
    last = {name: step[layer.name] for layer in layers for name in layer.inputs}
    last |= dict.fromkeys(graph.accelerator_outputs(), len(layers) - 1)
    blocks = {
        ("tensor", layer.name): (
            math.prod(layer.shape) * storage_bytes(quantization.tensors[layer.name].bits),
            0 if isinstance(layer, Input) else step[layer.name],
            last.get(layer.name, step[layer.name]),
        )
        for layer in layers
    } | {("scratch", name): (size, step[name], step[name]) for name, size in scratch.items()}
    placed: dict[tuple[str, str], tuple[int, int]] = {}
    for key, (size, first, end) in sorted(blocks.items(), key=lambda item: (-item[1][0], item[1][1])):
        offset = 0
        meeting = [place for other, place in placed.items() if blocks[other][1] <= end and first <= blocks[other][2]]
        for begin, stop in sorted(meeting):
            if begin - offset >= size:
                break
            offset = max(offset, stop)
        placed[key] = (offset, offset + -(-size // ALIGNMENT) * ALIGNMENT)
    return Plan(
        order=tuple(layer.name for layer in layers),
        offsets={name: place[0] for (kind, name), place in placed.items() if kind == "tensor"},
        scratch_offsets={name: place[0] for (kind, name), place in placed.items() if kind == "scratch"},
        arena_bytes=max(stop for _, stop in placed.values()),
    )
