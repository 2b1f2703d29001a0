"""Reductions: means, sums, norms and maxima over axes of an image, and the means that normalizations are made of.

A mean over rows and columns is a pool's, one over channels a convolution's with constants. Other axes become either by
moves, which cost no arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from mz.graph import (
    Activation,
    AvgPool,
    Concat,
    Conv,
    Elementwise,
    GlobalAvgPool,
    MaxPool,
    Mul,
    Slice,
    Transpose,
)
from mz.parser.activations import activation
from mz.parser.draft import Affine, Draft
from mz.parser.node import ON_TENSOR, Node, Rule, Value, always, constant_settings, own_axis, without_axis

TO_FRONT, TO_BACK = (2, 0, 1), (1, 2, 0)
"""Of a map's channels, by a transpose."""


def reduced_axes(node: Node) -> list[int]:
    """The ONNX axes that a reduction runs over, in order."""
    axes = node.setting("axes", 1)
    if axes is None or axes == []:
        return [] if node.attribute("noop_with_empty_axes", 0) else list(range(len(node.x.shape)))
    return sorted(node.axis(axis) for axis in np.atleast_1d(axes).tolist())


def left_over(
    node: Node, axes: Collection[int], batch_axis: int | None
) -> tuple[tuple[int, ...], int | None]:
    """ONNX shape and batch axis of what is left of the node's input when `axes` are reduced to one number."""
    shape = node.x.shape
    if node.attribute("keepdims", 1):
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape)), batch_axis
    kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    return kept, None if batch_axis is None else batch_axis - sum(axis < batch_axis for axis in axes)


def within_image(node: Node) -> str | None:
    """It does not run over the batch axis."""
    axes, x = reduced_axes(node), node.x
    return f"over axes {axes} of {list(x.shape)}" if x.batch_axis in axes else None


def over_some_axes(node: Node) -> str | None:
    """It runs over some axis."""
    return None if reduced_axes(node) else ""


def _over_map(node: Node) -> bool:
    found, x = reduced_axes(node), node.x
    return bool(found) and {*found} <= {2, 3} and len(x.shape) == 4 and x.shape[0] == 1


def _not_over_map(node: Node) -> bool:
    return not _over_map(node)


def mean(
    draft: Draft, source: str, axes: Sequence[int], origin: Sequence[str], *, total: bool = False
) -> str:
    """The mean (total: the sum) of a layer over axes of its own, in order, each of which stays, of size 1."""
    shape = draft.layers[source].shape
    rest = tuple(axis for axis in range(len(shape)) if axis not in axes)
    kept = tuple(size if axis in rest else 1 for axis, size in enumerate(shape))
    if rest in ((0, 1), (2,)) and _channels_last(draft, source):
        front = draft.emit(Transpose, [source], (shape[2], *shape[:2]), origin, permutation=TO_FRONT)
        found = mean(draft, front, [(axis + 1) % 3 for axis in axes], origin, total=total)
        return draft.emit(Transpose, [found], kept, origin, permutation=TO_BACK)
    count = math.prod(shape[axis] for axis in axes)
    if rest and axes[-1] < rest[0]:
        place = shape if rest == (1, 2) else (count, math.prod(kept), 1)
        found = _of_channels(draft, draft.reshaped(source, place, origin), origin, total)
        return draft.reshaped(found, kept, origin)
    pooled = draft.reshaped(_pooled(draft, source, axes, rest, origin), kept, origin)
    return _times(draft, pooled, count, origin) if total else pooled


def _pooled(
    draft: Draft, source: str, axes: Sequence[int], rest: Sequence[int], origin: Sequence[str]
) -> str:
    """The mean over axes by a pool, with each of the others' places a channel where the layer is no map."""
    shape = draft.layers[source].shape
    if len(shape) == 3 and len(axes) == 1:
        window = (shape[1], 1) if axes[0] == 1 else (1, shape[2])
        kept = (shape[0], shape[1] // window[0], shape[2] // window[1])
        return draft.emit(AvgPool, [source], kept, origin, kernel_shape=window)
    order = (*rest, *axes)
    if order != tuple(range(len(shape))):
        turned = tuple(shape[axis] for axis in order)
        source = draft.emit(Transpose, [source], turned, origin, permutation=order)
    sizes = [shape[axis] for axis in axes]
    area = sizes if len(sizes) == 2 else (math.prod(sizes), 1)
    maps = math.prod(shape[axis] for axis in rest)
    source = draft.reshaped(source, (maps, *area), origin)
    return draft.emit(GlobalAvgPool, [source], (maps, 1, 1), origin)


def _channels_last(draft: Draft, name: str) -> bool:
    """Whether a layer is made value by value, or of parts, of maps whose channels a transpose has put last."""
    names, seen = [name], {name}
    while names:
        layer = draft.layers[names.pop()]
        if isinstance(layer, Elementwise | Activation | Affine | Concat | Slice):
            names += set(layer.inputs) - seen
            seen.update(layer.inputs)
        elif not isinstance(layer, Transpose) or layer.permutation != TO_BACK:
            return False
    return True


def _of_channels(draft: Draft, source: str, origin: Sequence[str], total: bool) -> str:
    """The mean or the sum over the channels of a map: a convolution with one kernel of constants."""
    channels, rows, columns = draft.layers[source].shape
    kernel = np.full((1, channels, 1, 1), 1.0 if total else 1 / channels)
    arrays = {"kernel": kernel, "bias": np.zeros(1)}
    return draft.emit(Conv, [source], (1, rows, columns), origin, arrays, kernel_shape=(1, 1))


def _times(draft: Draft, source: str, factor: int, origin: Sequence[str]) -> str:
    shape = draft.layers[source].shape
    one = np.ones((1,) * len(shape))
    return draft.emit(Affine, [source], shape, origin, {"factor": factor * one, "offset": 0.0 * one})


def reduce_mean(node: Node, draft: Draft) -> Value:
    """An average pool, over channels a 1x1 convolution of constants; moves around it where other axes are reduced or
    the axes are dropped.
    """
    return _reduced(node, draft, node.x.layer)


def reduce_sum(node: Node, draft: Draft) -> Value:
    """As ReduceMean, times the number of values: ones in the place of the constants, or a product."""
    return _reduced(node, draft, node.x.layer, total=True)


def reduce_sum_square(node: Node, draft: Draft) -> Value:
    """As ReduceSum, of the tensor's product with itself."""
    x = node.x.layer
    square = draft.emit(Mul, [x, x], node.x.layer_shape, [node.name])
    return _reduced(node, draft, square, total=True)


def reduce_l2(node: Node, draft: Draft) -> Value:
    """The square root of what ReduceSumSquare becomes: Activation `sqrt`, or `power` where a product goes into it."""
    total = reduce_sum_square(node, draft)
    return activation(node, draft, total, "sqrt")


def reduce_max(node: Node, draft: Draft) -> Value:
    """A maximum pool, over other axes than height and width one for each; reshapes around it where they are dropped."""
    x, axes = node.x, reduced_axes(node)
    if not _over_map(node):
        layer = x.layer
        for axis in axes:
            layer = maximum(draft, layer, own_axis(axis, x.batch_axis), [node.name])
        return _finished(node, draft, layer, x.batch_axis)
    shape = x.shape[1:]
    rows, columns = (size if axis in axes else 1 for axis, size in ((2, shape[1]), (3, shape[2])))
    kept = (shape[0], shape[1] // rows, shape[2] // columns)
    source = draft.view(x, 0, node.name)
    layer = draft.emit(MaxPool, [source], kept, [node.name], kernel_shape=(rows, columns))
    return _finished(node, draft, layer, 0)


def maximum(draft: Draft, source: str, axis: int, names: Sequence[str]) -> str:
    """The largest values of a layer along an axis, which stays, of size 1."""
    shape = draft.layers[source].shape
    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    if len(shape) == 3 and axis == 2:
        return draft.emit(MaxPool, [source], kept, names, kernel_shape=(1, shape[2]))
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    place = draft.reshaped(source, (outer, shape[axis], inner), names)
    found = draft.emit(MaxPool, [place], (outer, 1, inner), names, kernel_shape=(shape[axis], 1))
    return draft.reshaped(found, kept, names)


def _reduced(node: Node, draft: Draft, source: str, *, total: bool = False) -> Value:
    """The mean or the sum of a layer of the shape of the node's input."""
    x, axes = node.x, reduced_axes(node)
    own = [own_axis(axis, x.batch_axis) for axis in axes]
    layer = mean(draft, source, own, [node.name], total=total) if own else source
    return _finished(node, draft, layer, x.batch_axis)


def _finished(node: Node, draft: Draft, layer: str, batch_axis: int | None) -> Value:
    """The reduced layer without the axes of size 1 if the node drops them."""
    shape, batch_axis = left_over(node, reduced_axes(node), batch_axis)
    layer = draft.reshaped(layer, without_axis(shape, batch_axis), [node.name])
    return Value(layer, shape, batch_axis)


_WITHIN_IMAGE = (*ON_TENSOR, constant_settings, within_image)

RULES = {
    "ReduceMean": Rule(reduce_mean, _WITHIN_IMAGE, written_out=_not_over_map),
    "ReduceSum": Rule(reduce_sum, _WITHIN_IMAGE, written_out=always),
    "ReduceSumSquare": Rule(reduce_sum_square, (*_WITHIN_IMAGE, over_some_axes), written_out=always),
    "ReduceL2": Rule(reduce_l2, (*_WITHIN_IMAGE, over_some_axes), written_out=always),
    "ReduceMax": Rule(reduce_max, (*_WITHIN_IMAGE, over_some_axes)),
}
