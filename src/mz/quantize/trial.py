"""How good a quantization is, found by trying it: the integer engine's outputs against the float network's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.graph import Graph, Params, Quantization
from mz.quantize.statistics import in_chunks, layer_bytes

Adapt = Callable[[np.ndarray], np.ndarray]
Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

_IMAGES_A_PART, _LAYERS_AT_ONCE = 4, 3
"""A part has so many images, whatever the number of threads, as long as so many layers' tensors have room in memory."""


class Trial:
    """The accelerator's float outputs on some images, to measure integer networks of the same function against.

    images: float32 [N, *shape] by Input layer.
    """

    def __init__(self, graph: Graph, params: Params, images: Mapping[str, np.ndarray]) -> None:
        self.parts: Sequence[Mapping[str, np.ndarray]] = list(
            in_chunks(images, _LAYERS_AT_ONCE * max(layer_bytes(graph)), _IMAGES_A_PART)
        )
        outputs = graph.accelerator_outputs()
        session = FloatSession(graph, params, taps=outputs)
        self.expected = [
            [found[name] for name in outputs] for found in (session.run(part) for part in self.parts)
        ]
        self.power = [_power(tensors) for tensors in self.expected]

    def output_db(self, graph: Graph, params: Params, quantization: Quantization) -> float:
        """Mean over the outputs of the integer network's signal-to-noise ratio in dB; more is better.

        graph: with the same outputs in the same order as the trial's, under whatever names.
        """
        return self._db(graph, self._integers(graph, params, quantization))

    def image_dbs(
        self, graph: Graph, params: Params, quantization: Quantization, most: int | None = None
    ) -> np.ndarray:
        """Likewise of every image by itself, float64 [N], so that one that the ranges clip does not decide for all.

        most: stops once it has so many images.
        """
        run = self._integers(graph, params, quantization)
        found: list[np.ndarray] = []
        for power, noise in self._powers(graph, run):
            found.append(_decibels(power, noise).mean(axis=0))
            if most is not None and sum(map(len, found)) >= most:
                break
        return np.concatenate(found)

    def float_db(self, graph: Graph, params: Params, adapt: Adapt = lambda values: values) -> float:
        """Likewise for a float network: what a pass changed. adapt: from the trial's images to what it takes."""
        session = FloatSession(graph, params, taps=graph.accelerator_outputs())
        return self._db(graph, lambda part: session.run({name: adapt(x) for name, x in part.items()}))

    def _integers(self, graph: Graph, params: Params, quantization: Quantization) -> Run:
        engine = IntegerOrtSession(graph, params, quantization, exact=False)
        tensors = quantization.tensors

        def real(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: tensors[name].dequantize(q) for name, q in engine.run(part).items()}

        return real

    def _db(self, graph: Graph, run: Run) -> float:
        totals = sum(np.stack(found).sum(axis=2) for found in self._powers(graph, run))
        return float(_decibels(*np.asarray(totals)).mean())

    def _powers(self, graph: Graph, run: Run) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For every part of the images, the power of the signal and of the noise, each float64 [outputs, N]."""
        outputs = graph.accelerator_outputs()
        for part, expected, power in zip(self.parts, self.expected, self.power, strict=True):
            found = run(part)
            yield power, _power([found[name] - real for name, real in zip(outputs, expected, strict=True)])


def _power(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """Sum of squares of each image: [N, ...] each -> float64 [tensors, N]."""
    return np.array([np.square(x, dtype=np.float64).reshape(len(x), -1).sum(axis=1) for x in tensors])


def _decibels(power: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Kept within -20..200, so that one perfect or hopeless output does not decide for all."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(noise == 0, np.inf, power / noise)
        return np.clip(10 * np.log10(ratio), -20.0, 200.0)
