"""The numpy emulator: runs a quantized graph integer by integer. The judge of every other engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from mz.emulator import numerics
from mz.emulator.constants import Constants, layer_constants
from mz.emulator.kernels import run_kernel
from mz.graph import Graph, Input, Params, Quantization


class NumpySession:
    """A quantized graph, ready to run in numpy.

    Raises UserError, naming the layer, where the arithmetic cannot hold it.
    """

    name = "numpy"

    def __init__(
        self, graph: Graph, params: Params, quantization: Quantization, taps: Iterable[str] = ()
    ) -> None:
        self._graph = graph
        self._quantization = quantization
        self._wanted = tuple(dict.fromkeys((*graph.accelerator_outputs(), *taps)))
        self._layers = tuple(layer for layer in graph.layers if not layer.host)
        self._constants: dict[str, Constants] = {
            layer.name: layer_constants(graph, layer, params, quantization)
            for layer in self._layers
            if not isinstance(layer, Input)
        }
        self._last_reader = {name: layer.name for layer in self._layers for name in layer.inputs}

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> integers (int32) of accelerator outputs and taps."""
        return {name: value for name, value in self._walk(feeds) if name in self._wanted}

    def _walk(self, feeds: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor in topological order, each forgotten after its last reader."""
        live: dict[str, np.ndarray] = {}
        for layer in self._layers:
            if isinstance(layer, Input):
                t = self._quantization.tensors[layer.name]
                value = numerics.quantize(feeds[layer.name], t.scale, t.zero_point, t.bits)
            else:
                value = run_kernel(layer, self._constants[layer.name], [live[name] for name in layer.inputs])
            yield layer.name, value
            if layer.name in self._last_reader:
                live[layer.name] = value
            for name in layer.inputs:
                if self._last_reader[name] == layer.name:
                    live.pop(name, None)
