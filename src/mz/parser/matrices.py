"""MatMul: with a constant matrix a fully connected layer, with a stack of them a grouped convolution, of two tensors a
product of matrices.
"""

from __future__ import annotations

import math

import numpy as np

from mz.graph import MatMul, Mul, Transpose
from mz.parser.convolution import RULES as WEIGHTED
from mz.parser.convolution import dense
from mz.parser.draft import Draft
from mz.parser.elementwise import aligned
from mz.parser.movement import permuted, reshape_to
from mz.parser.node import Node, Rule, Value, without_axis


def two_axes_each(node: Node) -> str | None:
    """Both inputs have at least two axes, and the inner ones are of one size."""
    left, right = (operand.shape for operand in node.inputs if operand is not None)
    fits = min(len(left), len(right)) > 1 and left[-1] == right[-2]
    return None if fits else f"{list(left)} times {list(right)}"


def constant_matrix(node: Node) -> str | None:
    """A constant among the inputs is a matrix, or a stack with one matrix for each place of axes of the other input."""
    for constant, other in (node.inputs, node.inputs[::-1]):
        if isinstance(constant, np.ndarray) and other is not None:
            sizes = zip(constant.shape[-3::-1], (*other.shape[-3::-1], *[1] * constant.ndim), strict=False)
            if any(size not in (1, other_size) for size, other_size in sizes):
                return f"a constant of shape {list(constant.shape)}"
    return None


def multiplied_axes_are_data(node: Node) -> str | None:
    """The batch axis is not multiplied, and is none of the last two behind a constant matrix."""
    left, right = node.inputs
    if isinstance(left, Value) and left.batch_axis == len(left.shape) - 1:
        return f"shape {list(left.shape)}"
    if isinstance(right, Value):
        taken = (-2,) if isinstance(left, Value) else (-2, -1)
        if right.batch_axis in [len(right.shape) + axis for axis in taken]:
            return f"shape {list(right.shape)}"
    return None


def matmul(node: Node, draft: Draft) -> Value:
    """Fully connected layer over the last axis, or over the last but one if the first input is the constant matrix; of
    a stack of constant matrices, a grouped 1x1 convolution; of two tensors, a product of matrices.
    """
    left, right = node.inputs
    if isinstance(right, np.ndarray):
        return _times(node, draft, node.x, right)
    if isinstance(left, np.ndarray):
        columns = _turned(node, draft, node.value(1))
        return _turned(node, draft, _times(node, draft, columns, left.swapaxes(-1, -2)))
    return _product(node, draft, node.value(0), node.value(1))


def _times(node: Node, draft: Draft, x: Value, constant: np.ndarray) -> Value:
    """The value times a matrix, or a stack of them."""
    inner = constant.shape[-2:]
    if constant.size == math.prod(inner):
        matrix = constant.reshape(inner).T
        return dense(node, draft, x, matrix, np.zeros(len(matrix)))
    rank = len(x.shape)
    stack = (1,) * (rank - constant.ndim) + constant.shape[-rank:-2]
    grouped = [axis for axis, size in enumerate(stack) if size > 1]
    rest = [axis for axis in range(rank - 1) if axis not in grouped]
    order = [*grouped, rank - 1, *rest]
    groups = math.prod(stack)
    beside = permuted(x, order, draft, node.name)
    pixels = math.prod(x.shape[axis] for axis in rest)
    rows = reshape_to(beside, (1, groups * inner[0], pixels, 1), draft, node.name)
    kernel = constant.reshape(groups, *inner).swapaxes(1, 2).reshape(-1, inner[0], 1, 1)
    found = WEIGHTED["Conv"].apply(node.part("Conv", rows, kernel, group=groups), draft)
    sizes = [x.shape[axis] for axis in grouped] + [inner[1]] + [x.shape[axis] for axis in rest]
    apart = reshape_to(found, sizes, draft, node.name)
    back = [order.index(axis) for axis in range(rank)]
    return permuted(apart, back, draft, node.name)


def _product(node: Node, draft: Draft, left: Value, right: Value) -> Value:
    """What a softmax among the factors divides by is left for the product, where it is constant along the multiplied
    axis: the integers of a row then need not hold its large and its small weights in one scale with other rows'.
    """
    rank = max(len(left.shape), len(right.shape))
    layers, batch_axis = aligned([left, right], draft, node.name, keep=(rank - 2, rank - 1))
    shares = []
    for place, axis in ((0, -1), (1, -2)):
        raised, share = _softmax(node, draft, layers[place]) or ("", "")
        if share and draft.layers[share].shape[axis] == 1:
            layers[place] = raised
            shares.append(share)
    shape = (*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    layer = draft.emit(MatMul, layers, without_axis(shape, batch_axis), [node.name])
    for share in shares:
        layer = draft.emit(Mul, [layer, share], without_axis(shape, batch_axis), [node.name])
    return Value(layer, shape, batch_axis)


def _softmax(node: Node, draft: Draft, name: str) -> tuple[str, str] | None:
    """What is divided and by what, as a factor, if the layer is a softmax in integers or one that is transposed."""
    layer = draft.layers[name]
    if not isinstance(layer, Transpose):
        return draft.softmaxes.get(name)
    found = draft.softmaxes.get(layer.inputs[0])
    if found is None:
        return None
    order = layer.permutation
    raised, share = (
        draft.emit(
            Transpose,
            [part],
            [draft.layers[part].shape[axis] for axis in order],
            [node.name],
            permutation=order,
        )
        for part in found
    )
    return raised, share


def _turned(node: Node, draft: Draft, x: Value) -> Value:
    """The matrices of the last two axes transposed."""
    rank = len(x.shape)
    return permuted(x, (*range(rank - 2), rank - 1, rank - 2), draft, node.name)


def _constant_first(node: Node) -> bool:
    return isinstance(node.operand(0), np.ndarray)


RULES = {
    "MatMul": Rule(
        matmul, (two_axes_each, constant_matrix, multiplied_axes_are_data), written_out=_constant_first
    )
}
