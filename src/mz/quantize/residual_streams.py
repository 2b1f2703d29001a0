"""What normalizations centre: in a transformer the residual stream, to which every block adds."""

from __future__ import annotations

from mz.graph import Elementwise, Graph, Sub
from mz.quantize.groups import behind_constants, behind_moves, scale_groups
from mz.quantize.normalization_scales import normalization_scales


def residual_streams(graph: Graph) -> list[str]:
    """The layers whose tensors normalizations centre, where none but these and element-wise layers read them.

    A stream is rounded anew at every addition, and a few features of a trained one are many times larger than the
    others, with which they share a scale. What has weights or a table, or multiplies matrices, would cost more with
    inputs of 16 bits: a tensor that such a layer reads too is none of these.
    """
    groups = {name: group for group in scale_groups(graph) for name in group}
    centring = [layer for name in normalization_scales(graph) if isinstance(layer := graph[name], Sub)]
    means = {layer.name for sub in centring for layer in behind_moves(graph, sub.inputs[1])}
    found: dict[str, None] = {}
    for sub in centring:
        names = list(behind_constants(graph, sub.inputs[0]))
        if all(_cheap_readers(graph, groups[name], {*means, *names}) for name in names):
            found.update(dict.fromkeys(names))
    return list(found)


def _cheap_readers(graph: Graph, group: tuple[str, ...], known: set[str]) -> bool:
    """Whether only element-wise layers read a group of tensors from outside it, and layers that are known."""
    outside = (reader for name in group for reader in graph.consumers[name] if reader.name not in group)
    return all(isinstance(reader, Elementwise) or reader.name in known for reader in outside)
