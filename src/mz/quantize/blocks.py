"""A network cut into blocks, each of which hands on one tensor: what reconstruction takes at a time.

After Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction" (ICLR 2021): residual
blocks and inverted bottlenecks come out as one, since nothing is cut that runs beside a shortcut, and nothing between
a layer and a narrower one behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mz.graph import Activation, Graph, Input, Layer, Weighted

_MOST_WEIGHTED = 8
"""A block with more weighted layers than this is taken layer by layer."""


@dataclass(frozen=True, slots=True)
class Block:
    """Layers in topological order, the tensors that they read from before them, and the one they are judged by."""

    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    output: str

    @property
    def weighted(self) -> list[str]:
        return [layer.name for layer in self.layers if isinstance(layer, Weighted)]


def blocks(graph: Graph) -> list[Block]:
    """The accelerator's layers in blocks, in topological order. Layers behind the last weighted one are in none."""
    found: list[Block] = []
    for part in _parts(graph):
        weighted = [layer for layer in part if isinstance(layer, Weighted)]
        if len(weighted) > _MOST_WEIGHTED:
            found += [_block((layer,)) for layer in weighted]
        elif weighted:
            found.append(_block(part))
    return found


def _block(layers: tuple[Layer, ...]) -> Block:
    own = {layer.name for layer in layers}
    outside = [name for layer in layers for name in layer.inputs if name not in own]
    return Block(layers, tuple(dict.fromkeys(outside)), layers[-1].name)


def _parts(graph: Graph) -> Iterator[tuple[Layer, ...]]:
    layers = [layer for layer in graph.layers if not layer.host and not isinstance(layer, Input)]
    cuts = _cuts(graph, layers)
    part: list[Layer] = []
    for layer in layers:
        part.append(layer)
        if layer.name in cuts and any(isinstance(inner, Weighted) for inner in part):
            yield tuple(part)
            part = []
    if part:
        yield tuple(part)


def _cuts(graph: Graph, layers: list[Layer]) -> set[str]:
    """Tensors that alone carry everything on, none of them much larger than the next such one."""
    outputs = set(graph.accelerator_outputs())
    last_reader = {name: place for place, layer in enumerate(layers) for name in layer.inputs}
    last_reader |= dict.fromkeys(outputs, len(layers))
    alive = {layer.name for layer in graph.inputs}
    alone = []
    for place, layer in enumerate(layers):
        alive = {name for name in alive if last_reader.get(name, -1) > place}
        if not alive and not _is_activated(graph, layer):
            alone.append(layer)
        alive.add(layer.name)
    return {
        layer.name
        for layer, following in zip(alone, [*alone[1:], None], strict=True)
        if following is None or 2 * math.prod(following.shape) >= math.prod(layer.shape)
    }


def _is_activated(graph: Graph, layer: Layer) -> bool:
    """Whether only an activation function reads the layer: their errors are judged together."""
    readers = graph.consumers[layer.name]
    return bool(readers) and all(isinstance(reader, Activation) for reader in readers)
