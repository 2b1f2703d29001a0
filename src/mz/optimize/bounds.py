"""Bounds of every channel for any image at all, by interval arithmetic over the float network."""

from __future__ import annotations

import numpy as np

from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Conv,
    Deconv,
    Dense,
    Elementwise,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Params,
    Resize,
    Sub,
    Weighted,
)
from mz.graph.functions import along_channels, apply
from mz.optimize.channels import compact, moved
from mz.optimize.rescaling import by_channel, clip_bounds, input_channels

Interval = tuple[np.ndarray, np.ndarray]
"""Smallest and largest value of each place of a tensor, float64 of its shape; infinite where nothing is known."""

_RISING = ("sigmoid", "hard_sigmoid", "elu", "selu", "celu", "softplus", "tanh", "clip", "exp", "sqrt")
_BENT_AT_ZERO = ("leaky_relu", "prelu", "abs", "square")


def interval_bounds(graph: Graph, params: Params) -> dict[str, Interval]:
    """By accelerator tensor. A place whose bounds meet is constant. Inputs and products of matrices may be anything."""
    found: dict[str, Interval] = {}
    for layer in graph.layers:
        if not layer.host:
            low, high = _bounds(layer, params, [found[name] for name in layer.inputs])
            low, high = compact(low), compact(high)
            found[layer.name] = np.broadcast_to(low, layer.shape), np.broadcast_to(high, layer.shape)
    return found


def _bounds(layer: Layer, params: Params, inputs: list[Interval]) -> Interval:
    if isinstance(layer, Input | MatMul):
        return np.full(layer.shape, -np.inf), np.full(layer.shape, np.inf)
    if isinstance(layer, Weighted):
        return _weighted(layer, params[layer.name], inputs[0])
    if isinstance(layer, Activation):
        return _activation(layer, params, inputs[0])
    if isinstance(layer, Elementwise):
        return _elementwise(layer, inputs)
    if isinstance(layer, Pad):
        fill = np.reshape(layer.fill, (-1, 1, 1))
        return _with_padding(_of_channels(inputs[0]), any(layer.pads), fill)
    if isinstance(layer, AvgPool) and layer.count_include_pad:
        return _with_padding(_of_channels(inputs[0]), any(layer.pads))
    if isinstance(layer, MaxPool | AvgPool | GlobalAvgPool | Resize):
        return _of_channels(inputs[0])
    return moved(layer, [low for low, _ in inputs]), moved(layer, [high for _, high in inputs])


def _of_channels(x: Interval) -> Interval:
    low, high = compact(x[0]), compact(x[1])
    return low.min(axis=(1, 2), keepdims=True), high.max(axis=(1, 2), keepdims=True)


def _with_padding(x: Interval, padded: bool, fill: np.ndarray | float = 0.0) -> Interval:
    return (np.minimum(x[0], fill), np.maximum(x[1], fill)) if padded else x


def is_padded(layer: Weighted) -> bool:
    """Whether some outputs see zeros in the place of inputs."""
    return isinstance(layer, Deconv) or (isinstance(layer, Conv) and any(layer.pads))


def _weighted(layer: Weighted, arrays: dict[str, np.ndarray], x: Interval) -> Interval:
    if isinstance(layer, Dense):
        x = x[0].reshape(-1, x[0].shape[-1]).min(axis=0), x[1].reshape(-1, x[1].shape[-1]).max(axis=0)
    else:
        x = _of_channels(x)
    kernel = by_channel(layer, arrays["kernel"]).astype(np.float64)
    channels = kernel.shape[1] * (layer.groups if isinstance(layer, Conv | Deconv) else 1)
    low, high = (
        np.broadcast_to(bound.reshape(-1), (channels,)) for bound in _with_padding(x, is_padded(layer))
    )
    rise, fall = np.maximum(kernel, 0).sum(axis=2), np.minimum(kernel, 0).sum(axis=2)
    read = input_channels(layer, channels)
    bias = arrays["bias"].astype(np.float64)
    least = bias + (_product(rise, low[read]) + _product(fall, high[read])).sum(axis=1)
    most = bias + (_product(rise, high[read]) + _product(fall, low[read])).sum(axis=1)
    floor, ceiling = clip_bounds(layer, arrays)
    out = np.clip(least, floor, ceiling), np.clip(most, floor, ceiling)
    return out if isinstance(layer, Dense) else (out[0][:, None, None], out[1][:, None, None])


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Zero times anything is zero, also times what has no bound."""
    with np.errstate(invalid="ignore"):
        return np.where((a == 0) | (b == 0), 0.0, a * b)


def _activation(layer: Activation, params: Params, x: Interval) -> Interval:
    x = compact(x[0]), compact(x[1])
    function, arrays = layer.function, along_channels(params.get(layer.name, {}), x[0].ndim - 1)
    with np.errstate(invalid="ignore", over="ignore"):
        bends = [np.clip(0.0, *x)] if function in _BENT_AT_ZERO else []
        ends = [apply(function, end, layer.constants, arrays, layer.affine) for end in (*x, *bends)]
        least, most = np.min(ends, axis=0), np.max(ends, axis=0)
    known = x[0] == x[1]
    if function in (*_RISING, *_BENT_AT_ZERO):
        known = known | ~(np.isnan(least) | np.isnan(most))
    return np.where(known, least, -np.inf), np.where(known, most, np.inf)


def _elementwise(layer: Elementwise, inputs: list[Interval]) -> Interval:
    (a, b), (c, d) = ((compact(low), compact(high)) for low, high in inputs)
    if isinstance(layer, Add):
        low, high = a + c, b + d
    elif isinstance(layer, Sub):
        low, high = a - d, b - c
    else:
        assert isinstance(layer, Mul)
        corners = [_product(one, other) for one in (a, b) for other in (c, d)]
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return np.clip(low, *layer.clip), np.clip(high, *layer.clip)
