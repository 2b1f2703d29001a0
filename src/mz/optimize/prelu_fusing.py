"""A PReLU (or leaky ReLU) becomes a part of the layer before it, which then rounds once: what has a table of its own
reads integers, and is rounded twice.

Behind a convolution or a dense layer it takes the place of a clip. Behind a sum it takes along a normalization between
the two: what a network adds before it normalizes has no weights that could take the normalization up, so that this is a
depthwise 1x1 convolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from mz.graph import Activation, Add, Conv, Deconv, Graph, Layer, Params, Weighted
from mz.graph.functions import apply


def fuse_prelus(
    graph: Graph, params: Params, keep: Collection[str] = ()
) -> tuple[Graph, Params, dict[str, str]]:
    """The same function, and by PReLU that went the layer that does it now; no normalization of `keep` goes.

    A PReLU goes that alone reads a layer with weights, or a sum of maps or vectors, which is not clipped. One that
    makes an output of the network stays, as the output has its name.
    """
    layers, arrays = dict(graph.by_name), dict(params)
    fused: dict[str, str] = {}
    for layer in graph.layers:
        if not isinstance(layer, Activation) or layer.name in graph.outputs or not _is_prelu(layer):
            continue
        source = graph[layer.inputs[0]]
        slope, origin = _slope(layer, params), (*source.origin, *layer.origin)
        if _is_free_sum(graph, source, layer):
            own = {"factor": np.ones_like(slope), "offset": np.zeros_like(slope)}
        elif not _is_free_linear(graph, source, layer):
            continue
        elif source.name not in keep and _is_normalization(graph, source):
            normalization = arrays.pop(source.name)
            del layers[source.name]
            source = graph[source.inputs[0]]
            own = {"factor": normalization["kernel"].reshape(-1), "offset": normalization["bias"]}
            origin = (*source.origin, *origin)
        else:
            own = arrays[source.name]
        assert isinstance(source, Add | Weighted)
        layers[source.name] = dataclasses.replace(source, prelu=True, origin=origin)
        arrays[source.name] = own | {"slope": slope}
        arrays.pop(layer.name, None)
        del layers[layer.name]
        fused[layer.name] = source.name
    if not fused:
        return graph, params, {}
    renamed = (
        dataclasses.replace(layer, inputs=tuple(fused.get(name, name) for name in layer.inputs))
        for layer in layers.values()
    )
    return dataclasses.replace(graph, layers=tuple(renamed)), arrays, fused


def _is_prelu(layer: Activation) -> bool:
    return layer.function in ("prelu", "leaky_relu") and not layer.host and not layer.scaled


def _slope(layer: Activation, params: Params) -> np.ndarray:
    """float32, by channel of what the layer reads: of a leaky ReLU as many as the last axis has where there are no
    maps, as a dense layer has its channels there.
    """
    if layer.function == "prelu":
        return params[layer.name]["slope"]
    channels = layer.shape[0] if len(layer.shape) == 3 else layer.shape[-1]
    return np.full(channels, -apply(layer.function, np.array(-1.0), layer.constants), np.float32)


def _hands_on(graph: Graph, layer: Layer, reader: Layer) -> bool:
    """Whether what the layer makes goes to this reader alone."""
    return not layer.host and layer.name not in graph.outputs and graph.consumers[layer.name] == (reader,)


def _is_free_sum(graph: Graph, layer: Layer, reader: Layer) -> bool:
    return (
        isinstance(layer, Add)
        and len(layer.shape) in (1, 3)
        and layer.is_linear
        and _hands_on(graph, layer, reader)
    )


def _is_free_linear(graph: Graph, layer: Layer, reader: Activation) -> bool:
    """Whether the layer has weights, the function's channels, and nothing else behind its sums."""
    return (
        isinstance(layer, Weighted)
        and layer.is_linear
        and (isinstance(layer, Conv | Deconv) or len(layer.shape) == 1 or reader.function == "leaky_relu")
        and _hands_on(graph, layer, reader)
    )


def _is_normalization(graph: Graph, layer: Layer) -> bool:
    """Whether the layer is `factor x + offset` of a sum, with two numbers a channel."""
    return (
        isinstance(layer, Conv)
        and layer.kernel_shape == layer.strides == (1, 1)
        and not any(layer.pads)
        and layer.groups == layer.shape[0] == graph.input_shapes(layer)[0][0]
        and _is_free_sum(graph, graph[layer.inputs[0]], layer)
    )
