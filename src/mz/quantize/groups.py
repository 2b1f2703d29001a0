"""Which tensors must share scale, zero point and bits: those between which integers only move."""

from __future__ import annotations

from collections.abc import Iterator

from mz.graph import Concat, Conv, Graph, Layer, MaxPool, Pad, Reshape, Resize, Slice, Transpose

MOVES = (Concat, MaxPool, Pad, Reshape, Resize, Slice, Transpose)


def is_move(layer: Layer) -> bool:
    """Whether the layer's output integers are some of its inputs' integers (or, resizing, lie between them)."""
    return isinstance(layer, MOVES)


def behind_moves(graph: Graph, name: str) -> list[Layer]:
    """The layer and those that it comes from, up to the first that is no move."""
    found = [graph[name]]
    while is_move(found[-1]):
        found.append(graph[found[-1].inputs[0]])
    return found


def behind_constants(graph: Graph, name: str) -> Iterator[str]:
    """The tensor, the moves before it, and what a convolution of constants for each place (as positions are) reads."""
    yield name
    layer = graph[name]
    depthwise = isinstance(layer, Conv) and layer.groups == layer.shape[0] and layer.kernel_shape == (1, 1)
    if is_move(layer) or depthwise:
        yield from behind_constants(graph, layer.inputs[0])


def scale_groups(graph: Graph) -> list[tuple[str, ...]]:
    """The accelerator's tensors, partitioned into groups that share one `TensorQuant`; all in topological order."""
    layers = [layer for layer in graph.layers if not layer.host]
    leader = {layer.name: layer.name for layer in layers}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for layer in layers:
        if is_move(layer):
            for name in layer.inputs:
                leader[find(layer.name)] = find(name)
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(find(layer.name), []).append(layer.name)
    return [tuple(group) for group in groups.values()]
