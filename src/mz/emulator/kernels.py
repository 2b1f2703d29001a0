"""One numpy kernel per layer kind, exact by construction.

A kernel takes the integers of its inputs (int32, [N, *shape]), the layer and its constants, and returns the integers of
its output. Convolutions run through BLAS in float32 or float64, whichever the accumulator's bound proves exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mz.emulator import numerics
from mz.emulator.constants import (
    AverageConstants,
    BilinearConstants,
    LinearConstants,
    MatrixConstants,
    MoveConstants,
    NearestConstants,
    PadConstants,
    PreluSumConstants,
    ProductConstants,
    SumConstants,
    TableConstants,
)
from mz.emulator.linear import linear_sums, pad_map, tap_slices
from mz.graph.layers import (
    AvgPool,
    Concat,
    Deconv,
    Dense,
    Layer,
    MaxPool,
    Pad,
    Slice,
    Transpose,
    Weighted,
)

Array = np.ndarray


def _exact_type(c: LinearConstants, x: Array, output_axis: int) -> type[np.floating[Any]]:
    """float32 where sum |w| max|x - z| + |b| < 2^24 proves every partial sum exact, else float64 (2^53).

    That the wider type is wide enough for any input was proven when the constants were made.
    """
    axes = tuple(axis for axis in range(c.kernel.ndim) if axis != output_axis)
    bound = int(np.abs(c.kernel, dtype=np.int64).sum(axis=axes).max()) * _reach(x, c.zero_in)
    bound += int(np.abs(c.bias).max())
    return np.float32 if bound < numerics.FLOAT32_EXACT else np.float64


def _finish(sums: Array, c: LinearConstants) -> Array:
    """Adds the bias and requantizes: sums [N, O, ...] of exact integers in a float type that holds the bias too."""
    channel = (-1,) + (1,) * (sums.ndim - 2)
    sums += c.bias.astype(sums.dtype).reshape(channel)
    below = None if c.below is None else c.below.reshape(channel)
    return numerics.requantize(sums, c.multiplier.reshape(channel), c.zero_out, c.low, c.high, below)


def linear(layer: Weighted, c: LinearConstants, x: Array) -> Array:
    """Convolution, transposed convolution or dense layer."""
    dtype = _exact_type(c, x, 1 if isinstance(layer, Deconv) else 0)
    centred = x.astype(dtype)
    centred -= dtype(c.zero_in)
    sums = linear_sums(layer, centred, c.kernel.astype(dtype))
    if isinstance(layer, Dense):
        return np.moveaxis(_finish(np.moveaxis(sums, -1, 1), c), 1, -1)
    return _finish(sums, c)


def global_average(layer: Layer, c: AverageConstants, x: Array) -> Array:
    acc = (x.astype(np.int64) - c.zero_in).sum(axis=(2, 3), keepdims=True)
    return numerics.requantize(acc, c.multiplier, c.zero_out, c.low, c.high)


def average(layer: AvgPool, c: AverageConstants, x: Array) -> Array:
    centred = pad_map(x.astype(np.int64) - c.zero_in, layer.pads, 0)
    channels, height, width = layer.shape
    acc = np.zeros((len(x), channels, height, width), np.int64)
    for i, j in np.ndindex(*layer.kernel_shape):
        rows, columns = tap_slices((i, j), (height, width), layer.strides, (1, 1))
        acc += centred[:, :, rows, columns]
    return numerics.requantize(acc, c.multiplier, c.zero_out, c.low, c.high)


def maximum(layer: MaxPool, c: MoveConstants, x: Array) -> Array:
    padded = pad_map(x, layer.pads, -1)
    channels, height, width = layer.shape
    largest = np.full((len(x), channels, height, width), -1, x.dtype)
    for i, j in np.ndindex(*layer.kernel_shape):
        rows, columns = tap_slices((i, j), (height, width), layer.strides, layer.dilations)
        np.maximum(largest, padded[:, :, rows, columns], out=largest)
    return largest


def add(layer: Layer, c: SumConstants | PreluSumConstants, a: Array, b: Array) -> Array:
    if isinstance(c, PreluSumConstants):
        return _prelu_sum(c, a, b)
    return numerics.add(a, c.zero_a, b, c.zero_b, c.ratios, c.zero_out, c.low, c.high)


def _prelu_sum(c: PreluSumConstants, a: Array, b: Array) -> Array:
    channel = (-1,) + (1,) * (a.ndim - 2)
    of_a, of_b, offset, unit, below = (
        array.reshape(channel) for array in (c.sum.a, c.sum.b, c.sum.offset, c.sum.unit, c.below)
    )
    acc = of_a * (a.astype(np.int64) - c.zero_a) + of_b * (b.astype(np.int64) - c.zero_b) + offset
    return numerics.requantize(acc, unit, c.zero_out, c.low, c.high, below)


def multiply(layer: Layer, c: ProductConstants, a: Array, b: Array) -> Array:
    return numerics.multiply(a, c.zero_a, b, c.zero_b, c.ratio, c.zero_out, c.low, c.high)


def matrix_product(layer: Layer, c: MatrixConstants, a: Array, b: Array) -> Array:
    largest = a.shape[-1] * _reach(a, c.zero_a) * _reach(b, c.zero_b)
    dtype = np.float32 if largest < numerics.FLOAT32_EXACT else np.float64
    sums = np.matmul((a - c.zero_a).astype(dtype), (b - c.zero_b).astype(dtype))
    return numerics.requantize(sums, c.multiplier, c.zero_out, c.low, c.high)


def _reach(x: Array, zero: int) -> int:
    """The largest magnitude of the centred integers, at least 1."""
    return int(max(int(x.max(initial=0)) - zero, zero - int(x.min(initial=0)), 1))


def table(layer: Layer, c: TableConstants, x: Array) -> Array:
    if c.choice is None:
        return c.table[0][x].astype(np.int32)
    return c.table.reshape(-1)[c.starts(x.ndim - 2) + x].astype(np.int32)


def resize(layer: Layer, c: NearestConstants | BilinearConstants, x: Array) -> Array:
    if isinstance(c, NearestConstants):
        return x[:, :, c.rows[:, None], c.columns[None, :]]
    return numerics.interpolate(x, c.rows, c.columns, c.fraction_bits)


def concat(layer: Concat, c: MoveConstants, *inputs: Array) -> Array:
    return np.concatenate(inputs, axis=layer.axis + 1)


def cut(layer: Slice, c: MoveConstants, x: Array) -> Array:
    spans = (slice(*bounds) for bounds in zip(layer.starts, layer.stops, layer.steps, strict=True))
    return x[(slice(None), *spans)]


def pad(layer: Pad, c: PadConstants, x: Array) -> Array:
    padded = np.empty((len(x), *layer.shape), x.dtype)
    padded[:] = c.fill.reshape(-1, 1, 1)
    top, left = layer.pads[:2]
    padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    return padded


def reshape(layer: Layer, c: MoveConstants, x: Array) -> Array:
    return x.reshape(len(x), *layer.shape)


def transpose(layer: Transpose, c: MoveConstants, x: Array) -> Array:
    return x.transpose(0, *(axis + 1 for axis in layer.permutation))


KERNELS: dict[str, Callable[..., Array]] = {
    "conv": linear,
    "deconv": linear,
    "dense": linear,
    "activation": table,
    "add": add,
    "sub": add,
    "mul": multiply,
    "matmul": matrix_product,
    "maxpool": maximum,
    "avgpool": average,
    "global_avgpool": global_average,
    "concat": concat,
    "slice": cut,
    "pad": pad,
    "reshape": reshape,
    "transpose": transpose,
    "resize": resize,
}
"""By layer kind. Inputs are quantized by the session, host layers run outside."""


def run_kernel(layer: Layer, constants: object, inputs: Sequence[Array]) -> Array:
    """The integers (int32 [N, *shape]) that `layer` makes of its inputs' integers."""
    return KERNELS[layer.kind](layer, constants, *inputs)
