"""Convolutions and pools over one axis [N, C, L], done as those over maps [N, C, 1, L].

The node's attributes and kernel get an axis of size 1, its own rule does the rest, and the result loses the axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mz.parser.draft import Draft
from mz.parser.movement import reshape_to
from mz.parser.node import Node, Value

OPERATORS = frozenset(
    ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
)
_PER_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
"""What the added axis has in each attribute that holds a number an axis."""


def lift(node: Node, draft: Draft) -> tuple[Node, Callable[[Value], Value]] | None:
    """The node over maps that does the same, and how its result loses the axis again; None where the node is not over
    one axis.
    """
    x = node.operand(0)
    if node.op_type not in OPERATORS or not isinstance(x, Value) or len(x.shape) != 3 or x.shape[0] != 1:
        return None
    attributes = dict(node.attributes)
    for name, value in _PER_AXIS.items():
        if len(attributes.get(name, ())) == 1:
            attributes[name] = [value, *attributes[name]]
    if len(attributes.get("pads", ())) == 2:
        begin, end = attributes["pads"]
        attributes["pads"] = [0, begin, 0, end]
    channels, length = x.shape[1:]
    inputs = (Value(x.layer, (1, channels, 1, length)), *node.inputs[1:])
    kernel = node.operand(1)
    if isinstance(kernel, np.ndarray) and kernel.ndim == 3:
        inputs = (inputs[0], kernel[:, :, None], *node.inputs[2:])

    def drop(value: Value) -> Value:
        batch, channels, _, length = value.shape
        return reshape_to(value, (batch, channels, length), draft, node.name)

    return dataclasses.replace(node, attributes=attributes, inputs=inputs), drop
