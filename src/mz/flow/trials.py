"""A network quantized by a recipe, refined as the one that is kept will be, and measured on images of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mz.engines.float_ort import tapped_session
from mz.graph import Graph, Params, Quantization
from mz.quantize import Recipe, Refinements, Statistics, Trial, refine

AS_ROUNDED = Refinements(rounding=False, bias_correction=False)

Calibrated = tuple[Graph, Params, Statistics]


def judged(
    trial: Trial,
    network: Calibrated,
    recipe: Recipe,
    images: Mapping[str, np.ndarray],
    refinements: Refinements,
) -> float:
    """Mean SNR of the trial's images in dB, of a network quantized by the recipe and refined on `images`."""
    graph, params, statistics = network

    def refined(quantization: Quantization) -> Quantization:
        if refinements == AS_ROUNDED:
            return quantization
        return refine(graph, params, quantization, recipe, images, tapped_session(graph, params), refinements)

    return float(trial.image_dbs(graph, params, statistics, recipe, refined).mean())
