"""What normalizations divide by, and what it is made of: a wrong one scales a whole map or row."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mz.graph import Activation, Graph, Mul, Sub
from mz.quantize.groups import behind_moves, is_move


def normalization_scales(graph: Graph) -> list[str]:
    """The layers whose tensors hold them: 1 / sqrt(variance + epsilon), the variance, the squares whose mean it is, and
    the differences that are squared.

    Errors of the first two are the same all over a map, so that they do not cancel out in sums, and a variance of some
    image may lie far beyond those of the calibration set. The features of a transformer have few places with large
    values: in 8 bits with these no square is left of the others, and where one passes the range, all of a row is off.
    """
    divisors = [
        layer
        for layer in graph.layers
        if isinstance(layer, Activation) and not layer.host and layer.divides and _scales_more(graph, layer)
    ]
    found = []
    for layer in divisors:
        read = list(_read_by(graph, layer))
        found += [*read, layer.name, *_squares(graph, read[-1])]
    return found


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


def _squares(graph: Graph, mean: str) -> Iterator[str]:
    """What a layer takes the mean or the sum of if that is squares, and the differences that are squared."""
    square = behind_moves(graph, next(iter(graph[mean].inputs), mean))[-1]
    if isinstance(square, Mul) and square.is_square:
        yield square.name
        if isinstance(graph[square.inputs[0]], Sub):
            yield square.inputs[0]
