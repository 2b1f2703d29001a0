"""Windows that slide over maps: strides, dilations, pads, auto_pad and ceil mode of convolutions and pools.

Pure functions on sizes; formulas are those of the ONNX operator documents.
"""

from __future__ import annotations

from dataclasses import dataclass

from mz.graph.layers import Pads
from mz.parser.node import Node

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Where a window of `kernel` (rows, columns) goes on a map, and the size of what comes out."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: Pads
    out: Pair


def pair(values: list[int] | tuple[int, ...]) -> Pair:
    rows, columns = values
    return int(rows), int(columns)


def extent(kernel: int, dilation: int) -> int:
    """Pixels from a window's first to its last, both counted."""
    return (kernel - 1) * dilation + 1


def window(node: Node, size: Pair, kernel: Pair) -> Window:
    """The window of a Conv, MaxPool or AveragePool node over a map of `size`; ceil mode becomes pads at the ends."""
    strides = pair(node.attribute("strides", [1, 1]))
    dilations = pair(node.attribute("dilations", [1, 1]))
    given = node.attribute("pads", [0, 0, 0, 0])
    auto_pad = node.attribute("auto_pad", "NOTSET")
    ceil_mode = bool(node.attribute("ceil_mode", 0))
    begins, ends, outs = [], [], []
    for axis in (0, 1):
        reach = extent(kernel[axis], dilations[axis])
        stride = strides[axis]
        begin, end = (given[axis], given[axis + 2]) if auto_pad == "NOTSET" else (0, 0)
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-size[axis] // stride) - 1) * stride + reach - size[axis], 0)
            begin = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            end = total - begin
        room = size[axis] + begin + end - reach
        out = room // stride + 1
        # A window may start no later than the last real pixel.
        if ceil_mode and room % stride and out * stride < size[axis] + begin:
            end += stride - room % stride
            out += 1
        begins.append(begin)
        ends.append(end)
        outs.append(out)
    pads = (begins[0], begins[1], ends[0], ends[1])
    return Window(kernel, strides, dilations, pads, (outs[0], outs[1]))


@dataclass(frozen=True, slots=True)
class TransposedWindow:
    """As `Window`, for a transposed convolution: pads cut from the full output, then rows and columns added."""

    strides: Pair
    dilations: Pair
    pads: Pads
    output_padding: Pair
    out: Pair


def transposed_window(node: Node, size: Pair, kernel: Pair) -> TransposedWindow:
    """The window of a ConvTranspose node. Pads may come out negative: a constraint refuses that."""
    strides = pair(node.attribute("strides", [1, 1]))
    dilations = pair(node.attribute("dilations", [1, 1]))
    output_padding = pair(node.attribute("output_padding", [0, 0]))
    given = node.attribute("pads", [0, 0, 0, 0])
    auto_pad = node.attribute("auto_pad", "NOTSET")
    wanted = node.attribute("output_shape")
    begins, ends, outs = [], [], []
    for axis in (0, 1):
        full = strides[axis] * (size[axis] - 1) + extent(kernel[axis], dilations[axis]) + output_padding[axis]
        begin, end = (given[axis], given[axis + 2]) if auto_pad == "NOTSET" else (0, 0)
        if wanted is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = full - (wanted[-2:][axis] if wanted is not None else size[axis] * strides[axis])
            begin = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            end = total - begin
        begins.append(begin)
        ends.append(end)
        outs.append(full - begin - end)
    pads = (begins[0], begins[1], ends[0], ends[1])
    return TransposedWindow(strides, dilations, pads, output_padding, (outs[0], outs[1]))
