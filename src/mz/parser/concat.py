"""Tensors side by side: Concat, where constants among them are zeros around their neighbours, to which they are added;
Tile and Expand, which put a tensor beside itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mz.graph import Concat, Resize, Shape
from mz.parser.draft import Affine, Draft
from mz.parser.elementwise import aligned
from mz.parser.movement import reshape_to
from mz.parser.node import ON_TENSOR, Node, Rule, Value, always, constant_settings, own_axis, without_axis
from mz.parser.pads import zeros_around

_MOST_COPIES = 64


def tensor_among(node: Node) -> str | None:
    """At least one input is a tensor of the network."""
    return None if any(isinstance(operand, Value) for operand in node.inputs) else "constants only"


def batch_not_joined(node: Node) -> str | None:
    """The axis is not the batch axis."""
    first, axis = _tensors(node)[0], _axis(node)
    others = (size for place, size in enumerate(first.shape) if place != axis)
    return "" if axis == first.batch_axis and 1 not in others else None


def concat(node: Node, draft: Draft) -> Value:
    """Tensors side by side along an axis. Constants among them, such as a class token, are padded zeros and a sum."""
    axis, values = _axis(node), _tensors(node)
    layers, batch_axis = aligned(values, draft, node.name, keep=(axis,))
    operands = [operand for operand in node.inputs if operand is not None]
    shape = tuple(
        sum(operand.shape[i] for operand in operands) if i == axis else size
        for i, size in enumerate(values[0].shape)
    )
    layer_axis = own_axis(axis, batch_axis)
    own = without_axis(shape, batch_axis)
    pads = _pads(operands, axis)
    parts = [
        zeros_around(draft, name, layer_axis, pad, node.name) for name, pad in zip(layers, pads, strict=True)
    ]
    layer = parts[0]
    if len(parts) > 1:
        layer = draft.emit(Concat, parts, own, [node.name], axis=layer_axis)
    if len(parts) < len(operands):
        offset = _side_by_side(operands, axis, batch_axis)
        params = {"factor": np.ones((1,) * len(own)), "offset": offset}
        layer = draft.emit(Affine, [layer], own, [node.name], params)
    return Value(layer, shape, batch_axis)


def _tensors(node: Node) -> list[Value]:
    return [operand for operand in node.inputs if isinstance(operand, Value)]


def _axis(node: Node) -> int:
    return node.axis(node.attribute("axis", 1), len(_tensors(node)[0].shape))


def _pads(operands: Sequence[Value | np.ndarray], axis: int) -> list[tuple[int, int]]:
    """For each tensor the size of the constants behind it; for the first also of those before it."""
    pads: list[tuple[int, int]] = []
    waiting = 0
    for operand in operands:
        if isinstance(operand, Value):
            pads.append((waiting, 0))
            waiting = 0
        elif pads:
            before, after = pads[-1]
            pads[-1] = (before, after + operand.shape[axis])
        else:
            waiting += operand.shape[axis]
    return pads


def _side_by_side(operands: Sequence[Value | np.ndarray], axis: int, batch_axis: int | None) -> np.ndarray:
    """The constants as a layer counts axes, float64, zeros in the places of tensors; axes along which none of them
    differs have size 1.
    """
    arrays = [
        np.zeros((1,) * axis + (operand.shape[axis],) + (1,) * (len(operand.shape) - axis - 1))
        if isinstance(operand, Value)
        else operand.astype(np.float64)
        for operand in operands
    ]
    rest = np.broadcast_shapes(*(np.delete(array.shape, axis) for array in arrays))
    filled = [np.broadcast_to(array, (*rest[:axis], array.shape[axis], *rest[axis:])) for array in arrays]
    whole = np.concatenate(filled, axis=axis)
    return whole.reshape(without_axis(whole.shape, batch_axis))


def few_copies(node: Node) -> str | None:
    """Along axes of more than one place there are at most 64 copies."""
    shape = (1,) * (len(_repeats(node)) - len(node.x.shape)) + node.x.shape
    copies = math.prod(count for size, count in zip(shape, _repeats(node), strict=True) if size > 1)
    return None if copies <= _MOST_COPIES else f"{copies}"


def repeat(node: Node, draft: Draft) -> Value:
    """The tensor beside itself; one place is enlarged, as a nearest resize does it."""
    repeats = _repeats(node)
    x = reshape_to(node.x, (1,) * (len(repeats) - len(node.x.shape)) + node.x.shape, draft, node.name)
    grown = [axis for axis, count in enumerate(repeats) if count > 1]
    if not grown:
        return x
    (layer,), batch_axis = aligned([x], draft, node.name, keep=grown)
    shape = list(x.shape)
    for axis in grown:
        shape[axis] *= repeats[axis]
        place = own_axis(axis, batch_axis)
        layer = _along(draft, layer, place, without_axis(tuple(shape), batch_axis), node.name)
    return Value(layer, tuple(shape), batch_axis)


def _along(draft: Draft, name: str, axis: int, shape: Shape, origin: str) -> str:
    """The layer as often along one axis as makes it of this shape."""
    size = draft.layers[name].shape[axis]
    count = shape[axis] // size
    if size > 1:
        return draft.emit(Concat, [name] * count, shape, [origin], axis=axis)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    source = draft.reshaped(name, (outer, 1, inner), [origin])
    scales = (float(count), 1.0)
    enlarged = draft.emit(
        Resize,
        [source],
        (outer, count, inner),
        [origin],
        mode="nearest",
        scales=scales,
        coordinates="asymmetric",
        nearest_mode="floor",
    )
    return draft.reshaped(enlarged, shape, [origin])


def _repeats(node: Node) -> list[int]:
    """How often a Tile or an Expand has the tensor along each axis of its output."""
    wanted = node.constant(1)
    assert wanted is not None
    counts = [int(count) for count in wanted.reshape(-1)]
    if node.op_type == "Tile":
        return counts
    rank = max(len(counts), len(node.x.shape))
    before = (1,) * (rank - len(node.x.shape)) + node.x.shape
    after = np.broadcast_shapes(before, tuple(counts))
    return [new // old for old, new in zip(before, after, strict=True)]


_COPIED = Rule(repeat, (*ON_TENSOR, constant_settings, few_copies), written_out=always)

RULES = {
    "Concat": Rule(concat, (tensor_among, batch_not_joined)),
    "Tile": _COPIED,
    "Expand": _COPIED,
}
