"""Lowers `HostOp` layers: the ONNX operator itself, with casts where ONNX wants or gives something other than float32.

May import the graph and the ONNX writer. The types are those of the operators' ONNX documents at the writer's opset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mz.engines.onnx_writer import OnnxWriter
from mz.graph import HostOp, Layer

FLOAT, BOOL = 1, 9  # of onnx.TensorProto

WHOLE_INPUTS = {"ReduceSum": "axes", "Gather": "indices", "Expand": "shape", "Tile": "repeats"}
"""The attribute of a HostOp that ONNX takes as its second input, in int64, by operator."""

_TRUTH_IN = {"And": (0, 1), "Or": (0, 1), "Xor": (0, 1), "Not": (0,), "Where": (0,)}
_NOT_FLOAT_OUT = {
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN"),
    *("ArgMax", "ArgMin", "Cast"),
}


def host_op(
    writer: OnnxWriter, layer: Layer, params: Mapping[str, np.ndarray], shapes: Sequence[tuple[int, ...]]
) -> None:
    """Writes the operator; its last node makes the layer's float32 tensor."""
    assert isinstance(layer, HostOp)
    name, operator = layer.name, layer.operator
    inputs = list(layer.inputs)
    for place, _ in layer.constants:
        inputs.insert(place, writer.constant(params[f"input{place}"], f"{name}/input{place}"))
    for place in _TRUTH_IN.get(operator, ()):
        inputs[place] = writer.node("Cast", [inputs[place]], f"{name}/truth{place}", to=BOOL)
    attributes = dict(layer.attributes)
    if operator in WHOLE_INPUTS:
        whole = np.asarray(attributes.pop(WHOLE_INPUTS[operator]), np.int64)
        inputs.append(writer.constant(whole, f"{name}/{WHOLE_INPUTS[operator]}"))
    made = writer.node(operator, inputs, f"{name}/{operator.lower()}", **_plain(attributes))
    if operator in _NOT_FLOAT_OUT:
        writer.node("Cast", [made], name, to=FLOAT)


def _plain(attributes: Mapping[str, object]) -> dict[str, object]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
