"""The integer engine: the integer ONNX of a quantized graph, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from mz.engines.lower_integer import integer_model
from mz.graph import Graph, Input, Params, Quantization


class IntegerOrtSession:
    """A quantized graph, ready to run in onnxruntime; the same interface and integers as `emulator.NumpySession`."""

    name = "onnxruntime"

    def __init__(
        self,
        graph: Graph,
        params: Params,
        quantization: Quantization,
        taps: Iterable[str] = (),
        threads: int = 0,
    ) -> None:
        import onnxruntime

        model = integer_model(graph, params, quantization, taps)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]
        self._layers = [_layer_of(graph, name) for name in self._names]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> integers (uint8 or uint16) of accelerator
        outputs and taps.
        """
        return dict(zip(self._layers, self._session.run(self._names, dict(feeds)), strict=True))


def _layer_of(graph: Graph, output: str) -> str:
    base = output.removesuffix("_integers")
    return base if base != output and isinstance(graph.by_name.get(base), Input) else output
