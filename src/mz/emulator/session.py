"""The numpy emulator: runs a quantized graph integer by integer. The judge of every other engine.

A batch is cut into pieces that stay in the processor's caches, and the pieces run side by side: the arithmetic is exact
per image, so that neither the cut nor the number of threads can change an integer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from threadpoolctl import threadpool_limits

from mz.emulator import numerics
from mz.emulator.constants import Constants, layer_constants
from mz.emulator.kernels import run_kernel
from mz.emulator.saturation import Saturation
from mz.graph import Graph, Input, Params, Quantization
from mz.threads import processors, side_by_side

_PIECE_BYTES = 4 << 20
"""What the largest tensor of a piece may take in int32."""


class NumpySession:
    """A quantized graph, ready to run in numpy.

    threads: pieces at a time; 0 takes as many as there are processors.
    saturation: counts what layers clip, if given.
    Raises UserError, naming the layer, where the arithmetic cannot hold it.
    """

    name = "numpy"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        graph: Graph,
        params: Params,
        quantization: Quantization,
        taps: Iterable[str] = (),
        threads: int = 0,
        saturation: Saturation | None = None,
    ) -> None:
        self._quantization = quantization
        self._wanted = tuple(dict.fromkeys((*graph.accelerator_outputs(), *taps)))
        self._layers = tuple(layer for layer in graph.layers if not layer.host)
        self._threads = threads or processors()
        self._saturation = saturation
        self._constants: dict[str, Constants] = {
            layer.name: layer_constants(graph, layer, params, quantization)
            for layer in self._layers
            if not isinstance(layer, Input)
        }
        self._last_reader = {name: layer.name for layer in self._layers for name in layer.inputs}
        self._piece = max(1, _PIECE_BYTES // (4 * max(math.prod(layer.shape) for layer in self._layers)))

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> integers (int32) of accelerator outputs and taps."""
        images = len(next(iter(feeds.values())))
        piece = max(1, min(self._piece, -(-images // self._threads)))
        starts = range(0, images, piece) or range(1)  # a batch without images keeps its outputs' shapes
        parts = ({name: x[start : start + piece] for name, x in feeds.items()} for start in starts)
        if self._threads == 1 or len(starts) == 1:
            found = [self._run(part) for part in parts]
        else:
            with threadpool_limits(1):
                found = side_by_side(self._run, parts, self._threads)
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value for name, value in self._walk(feeds) if name in self._wanted}

    def _walk(self, feeds: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor in topological order, each forgotten after its last reader."""
        live: dict[str, np.ndarray] = {}
        for layer in self._layers:
            if isinstance(layer, Input):
                t = self._quantization.tensors[layer.name]
                if self._saturation is not None:
                    self._saturation.count_input(layer.name, feeds[layer.name], t)
                value = numerics.quantize(feeds[layer.name], t.scale, t.zero_point, t.bits)
            else:
                constants, inputs = self._constants[layer.name], [live[name] for name in layer.inputs]
                if self._saturation is None:
                    value = run_kernel(layer, constants, inputs)
                else:
                    value = self._saturation.run(layer, constants, inputs)
            yield layer.name, value
            if layer.name in self._last_reader:
                live[layer.name] = value
            for name in layer.inputs:
                if self._last_reader[name] == layer.name:
                    live.pop(name, None)
