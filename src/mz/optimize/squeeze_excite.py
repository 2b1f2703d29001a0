"""Finds squeeze-and-excite blocks by their structure: a map, its mean over all places, and a gate made of that."""

from __future__ import annotations

from dataclasses import dataclass

from mz.graph import Activation, AvgPool, Conv, Dense, GlobalAvgPool, Graph, Layer, Mul, Reshape


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """pool: the global pool. between: the layers from it to the gate, in order. product: where the gate is applied."""

    pool: Layer
    between: tuple[Layer, ...]
    product: Mul


def find_squeeze_excite(graph: Graph) -> list[SqueezeExcite]:
    """All blocks, from the input on."""
    blocks = (_block(graph, layer) for layer in graph.layers if not layer.host)
    return [block for block in blocks if block is not None]


def _block(graph: Graph, pool: Layer) -> SqueezeExcite | None:
    if not _is_global(graph, pool):
        return None
    between: list[Layer] = []
    weighted = 0
    layer = pool
    while True:
        readers = graph.consumers[layer.name]
        if len(readers) != 1 or layer.name in graph.outputs:
            return None
        (reader,) = readers
        if isinstance(reader, Mul):
            break
        if not _is_pointwise(reader):
            return None
        weighted += isinstance(reader, Conv | Dense)
        between.append(reader)
        layer = reader
    maps = [graph[name] for name in reader.inputs if name != layer.name]
    fits = len(maps) == 1 and maps[0].shape[1:] == graph.input_shapes(pool)[0][1:] and weighted
    return SqueezeExcite(pool, tuple(between), reader) if fits else None


def _is_global(graph: Graph, layer: Layer) -> bool:
    if isinstance(layer, GlobalAvgPool):
        return True
    return (
        isinstance(layer, AvgPool)
        and layer.kernel_shape == graph.input_shapes(layer)[0][1:]
        and not any(layer.pads)
    )


def _is_pointwise(layer: Layer) -> bool:
    """Whether the layer treats every place of a map alike, a vector being a map of one place."""
    if isinstance(layer, Conv):
        return layer.kernel_shape == (1, 1) and layer.strides == (1, 1) and not any(layer.pads)
    if isinstance(layer, Dense):
        return len(layer.shape) == 1
    if isinstance(layer, Reshape):
        return sorted(layer.shape)[:-1] in ([], [1, 1])
    return isinstance(layer, Activation) and not layer.host
