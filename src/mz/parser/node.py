"""What a rule sees of one ONNX node, and the form of a rule: how to convert it, and under which constraints.

Imports nothing of the parser. A constraint is a function whose docstring is the message that the user reads and the
line that the page of supported layers prints; it is written once and used for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from mz.parser.draft import Draft


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that depends on the network's input.

    layer: the layer whose output it is.
    shape: its ONNX shape for a batch of one image.
    batch_axis: the axis of `shape` (of size 1) that counts images and that layers leave out; None where a reshape
        has merged it into another axis, so that the layer's shape is `shape` itself.
    """

    layer: str
    shape: tuple[int, ...]
    batch_axis: int | None = 0

    @property
    def layer_shape(self) -> tuple[int, ...]:
        return without_axis(self.shape, self.batch_axis)


Operand: TypeAlias = "Value | np.ndarray | None"
"""An input of a node: a tensor, a constant, or an optional input left out."""


@dataclass(frozen=True, slots=True)
class Node:
    """An ONNX node whose constant inputs are known.

    outputs: those that something reads, the others ''. never_negative: inputs, by place, that are tensors without
    numbers below 0, whatever the image. weighs: whether it is a softmax whose output is a factor of a product.
    before_softmax: whether nothing but softmaxes reads its output.
    """

    op_type: str
    name: str
    opset: int
    attributes: dict[str, Any]
    inputs: tuple[Operand, ...]
    outputs: tuple[str, ...]
    never_negative: frozenset[int] = frozenset()
    weighs: bool = False
    before_softmax: bool = False

    @property
    def x(self) -> Value:
        """The first input, a tensor (the constraint `on_tensor` has seen to that)."""
        return self.value(0)

    def value(self, index: int) -> Value:
        operand = self.inputs[index]
        assert isinstance(operand, Value)
        return operand

    def part(self, op_type: str, *inputs: Operand, **attributes: Any) -> Node:
        """A node that this one is made of."""
        return Node(op_type, self.name, self.opset, attributes, inputs, ("y",))

    def operand(self, index: int) -> Operand:
        """Input number `index`, None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> np.ndarray | None:
        """Input number `index` as an array; None where it is left out."""
        operand = self.operand(index)
        assert not isinstance(operand, Value)
        return operand

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def setting(self, name: str, index: int) -> Any:
        """What older opsets hold in an attribute and newer ones in input `index`; None if absent."""
        if name in self.attributes:
            return self.attributes[name]
        array = self.constant(index)
        return None if array is None else array.tolist()

    def axis(self, axis: int, rank: int | None = None) -> int:
        """`axis` counted from the front."""
        return axis + (len(self.x.shape) if rank is None else rank) if axis < 0 else axis


Constraint: TypeAlias = Callable[[Node], "str | None"]
"""None where it holds, else what was found instead ('' where the docstring says it all)."""

Convert: TypeAlias = "Callable[[Node, Draft], Value | Sequence[Value]]"
"""Adds layers to the draft; returns the value of each of the node's outputs (a lone value for the first)."""


def always(node: Node) -> bool:
    return True


def never(node: Node) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Rule:
    """How an operator becomes layers. Constraints are checked in order and up to the first that fails.

    written_out: whether the node becomes many layers, so that on the host the operator as it is does better.
    """

    convert: Convert
    constraints: tuple[Constraint, ...] = ()
    written_out: Callable[[Node], bool] = never

    def violation(self, node: Node) -> str | None:
        """The message of the first constraint that the node breaks, None where it breaks none."""
        for constraint in self.constraints:
            found = constraint(node)
            if found is not None:
                return message(constraint) + (f" (here {found})" if found else "")
        return None

    def apply(self, node: Node, draft: Draft) -> Value:
        """The value of a node that is a part of another. Raises ValueError with the message of a broken constraint."""
        if found := self.violation(node):
            raise ValueError(found)
        made = self.convert(node, draft)
        assert isinstance(made, Value)
        return made


def message(constraint: Constraint) -> str:
    """The constraint in words, on one line."""
    assert constraint.__doc__
    return " ".join(constraint.__doc__.split()).rstrip(".")


def own_axis(axis: int, batch_axis: int | None) -> int:
    """The axis of a layer that leaves out the batch axis, of an ONNX axis that is not it."""
    return axis - (batch_axis is not None and batch_axis < axis)


def without_axis(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def on_tensor(node: Node) -> str | None:
    """The first input is a tensor of the network, not a constant."""
    return None if isinstance(node.operand(0), Value) else "a constant"


def on_map(node: Node) -> str | None:
    """The input is a map [N, C, H, W] with the batch axis in front."""
    shape = node.x.shape
    return None if len(shape) == 4 and shape[0] == 1 else f"shape {list(shape)}"


def constant_settings(node: Node) -> str | None:
    """Every input after the first is a constant, or computed from constants and shapes alone."""
    for index, operand in enumerate(node.inputs[1:], start=1):
        if isinstance(operand, Value):
            return f"input {index} is a tensor"
    return None


def first_output_only(node: Node) -> str | None:
    """Only the first output is read."""
    return None if not any(node.outputs[1:]) else f"{node.outputs[1:]} are read too"


ON_TENSOR: tuple[Constraint, ...] = (on_tensor,)
ON_MAP: tuple[Constraint, ...] = (on_tensor, on_map)
