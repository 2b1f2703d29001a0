"""Weights and biases to integers: symmetric, one scale per output channel or one per layer.

The scale is the largest weight's, or the one of least squared rounding and clipping error.
"""

from __future__ import annotations

import numpy as np

from mz.emulator.numerics import weight_max
from mz.graph import Deconv, Layer, TensorQuant, WeightQuant

_SHRINK = {4: np.linspace(1.0, 0.4, 49), 8: np.linspace(1.0, 0.8, 21), 16: np.ones(1)}
"""Shares of the largest weight that the search tries, by bits: the fewer bits, the more clipping pays."""

_SMALLEST_SCALE, _LARGEST_SCALE = (
    float(end) for end in (np.finfo(np.float32).tiny, np.finfo(np.float32).max)
)

BIAS_LIMIT = {32: 1 << 30, 64: 1 << 50}


def by_channel(layer: Layer, kernel: np.ndarray) -> np.ndarray:
    """The kernel as [O, weights of that output channel] (a copy where the layout demands it)."""
    if isinstance(layer, Deconv):
        groups = layer.groups
        in_channels, group_out = kernel.shape[:2]
        grouped = kernel.reshape(groups, in_channels // groups, group_out, -1).transpose(0, 2, 1, 3)
        return grouped.reshape(groups * group_out, -1)
    return kernel.reshape(kernel.shape[0], -1)


def from_channels(layer: Layer, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `by_channel`: rows [O, ...] back to a kernel of `shape`."""
    if isinstance(layer, Deconv):
        groups = layer.groups
        grouped = rows.reshape(groups, shape[1], shape[0] // groups, -1).transpose(0, 2, 1, 3)
        return grouped.reshape(shape)
    return rows.reshape(shape)


def quantize_weights(
    layer: Layer,
    kernel: np.ndarray,
    bias: np.ndarray,
    x: TensorQuant,
    y: TensorQuant,
    bits: int,
    *,
    per_layer: bool = False,
    search: bool = True,
) -> WeightQuant:
    """Rounds a kernel and a bias (float32) to the nearest integers.

    x, y: the layer's input and output tensors. per_layer: one scale for all channels. search: least squared error
    instead of the largest weight.
    """
    rows = by_channel(layer, kernel).astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    if per_layer:
        largest[:] = largest.max()
    scale = _searched(rows, largest, bits, per_layer) if search else largest / weight_max(bits)
    # A channel without weights (or none that float32 can scale) is a constant: any scale serves that leaves the bias
    # finer than an output step.
    scale = np.where(scale >= _SMALLEST_SCALE, scale, float(y.scale) / float(x.scale) / 256)
    return integers(layer, kernel, bias, x, with_room_for(bias, scale, x, bits, per_layer=per_layer), bits)


def with_room_for(
    bias: np.ndarray, scale: np.ndarray, x: TensorQuant, bits: int, *, per_layer: bool = False
) -> np.ndarray:
    """Scales [O], raised where the bias would take more than half of the accumulator, as float32."""
    limit = BIAS_LIMIT[32 if x.bits <= 8 and bits <= 8 else 64]
    scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / (float(x.scale) * limit))
    if per_layer:
        scale[:] = scale.max()
    return np.clip(scale, _SMALLEST_SCALE, _LARGEST_SCALE).astype(np.float32)


def integers(
    layer: Layer, kernel: np.ndarray, bias: np.ndarray, x: TensorQuant, scale: np.ndarray, bits: int
) -> WeightQuant:
    """Kernel and bias rounded to nearest in the given scales (float32 [O])."""
    top = weight_max(bits)
    rows = by_channel(layer, kernel).astype(np.float64) / scale.astype(np.float64)[:, None]
    q = np.clip(np.rint(rows), -top, top).astype(np.int8 if bits <= 8 else np.int16)
    q_bias = np.rint(bias.astype(np.float64) / (float(x.scale) * scale.astype(np.float64))).astype(np.int64)
    return WeightQuant(from_channels(layer, q, kernel.shape), scale, q_bias, bits)


def dequantize_kernel(layer: Layer, weight: WeightQuant) -> np.ndarray:
    """The float32 kernel that the integers stand for, in the float kernel's layout."""
    rows = by_channel(layer, weight.kernel).astype(np.float32) * weight.scale[:, None]
    return from_channels(layer, rows, weight.kernel.shape)


def _searched(rows: np.ndarray, largest: np.ndarray, bits: int, per_layer: bool) -> np.ndarray:
    """Scale per channel [O] with the least squared error among the shares tried."""
    top = weight_max(bits)
    best = largest / top
    best_error = np.full(len(rows), np.inf)
    for share in _SHRINK[bits]:
        scale = largest * share / top
        safe = np.where(scale > 0, scale, 1.0)[:, None]
        error = ((np.clip(np.rint(rows / safe), -top, top) * safe - rows) ** 2).sum(axis=1)
        if per_layer:
            error[:] = error.sum()
        better = error < best_error
        best = np.where(better, scale, best)
        best_error = np.minimum(error, best_error)
    return best
