"""The quantized network as an ONNX file that plain onnxruntime runs with the emulator's exact integers.

Its inputs are the preprocessed float images, quantized inside; its outputs are integers, whose scale, zero
point and bits stand in the model's metadata under `mz_outputs`.
"""

from __future__ import annotations

from mz.engines.lower_integer import integer_model
from mz.graph import Graph, Params, Quantization


def emit(graph: Graph, params: Params, quantization: Quantization) -> bytes:
    """The serialized model. The same graph gives the same bytes."""
    return bytes(integer_model(graph, params, quantization).SerializeToString(deterministic=True))
