"""Which way of finding activation ranges suits a network: tried, not guessed.

No power of the error is best everywhere: what a clipped peak costs depends on what the later layers make of it. So each
method quantizes the activations (weights at 16 bits, whose noise does not count), and the integer engine says which one
leaves the outputs closest to the float network's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.graph import Graph, Params, Precision
from mz.quantize.quantizer import quantize
from mz.quantize.recipe import ActivationRange, Recipe
from mz.quantize.statistics import Statistics, image_bytes, in_chunks

CANDIDATES = ("l3", "mse", "min_max")
"""The first one is taken unless another is better by MARGIN_DB, which a few dozen images cannot tell from chance."""
MARGIN_DB = 1.0
_WEIGHT_BITS = 16


def output_noise_by_method(
    graph: Graph, params: Params, statistics: Statistics, recipe: Recipe, images: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Mean signal-to-noise ratio of the accelerator's outputs, in dB, for each of CANDIDATES; more is better.

    images: float32 [N, *shape] by Input layer. Ranges that the recipe sets layer by layer stay as they are.
    """
    outputs = graph.accelerator_outputs()
    parts = list(in_chunks(images, image_bytes(graph)))
    float_session = FloatSession(graph, params, taps=outputs)
    expected = [float_session.run(part) for part in parts]
    found = {}
    for method in CANDIDATES:
        trial = dataclasses.replace(
            recipe,
            activation_range=ActivationRange(method),
            weight_search=False,
            precision=_wide(recipe.precision),
            layer_precisions={name: _wide(p) for name, p in recipe.layer_precisions.items()},
        )
        quantization = quantize(graph, params, statistics, trial)
        engine = IntegerOrtSession(graph, params, quantization)
        noise, power = dict.fromkeys(outputs, 0.0), dict.fromkeys(outputs, 0.0)
        for part, real in zip(parts, expected, strict=True):
            for name, integers in engine.run(part).items():
                error = quantization.tensors[name].dequantize(integers) - real[name]
                noise[name] += float(np.square(error, dtype=np.float64).sum())
                power[name] += float(np.square(real[name], dtype=np.float64).sum())
        found[method] = float(np.mean([_decibels(power[name], noise[name]) for name in outputs]))
    return found


def best_method(decibels: Mapping[str, float]) -> str:
    """The candidate to take, given what `output_noise_by_method` measured."""
    best = max(decibels, key=lambda name: decibels[name])
    return best if decibels[best] >= decibels[CANDIDATES[0]] + MARGIN_DB else CANDIDATES[0]


def _wide(precision: Precision) -> Precision:
    return Precision(precision.activation_bits, _WEIGHT_BITS)


def _decibels(power: float, noise: float) -> float:
    """Kept within 0..200, so that one perfect or hopeless output does not decide for all."""
    if noise == 0:
        return 200.0
    return min(max(10 * math.log10(power / noise), 0.0), 200.0) if power > 0 else 0.0
