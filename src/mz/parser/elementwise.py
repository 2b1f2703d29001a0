"""Arithmetic of two tensors, and of a tensor with constants.

Constants make an Affine of the draft, which a later pass folds into the layer before it or turns into a depthwise 1x1
convolution. Two tensors make an element-wise layer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from mz.graph import Add, Elementwise, Mul, Sub
from mz.parser.activations import clip, reciprocal
from mz.parser.draft import Affine, Draft
from mz.parser.node import ON_TENSOR, Convert, Node, Rule, Value, constant_settings, without_axis

_LOWEST_SCORE, _MASKED = -1e3, -100.0
"""Below the first, a constant before a softmax leaves places out. The second does so too, and leaves a fine step to the
scores between.
"""


def some_tensor(node: Node) -> str | None:
    """At least one input is a tensor, and the result is no larger than it where the others are constants."""
    values = [operand for operand in node.inputs if isinstance(operand, Value)]
    if not values:
        return "constants only"
    shape = np.broadcast_shapes(*(operand.shape for operand in node.inputs if operand is not None))
    enlarged = len(values) == 1 and shape != values[0].shape
    return f"{list(values[0].shape)} becomes {list(shape)}" if enlarged else None


def divides_floats(node: Node) -> str | None:
    """The numbers are floats: the division of integers cuts off what lies behind the point."""
    constants = [operand for operand in node.inputs if isinstance(operand, np.ndarray)]
    return "integers" if any(np.issubdtype(constant.dtype, np.integer) for constant in constants) else None


def divisor_keeps_its_sign(node: Node) -> str | None:
    """The divisor is a constant without zeros, or a tensor that cannot be negative: it comes of roots, squares, a ReLU,
    an exponential and their like.
    """
    divisor = node.operand(1)
    if isinstance(divisor, np.ndarray):
        return None if np.all(divisor != 0) else "a zero"
    return None if 1 in node.never_negative else "a tensor of either sign"


def bound_constant(node: Node) -> str | None:
    """One input is a tensor, the other a constant number."""
    constants = [operand for operand in node.inputs if isinstance(operand, np.ndarray)]
    if len(node.inputs) == 2 and len(constants) == 1 and constants[0].size == 1:
        return None
    return f"{len(node.inputs)} inputs, {len(constants)} of them constant"


def constant_places(node: Node) -> str | None:
    """The condition is a constant, and so is one of the values, where it is taken finite, or -inf before a softmax."""
    condition, *values = (node.operand(place) for place in range(3))
    constants = [value for value in values if isinstance(value, np.ndarray)]
    if not isinstance(condition, np.ndarray) or len(constants) != 1:
        return f"{sum(isinstance(operand, Value) for operand in node.inputs)} tensors"
    taken = _taken(node)
    left_out = node.before_softmax & (taken == -np.inf)
    return None if np.all(np.isfinite(taken) | left_out) else "infinite"


def aligned(
    values: Sequence[Value], draft: Draft, origin: str, keep: Collection[int] = ()
) -> tuple[list[str], int | None]:
    """Layers that hold the values, of one rank, and the ONNX axis that all of them leave out.

    That is an axis of size 1 in all of them, the foremost; none where there is no such axis but those of `keep`.
    """
    rank = max(len(value.shape) for value in values)
    raised = [Value(v.layer, (1,) * (rank - len(v.shape)) + v.shape, None) for v in values]
    common = (
        axis for axis in range(rank) if axis not in keep and all(value.shape[axis] == 1 for value in raised)
    )
    batch_axis = next(common, None)
    return [draft.view(value, batch_axis, origin) for value in raised], batch_axis


def affine(
    node: Node, draft: Draft, value: Value, factor: np.ndarray | float, offset: np.ndarray | float
) -> Value:
    """factor * value + offset, the constants in ONNX's shapes."""
    params = {"factor": _beside(value, factor), "offset": _beside(value, offset)}
    layer = draft.emit(Affine, [value.layer], value.layer_shape, [node.name], params)
    return Value(layer, value.shape, value.batch_axis)


def _beside(value: Value, constant: np.ndarray | float) -> np.ndarray:
    """The constant in float64 with the axes of the value's layer."""
    array = np.asarray(constant, np.float64)
    array = array.reshape((1,) * (len(value.shape) - array.ndim) + array.shape)
    return array.reshape(without_axis(array.shape, value.batch_axis))


def combine(node: Node, draft: Draft, kind: type[Elementwise], left: Value, right: Value) -> Value:
    """An element-wise layer over two tensors."""
    layers, batch_axis = aligned([left, right], draft, node.name)
    shape = np.broadcast_shapes(left.shape, right.shape)
    layer = draft.emit(kind, layers, without_axis(shape, batch_axis), [node.name])
    return Value(layer, shape, batch_axis)


def _add(node: Node, draft: Draft) -> Value:
    """Sum; of more than two tensors, a chain of sums."""
    values = [operand for operand in node.inputs if isinstance(operand, Value)]
    total = values[0]
    for value in values[1:]:
        total = combine(node, draft, Add, total, value)
    for operand in node.inputs:
        if isinstance(operand, np.ndarray):
            total = _masked(node, draft, total, 1.0, operand)
    return total


def _sub(node: Node, draft: Draft) -> Value:
    """Difference."""
    left, right = node.inputs
    if isinstance(right, np.ndarray):
        return affine(node, draft, node.value(0), 1.0, -right.astype(np.float64))
    if isinstance(left, np.ndarray):
        return affine(node, draft, node.value(1), -1.0, left)
    return combine(node, draft, Sub, node.value(0), node.value(1))


def _mul(node: Node, draft: Draft) -> Value:
    """Product."""
    left, right = node.inputs
    if isinstance(right, np.ndarray):
        return affine(node, draft, node.value(0), right, 0.0)
    if isinstance(left, np.ndarray):
        return affine(node, draft, node.value(1), left, 0.0)
    return combine(node, draft, Mul, node.value(0), node.value(1))


def _div(node: Node, draft: Draft) -> Value:
    """Product with the reciprocal: the constant's, or an Activation `power`, which takes up a root and an epsilon."""
    left, right = node.inputs
    if isinstance(right, np.ndarray):
        return affine(node, draft, node.x, 1.0 / right.astype(np.float64), 0.0)
    inverse = reciprocal(node, draft, node.value(1))
    if isinstance(left, np.ndarray):
        return inverse if np.all(left == 1) else affine(node, draft, inverse, left, 0.0)
    return combine(node, draft, Mul, node.value(0), inverse)


def _where(node: Node, draft: Draft) -> Value:
    """Product with ones and zeros, and sum with the constant where it is taken."""
    place = 1 if isinstance(node.operand(1), Value) else 2
    condition = node.constant(0)
    assert condition is not None
    kept = condition if place == 1 else ~condition
    return _masked(node, draft, node.value(place), kept.astype(np.float64), _taken(node))


def _masked(node: Node, draft: Draft, value: Value, factor: np.ndarray | float, offset: np.ndarray) -> Value:
    """As `affine`; places that a softmax is to leave out hold one number, not a sum with a very negative one."""
    low = offset <= _LOWEST_SCORE
    if node.before_softmax and np.any(low):
        factor, offset = np.where(low, 0.0, factor), np.where(low, _MASKED, offset)
    return affine(node, draft, value, factor, offset)


def _taken(node: Node) -> np.ndarray:
    """Where's constant in the places that take it, 0 in the others."""
    condition, left, right = node.inputs
    chosen = (condition, left, 0.0) if isinstance(left, np.ndarray) else (condition, 0.0, right)
    return np.asarray(np.where(*chosen))


def _by_tensor(node: Node) -> bool:
    return isinstance(node.operand(1), Value)


def _neg(node: Node, draft: Draft) -> Value:
    """Product with -1."""
    return affine(node, draft, node.x, -1.0, 0.0)


def _bounded(upper: bool) -> Convert:
    def convert(node: Node, draft: Draft) -> Value:
        (bound,) = (operand for operand in node.inputs if isinstance(operand, np.ndarray))
        (value,) = (operand for operand in node.inputs if isinstance(operand, Value))
        number = float(bound.reshape(()))
        limits = (-math.inf, number) if upper else (number, math.inf)
        return clip(node, draft, value, *limits)

    convert.__doc__ = "A clip, fused into the layer before it where that has weights or is element-wise."
    return convert


RULES = {
    "Add": Rule(_add, (some_tensor,)),
    "Sum": Rule(_add, (some_tensor,)),
    "Sub": Rule(_sub, (some_tensor,)),
    "Mul": Rule(_mul, (some_tensor,)),
    "Div": Rule(_div, (divides_floats, divisor_keeps_its_sign, some_tensor), written_out=_by_tensor),
    "Where": Rule(_where, (constant_places, some_tensor)),
    "Neg": Rule(_neg, (*ON_TENSOR, constant_settings)),
    "Min": Rule(_bounded(upper=True), (bound_constant, some_tensor)),
    "Max": Rule(_bounded(upper=False), (bound_constant, some_tensor)),
}
