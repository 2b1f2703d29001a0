"""What normalizations divide by, and its reciprocal: few values, each of which scales a whole map or row."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mz.graph import Activation, Graph
from mz.quantize.groups import is_move


def normalization_scales(graph: Graph) -> list[str]:
    """The layers whose tensors hold them: 1 / sqrt(variance + epsilon), and the variance.

    Their errors are the same all over a map, so that they do not cancel out in sums, and a variance of some image may
    lie far beyond those of the calibration set.
    """
    divisors = [
        layer
        for layer in graph.layers
        if isinstance(layer, Activation) and not layer.host and layer.divides and _scales_more(graph, layer)
    ]
    return [name for layer in divisors for name in (*_read_by(graph, layer), layer.name)]


def _scales_more(graph: Graph, layer: Activation) -> bool:
    """Whether what reads the layer has more values than it."""
    return any(math.prod(reader.shape) > math.prod(layer.shape) for reader in graph.consumers[layer.name])


def _read_by(graph: Graph, layer: Activation) -> Iterator[str]:
    """What the layer reads, and what that comes from where it is a bound or a move."""
    before = graph[layer.inputs[0]]
    while is_move(before) or (isinstance(before, Activation) and before.function == "clip"):
        yield before.name
        before = graph[before.inputs[0]]
    yield before.name
