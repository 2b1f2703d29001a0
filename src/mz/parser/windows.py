"""Convolutions and pools over maps that stand where the batch is (windows of an image), done as those of one map.

A pool takes the channels of all maps as channels of one. A convolution takes the maps one below the other, each with
its own rows of zeros, and the rows that come out of two maps at once are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mz.parser.draft import Draft
from mz.parser.geometry import extent, pair, window
from mz.parser.movement import cut, permuted, reshape_to
from mz.parser.node import Node, Value
from mz.parser.pads import zeros_around

POOLS = frozenset(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"))
SWAPPED = (1, 0, 2, 3)
"""Maps and channels, each in the other's place."""


def lift(node: Node, draft: Draft) -> tuple[Node, Callable[[Value], Value]] | None:
    """The node over one map, and how its result becomes maps again; None where the node does not read many maps."""
    x = node.operand(0)
    if not isinstance(x, Value) or len(x.shape) != 4 or x.shape[0] == 1:
        return None
    if node.op_type in POOLS:
        return _channels(node, draft, x)
    kernel = node.operand(1)
    if node.op_type == "Conv" and isinstance(kernel, np.ndarray) and kernel.ndim == 4:
        return _rows(node, draft, x, pair(kernel.shape[2:]))
    return None


def _channels(node: Node, draft: Draft, x: Value) -> tuple[Node, Callable[[Value], Value]]:
    maps, channels, rows, columns = x.shape
    beside = reshape_to(x, (1, maps * channels, rows, columns), draft, node.name)

    def apart(value: Value) -> Value:
        return reshape_to(value, (maps, channels, *value.shape[2:]), draft, node.name)

    return _reading(node, beside), apart


def _rows(
    node: Node, draft: Draft, x: Value, kernel: tuple[int, int]
) -> tuple[Node, Callable[[Value], Value]]:
    maps, channels, rows, columns = x.shape
    placed = window(node, (rows, columns), kernel)
    (above, left, below, right), stride = placed.pads, placed.strides[0]
    pitch = -(-(rows + above + below) // stride) * stride
    turned = draft.view(permuted(x, SWAPPED, draft, node.name), None, node.name)
    padded = zeros_around(draft, turned, 2, (above, pitch - rows - above), node.name)
    tall = reshape_to(
        Value(padded, (channels, maps, pitch, columns), None),
        (1, channels, maps * pitch, columns),
        draft,
        node.name,
    )
    # So many rows of zeros below that `pitch // stride` rows come out for each map.
    last = max(0, extent(kernel[0], placed.dilations[0]) - stride)
    attributes = {**node.attributes, "pads": [0, left, last, right], "auto_pad": "NOTSET"}

    def apart(value: Value) -> Value:
        _, outputs, _, width = value.shape
        shape = (outputs, maps, pitch // stride, width)
        ranges = [(0, size, 1) for size in shape]
        ranges[2] = (0, placed.out[0], 1)
        found = cut(reshape_to(value, shape, draft, node.name), ranges, draft, node.name)
        return permuted(found, SWAPPED, draft, node.name)

    return dataclasses.replace(_reading(node, tall), attributes=attributes), apart


def _reading(node: Node, x: Value) -> Node:
    return dataclasses.replace(node, inputs=(x, *node.inputs[1:]))
