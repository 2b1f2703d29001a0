"""Inputs of integers, as networks that normalize their pixels themselves have them, taken as inputs of floats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mz.parser.edges import reads

if TYPE_CHECKING:
    import onnx

_MOVING = ("Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""What only moves the values of its first input."""


def integer_inputs(path: Path) -> set[str]:
    """The inputs of an ONNX file that hold integers which pixels fit into."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return {info.name for info in graph.input if _holds_pixels(info)}


def take_floats(graph: onnx.GraphProto) -> None:
    """Inputs of integers that become float32 before anything is computed hold float32 themselves, in place.

    What moves values before the cast does the same to floats. An integer that is anything but cast and moved, such as
    an index, stays one.
    """
    from onnx import TensorProto

    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    outputs = {info.name for info in graph.output}
    for info in filter(_holds_pixels, graph.input):
        moved = _moved_until_cast(info.name, readers, outputs)
        for other in (*graph.input, *graph.value_info):
            if other.name in moved:
                other.type.tensor_type.elem_type = TensorProto.FLOAT


def _holds_pixels(info: onnx.ValueInfoProto) -> bool:
    from onnx import TensorProto

    kinds = (TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
    return info.type.tensor_type.elem_type in kinds


def _moved_until_cast(
    tensor: str, readers: Mapping[str, Sequence[onnx.NodeProto]], outputs: Collection[str]
) -> set[str]:
    """The tensors from this one to the casts to float32 behind it; none where something else becomes of it."""
    moved: set[str] = set()
    waiting = [tensor]
    while waiting:
        moved.add(tensor := waiting.pop())
        if tensor in outputs or tensor not in readers:
            return set()
        for node in readers[tensor]:
            if node.op_type in _MOVING and tensor not in node.input[1:]:
                waiting.append(node.output[0])
            elif not _casts_to_float(node):
                return set()
    return moved


def _casts_to_float(node: onnx.NodeProto) -> bool:
    from onnx import TensorProto

    to = [entry.i for entry in node.attribute if entry.name == "to"]
    return node.op_type == "Cast" and to == [TensorProto.FLOAT]
