"""Operators that move numbers and change none: reshapes, transposes, slices and the identities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mz.graph import Reshape, Slice, Transpose
from mz.parser.draft import Draft
from mz.parser.node import (
    ON_MAP,
    ON_TENSOR,
    Node,
    Rule,
    Value,
    constant_settings,
    first_output_only,
    own_axis,
    without_axis,
)

FLOAT, DOUBLE = 1, 11  # of onnx.TensorProto


def to_float(node: Node) -> str | None:
    """The cast is to float32 or float64: a network that computes in another type is to be exported in float32."""
    return None if node.attribute("to") in (FLOAT, DOUBLE) else f"to type {node.attribute('to')}"


def same_size(node: Node) -> str | None:
    """The target shape holds as many numbers as the input."""
    try:
        np.empty(node.x.shape, np.bool_).reshape(reshaped(node))
    except ValueError:
        return f"{list(node.x.shape)} to {reshaped(node)}"
    return None


def batch_kept(node: Node) -> str | None:
    """The batch axis is left as it is."""
    axis = node.x.batch_axis
    if axis is None:
        return None
    if node.op_type == "Split":
        divided = node.axis(node.attribute("axis", 0)) == axis and len(node.outputs) > 1
        return "" if divided else None
    start, stop, _ = _ranges(node)[axis]
    return None if (start, stop) == (0, 1) else f"from {start} to {stop}"


def steps_forward(node: Node) -> str | None:
    """Steps are positive and something is left."""
    found = [(start, stop, step) for start, stop, step in _ranges(node) if step < 1 or stop <= start]
    return f"start, stop, step {found[0]}" if found else None


def identity(node: Node, draft: Draft) -> Value:
    """Left out."""
    return node.x


def reshape_to(value: Value, shape: Sequence[int], draft: Draft, origin: str) -> Value:
    """The value in another ONNX shape; its batch axis is then the foremost axis of size 1."""
    target = tuple(int(size) for size in shape)
    batch_axis = target.index(1) if 1 in target else None
    layer = draft.reshaped(value.layer, without_axis(target, batch_axis), [origin])
    return Value(layer, target, batch_axis)


def reshape(node: Node, draft: Draft) -> Value:
    """The same numbers in another shape, which constants and shapes of tensors must tell."""
    return reshape_to(node.x, reshaped(node), draft, node.name)


def reshaped(node: Node) -> list[int]:
    """The ONNX shape that a Reshape, Flatten, Squeeze or Unsqueeze node makes."""
    shape = list(node.x.shape)
    if node.op_type == "Flatten":
        axis = node.axis(node.attribute("axis", 1))
        return [math.prod(shape[:axis]), math.prod(shape[axis:])]
    if node.op_type == "Reshape":
        target = [int(size) for size in node.setting("shape", 1)]
        if not node.attribute("allowzero", 0):
            target = [shape[i] if size == 0 else size for i, size in enumerate(target)]
        if -1 in target:
            target[target.index(-1)] = math.prod(shape) // -math.prod(target)
        return target
    axes = node.setting("axes", 1)
    if node.op_type == "Squeeze":
        dropped = (
            {node.axis(axis) for axis in axes} if axes else {i for i, size in enumerate(shape) if size == 1}
        )
        return [size for i, size in enumerate(shape) if i not in dropped]
    rank = len(shape) + len(axes)
    added = {node.axis(axis, rank) for axis in axes}
    sizes = iter(shape)
    return [1 if i in added else next(sizes) for i in range(rank)]


def transpose(node: Node, draft: Draft) -> Value:
    """Axes permuted; the batch axis moves along."""
    order = node.attribute("perm", range(len(node.x.shape))[::-1])
    return permuted(node.x, order, draft, node.name)


def permuted(x: Value, order: Sequence[int], draft: Draft, origin: str) -> Value:
    """The value with its ONNX axes in this order."""
    shape = tuple(x.shape[axis] for axis in order)
    batch_axis = None if x.batch_axis is None else list(order).index(x.batch_axis)
    own = tuple(own_axis(axis, x.batch_axis) for axis in order if axis != x.batch_axis)
    layer = x.layer
    if own != tuple(range(len(own))):
        layer = draft.emit(Transpose, [layer], without_axis(shape, batch_axis), [origin], permutation=own)
    return Value(layer, shape, batch_axis)


def blocks_divide(node: Node) -> str | None:
    """The block size divides the channels (DepthToSpace, by its square) or height and width (SpaceToDepth)."""
    _, channels, rows, columns = node.x.shape
    block = node.attribute("blocksize")
    whole = channels % block**2 if node.op_type == "DepthToSpace" else rows % block + columns % block
    return None if whole == 0 else f"{list(node.x.shape)} in blocks of {block}"


def _shuffled(
    node: Node, draft: Draft, split: Sequence[int], order: tuple[int, ...], shape: Sequence[int]
) -> Value:
    """Reshape to `split`, transpose by `order`, reshape to `shape`; all without the batch axis."""
    apart = draft.emit(Reshape, [draft.view(node.x, 0, node.name)], split, [node.name])
    moved = tuple(split[axis] for axis in order)
    turned = draft.emit(Transpose, [apart], moved, [node.name], permutation=order)
    return Value(draft.emit(Reshape, [turned], shape, [node.name]), (1, *shape))


def depth_to_space(node: Node, draft: Draft) -> Value:
    """A reshape, a transpose and a reshape (in either mode)."""
    _, channels, rows, columns = node.x.shape
    block = node.attribute("blocksize")
    depth = channels // block**2
    shape = (depth, rows * block, columns * block)
    if node.attribute("mode", "DCR") == "CRD":
        return _shuffled(node, draft, (depth, block, block, rows, columns), (0, 3, 1, 4, 2), shape)
    return _shuffled(node, draft, (block, block, depth, rows, columns), (2, 3, 0, 4, 1), shape)


def space_to_depth(node: Node, draft: Draft) -> Value:
    """A reshape, a transpose and a reshape."""
    _, channels, rows, columns = node.x.shape
    block = node.attribute("blocksize")
    down, across = rows // block, columns // block
    shape = (channels * block**2, down, across)
    return _shuffled(node, draft, (channels, down, block, across, block), (2, 4, 0, 1, 3), shape)


def cut(x: Value, ranges: Sequence[tuple[int, int, int]], draft: Draft, origin: str) -> Value:
    """The value from start to stop by step along each ONNX axis."""
    shape = tuple(len(range(*bounds)) for bounds in ranges)
    if shape == x.shape:
        return x
    kept = [bounds for axis, bounds in enumerate(ranges) if axis != x.batch_axis]
    starts, stops, steps = (tuple(column) for column in zip(*kept, strict=True))
    layer_shape = without_axis(shape, x.batch_axis)
    layer = draft.emit(Slice, [x.layer], layer_shape, [origin], starts=starts, stops=stops, steps=steps)
    return Value(layer, shape, x.batch_axis)


def slice_(node: Node, draft: Draft) -> Value:
    """A part of each axis, by steps."""
    return cut(node.x, _ranges(node), draft, node.name)


def split(node: Node, draft: Draft) -> list[Value]:
    """One slice per output."""
    axis = node.axis(node.attribute("axis", 0))
    size, count = node.x.shape[axis], len(node.outputs)
    sizes = node.setting("split", 1)
    if sizes is None:
        largest = -(-size // count)
        sizes = [min(largest, size - i * largest) for i in range(count)]
    values, start = [], 0
    for part in sizes:
        ranges = [(0, length, 1) for length in node.x.shape]
        ranges[axis] = (start, start + part, 1)
        values.append(cut(node.x, ranges, draft, node.name))
        start += part
    return values


def _ranges(node: Node) -> list[tuple[int, int, int]]:
    """(start, stop, step) of a Slice node along each ONNX axis, within bounds."""
    shape = node.x.shape
    starts, stops = node.setting("starts", 1), node.setting("ends", 2)
    axes = node.setting("axes", 3) or list(range(len(starts)))
    steps = node.setting("steps", 4) or [1] * len(starts)
    ranges = [(0, size, 1) for size in shape]
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        place = node.axis(axis)
        ranges[place] = slice(start, stop, step).indices(shape[place])
    return ranges


_RESHAPE = Rule(reshape, (*ON_TENSOR, constant_settings, same_size))
RULES = {
    "Identity": Rule(identity, ON_TENSOR),
    "Dropout": Rule(identity, (*ON_TENSOR, first_output_only)),
    "Cast": Rule(identity, (*ON_TENSOR, to_float)),
    "Reshape": _RESHAPE,
    "Flatten": _RESHAPE,
    "Squeeze": _RESHAPE,
    "Unsqueeze": _RESHAPE,
    "Transpose": Rule(transpose, ON_TENSOR),
    "DepthToSpace": Rule(depth_to_space, (*ON_MAP, blocks_divide)),
    "SpaceToDepth": Rule(space_to_depth, (*ON_MAP, blocks_divide)),
    "Slice": Rule(slice_, (*ON_TENSOR, constant_settings, batch_kept, steps_forward)),
    "Split": Rule(split, (*ON_TENSOR, constant_settings, batch_kept)),
}
