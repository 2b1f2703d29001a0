"""Pad: a number around a tensor, or its own numbers mirrored or repeated; negative pads cut."""

from __future__ import annotations

import math

import numpy as np

from mz.graph import Conv, Pad
from mz.parser.draft import Draft
from mz.parser.elementwise import affine
from mz.parser.gathers import places_of
from mz.parser.movement import cut, permuted
from mz.parser.node import ON_TENSOR, Node, Rule, Value, constant_settings

MODES = ("constant", "edge", "reflect", "wrap")

Pads = list[tuple[int, int]]
"""(before, after) by ONNX axis."""


def pad_mode(node: Node) -> str | None:
    """The mode is constant, with a finite number, edge, reflect or wrap."""
    mode = node.attribute("mode", "constant")
    return None if mode in MODES and math.isfinite(_number(node)) else f"mode {mode}, value {_number(node)}"


def batch_not_padded(node: Node) -> str | None:
    """The batch axis is not padded."""
    axis = node.x.batch_axis
    return None if axis is None or _pads(node)[axis] == (0, 0) else f"pads {_pads(node)}"


def pad(node: Node, draft: Draft) -> Value:
    """Zeros around an axis, to which another number is added; around the channels of a map as a 1x1 convolution with a
    kernel of ones and zeros. Where numbers of the tensor are mirrored or repeated, slices side by side.
    """
    pads = _pads(node)
    ranges = [(max(0, -a), size - max(0, -b), 1) for size, (a, b) in zip(node.x.shape, pads, strict=True)]
    inside = cut(node.x, ranges, draft, node.name)
    pads = [(max(0, a), max(0, b)) for a, b in pads]
    mode = node.attribute("mode", "constant")
    if mode != "constant":
        return _repeated(node, draft, inside, pads, mode)
    padded, number = _zeros(node, draft, inside, pads), _number(node)
    if not number or padded.shape == inside.shape:
        return padded
    shape = [1 if pad == (0, 0) else size for size, pad in zip(inside.shape, pads, strict=True)]
    return affine(node, draft, padded, 1.0, np.pad(np.zeros(shape), pads, constant_values=number))


def zeros_around(draft: Draft, source: str, axis: int, pad: tuple[int, int], origin: str) -> str:
    """The layer with zeros before and after an axis, which stands between the others as the rows of a map."""
    if pad == (0, 0):
        return source
    shape = draft.layers[source].shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    size = shape[axis] + sum(pad)
    rows = draft.reshaped(source, (outer, shape[axis], inner), [origin])
    found = draft.emit(Pad, [rows], (outer, size, inner), [origin], pads=(pad[0], 0, pad[1], 0))
    return draft.reshaped(found, (*shape[:axis], size, *shape[axis + 1 :]), [origin])


def _zeros(node: Node, draft: Draft, x: Value, pads: Pads) -> Value:
    """Pads of a map's first two axes alone are those of rows and columns whose channels stand last."""
    grown = tuple(size + sum(pad) for size, pad in zip(x.shape, pads, strict=True))
    if grown == x.shape:
        return x
    if len(x.shape) == 4 and x.shape[0] == 1 and (0, 0) not in pads[1:3] and pads[3] == (0, 0):
        front = permuted(x, (0, 3, 1, 2), draft, node.name)
        padded = _zeros(node, draft, front, [pads[0], (0, 0), *pads[1:3]])
        return permuted(padded, (0, 2, 3, 1), draft, node.name)
    if len(x.shape) == 4 and x.shape[0] == 1:
        return Value(_around_map(node, draft, draft.view(x, 0, node.name), pads), grown)
    layer = x.layer
    kept = [pad for axis, pad in enumerate(pads) if axis != x.batch_axis]
    for axis, around in enumerate(kept):
        layer = zeros_around(draft, layer, axis, around, node.name)
    return Value(layer, grown, x.batch_axis)


def _around_map(node: Node, draft: Draft, source: str, pads: Pads) -> str:
    _, channels, rows, columns = pads
    around = (rows[0], columns[0], rows[1], columns[1])
    shape = draft.layers[source].shape
    grown = tuple(size + sum(pad) for size, pad in zip(shape, pads[1:], strict=True))
    if channels == (0, 0):
        return draft.emit(Pad, [source], grown, [node.name], pads=around)
    kernel = np.eye(grown[0], shape[0], -channels[0], np.float32)[:, :, None, None]
    params = {"kernel": kernel, "bias": np.zeros(grown[0], np.float32)}
    layer = draft.emit(Conv, [source], grown, [node.name], params, kernel_shape=(1, 1), pads=around)
    draft.note(layer, f"{node.name} pads channels: a convolution with a kernel of ones and zeros")
    return layer


def _repeated(node: Node, draft: Draft, x: Value, pads: Pads, mode: str) -> Value:
    """Along one axis after the other, the places that numpy's pad gives."""
    for axis, around in enumerate(pads):
        places = np.pad(np.arange(x.shape[axis]), around, mode=mode)  # type: ignore[call-overload]
        x = places_of(x, axis, places, draft, node.name)
    return x


def _number(node: Node) -> float:
    return float(np.asarray(node.setting("value", 2) or 0.0).reshape(()))


def _pads(node: Node) -> Pads:
    given = node.setting("pads", 1)
    rank = len(node.x.shape)
    axes = [node.axis(axis) for axis in node.setting("axes", 3) or range(rank)]
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis] = (int(given[i]), int(given[i + len(axes)]))
    return pads


RULES = {"Pad": Rule(pad, (*ON_TENSOR, constant_settings, pad_mode, batch_not_padded))}
