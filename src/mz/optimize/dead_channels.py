"""Removes channels that do nothing: what they carry is the same for every image, or nobody reads it. Exact.

A constant goes into the biases of the layers that sum over it; a layer that pads sees zeros beside it, so that there
the constant must be zero.
"""

from __future__ import annotations

import numpy as np

from mz.graph import Conv, Deconv, Dense, Graph, Params, Weighted
from mz.optimize.bounds import interval_bounds, is_padded
from mz.optimize.channel_removal import remove_channels
from mz.optimize.channels import Channels, channel_classes, compact
from mz.optimize.rescaling import by_channel

CHANNEL_BLOCK = 16
"""Channels that vector units and accelerators take at a time: onnxruntime runs a depthwise layer with 667 of 672
channels at less than half the speed (docs/full-precision.md)."""


def remove_dead_channels(graph: Graph, params: Params) -> tuple[Graph, Params, dict[str, int]]:
    """The same function with fewer channels, and how many each weighted layer lost (none: left out).

    Every tensor keeps at least one channel, and one whose channels come in whole blocks of 16 keeps whole blocks.
    """
    before = channel_counts(graph)
    while True:
        channels = channel_classes(graph, "removal")
        constants = _constant_inputs(graph, params)
        dead = _in_blocks(channels, _dead(graph, params, channels, constants))
        if not dead.any():
            after = channel_counts(graph)
            return graph, params, {name: n - after[name] for name, n in before.items() if n != after[name]}
        params = _fold(graph, params, channels, constants, dead)
        graph, params = remove_channels(graph, params, channels, dead)


def channel_counts(graph: Graph) -> dict[str, int]:
    """Output channels of every weighted layer on the accelerator."""
    return {layer.name: layer.shape[-1 if isinstance(layer, Dense) else 0] for layer in graph.weighted}


def mixing_layers(graph: Graph) -> list[Weighted]:
    """Layers in which all inputs meet in every output: where a channel class ends. Depthwise layers pass it on."""
    return [layer for layer in graph.weighted if not isinstance(layer, Conv | Deconv) or layer.groups == 1]


def _constant_inputs(graph: Graph, params: Params) -> dict[str, np.ndarray]:
    """By mixing layer, the value of each input channel that no image changes, nan for others: float64 [I]."""
    bounds = interval_bounds(graph, params)
    found = {}
    for layer in mixing_layers(graph):
        low, high = (_by_channel(layer, bound) for bound in bounds[layer.inputs[0]])
        value = low[:, 0]
        same = np.isfinite(value) & (low == value[:, None]).all(axis=1) & (high == low).all(axis=1)
        found[layer.name] = np.where(same, value, np.nan)
    return found


def _by_channel(layer: Weighted, bound: np.ndarray) -> np.ndarray:
    """[C, places that differ] of a bound of the layer's input, which may be a broadcast view."""
    rows = np.moveaxis(bound, -1, 0) if isinstance(layer, Dense) else bound
    small = compact(rows)
    return np.broadcast_to(small, (len(rows), *small.shape[1:])).reshape(len(rows), -1)


def _dead(graph: Graph, params: Params, channels: Channels, constants: dict[str, np.ndarray]) -> np.ndarray:
    """Which classes can go, bool by class."""
    dead = ~channels.fixed
    for layer in mixing_layers(graph):
        unread = ~by_channel(layer, params[layer.name]["kernel"]).any(axis=(0, 2))
        value = constants[layer.name]
        known = value == 0 if is_padded(layer) else ~np.isnan(value)
        dead[channels.of_inputs(graph, layer)[~(unread | known)]] = False
    for tensor in channels.classes:
        classes = channels.of_tensor(tensor)
        if dead[classes].all():
            dead[classes[0]] = False
    return dead


def _in_blocks(channels: Channels, dead: np.ndarray) -> np.ndarray:
    """Those of the dead classes without which every tensor of whole blocks still has whole blocks."""
    tensors = [channels.of_tensor(name) for name in channels.classes]
    blocks = [classes for classes in tensors if len(classes) % CHANNEL_BLOCK == 0]
    left = dead.copy()
    while surplus := [odd for classes in blocks if len(odd := _odd(classes[left[classes]]))]:
        left[np.concatenate(surplus)] = False
    return left


def _odd(dead: np.ndarray) -> np.ndarray:
    return dead[: len(dead) % CHANNEL_BLOCK]


def _fold(
    graph: Graph, params: Params, channels: Channels, constants: dict[str, np.ndarray], dead: np.ndarray
) -> Params:
    folded = dict(params)
    for layer in mixing_layers(graph):
        gone = dead[channels.of_inputs(graph, layer)]
        value = np.where(gone, np.nan_to_num(constants[layer.name]), 0.0)
        if value.any():
            arrays = params[layer.name]
            sums = by_channel(layer, arrays["kernel"]).astype(np.float64).sum(axis=2) @ value
            folded[layer.name] = arrays | {"bias": (arrays["bias"] + sums).astype(np.float32)}
    return folded
