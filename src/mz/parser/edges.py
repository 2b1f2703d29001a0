"""What the nodes of an ONNX graph read, and the order in which they stand."""

from __future__ import annotations

import heapq
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def node_name(node: onnx.NodeProto) -> str:
    """The node's name, or that of its first output where it has none."""
    return str(node.name or node.output[0])


def reads(node: onnx.NodeProto) -> list[str]:
    """Tensors that a node reads, those included that its subgraphs read from outside."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            made = {name for inner in graph.node for name in inner.output}
            made |= {entry.name for entry in (*graph.input, *graph.initializer)}
            names += [name for inner in graph.node for name in reads(inner) if name not in made]
    return list(dict.fromkeys(names))


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Moves nodes behind those that they read, in place, and keeps the file's order else.

    The standard asks for this order, but onnxruntime takes any, and converters to half precision append their casts.
    Raises CycleError, with the places of the nodes in `graph`.
    """
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output}
    before = {
        place: [maker[name] for name in reads(node) if name in maker] for place, node in enumerate(graph.node)
    }
    if all(place > max(places, default=-1) for place, places in before.items()):
        return
    sorter = TopologicalSorter(before)
    sorter.prepare()
    ready: list[int] = []
    ordered = []
    while sorter.is_active():
        for place in sorter.get_ready():
            heapq.heappush(ready, place)
        ordered.append(first := heapq.heappop(ready))
        sorter.done(first)
    nodes = [graph.node[place] for place in ordered]
    del graph.node[:]
    graph.node.extend(nodes)
