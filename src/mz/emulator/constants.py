"""From scales to the integers that a device holds: every layer's constants, computed once, in one place.

All engines and emitters take their numbers from `layer_constants`, so that they can differ only in how they
evaluate the formulas of `numerics`. What would overflow is found here, by bounds that hold for every input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mz.emulator import numerics
from mz.errors import UserError
from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Elementwise,
    GlobalAvgPool,
    Graph,
    Layer,
    MatMul,
    Mul,
    Pad,
    Params,
    Quantization,
    Resize,
    Sub,
    Weighted,
)
from mz.graph.functions import along_channels, apply
from mz.graph.resampling import bilinear_weights, nearest_indices


@dataclass(frozen=True, slots=True, eq=False)
class LinearConstants:
    """Convolution, transposed convolution, dense: integers and requantization.

    kernel: integers in the float kernel's layout; bias int64 [O]; multiplier float32 [O]; below: what stands for it
    where a sum is below 0, behind a PReLU.
    accumulator_bits: 32 or 64, the width that provably holds every partial sum.
    """

    kernel: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    zero_in: int
    zero_out: int
    low: int
    high: int
    accumulator_bits: int
    below: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AverageConstants:
    """A mean: sum of (q - zero_in), then requantized. multiplier float32, scalar or [OH, OW] where windows differ."""

    multiplier: np.ndarray
    zero_in: int
    zero_out: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class SumConstants:
    """Addition and subtraction (`ratios.b` negative for the latter)."""

    ratios: numerics.SumRatios
    zero_a: int
    zero_b: int
    zero_out: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class PreluSumConstants:
    """Addition behind which there is a PReLU: an integer by channel, then requantized. below: float32 [C], what stands
    for `sum.unit` where it is below 0.
    """

    sum: numerics.AffineSum
    below: np.ndarray
    zero_a: int
    zero_b: int
    zero_out: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class ProductConstants:
    """Multiplication."""

    ratio: numerics.ProductRatio
    zero_a: int
    zero_b: int
    zero_out: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, eq=False)
class MatrixConstants:
    """A product of two matrices: sum of (q_a - zero_a)(q_b - zero_b), then requantized. multiplier: float32 scalar."""

    multiplier: np.ndarray
    zero_a: int
    zero_b: int
    zero_out: int
    low: int
    high: int
    accumulator_bits: int


@dataclass(frozen=True, slots=True, eq=False)
class TableConstants:
    """An activation function: table uint16 [K, 2^input bits], each row once.

    choice: the row of each channel, int64 [C]; None where all channels have one. scaling: the layer's `factor` and
    `gain`, float32 [C]; None where it is not scaled.
    """

    table: np.ndarray
    choice: np.ndarray | None = None
    scaling: tuple[np.ndarray, np.ndarray] | None = None

    def by_channel(self) -> np.ndarray:
        """The table of every channel, [C, 2^input bits], or [1, ...] where all have one."""
        return self.table if self.choice is None else self.table[self.choice]

    def starts(self, axes: int) -> np.ndarray:
        """Where the table of every channel begins among the entries of all: int32 [C], and `axes` axes of 1 behind."""
        assert self.choice is not None
        return (self.choice * self.table.shape[1]).astype(np.int32).reshape(-1, *(1,) * axes)


@dataclass(frozen=True, slots=True, eq=False)
class NearestConstants:
    """Nearest resize: the source row of every output row, and likewise columns."""

    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class BilinearConstants:
    """Bilinear resize: integer weights rows [OH, H], columns [OW, W], every row summing to 2^fraction_bits."""

    rows: np.ndarray
    columns: np.ndarray
    fraction_bits: int


@dataclass(frozen=True, slots=True, eq=False)
class MoveConstants:
    """Max pool, concat, slice, reshape, transpose: integers that only move; `zero` fills padding."""

    zero: int


@dataclass(frozen=True, slots=True, eq=False)
class PadConstants:
    """fill: the integers around each channel, int32 [C]."""

    fill: np.ndarray


Constants = (
    LinearConstants
    | AverageConstants
    | SumConstants
    | PreluSumConstants
    | ProductConstants
    | MatrixConstants
    | TableConstants
    | NearestConstants
    | BilinearConstants
    | PadConstants
    | MoveConstants
)


def layer_constants(graph: Graph, layer: Layer, params: Params, quantization: Quantization) -> Constants:
    """The constants of one accelerator layer.

    Raises UserError, naming the layer, where an accumulator could overflow or no fixed-point ratio exists.
    """
    try:
        if isinstance(layer, Weighted):
            return _linear(layer, params, quantization)
        if isinstance(layer, AvgPool | GlobalAvgPool):
            return _average(graph, layer, quantization)
        if isinstance(layer, Add) and layer.prelu:
            return _prelu_sum(layer, params[layer.name], quantization)
        if isinstance(layer, Elementwise):
            return _elementwise(layer, quantization)
        if isinstance(layer, MatMul):
            return _matrix(graph, layer, quantization)
        if isinstance(layer, Activation):
            return _table(layer, params, quantization)
        if isinstance(layer, Resize):
            return _resize(graph, layer, quantization)
        return _move(layer, quantization)
    except UserError as error:
        raise UserError(f"layer {layer.name}: {error}") from error


def accumulator_bound(
    kernel: np.ndarray, bias: np.ndarray, zero_in: int, bits_in: int, output_axis: int = 0
) -> int:
    """Largest magnitude that any partial sum can reach for any input: sum |w| max|q - z| + |b|, over channels."""
    axes = tuple(axis for axis in range(kernel.ndim) if axis != output_axis)
    weight = np.abs(kernel.astype(np.int64)).sum(axis=axes)
    if (
        weight.size != bias.size
    ):  # a transposed kernel in groups: its output axis holds only one group's channels
        weight = np.full(bias.size, weight.max())
    return int((weight * max(zero_in, numerics.q_max(bits_in) - zero_in) + np.abs(bias)).max())


def _linear(layer: Weighted, params: Params, quantization: Quantization) -> LinearConstants:
    x, y = quantization.tensors[layer.inputs[0]], quantization.tensors[layer.name]
    weight = quantization.weights[layer.name]
    low, high = numerics.clip_bounds(layer.clip, y.scale, y.zero_point, y.bits)
    accumulator_bits = 32 if x.bits <= 8 and weight.bits <= 8 else 64
    axis = 1 if layer.kind == "deconv" else 0
    bound = accumulator_bound(weight.kernel, weight.bias, x.zero_point, x.bits, axis)
    limit = numerics.INT32_LIMIT if accumulator_bits == 32 else numerics.FLOAT64_EXACT
    if bound >= limit:
        raise UserError(
            f"its sums can reach {bound:,}, beyond a {accumulator_bits}-bit accumulator; "
            "give it 16-bit weights by quantization_param"
        )
    multiplier = numerics.multiplier(x.scale, weight.scale, y.scale)
    return LinearConstants(
        kernel=weight.kernel,
        bias=weight.bias,
        multiplier=multiplier,
        zero_in=x.zero_point,
        zero_out=y.zero_point,
        low=low,
        high=high,
        accumulator_bits=accumulator_bits,
        below=numerics.below_zero(multiplier, params[layer.name]["slope"]) if layer.prelu else None,
    )


def _average(graph: Graph, layer: AvgPool | GlobalAvgPool, quantization: Quantization) -> AverageConstants:
    x, y = quantization.tensors[layer.inputs[0]], quantization.tensors[layer.name]
    in_shape = graph.input_shapes(layer)[0]
    count: np.ndarray
    if isinstance(layer, GlobalAvgPool):
        count = np.array(math.prod(in_shape[1:]))
    elif layer.count_include_pad or not any(layer.pads):
        count = np.array(math.prod(layer.kernel_shape))
    else:
        count = np.outer(
            *(
                _window_counts(
                    in_shape[1 + i],
                    layer.shape[1 + i],
                    layer.kernel_shape[i],
                    layer.strides[i],
                    layer.pads[i],
                )
                for i in (0, 1)
            )
        )
    if count.min() <= 0:
        raise UserError("one of its windows lies in the padding alone, so that its mean is not defined")
    share = (1.0 / count).astype(np.float32)
    low, high = 0, y.q_max
    return AverageConstants(
        numerics.multiplier(x.scale, share, y.scale), x.zero_point, y.zero_point, low, high
    )


def _window_counts(size: int, out_size: int, kernel: int, stride: int, pad: int) -> np.ndarray:
    starts = np.arange(out_size) * stride - pad
    return np.minimum(starts + kernel, size) - np.maximum(starts, 0)


def _elementwise(layer: Elementwise, quantization: Quantization) -> SumConstants | ProductConstants:
    a, b = (quantization.tensors[name] for name in layer.inputs)
    y = quantization.tensors[layer.name]
    wide = is_wide(layer, quantization)
    low, high = numerics.clip_bounds(layer.clip, y.scale, y.zero_point, y.bits)
    if isinstance(layer, Mul):
        ratio = numerics.product_ratio(a.scale, b.scale, y.scale, wide)
        return ProductConstants(ratio, a.zero_point, b.zero_point, y.zero_point, low, high)
    assert isinstance(layer, Add | Sub)
    ratios = numerics.sum_ratios(a.scale, b.scale, y.scale, wide)
    if isinstance(layer, Sub):
        ratios = numerics.SumRatios(ratios.a, -ratios.b, ratios.shift)
    return SumConstants(ratios, a.zero_point, b.zero_point, y.zero_point, low, high)


def _prelu_sum(layer: Add, arrays: Mapping[str, np.ndarray], quantization: Quantization) -> PreluSumConstants:
    a, b = (quantization.tensors[name] for name in layer.inputs)
    y = quantization.tensors[layer.name]
    factor, offset = (arrays[name].astype(np.float64) for name in ("factor", "offset"))
    total = numerics.affine_sum(
        factor * (float(a.scale) / float(y.scale)),
        factor * (float(b.scale) / float(y.scale)),
        offset / float(y.scale),
        a.reach,
        b.reach,
        is_wide(layer, quantization),
    )
    below = numerics.below_zero(total.unit, arrays["slope"])
    return PreluSumConstants(total, below, a.zero_point, b.zero_point, y.zero_point, 0, y.q_max)


def _matrix(graph: Graph, layer: MatMul, quantization: Quantization) -> MatrixConstants:
    a, b = (quantization.tensors[name] for name in layer.inputs)
    y = quantization.tensors[layer.name]
    accumulator_bits = 32 if a.bits <= 8 and b.bits <= 8 else 64
    bound = graph.input_shapes(layer)[0][-1]
    for t in (a, b):
        bound *= t.reach
    if bound >= (numerics.INT32_LIMIT if accumulator_bits == 32 else numerics.FLOAT64_EXACT):
        raise UserError(
            f"its sums can reach {bound:,}, beyond a {accumulator_bits}-bit accumulator; "
            f"end the network before it (--end-node-names {', '.join(layer.origin)})"
        )
    scale_b = numerics.matrix_scale(b.scale, layer.factor)
    m = numerics.multiplier(a.scale, scale_b, y.scale)
    return MatrixConstants(m, a.zero_point, b.zero_point, y.zero_point, 0, y.q_max, accumulator_bits)


def is_wide(layer: Layer, quantization: Quantization) -> bool:
    """Whether any tensor of the layer has more than 8 bits, which decides the precision of fixed-point ratios."""
    return any(quantization.tensors[name].bits > 8 for name in (layer.name, *layer.inputs))


def _table(layer: Activation, params: Params, quantization: Quantization) -> TableConstants:
    x, y = quantization.tensors[layer.inputs[0]], quantization.tensors[layer.name]
    own = params.get(layer.name, {})
    # Hundreds of channels have a dozen different parameters, and a table over 16 bits takes its time.
    first, kind = _each_once(np.stack(list(own.values()), axis=1) if own else np.zeros((1, 0)))
    arrays = along_channels({name: array[first] for name, array in own.items()}, 1)
    real = float(x.scale) * (np.arange(1 << x.bits, dtype=np.float64)[None, :] - x.zero_point)
    with np.errstate(over="ignore"):  # infinity saturates like any large value
        value = apply(layer.function, real, layer.constants, arrays, layer.affine)
        table = np.clip(np.rint(value / float(y.scale)) + y.zero_point, 0, y.q_max).astype(np.uint16)
    first, choice = _each_once(table)
    scaling = (own["factor"], own["gain"]) if layer.scaled else None
    return TableConstants(table[first], choice[kind] if len(first) > 1 else None, scaling)


def _each_once(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each different row comes first, in that order, and which of these each row is, int64."""
    places: dict[bytes, int] = {}
    choice = np.array([places.setdefault(row.tobytes(), len(places)) for row in rows])
    return np.unique(choice, return_index=True)[1], choice


def _resize(graph: Graph, layer: Resize, quantization: Quantization) -> NearestConstants | BilinearConstants:
    sizes = tuple(zip(graph.input_shapes(layer)[0][1:], layer.shape[1:], layer.scales, strict=True))
    _move(layer, quantization)
    if layer.mode == "nearest":
        rows, columns = (nearest_indices(*size, layer.coordinates, layer.nearest_mode) for size in sizes)
        return NearestConstants(rows, columns)
    fraction_bits = numerics.interpolation_bits(quantization.tensors[layer.name].bits)
    rows, columns = (
        _integer_weights(bilinear_weights(*size, layer.coordinates), fraction_bits) for size in sizes
    )
    return BilinearConstants(rows, columns, fraction_bits)


def _integer_weights(weights: np.ndarray, fraction_bits: int) -> np.ndarray:
    """Rounds each row of [OUT, IN] to integers that sum to 2^fraction_bits; the larger weight takes up the rest."""
    rounded = np.rint(weights * (1 << fraction_bits)).astype(np.int64)
    largest = rounded.argmax(axis=1)
    rounded[np.arange(len(rounded)), largest] += (1 << fraction_bits) - rounded.sum(axis=1)
    return rounded


def _move(layer: Layer, quantization: Quantization) -> MoveConstants | PadConstants:
    y = quantization.tensors[layer.name]
    for name in layer.inputs:
        if quantization.tensors[name] != y:
            raise UserError(
                f"it only moves integers, so it must share scale, zero point and bits with {name}"
            )
    if isinstance(layer, Pad):
        values = np.asarray(layer.fill, np.float32)
        return PadConstants(numerics.quantize(values, y.scale, y.zero_point, y.bits))
    return MoveConstants(y.zero_point)
