"""A network in half precision as the same one in float32, which holds every number that the other does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_TYPE_ATTRIBUTES = ("to", "dtype")


def in_single_precision(graph: onnx.GraphProto) -> None:
    """Float16 and bfloat16 become float32, in place: inputs, outputs, stored arrays, and what nodes make.

    Raises ValueError or TypeError for a stored array whose data do not fit its shape.
    """
    from onnx import TensorProto, numpy_helper

    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

    def widen(tensor: onnx.TensorProto) -> None:
        if tensor.data_type in halves:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))

    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type in halves:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for stored in graph.initializer:
        widen(stored)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in halves:
                attribute.i = TensorProto.FLOAT
            widen(attribute.t)
            for inner in (attribute.g, *attribute.graphs):
                in_single_precision(inner)
