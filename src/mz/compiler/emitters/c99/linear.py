"""Convolutions, transposed convolutions and dense layers in C: packed weights, folded zero points, scratch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mz.compiler.emitters.c99.layout import storage_bytes
from mz.compiler.emitters.c99.moves import row_by_row
from mz.compiler.emitters.c99.part import Context, Part, output_range
from mz.emulator.constants import LinearConstants
from mz.emulator.numerics import INT32_LIMIT
from mz.graph import Conv, Deconv, Dense

CHANNELS = 16
"""Channels that the innermost step takes at once: MZ_CHANNELS of mz_dot.h."""
_COLUMNS_BYTES = 1 << 10
"""What gathered windows may take: more pixels at a time hardly pay, as they only spare reading weights again ..."""
_PREPARED_COLUMNS_BYTES = 8 << 10
"""... unless weights are unpacked for them each time."""
_PIXELS_BYTES = 16 << 10
"""What pixels that are read where they lie may take at a time, so that they stay in the nearest cache."""
_MOST_PIXELS = 64
_WIDE_PIXELS = 8


def linear(context: Context, c: LinearConstants) -> Part:
    """Any layer with weights."""
    layer = context.layer
    if isinstance(layer, Conv) and layer.groups == layer.shape[0] == context.shapes[0][0]:
        return _depthwise(context, layer, c)
    if isinstance(layer, Dense):
        return _dense(context, layer, c)
    assert isinstance(layer, Conv | Deconv)
    part = Part(context)
    _conv(part, c, grouped_kernel(layer, c.kernel), _map_geometry(context, layer), "{x0}", "{y}", "{s}")
    return part


def grouped_kernel(layer: Conv | Deconv | Dense, kernel: np.ndarray) -> np.ndarray:
    """[groups, channels out, inputs] of a group, inputs as windows are gathered: kernel rows, columns, channels in."""
    if isinstance(layer, Dense):
        return kernel[None]
    if isinstance(layer, Deconv):
        in_channels, group_out, kh, kw = kernel.shape
        apart = kernel.reshape(layer.groups, in_channels // layer.groups, group_out, kh, kw)
        return apart.transpose(0, 2, 3, 4, 1).reshape(layer.groups, group_out, -1)
    out_channels, group_in, kh, kw = kernel.shape
    apart = kernel.reshape(layer.groups, out_channels // layer.groups, group_in, kh, kw)
    return apart.transpose(0, 1, 3, 4, 2).reshape(layer.groups, out_channels // layer.groups, -1)


def packed_blocks(kernel: np.ndarray) -> np.ndarray:
    """[groups, channels, inputs] -> one row of integers in the order that mz_conv of mz.h states."""
    inputs = kernel.shape[2]
    filled = np.pad(kernel, ((0, 0), (0, 0), (0, -inputs % 4)))
    blocks = [
        group[first : first + CHANNELS].reshape(-1, filled.shape[2] // 4, 4).transpose(1, 0, 2).ravel()
        for group in filled
        for first in range(0, len(group), CHANNELS)
    ]
    return np.concatenate(blocks)


def packed_bits(weights: np.ndarray, bits: int) -> np.ndarray:
    """A row of weights as int16, int8, or for 4 bits uint8 with two in each, the first in the low half."""
    if bits > 4:
        return weights.astype(np.int16 if bits > 8 else np.int8)
    halves = np.pad(weights, (0, weights.size % 2)).astype(np.int16) + 8
    return (halves[0::2] + 16 * halves[1::2]).astype(np.uint8)


def _map_geometry(context: Context, layer: Conv | Deconv) -> dict[str, Any]:
    (channels, rows, columns), (out_channels, out_rows, out_columns) = context.shapes[0], layer.shape
    return {
        "groups": layer.groups,
        "group_in": channels // layer.groups,
        "group_out": out_channels // layer.groups,
        "in_rows": rows,
        "in_columns": columns,
        "out_rows": out_rows,
        "out_columns": out_columns,
        "kernel_rows": layer.kernel_shape[0],
        "kernel_columns": layer.kernel_shape[1],
        "stride_rows": layer.strides[0],
        "stride_columns": layer.strides[1],
        "dilation_rows": layer.dilations[0],
        "dilation_columns": layer.dilations[1],
        "top": layer.pads[0],
        "left": layer.pads[1],
        "transposed": int(isinstance(layer, Deconv)),
    }


def _row_geometry(rows: int, inputs: int, outputs: int) -> dict[str, Any]:
    ones = ("groups", "in_rows", "out_rows", "kernel_rows", "kernel_columns", "stride_rows", "stride_columns",
            "dilation_rows", "dilation_columns")  # fmt: skip
    return dict.fromkeys(ones, 1) | {
        "group_in": inputs,
        "group_out": outputs,
        "in_columns": rows,
        "out_columns": rows,
        "top": 0,
        "left": 0,
        "transposed": 0,
    }


def _dense(context: Context, layer: Dense, c: LinearConstants) -> Part:
    """A convolution of a row of pixels; of a map, whose last axis is not innermost, by way of copies."""
    part = Part(context)
    (shape,) = context.shapes
    kernel = grouped_kernel(layer, c.kernel)
    geometry = _row_geometry(math.prod(shape[:-1]), shape[-1], layer.shape[-1])
    if len(shape) != 3:
        _conv(part, c, kernel, geometry, "{x0}", "{y}", "{s}")
        return part
    before, after = (
        -(-math.prod(shape) * storage_bytes(t.bits) // 16) * 16
        for shape, t in ((shape, context.inputs[0]), (layer.shape, context.tensor))
    )
    row_by_row(part, "rows", shape, context.inputs[0].bits, "{x0}", "{s}", out=False)
    _conv(part, c, kernel, geometry, "{s}", f"{{s}} + {before}", f"{{s}} + {before + after}")
    row_by_row(part, "maps", layer.shape, context.tensor.bits, f"{{s}} + {before}", "{y}", out=True)
    part.scratch += before + after
    return part


def _conv(
    part: Part, c: LinearConstants, kernel: np.ndarray, geometry: dict[str, Any], x: str, y: str, scratch: str
) -> None:
    """Enters an mz_conv with its arrays and its call."""
    context = part.context
    (x_quant,) = context.inputs
    weight_bits = context.quantization.weights[context.layer.name].bits
    groups, group_out, inputs = kernel.shape
    wide_kernel = kernel.astype(np.int64).reshape(groups * group_out, inputs)
    bias = c.bias - c.zero_in * wide_kernel.sum(axis=1)
    reach = int((np.abs(wide_kernel).sum(axis=1) * x_quant.q_max + np.abs(bias)).max())
    wide = x_quant.bits > 8 or weight_bits > 8 or reach >= INT32_LIMIT
    pixels = geometry["out_rows"] * geometry["out_columns"]
    row = -(-inputs // 4) * 4
    panel = weight_bits == 4 or bool(group_out % CHANNELS)
    direct = not wide and _reads_in_place(geometry)
    if wide:
        tile = min(pixels, _WIDE_PIXELS)
        part.scratch += 2 * tile * row + (row * CHANNELS if weight_bits == 4 else 0)
    elif direct:
        tile = pixels if panel else min(pixels, _pixels(_PIXELS_BYTES, row))
        part.scratch += row * CHANNELS if panel else 0
    else:
        limit = _PREPARED_COLUMNS_BYTES if panel and group_out > CHANNELS else _COLUMNS_BYTES
        tile = min(pixels, _pixels(limit, row), _MOST_PIXELS)
        part.scratch += tile * row + (row * CHANNELS if panel else 0)
    fields = geometry | {
        "zero_in": c.zero_in,
        "in_bits": x_quant.bits,
        "out_bits": context.tensor.bits,
        "weight_bits": weight_bits,
        "tile": tile,
        "direct": int(direct),
        "weights": part.constant("weights", packed_bits(packed_blocks(kernel), weight_bits)),
        "bias": part.constant("bias", bias.astype(np.int64 if wide else np.int32)),
        "multiplier": part.constant("multiplier", c.multiplier.astype(np.float32)),
        "below": "0" if c.below is None else part.constant("below", c.below),
        "range": output_range(c.low, c.high, c.zero_out),
    }
    function = "mz_conv_wide" if wide else "mz_conv_narrow"
    part.call(function, "mz_conv", "layer", fields, x, y, scratch)


def _pixels(limit: int, row: int) -> int:
    """Pixels of `row` bytes that `limit` holds, in fours."""
    return max(limit // row // 4 * 4, 4)


def _reads_in_place(geometry: dict[str, Any]) -> bool:
    """Whether a window is one pixel, whole quads of bytes that lie where the sums can read them."""
    ones = ("kernel_rows", "kernel_columns", "stride_rows", "stride_columns")
    return (
        all(geometry[key] == 1 for key in ones)
        and (geometry["in_rows"], geometry["in_columns"]) == (geometry["out_rows"], geometry["out_columns"])
        and (geometry["top"], geometry["left"]) == (0, 0)
        and geometry["group_in"] % 4 == 0
    )


def _depthwise(context: Context, layer: Conv, c: LinearConstants) -> Part:
    part = Part(context)
    (x_quant,) = context.inputs
    weight_bits = context.quantization.weights[layer.name].bits
    wide = c.accumulator_bits > 32
    taps = c.kernel.reshape(len(c.kernel), -1).T.ravel()
    geometry = _map_geometry(context, layer)
    channels = geometry.pop("groups")
    for key in ("group_in", "group_out", "transposed"):
        del geometry[key]
    fields = {"channels": channels} | geometry | {
        "zero_in": c.zero_in,
        "in_bits": x_quant.bits,
        "out_bits": context.tensor.bits,
        "weight_bits": weight_bits,
        "wide": int(wide),
        "weights": part.constant("weights", packed_bits(taps, weight_bits)),
        "bias": part.constant("bias", c.bias.astype(np.int64 if wide else np.int32)),
        "multiplier": part.constant("multiplier", c.multiplier.astype(np.float32)),
        "below": "0" if c.below is None else part.constant("below", c.below),
        "range": output_range(c.low, c.high, c.zero_out),
    }  # fmt: skip
    part.scratch = taps.size + taps.size % 2 if weight_bits == 4 else 0
    part.call("mz_depthwise_run", "mz_depthwise", "layer", fields, "{x0}", "{y}", "{s}")
    return part
