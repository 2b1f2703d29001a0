"""The quantized network as an ONNX file that plain onnxruntime runs with the emulator's exact integers.

Its inputs are the preprocessed float images, quantized inside; its outputs are integers, whose scale, zero
point and bits stand in the model's metadata under `mz_outputs`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mz.engines.lower_integer import integer_model
from mz.graph import Graph, Params, Pixels, Quantization


def emit(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    metadata: Mapping[str, str] | None = None,
    pixels: Pixels | None = None,
) -> bytes:
    """The serialized model; the same graph gives the same bytes. metadata: more for its `metadata_props`.

    pixels: what the file makes of the images first, where the network takes pixels.
    """
    model = integer_model(graph, params, quantization, pixels=pixels)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString(deterministic=True))
