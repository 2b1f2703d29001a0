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
        known[name] = _by_itself(layer) or (
            _keeps(draft, layer) and all(never_negative(draft, source, known) for source in layer.inputs)
        )
    return known[name]


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
