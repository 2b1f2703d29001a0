"""How good a recipe is, found by trying it: the integer engine's outputs against the float network's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.graph import Graph, Params
from mz.quantize.quantizer import quantize
from mz.quantize.recipe import Recipe
from mz.quantize.statistics import Statistics, image_bytes, in_chunks

Adapt = Callable[[np.ndarray], np.ndarray]


class Trial:
    """The accelerator's float outputs on some images, to measure integer networks of the same function against.

    images: float32 [N, *shape] by Input layer.
    """

    def __init__(self, graph: Graph, params: Params, images: Mapping[str, np.ndarray]) -> None:
        self.parts: Sequence[Mapping[str, np.ndarray]] = list(in_chunks(images, image_bytes(graph)))
        outputs = graph.accelerator_outputs()
        session = FloatSession(graph, params, taps=outputs)
        self.expected = [
            [found[name] for name in outputs] for found in (session.run(part) for part in self.parts)
        ]

    def output_db(self, graph: Graph, params: Params, statistics: Statistics, recipe: Recipe) -> float:
        """Mean over the outputs of their signal-to-noise ratio in dB, weights rounded to nearest; more is better.

        graph: with the same outputs in the same order as the trial's, under whatever names.
        """
        quantization = quantize(graph, params, statistics, recipe)
        engine = IntegerOrtSession(graph, params, quantization)
        tensors = quantization.tensors

        def real(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: tensors[name].dequantize(q) for name, q in engine.run(part).items()}

        return self._db(graph, real)

    def float_db(self, graph: Graph, params: Params, adapt: Adapt = lambda values: values) -> float:
        """Likewise for a float network: what a pass changed. adapt: from the trial's images to what it takes."""
        session = FloatSession(graph, params, taps=graph.accelerator_outputs())
        return self._db(graph, lambda part: session.run({name: adapt(x) for name, x in part.items()}))

    def _db(self, graph: Graph, run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]) -> float:
        outputs = graph.accelerator_outputs()
        noise, power = np.zeros(len(outputs)), np.zeros(len(outputs))
        for part, expected in zip(self.parts, self.expected, strict=True):
            found = run(part)
            for place, (name, real) in enumerate(zip(outputs, expected, strict=True)):
                noise[place] += np.square(found[name] - real, dtype=np.float64).sum()
                power[place] += np.square(real, dtype=np.float64).sum()
        return float(np.mean([_decibels(p, n) for p, n in zip(power, noise, strict=True)]))


def _decibels(power: float, noise: float) -> float:
    """Kept within -20..200, so that one perfect or hopeless output does not decide for all."""
    if noise == 0:
        return 200.0
    return min(max(10 * math.log10(power / noise), -20.0), 200.0) if power > 0 else -20.0
