"""Softmax: the factors of a product in integers, written out; any other, such as a classifier's last, on the host."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from mz.graph import Activation, Mul, Reshape, Softmax, Sub
from mz.parser.draft import Draft
from mz.parser.edges import reads
from mz.parser.node import ON_TENSOR, Node, Rule, Value, own_axis
from mz.parser.reductions import maximum, mean

if TYPE_CHECKING:
    import onnx

_PRODUCTS = frozenset(("Einsum", "MatMul"))
_WEIGHTED = _PRODUCTS | frozenset(("Conv", "ConvTranspose", "Gemm"))
_MOVES = frozenset(
    (
        *("Cast", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    )
)
_MIXES = _MOVES | frozenset(("Add", "BatchNormalization", "Conv", "Div", "Einsum", "Gemm", "MatMul", "Mul"))


def factors(nodes: Sequence[onnx.NodeProto], constants: Container[str]) -> set[str]:
    """The outputs of those Softmax nodes that weigh another tensor: factors of a product as matrices (attention), even
    where constants mix its heads first, or of a product value by value that layers with weights follow (a choice
    between branches).
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    works: set[str] = set()
    multiplied: set[str] = set()
    chosen: set[str] = set()
    for node in reversed(nodes):
        for name in node.output:
            for reader in readers.get(name, ()):
                tensors = not any(operand in constants for operand in reader.input)
                leads_to_work = not works.isdisjoint(reader.output)
                if reader.op_type in _WEIGHTED or leads_to_work:
                    works.add(name)
                mixes = reader.op_type in _MIXES and not multiplied.isdisjoint(reader.output)
                if mixes or (reader.op_type in _PRODUCTS and tensors):
                    multiplied.add(name)
                moves = reader.op_type in _MOVES and not chosen.isdisjoint(reader.output)
                if moves or (reader.op_type == "Mul" and tensors and leads_to_work):
                    chosen.add(name)
    return {node.output[0] for node in nodes if node.op_type == "Softmax"} & (multiplied | chosen)


def scores(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """The tensors that Softmax nodes read and no others."""
    read = {node.op_type == "Softmax": set[str]() for node in nodes}
    for node in nodes:
        read[node.op_type == "Softmax"].update(reads(node))
    return read.get(True, set()) - read.get(False, set())


def softmax_within_image(node: Node) -> str | None:
    """The softmax does not run over the batch axis."""
    return "" if node.x.batch_axis is not None and node.x.batch_axis in _axes(node) else None


def softmax(node: Node, draft: Draft) -> Value:
    """Softmax along an axis. One that weighs another tensor (attention) is written out: a maximum, a difference, an
    exponential, a sum, its reciprocal. Any other runs on the host, and all that follows it.
    """
    x, axes = node.x, _axes(node)
    long = [axis for axis in axes if x.shape[axis] > 1] or [axes[0]]
    if len(long) == 1:
        axis = own_axis(long[0], x.batch_axis)
        return Value(_along(node, draft, x.layer, axis), x.shape, x.batch_axis)
    head = x.layer_shape[: len(x.layer_shape) - len(axes)]
    flat = (*head, math.prod(x.shape[axis] for axis in axes))
    joined = draft.emit(Reshape, [x.layer], flat, [node.name])
    layer = _along(node, draft, joined, len(head))
    return Value(draft.emit(Reshape, [layer], x.layer_shape, [node.name]), x.shape, x.batch_axis)


def _along(node: Node, draft: Draft, source: str, axis: int) -> str:
    shape, origin = draft.layers[source].shape, [node.name]
    if not node.weighs or draft.layers[source].host:
        return draft.emit(Softmax, [source], shape, origin, axis=axis)
    below = draft.emit(Sub, [source, maximum(draft, source, axis, origin)], shape, origin)
    raised = draft.emit(Activation, [below], shape, origin, function="exp")
    total = mean(draft, raised, (axis,), origin, total=True)
    kept = draft.layers[total].shape
    share = draft.emit(Activation, [total], kept, origin, function="power", constants=(-1.0, 0.0))
    layer = draft.emit(Mul, [raised, share], shape, origin)
    draft.softmaxes[layer] = (raised, share)
    return layer


def _axes(node: Node) -> list[int]:
    """The axes that one softmax covers: before opset 13 all from `axis` on."""
    rank = len(node.x.shape)
    if node.opset >= 13:
        return [node.axis(node.attribute("axis", -1))]
    return list(range(node.axis(node.attribute("axis", 1)), rank))


RULES = {"Softmax": Rule(softmax, (*ON_TENSOR, softmax_within_image))}
