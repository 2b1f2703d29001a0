"""Which layers of a draft are never negative, whatever the image: the divisors whose reciprocal is a table.

A rounding changes such a divisor's size, never its sign, and a range of it begins at 0. May import the draft alone.
"""

from __future__ import annotations

import numpy as np

from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Concat,
    GlobalAvgPool,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
    Weighted,
)
from mz.parser.draft import Affine, Draft

Spans = tuple[tuple[int, int], ...]
"""The first and the place behind the last along each axis of a layer."""

_FUNCTIONS = frozenset(("sigmoid", "hard_sigmoid", "exp", "softplus", "abs", "sqrt"))
_KEEPING = (
    Add
    | Mul
    | MatMul
    | AvgPool
    | GlobalAvgPool
    | MaxPool
    | Concat
    | Pad
    | Reshape
    | Resize
    | Slice
    | Transpose
)
"""Layers that make nothing negative of what is not."""


def never_negative(draft: Draft, name: str, known: dict[str, bool]) -> bool:
    """Whether no number of the layer lies below 0, as far as its own kind and the layers before it say.

    known: what was found before; filled in. Layers do not change while nodes are converted.
    """
    if name not in known:
        layer = draft.layers[name]
        known[name] = (
            _by_itself(layer)
            or (_keeps(draft, layer) and all(never_negative(draft, source, known) for source in layer.inputs))
            or (isinstance(layer, Slice) and _part(draft, layer.inputs[0], _cut(layer), known))
        )
    return known[name]


def _part(draft: Draft, name: str, spans: Spans, known: dict[str, bool]) -> bool:
    """Whether no number of the layer within the spans lies below 0: attention without a softmax has a column of ones
    among its values, and divides by what becomes of that column.
    """
    layer = draft.layers[name]
    if never_negative(draft, name, known):
        return True
    if isinstance(layer, Slice):
        outer = zip(layer.starts, layer.steps, spans, strict=True)
        within = tuple(
            (start + low * step, start + (high - 1) * step + 1) for start, step, (low, high) in outer
        )
        return _part(draft, layer.inputs[0], within, known)
    if isinstance(layer, Transpose):
        turned = dict(zip(layer.permutation, spans, strict=True))
        return _part(draft, layer.inputs[0], tuple(turned[axis] for axis in range(len(spans))), known)
    if isinstance(layer, Pad):
        top, left, bottom, right = layer.pads
        _, (first_row, end_row), (first, end) = spans
        height, width = layer.shape[1:]
        return end_row <= top or first_row >= height - bottom or end <= left or first >= width - right
    if isinstance(layer, Affine):
        cut = tuple(slice(*span) for span in spans)
        arrays = (np.broadcast_to(array, layer.shape)[cut] for array in draft.params[name].values())
        return all(np.all(array >= 0) for array in arrays) and _part(draft, layer.inputs[0], spans, known)
    if isinstance(layer, MatMul):
        *lead, rows, columns = spans
        shapes = [draft.layers[source].shape for source in layer.inputs]
        whole = (0, shapes[0][-1])
        factors = ((*lead, rows, whole), (*lead, whole, columns))
        return all(
            _part(draft, source, tuple(_within(*axis) for axis in zip(factor, shape, strict=True)), known)
            for source, factor, shape in zip(layer.inputs, factors, shapes, strict=True)
        )
    return False


def _within(span: tuple[int, int], size: int) -> tuple[int, int]:
    """The span along an axis of this size, which is 1 where it is broadcast."""
    return (0, 1) if size == 1 else span


def _cut(layer: Slice) -> Spans:
    """What a slice takes, with what its steps leave out."""
    return tuple(zip(layer.starts, layer.stops, strict=True))


def _by_itself(layer: Layer) -> bool:
    if isinstance(layer, Activation):
        clipped = layer.function == "clip" and layer.constants[0] >= 0
        rooted = layer.function == "power" and not layer.constants[0].is_integer()
        return layer.function in _FUNCTIONS or clipped or rooted
    return isinstance(layer, Softmax) or (isinstance(layer, Mul) and layer.is_square)


def _keeps(draft: Draft, layer: Layer) -> bool:
    if isinstance(layer, Activation):
        return layer.function == "power" or (layer.function == "clip" and layer.constants[1] >= 0)
    if isinstance(layer, Weighted | Affine):
        return all(np.all(array >= 0) for array in draft.params[layer.name].values())
    return isinstance(layer, _KEEPING)
