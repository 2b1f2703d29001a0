"""Operators that no integer layer does and that run on the host, in float, as they are: `HostOp` layers.

Only operators that give the same for the same image whatever else is in the batch are here. A rule of this page is
asked where the operator's own rule, if it has one, does not take the node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mz.graph import HostOp
from mz.parser.draft import Draft
from mz.parser.elementwise import divides_floats
from mz.parser.movement import reshape_to
from mz.parser.node import (
    ON_TENSOR,
    Convert,
    Node,
    Rule,
    Value,
    constant_settings,
    first_output_only,
    without_axis,
)
from mz.parser.reductions import left_over, reduced_axes

BOOL, WHOLE = 9, (2, 3, 4, 5, 6, 7, 12, 13)  # of onnx.TensorProto
INT64 = 7

UNARY = (
    *("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Round"),
    *("Sign", "Sin", "Softsign", "Sqrt", "Tan"),
)
BROADCAST = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min"),
    *("Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
)
REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A node's inputs, all of one rank, with the ONNX axis `batch_axis` left out (none where it is None).

    constants: by their place among the inputs.
    """

    layers: tuple[str, ...]
    constants: dict[int, np.ndarray]
    batch_axis: int | None

    def axis(self, axis: int) -> int:
        """An ONNX axis as the operator counts it, when the batch stands in front of what is not left out."""
        return axis + (self.batch_axis is None or axis < self.batch_axis)


def whole_or_truth(node: Node) -> str | None:
    """The cast is to whole numbers or to true and false."""
    return None if node.attribute("to") in (BOOL, *WHOLE) else f"to type {node.attribute('to')}"


def two_matrices(node: Node) -> str | None:
    """Both inputs have at least two axes."""
    shapes = [list(operand.shape) for operand in node.inputs if operand is not None]
    return None if min(map(len, shapes)) > 1 else f"shapes {shapes}"


def within_image(node: Node) -> str | None:
    """The batch axis is the first."""
    shape = node.x.shape
    return None if len(shape) > 2 and shape[0] == 1 else f"shape {list(shape)}"


def one_axis(node: Node) -> str | None:
    """The operator runs along one axis: before opset 13, along the last."""
    axis = node.axis(node.attribute("axis", -1 if node.opset >= 13 else 1))
    return None if node.opset >= 13 or axis == len(node.x.shape) - 1 else f"axis {axis}"


def place(node: Node, draft: Draft, taken: Collection[int] = ()) -> Placed:
    """All inputs of one rank without the foremost axis that has size 1 in each and is not `taken` by the operator."""
    operands = [operand for operand in node.inputs if operand is not None]
    rank = max(len(operand.shape) for operand in operands)
    shapes = [(1,) * (rank - len(operand.shape)) + tuple(operand.shape) for operand in operands]
    free = (axis for axis in range(rank) if axis not in taken and all(shape[axis] == 1 for shape in shapes))
    batch_axis = next(free, None)
    layers, constants = [], {}
    for index, (operand, shape) in enumerate(zip(operands, shapes, strict=True)):
        if isinstance(operand, Value):
            layers.append(draft.view(Value(operand.layer, shape, None), batch_axis, node.name))
        else:
            constants[index] = operand.reshape(without_axis(shape, batch_axis))
    return Placed(tuple(layers), constants, batch_axis)


def alone(node: Node, draft: Draft, taken: Collection[int]) -> Placed:
    """As `place`, for the first input without the others."""
    return place(Node(node.op_type, node.name, node.opset, {}, (node.x,), ()), draft, taken)


def emit(
    node: Node,
    draft: Draft,
    placed: Placed,
    shape: Sequence[int],
    batch_axis: int | None,
    attributes: Mapping[str, object] | None = None,
) -> Value:
    """The operator as a host layer. shape, batch_axis: of its ONNX output."""
    layer = draft.emit(
        HostOp,
        placed.layers,
        without_axis(tuple(shape), batch_axis),
        [node.name],
        {f"input{index}": array for index, array in placed.constants.items()} or None,
        operator=node.op_type,
        attributes=tuple(sorted((attributes or {}).items())),
        constants=tuple((index, array.shape) for index, array in sorted(placed.constants.items())),
    )
    return Value(layer, tuple(shape), batch_axis)


def _broadcast(node: Node, draft: Draft) -> Value:
    """On the host, value by value."""
    placed = place(node, draft)
    shape = np.broadcast_shapes(*(operand.shape for operand in node.inputs if operand is not None))
    return emit(node, draft, placed, shape, placed.batch_axis)


def _divide(node: Node, draft: Draft) -> Value:
    """On the host, value by value; of integers, what lies behind the point is cut off."""
    made = _broadcast(node, draft)
    if divides_floats(node) is not None:
        return _cut_off(Node("Cast", node.name, node.opset, {}, (made,), ()), draft, INT64)
    return made


def _reduce(node: Node, draft: Draft) -> Value:
    """On the host, over any axes."""
    axes = reduced_axes(node)
    placed = alone(node, draft, axes)
    shape, batch_axis = left_over(node, axes, placed.batch_axis)
    counted = tuple(placed.axis(axis) for axis in axes)
    options = {"axes": counted, "keepdims": int(node.attribute("keepdims", 1))}
    return emit(node, draft, placed, shape, batch_axis, options)


def _arg_reduce(node: Node, draft: Draft) -> Value:
    """On the host; the index as a number."""
    axis = node.axis(node.attribute("axis", 0))
    placed = alone(node, draft, [axis])
    shape, batch_axis = left_over(node, [axis], placed.batch_axis)
    options = {
        name: int(node.attribute(name, default))
        for name, default in (("keepdims", 1), ("select_last_index", 0))
    }
    return emit(node, draft, placed, shape, batch_axis, {"axis": placed.axis(axis), **options})


def _along_axis(*options: tuple[str, float]) -> Convert:
    """An operator of one input that runs along `axis`, with these other attributes and their defaults."""

    def convert(node: Node, draft: Draft) -> Value:
        axis = node.axis(node.attribute("axis", -1))
        placed = alone(node, draft, [axis])
        given = {name: node.attribute(name, default) for name, default in options}
        return emit(
            node, draft, placed, node.x.shape, placed.batch_axis, {"axis": placed.axis(axis), **given}
        )

    convert.__doc__ = "On the host, along one axis."
    return convert


def _layer_normalization(node: Node, draft: Draft) -> Value:
    """On the host, over the last axes."""
    axis = node.axis(node.attribute("axis", -1))
    placed = alone(node, draft, range(axis, len(node.x.shape)))
    constants = {i: array for i in (1, 2) if (array := node.constant(i)) is not None}
    placed = Placed(placed.layers, constants, placed.batch_axis)
    options = {"axis": placed.axis(axis), "epsilon": float(node.attribute("epsilon", 1e-5))}
    return emit(node, draft, placed, node.x.shape, placed.batch_axis, options)


def _instance_normalization(node: Node, draft: Draft) -> Value:
    """On the host, over each channel of each image."""
    constants = {i: array for i in (1, 2) if (array := node.constant(i)) is not None}
    placed = Placed((draft.view(node.x, 0, node.name),), constants, 0)
    return emit(node, draft, placed, node.x.shape, 0, {"epsilon": float(node.attribute("epsilon", 1e-5))})


def _matmul(node: Node, draft: Draft) -> Value:
    """On the host: the product of two tensors, or of a tensor and constants of any shape."""
    left, right = (operand.shape for operand in node.inputs if operand is not None)
    rank = max(len(left), len(right))
    placed = place(node, draft, (rank - 2, rank - 1))
    if left[-1] != right[-2]:
        raise ValueError(f"{list(left)} times {list(right)}")
    shape = (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
    return emit(node, draft, placed, shape, placed.batch_axis)


def _gather(node: Node, draft: Draft) -> Value:
    """On the host, with any constant indices."""
    indices = node.constant(1)
    assert indices is not None
    axis = node.axis(node.attribute("axis", 0))
    placed = alone(node, draft, [axis])
    shape = (*node.x.shape[:axis], *indices.shape, *node.x.shape[axis + 1 :])
    batch_axis = placed.batch_axis
    if batch_axis is not None and batch_axis > axis:
        batch_axis += indices.ndim - 1
    options = {"axis": placed.axis(axis), "indices": _tuples(indices.tolist())}
    return emit(node, draft, placed, shape, batch_axis, options)


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _expand(node: Node, draft: Draft) -> Value:
    """On the host; left out where nothing is repeated, or where sums and products that read it repeat it themselves."""
    target = node.constant(1)
    assert target is not None
    rank = max(len(node.x.shape), target.size)
    x = reshape_to(node.x, (1,) * (rank - len(node.x.shape)) + node.x.shape, draft, node.name)
    shape = np.broadcast_shapes(x.shape, tuple(target.tolist()))
    return _repeated(node, draft, x, shape, "Expand")


def _tile(node: Node, draft: Draft) -> Value:
    """On the host; left out where nothing is repeated."""
    repeats = node.constant(1)
    assert repeats is not None
    shape = tuple(size * int(count) for size, count in zip(node.x.shape, repeats, strict=True))
    return _repeated(node, draft, node.x, shape, "Tile")


def _repeated(node: Node, draft: Draft, x: Value, shape: tuple[int, ...], operator: str) -> Value:
    if shape == x.shape:
        return x
    grown = [axis for axis, (old, new) in enumerate(zip(x.shape, shape, strict=True)) if old != new]
    placed = place(Node(operator, node.name, node.opset, {}, (x,), ()), draft, grown)
    old, new = (without_axis(tuple(s), placed.batch_axis) for s in (x.shape, shape))
    if operator == "Expand":
        return emit(node, draft, placed, shape, placed.batch_axis, {"shape": (1, *new)})
    repeats = (1, *(b // a for a, b in zip(old, new, strict=True)))
    return emit(node, draft, placed, shape, placed.batch_axis, {"repeats": repeats})


def _cast(node: Node, draft: Draft) -> Value:
    """On the host: what lies behind the point is cut off; other than zero is true."""
    return _cut_off(node, draft, BOOL if node.attribute("to") == BOOL else INT64)


def _cut_off(cast: Node, draft: Draft, target: int) -> Value:
    placed = alone(cast, draft, ())
    return emit(cast, draft, placed, cast.x.shape, placed.batch_axis, {"to": target})


_ALONG = (*ON_TENSOR, one_axis)

RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, Rule(_broadcast, ON_TENSOR)),
    **dict.fromkeys(BROADCAST, Rule(_broadcast)),
    "Div": Rule(_divide),
    **dict.fromkeys(REDUCTIONS, Rule(_reduce, (*ON_TENSOR, constant_settings))),
    **dict.fromkeys(("ArgMax", "ArgMin"), Rule(_arg_reduce, ON_TENSOR)),
    "LogSoftmax": Rule(_along_axis(), _ALONG),
    "LpNormalization": Rule(_along_axis(("p", 2)), ON_TENSOR),
    "LayerNormalization": Rule(_layer_normalization, (*ON_TENSOR, constant_settings, first_output_only)),
    "InstanceNormalization": Rule(_instance_normalization, (*ON_TENSOR, constant_settings, within_image)),
    "MatMul": Rule(_matmul, (two_matrices,)),
    "Gather": Rule(_gather, (*ON_TENSOR, constant_settings)),
    "Expand": Rule(_expand, (*ON_TENSOR, constant_settings)),
    "Tile": Rule(_tile, (*ON_TENSOR, constant_settings)),
    "Cast": Rule(_cast, (*ON_TENSOR, whole_or_truth)),
}
