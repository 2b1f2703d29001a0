"""Means of whole maps that onnxruntime sums exactly enough to tell whether two networks are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def with_exact_means(model: onnx.ModelProto, rank: int | None = None) -> None:
    """Writes each GlobalAveragePool as the ReduceMean that it is, in place.

    onnxruntime adds up a map of the former value by value in one float32, of the latter in many. Of a map of 120 x 120
    whose mean is near 0, as random images give to a squeeze-and-excite block, that leaves 89 dB of 120.

    rank: of what the pools read; None: inferred, and pools for which it cannot be stay as they are.
    """
    from onnx import TensorProto, helper

    pools = [node for node in model.graph.node if node.op_type == "GlobalAveragePool"]
    ranks = _ranks(model) if pools and rank is None else {}
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in pools:
        axes = range(2, ranks.get(node.input[0], 0) if rank is None else rank)
        if not axes:
            continue
        node.op_type = "ReduceMean"
        if opset < 18:
            node.attribute.append(helper.make_attribute("axes", axes))
        else:
            name = f"{node.output[0]}_axes"
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(axes)], axes))
            node.input.append(name)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """By tensor of known shape."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    return {
        entry.name: len(entry.type.tensor_type.shape.dim)
        for entry in (*inferred.input, *inferred.value_info)
        if entry.type.tensor_type.HasField("shape")
    }
