"""The integer engine: the integer ONNX of a quantized graph, run by onnxruntime."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mz.engines.lower_integer import integer_model
from mz.engines.self_test import CPU, open_integer_session, trusted_kernels
from mz.graph import Graph, Input, Params, Quantization
from mz.threads import processors, side_by_side

_MOST_IMAGES = 16
"""Images that a thread takes at once: more only leave the processor's caches."""
_NARROW_BYTES, _WIDE_BYTES = 16 << 20, 8 << 20
"""What the largest tensor of these images may take: in float32, and in float64, in which 16-bit layers are summed."""


class IntegerOrtSession:
    """A quantized graph, ready to run in onnxruntime; the same interface and integers as `emulator.NumpySession`.

    exact: bit for bit; False sums more than 8 bits in float32 (`Kernels.rounded_sums`), for trials.
    notes: what the self-test of this processor's kernels found wrong, and what mz does instead; usually nothing.
    """

    name = "onnxruntime"
    notes: tuple[str, ...]

    def __init__(
        self,
        graph: Graph,
        params: Params,
        quantization: Quantization,
        taps: Iterable[str] = (),
        threads: int = 0,
        *,
        exact: bool = True,
    ) -> None:
        self._providers, kernels, self.notes = trusted_kernels()
        kernels = dataclasses.replace(kernels, rounded_sums=not exact)
        self._model = integer_model(graph, params, quantization, taps, kernels)
        self._exact = exact
        self._threads = threads or processors()
        if self._providers != [CPU]:
            self._threads = 1
        self._alone = self._open(1)
        self._together = self._alone if self._threads == 1 else None
        self._names = [output.name for output in self._alone.get_outputs()]
        self._most = _most_images(graph, quantization)
        self._layers = [_layer_of(graph, name) for name in self._names]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> integers (uint8 or uint16) of accelerator
        outputs and taps.

        Threads take pieces of the batch, each through the whole network: faster than to share every layer, and equal,
        as an image's integers do not depend on its neighbours. Fewer images than threads share layers.
        """
        images = len(next(iter(feeds.values())))
        if images < self._threads:
            found = self._run(self._shared(), feeds)
        elif self._threads == 1:
            found = self._run(self._alone, feeds)
        else:
            piece = min(self._most, -(-images // self._threads))
            parts = [
                {name: x[start : start + piece] for name, x in feeds.items()}
                for start in range(0, images, piece)
            ]
            pieces = side_by_side(lambda part: self._run(self._alone, part), parts, self._threads)
            found = [np.concatenate(outputs) for outputs in zip(*pieces, strict=True)]
        return dict(zip(self._layers, found, strict=True))

    def _open(self, threads: int) -> Any:
        return open_integer_session(self._model, self._providers, threads, fused=self._exact)

    def _run(self, session: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(self._names, dict(feeds))
        return found

    def _shared(self) -> Any:
        """A session whose layers run on all threads; made when it is first needed."""
        if self._together is None:
            self._together = self._open(self._threads)
        return self._together


def _most_images(graph: Graph, quantization: Quantization) -> int:
    bits = [tensor.bits for tensor in quantization.tensors.values()]
    bits += [weight.bits for weight in quantization.weights.values()]
    largest = max(math.prod(layer.shape) for layer in graph.layers if not layer.host)
    room = _NARROW_BYTES // 4 if max(bits) <= 8 else _WIDE_BYTES // 8
    return max(1, min(_MOST_IMAGES, room // largest))


def _layer_of(graph: Graph, output: str) -> str:
    base = output.removesuffix("_integers")
    return base if base != output and isinstance(graph.by_name.get(base), Input) else output
