"""Constants of an ONNX graph: initializers, and nodes whose inputs are all known.

Shapes of tensors count as known (one image a batch), so the Shape-Gather-Concat chains that exporters write before a
Reshape end as plain numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_FIRST_OPSETS = {"DequantizeLinear": 19, "QuantizeLinear": 19}
"""Where the reference implementation begins later than the operator, which meant the same before."""


def initializers(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The graph's stored arrays by name. Raises ValueError or TypeError for one whose data do not fit its shape."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def evaluate(node: onnx.NodeProto, arrays: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    """The outputs of a node over known inputs. Raises whatever the reference implementation raises."""
    from onnx import numpy_helper

    if node.op_type == "Constant" and node.attribute[0].name == "value":
        return [numpy_helper.to_array(node.attribute[0].t)]
    if node.op_type == "Identity" and arrays[0] is not None:
        return [arrays[0]]
    return _by_reference(node, arrays, opset)


def _by_reference(node: onnx.NodeProto, arrays: Sequence[np.ndarray | None], opset: int) -> list[np.ndarray]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    feeds = {
        name: array for name, array in zip(node.input, arrays, strict=True) if name and array is not None
    }
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constant",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in feeds.items()
        ],
        [helper.make_tensor_value_info(name, 0, None) for name in outputs],
    )
    opset = max(opset, _FIRST_OPSETS.get(node.op_type, 0))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, feeds)]


def shape_of(shape: Sequence[int], attributes: Mapping[str, int]) -> np.ndarray:
    """What a Shape node gives for a tensor of this shape."""
    return np.asarray(shape[attributes.get("start", 0) : attributes.get("end", len(shape))], np.int64)
