"""A quantized network, refined as the one that is kept will be, and measured on images of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mz.engines.float_ort import tapped_session
from mz.graph import Graph, Params, Quantization
from mz.quantize import Recipe, Refinements, Statistics, Trial, quantize, refine

AS_ROUNDED = Refinements(rounding=False, bias_correction=False)

Calibrated = tuple[Graph, Params, Statistics]
Quantized = tuple[Graph, Params, Quantization]


def quantized(network: Calibrated, recipe: Recipe) -> Quantized:
    graph, params, statistics = network
    return graph, params, quantize(graph, params, statistics, recipe)


def judged(
    trial: Trial,
    network: Quantized,
    recipe: Recipe,
    images: Mapping[str, np.ndarray],
    refinements: Refinements,
) -> float:
    """Mean SNR of the trial's images in dB, of a network quantized by the recipe and refined on `images`."""
    graph, params, quantization = network
    if refinements != AS_ROUNDED:
        quantization = refine(
            graph, params, quantization, recipe, images, tapped_session(graph, params), refinements
        )
    return float(trial.image_dbs(graph, params, quantization).mean())
