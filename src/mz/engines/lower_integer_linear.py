"""Integer ONNX for convolutions, dense layers and means.

Two roads, both exact. The fast one is QLinearConv with uint8 activations and uint8 weights (offset 128; int8 where
provably safe), whose requantization is the formula of `numerics.requantize`. The general one cuts activations and
weights into byte planes, runs float32 convolutions whose sums provably stay below 2^24, and adds them up in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mz.emulator.constants import AverageConstants, LinearConstants
from mz.emulator.numerics import FLOAT32_EXACT, q_max
from mz.engines.lower_integer_tensors import Tensors
from mz.errors import UserError
from mz.graph import AvgPool, Conv, Deconv, Dense, GlobalAvgPool, Layer, Slice

_OFFSET = 128


def lower_conv(t: Tensors, layer: Conv, c: LinearConstants) -> str:
    attributes = {
        "kernel_shape": layer.kernel_shape,
        "strides": layer.strides,
        "dilations": layer.dilations,
        "pads": layer.pads,
        "group": layer.groups,
    }
    if (source := cut_before(t, layer)) is not None:
        kernel = np.zeros((layer.shape[0], t.graph[source.inputs[0]].shape[0], 1, 1), c.kernel.dtype)
        kernel[:, source.starts[0] : source.stops[0] : source.steps[0]] = c.kernel
        return _qlinear_conv(t, layer, t[source.inputs[0]], _with_kernel(c, kernel), attributes)
    if _is_narrow(t, layer):
        return _qlinear_conv(t, layer, t[layer.inputs[0]], c, attributes)
    return _general(t, layer, c, "Conv", 1, attributes)


def cut_before(t: Tensors, layer: Layer) -> Slice | None:
    """The slice before a 1x1 convolution that picks every n-th channel, which zeros in the kernel do faster."""
    if not isinstance(layer, Conv) or layer.kernel_shape != (1, 1) or layer.groups != 1:
        return None
    source = t.graph[layer.inputs[0]]
    if not isinstance(source, Slice) or len(source.shape) != 3 or not _is_narrow(t, layer):
        return None
    _, height, width = t.graph[source.inputs[0]].shape
    picks = source.steps[0] > 1 and source.starts[0] >= 0 and source.stops[0] > 0
    return source if picks and source.shape[1:] == (height, width) and min(source.steps) > 0 else None


def lower_deconv(t: Tensors, layer: Deconv, c: LinearConstants) -> str:
    attributes = {
        "kernel_shape": layer.kernel_shape,
        "strides": layer.strides,
        "dilations": layer.dilations,
        "pads": layer.pads,
        "output_padding": layer.output_padding,
        "group": layer.groups,
    }
    return _general(t, layer, c, "ConvTranspose", 0, attributes)


def lower_dense(t: Tensors, layer: Dense, c: LinearConstants) -> str:
    """A dense layer is a 1x1 convolution over its positions (all axes but the last)."""
    name = layer.inputs[0]
    *lead, size = t.graph[name].shape
    positions = int(np.prod(lead, dtype=np.int64))
    narrow = _is_narrow(t, layer)
    x = t[name] if narrow else t.as_float32(name)
    if positions > 1:
        x = t.reshape(x, (positions, size), f"{layer.name}_rows")
        x = t.writer.node("Transpose", [x], f"{layer.name}_columns", perm=(0, 2, 1))
    x = t.reshape(x, (size, positions, 1), f"{layer.name}_map")
    c = _with_kernel(c, c.kernel[:, :, None, None])
    if narrow:
        out = _qlinear_conv(t, layer, x, c, {"kernel_shape": (1, 1)})
    else:
        out = _general(t, layer, c, "Conv", 1, {"kernel_shape": (1, 1)}, x)
    if positions > 1:
        out = t.reshape(out, (layer.shape[-1], positions), f"{layer.name}_columns_out")
        out = t.writer.node("Transpose", [out], f"{layer.name}_rows_out", perm=(0, 2, 1))
    return t.reshape(out, layer.shape, f"{layer.name}_q")


def lower_average(t: Tensors, layer: AvgPool, c: AverageConstants) -> str:
    """A mean is a depthwise convolution whose integer weights are 1 and whose weight scale is 1 / count."""
    channels = layer.shape[0]
    kernel = np.ones((channels, 1, *layer.kernel_shape), np.int8)
    attributes = {
        "kernel_shape": layer.kernel_shape,
        "strides": layer.strides,
        "pads": layer.pads,
        "group": channels,
    }
    if _is_narrow(t, layer) and c.multiplier.ndim == 0:
        linear = LinearConstants(
            kernel=kernel,
            bias=np.zeros(channels, np.int64),
            multiplier=np.full(channels, c.multiplier),
            zero_in=c.zero_in,
            zero_out=c.zero_out,
            low=c.low,
            high=c.high,
            accumulator_bits=32,
        )
        return _qlinear_conv(t, layer, t[layer.inputs[0]], linear, attributes)
    sums = _plane_sums(t, layer, kernel, c.zero_in, "Conv", 1, attributes)
    return requantize(t, layer, as_float32(t, layer, sums), c.multiplier, c.zero_out, c.low, c.high)


def lower_global_average(t: Tensors, layer: GlobalAvgPool, c: AverageConstants) -> str:
    w, name = t.writer, layer.inputs[0]
    _, height, width = t.graph[name].shape
    narrow = max(t.quantization.tensors[tensor].bits for tensor in (name, layer.name)) <= 8
    if narrow and t.kernels.average and height * width * 255 < FLOAT32_EXACT:
        centred = w.node("DequantizeLinear", [t[name], t.f32(1), t.u8(c.zero_in)], f"{layer.name}_centred")
        total = w.node("ReduceSum", [centred, t.i64((2, 3))], f"{layer.name}_sum", keepdims=1)
        scaled = w.node("Mul", [total, w.constant(c.multiplier, f"{layer.name}_m")], f"{layer.name}_scaled")
        out = w.node("QuantizeLinear", [scaled, t.f32(1), t.u8(c.zero_out)], f"{layer.name}_q")
        return t.clip(out, layer, c.low, c.high)
    centred = w.node("Sub", [t.as_float64(name), t.f64(c.zero_in)], f"{layer.name}_centred")
    total = w.node("ReduceSum", [centred, t.i64((2, 3))], f"{layer.name}_sum", keepdims=1)
    return requantize(t, layer, as_float32(t, layer, total), c.multiplier, c.zero_out, c.low, c.high)


def _is_narrow(t: Tensors, layer: Layer) -> bool:
    """Whether everything about the layer fits uint8, and the runtime has exact kernels for that."""
    if not (t.kernels.unsigned_conv or t.kernels.any_signed_conv):
        return False
    weight = t.quantization.weights.get(layer.name)
    bits = [t.quantization.tensors[name].bits for name in (layer.name, *layer.inputs)]
    return max(bits) <= 8 and (weight is None or weight.bits <= 8)


def _with_kernel(c: LinearConstants, kernel: np.ndarray) -> LinearConstants:
    return dataclasses.replace(c, kernel=kernel)


def _qlinear_conv(t: Tensors, layer: Layer, x: str, c: LinearConstants, attributes: dict[str, Any]) -> str:
    """QLinearConv with x_scale 1, w_scale m, y_scale 1: the runtime's own multiplier is then m, bit for bit."""
    if c.below is not None:
        return _prelu_conv(t, layer, x, c, c.below, attributes)
    w = t.writer
    channels = len(c.bias)
    allowed = t.kernels.signed_conv and _signed_is_exact(c.kernel, attributes.get("group", 1))
    if allowed or t.kernels.any_signed_conv:
        kernel, zero = c.kernel.astype(np.int8), np.zeros(channels, np.int8)
    else:
        kernel = (c.kernel.astype(np.int16) + _OFFSET).astype(np.uint8)
        zero = np.full(channels, _OFFSET, np.uint8)
    inputs = [
        x,
        t.f32(1),
        t.u8(c.zero_in),
        w.constant(kernel, f"{layer.name}_kernel"),
        w.constant(c.multiplier.astype(np.float32), f"{layer.name}_multiplier"),
        w.constant(zero, f"{layer.name}_offset"),
        t.f32(1),
        t.u8(c.zero_out),
        w.constant(c.bias.astype(np.int32), f"{layer.name}_bias"),
    ]
    out = w.node("QLinearConv", inputs, f"{layer.name}_conv", **attributes)
    return t.clip(out, layer, c.low, c.high)


def _prelu_conv(
    t: Tensors, layer: Layer, x: str, c: LinearConstants, below: np.ndarray, attributes: dict[str, Any]
) -> str:
    """The same sums requantized by either multiplier: of both integers the larger one holds where the multiplier below
    0 is the smaller, the smaller one where it is the larger, as rounding and clipping keep order.
    """
    w, sign = t.writer, np.where(below < 0, -1, 1)
    mirrored = c.kernel * sign.reshape(-1, 1, 1, 1)  # a multiplier has no sign, weights are symmetric
    # Not 0, which a runtime may take for a scale that was left out: all products are below a half all the same.
    magnitude = np.maximum(np.abs(below), np.float32(2.0**-100))
    flat = dataclasses.replace(c, below=None)
    steep = dataclasses.replace(flat, kernel=mirrored, bias=c.bias * sign, multiplier=magnitude)
    either = [_qlinear_conv(t, layer, x, one, attributes) for one in (flat, steep)]
    is_less = below <= c.multiplier
    if is_less.all():
        return w.node("Max", either, f"{layer.name}_prelu")
    ends = [w.node(op, either, f"{layer.name}_{op}") for op in ("Max", "Min")]
    choice = w.constant(is_less.reshape(-1, 1, 1), f"{layer.name}_is_less")
    return w.node("Where", [choice, *ends], f"{layer.name}_prelu")


def _signed_is_exact(kernel: np.ndarray, groups: int) -> bool:
    """Whether int8 weights, which are faster, can meet no 16-bit saturation on any processor.

    On x86 without VNNI matrix kernels add two products x w, x up to 255, in 16 bits: safe if no two weights of a
    channel with the same sign add up to more than 128, whichever two the kernel packs together. Depthwise kernels
    widen each product to 32 bits instead.
    """
    if kernel.shape[1] == 1 and groups == len(kernel) > 1:
        return True
    rows = kernel.reshape(len(kernel), -1).astype(np.int16)
    if rows.shape[1] == 1:
        return True
    largest = np.sort(rows, axis=1)
    positive = np.maximum(largest[:, -1], 0) + np.maximum(largest[:, -2], 0)
    negative = np.maximum(-largest[:, 0], 0) + np.maximum(-largest[:, 1], 0)
    return int(max(positive.max(), negative.max())) <= _OFFSET


def _general(
    t: Tensors,
    layer: Layer,
    c: LinearConstants,
    op: str,
    axis: int,
    attributes: dict[str, Any],
    x: str | None = None,
) -> str:
    if t.kernels.rounded_sums:
        return _rounded(t, layer, c, op, attributes, x)
    sums = _plane_sums(t, layer, c.kernel, c.zero_in, op, axis, attributes, x)
    bias = t.writer.constant(c.bias.astype(np.float64).reshape(-1, 1, 1), f"{layer.name}_bias")
    single = as_float32(t, layer, t.writer.node("Add", [sums, bias], f"{layer.name}_acc"))
    below = None if c.below is None else c.below.reshape(-1, 1, 1)
    return requantize(t, layer, single, c.multiplier.reshape(-1, 1, 1), c.zero_out, c.low, c.high, below)


def _rounded(
    t: Tensors, layer: Layer, c: LinearConstants, op: str, attributes: dict[str, Any], x: str | None
) -> str:
    """What `_general` gives but for the rounding of float32 (`Kernels.rounded_sums`)."""
    w = t.writer
    if x is None and t.quantization.tensors[layer.inputs[0]].bits <= 8:
        inputs = [t[layer.inputs[0]], t.f32(1), t.u8(c.zero_in)]
        x = w.node("DequantizeLinear", inputs, f"{layer.name}_centred")
    else:
        x = w.node("Sub", [x or t.as_float32(layer.inputs[0]), t.f32(c.zero_in)], f"{layer.name}_centred")
    multiplier = c.multiplier.astype(np.float64)
    folded = multiplier if op == "Conv" else np.ones(1)  # a transposed kernel has its outputs on another axis
    kernel, bias = c.kernel * folded.reshape(-1, 1, 1, 1), c.bias * folded
    inputs = [x] + [
        w.constant(array.astype(np.float32), f"{layer.name}_constant") for array in (kernel, bias)
    ]
    scaled = w.node(op, inputs, f"{layer.name}_sum", **attributes)
    if op != "Conv":
        m = w.constant(multiplier.astype(np.float32).reshape(-1, 1, 1), f"{layer.name}_m")
        scaled = w.node("Mul", [scaled, m], f"{layer.name}_scaled")
    if c.below is not None:
        slope = np.divide(c.below, c.multiplier, out=np.zeros_like(c.below), where=c.multiplier != 0)
        slope_name = w.constant(slope.reshape(-1, 1, 1), f"{layer.name}_slope")
        scaled = w.node("PRelu", [scaled, slope_name], f"{layer.name}_prelu")
    if t.kernels.quantize and t.quantization.tensors[layer.name].bits <= 8:
        out = w.node("QuantizeLinear", [scaled, t.f32(1), t.u8(c.zero_out)], f"{layer.name}_q")
        return t.clip(out, layer, c.low, c.high)
    rounded = w.node("Round", [scaled], f"{layer.name}_round")
    return t.shift_and_clip(rounded, layer, c.zero_out, c.low, c.high)


def as_float32(t: Tensors, layer: Layer, sums: str) -> str:
    """A float64 tensor of integers, each rounded once."""
    return t.writer.node("Cast", [sums], f"{layer.name}_f32", to=t.FLOAT)


def requantize(
    t: Tensors,
    layer: Layer,
    single: str,
    m: np.ndarray,
    zero: int,
    low: int,
    high: int,
    below: np.ndarray | None = None,
) -> str:
    """`numerics.requantize` of a float32 tensor of integers."""
    w = t.writer
    factor = w.constant(m, f"{layer.name}_m")
    if below is not None:
        is_below = w.node("Less", [single, t.f32(0)], f"{layer.name}_is_below")
        either = [w.constant(below, f"{layer.name}_below"), factor]
        factor = w.node("Where", [is_below, *either], f"{layer.name}_factor")
    scaled = w.node("Mul", [single, factor], f"{layer.name}_scaled")
    return t.shift_and_clip(w.node("Round", [scaled], f"{layer.name}_round"), layer, zero, low, high)


def _plane_sums(
    t: Tensors,
    layer: Layer,
    kernel: np.ndarray,
    zero: int,
    op: str,
    axis: int,
    attributes: dict[str, Any],
    x: str | None = None,
) -> str:
    """sum (q - zero) w as a float64 tensor. `axis` is the kernel's axis of input channels."""
    w, bits = t.writer, t.quantization.tensors[layer.inputs[0]].bits
    x = x or t.as_float32(layer.inputs[0])
    total = ""
    for plane, power, largest in _activation_planes(t, layer, x, zero, bits):
        for part, part_power in _weight_parts(kernel, largest, axis, layer.name):
            weights = w.constant(part.astype(np.float32), f"{layer.name}_kernel")
            sums = w.node(op, [plane, weights], f"{layer.name}_part", **attributes)
            # The step to float64 also keeps runtimes from folding later factors into the kernel.
            sums = w.node("Cast", [sums], f"{layer.name}_f64", to=t.DOUBLE)
            if power * part_power > 1:
                sums = w.node("Mul", [sums, t.f64(power * part_power)], f"{layer.name}_weighted")
            total = w.node("Add", [total, sums], f"{layer.name}_sum") if total else sums
    return total


def _activation_planes(
    t: Tensors, layer: Layer, x: str, zero: int, bits: int
) -> Iterator[tuple[str, int, int]]:
    """(float32 tensor of centred bytes, its power of 2, its largest magnitude) for each byte of the activation."""
    w = t.writer

    def centred(tensor: str, offset: int) -> str:
        return w.node("Sub", [tensor, t.f32(offset)], f"{layer.name}_centred") if offset else tensor

    if bits <= 8:
        yield centred(x, zero), 1, max(zero, q_max(bits) - zero)
        return
    high = w.node("Floor", [w.node("Mul", [x, t.f32(1 / 256)], f"{layer.name}_div")], f"{layer.name}_high")
    low = w.node("Sub", [x, w.node("Mul", [high, t.f32(256)], f"{layer.name}_times")], f"{layer.name}_low")
    yield centred(high, zero >> 8), 256, 255
    yield centred(low, zero & 255), 1, 255


def _weight_parts(kernel: np.ndarray, largest: int, axis: int, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """(int64 kernel, its power of 2): byte planes, and slices of the input channels where a plane's sums
    would pass 2^24.

    A slice keeps the kernel's shape and zeroes the rest, which serves grouped kernels too.
    """
    kernel = kernel.astype(np.int64)
    low = ((kernel + 128) & 255) - 128
    planes = [(kernel, 1)] if np.abs(kernel).max(initial=0) <= 128 else [((kernel - low) >> 8, 256), (low, 1)]
    for plane, power in planes:
        for pieces in range(1, kernel.shape[axis] + 1):
            masks = _channel_masks(kernel.shape, axis, pieces)
            if all(_fits(plane * mask, largest, axis) for mask in masks):
                yield from ((plane * mask, power) for mask in masks)
                break
        else:
            raise UserError(f"layer {name}: its kernel of {kernel.shape} is too large for exact float32 sums")


def _channel_masks(shape: tuple[int, ...], axis: int, pieces: int) -> list[np.ndarray]:
    index = np.arange(shape[axis]) * pieces // shape[axis]
    sized = [1] * len(shape)
    sized[axis] = shape[axis]
    return [(index == piece).astype(np.int64).reshape(sized) for piece in range(pieces)]


def _fits(kernel: np.ndarray, largest: int, axis: int) -> bool:
    """Whether sum |w| * largest < 2^24 for every output channel."""
    output_axis = 0 if axis == 1 else 1
    axes = tuple(i for i in range(kernel.ndim) if i != output_axis)
    return int(np.abs(kernel).sum(axis=axes).max(initial=0)) * largest < FLOAT32_EXACT
