"""A normalization right before a PReLU becomes a part of it: one table does both, and rounds once instead of twice.

What a network adds or concatenates before it normalizes has no weights that could take the normalization up, so it is
a depthwise 1x1 convolution. A PReLU has a table for each channel in any case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from mz.graph import Activation, Conv, Graph, Layer, Params
from mz.graph.layers import UNBOUNDED


def fold_into_prelus(
    graph: Graph, params: Params, keep: Collection[str] = ()
) -> tuple[Graph, Params, list[str]]:
    """The same function, and the names of the normalizations that went; none of `keep` goes.

    A layer goes that multiplies each channel by a number and adds another, is not clipped, and is read by one PReLU
    alone. The PReLU becomes an `affine_prelu` of the same name.
    """
    folded: dict[str, Activation] = {}
    arrays = dict(params)
    for layer in graph.layers:
        if not isinstance(layer, Activation) or layer.function != "prelu" or layer.host:
            continue
        source = graph[layer.inputs[0]]
        if not _by_channel(graph, source) or source.name in keep or source.name in graph.outputs:
            continue
        if len(graph.consumers[source.name]) > 1:
            continue
        own = arrays.pop(source.name)
        arrays[layer.name] = params[layer.name] | {"factor": own["kernel"].reshape(-1), "offset": own["bias"]}
        folded[source.name] = dataclasses.replace(
            layer, function="affine_prelu", inputs=source.inputs, origin=(*source.origin, *layer.origin)
        )
    if not folded:
        return graph, params, []
    changed = {layer.name: layer for layer in folded.values()}
    layers = tuple(changed.get(layer.name, layer) for layer in graph.layers if layer.name not in folded)
    return dataclasses.replace(graph, layers=layers), arrays, list(folded)


def _by_channel(graph: Graph, layer: Layer) -> bool:
    """Whether the layer is `factor x + offset` with two numbers a channel."""
    return (
        isinstance(layer, Conv)
        and not layer.host
        and layer.kernel_shape == layer.strides == (1, 1)
        and not any(layer.pads)
        and layer.groups == layer.shape[0] == graph.input_shapes(layer)[0][0]
        and layer.clip == UNBOUNDED
        and not layer.clip_by_channel
    )
