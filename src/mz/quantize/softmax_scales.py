"""What a softmax reads, and the product that it divides last: tensors whose steps become shares of their values."""

from __future__ import annotations

from collections.abc import Iterator

from mz.graph import Activation, Graph, Layer, MatMul, MaxPool, Mul, Sub
from mz.quantize.groups import behind_constants, behind_moves


def softmax_scales(graph: Graph) -> list[str]:
    """The layers whose tensors hold them.

    A step of what goes into an exponential is a share of what comes out, whatever its size; and a product that is yet
    to be divided by the sum of a row's weights is as large as that sum, which differs from row to row. With no softmax
    the sum is a column of the product itself, and of the product before it: far larger than the others.
    """
    found: dict[str, None] = {}
    for layer in graph.layers:
        if layer.host:
            continue
        if isinstance(layer, Sub) and _exponential(graph, layer) and _is_maximum(graph, *layer.inputs):
            found.update(dict.fromkeys(behind_constants(graph, layer.inputs[0])))
        if isinstance(layer, Mul):
            factors = [graph[name] for name in layer.inputs]
            if any(isinstance(factor, Activation) and factor.divides for factor in factors):
                divided = list(_products(graph, layer))
                found.update(dict.fromkeys(divided))
                found.update((name, None) for product in divided for name in _products(graph, graph[product]))
    return list(found)


def _products(graph: Graph, layer: Layer) -> Iterator[str]:
    """The products of matrices that a layer reads, moves aside."""
    for name in layer.inputs:
        source = behind_moves(graph, name)[-1]
        if isinstance(source, MatMul):
            yield source.name


def _exponential(graph: Graph, layer: Layer) -> bool:
    return any(
        isinstance(reader, Activation) and reader.function == "exp" for reader in graph.consumers[layer.name]
    )


def _is_maximum(graph: Graph, whole: str, largest: str) -> bool:
    """Whether a tensor is another's maximum, moves aside."""
    seen = behind_moves(graph, whole)
    return any(
        isinstance(source, MaxPool) and any(layer in seen for layer in behind_moves(graph, source.name))
        for source in behind_moves(graph, largest)
    )
