"""Multiplies channel classes by positive numbers so that the network's function stays: the exact part of equalization.

Meller et al., "Same, Same But Different" (ICML 2019), section 3: for a homogeneous activation function, factors c on
the outputs of one layer and 1/c on the matching inputs of the next cancel. Any other function of single values takes up
the factors on its two sides itself, as its table may differ by channel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from mz.graph import Activation, Conv, Deconv, Dense, Graph, Layer, Params, Weighted
from mz.graph.functions import HOMOGENEOUS
from mz.optimize.channels import Channels


def rescale(graph: Graph, params: Params, channels: Channels, factors: np.ndarray) -> tuple[Graph, Params]:
    """The same function with every value of class k multiplied by factors[k] (float64 [classes], 1 where fixed).

    A bounded clip over scaled channels becomes a clip by channel. Arrays stay float32.
    """
    changes: dict[str, Layer] = {}
    scaled = dict(params)
    for layer in graph.layers:
        if isinstance(layer, Activation) and not layer.host and len(layer.shape) == 3:
            into, out = (factors[channels.classes[name][:, 0, 0]] for name in (*layer.inputs, layer.name))
            if layer.function not in HOMOGENEOUS and ((into != 1).any() or (out != 1).any()):
                changes[layer.name], scaled[layer.name] = _scaled(
                    layer, params.get(layer.name, {}), into, out
                )
        if layer.host or not isinstance(layer, Weighted):
            continue
        out = factors[channels.of_outputs(graph, layer)]
        arrays = params[layer.name]
        inputs = channels.of_inputs(graph, layer)
        ratio = out[:, None] / factors[inputs[input_channels(layer, len(inputs))]]
        if (ratio == 1).all() and (out == 1).all():
            continue
        kernel = by_channel(layer, arrays["kernel"]).astype(np.float64) * ratio[:, :, None]
        scaled[layer.name] = arrays | {
            "kernel": from_channels(layer, kernel, arrays["kernel"].shape).astype(np.float32),
            "bias": (arrays["bias"] * out).astype(np.float32),
        }
        if is_bounded(layer) and (out != 1).any():
            low, high = clip_bounds(layer, arrays)
            bounds = {"clip_low": low * out, "clip_high": high * out}
            scaled[layer.name] |= {key: value.astype(np.float32) for key, value in bounds.items()}
            changes[layer.name] = dataclasses.replace(layer, clip_by_channel=True)
    return graph.replace(changes), scaled


def _scaled(
    layer: Activation, arrays: Mapping[str, np.ndarray], into: np.ndarray, out: np.ndarray
) -> tuple[Activation, dict[str, np.ndarray]]:
    """The function of the same values with `into` [C] on what it reads and `out` [C] on what it makes."""
    new = {"factor": arrays.get("factor", 1.0) / into, "gain": arrays.get("gain", 1.0) * out}
    scaled = dataclasses.replace(layer, scaled=True)
    return scaled, {name: np.asarray(array, np.float32) for name, array in new.items()}


def is_bounded(layer: Weighted) -> bool:
    """Whether the layer clips at a finite bound other than 0, which scaling moves."""
    return layer.clip_by_channel or any(math.isfinite(bound) and bound != 0 for bound in layer.clip)


def clip_bounds(layer: Weighted, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest output of each channel in the float network, float64 [O]."""
    if layer.clip_by_channel:
        return arrays["clip_low"].astype(np.float64), arrays["clip_high"].astype(np.float64)
    size = len(arrays["bias"])
    return np.full(size, layer.clip[0]), np.full(size, layer.clip[1])


def input_channels(layer: Weighted, count: int) -> np.ndarray:
    """Which of `count` input channels each kernel column of each output channel reads, int64 [O, count / groups]."""
    if isinstance(layer, Dense):
        return np.broadcast_to(np.arange(count), (layer.shape[-1], count))
    assert isinstance(layer, Conv | Deconv)
    return np.repeat(np.arange(count).reshape(layer.groups, -1), layer.shape[0] // layer.groups, axis=0)


def by_channel(layer: Weighted, kernel: np.ndarray) -> np.ndarray:
    """The kernel as [O, I / groups, window]."""
    if isinstance(layer, Deconv):
        inputs, outputs = kernel.shape[0] // layer.groups, kernel.shape[1]
        grouped = kernel.reshape(layer.groups, inputs, outputs, -1).transpose(0, 2, 1, 3)
        return grouped.reshape(layer.groups * outputs, inputs, -1)
    return kernel.reshape(*kernel.shape[:2], -1)


def from_channels(layer: Weighted, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `by_channel`."""
    if isinstance(layer, Deconv):
        groups, outputs = layer.groups, shape[1]
        return rows.reshape(groups, outputs, shape[0] // groups, -1).transpose(0, 2, 1, 3).reshape(shape)
    return rows.reshape(shape)
