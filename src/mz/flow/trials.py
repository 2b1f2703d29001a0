"""A quantized network, refined as the one that is kept will be, and measured on images of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mz.graph import Graph, Params, Quantization
from mz.quantize import Recipe, Refinements, Statistics, Trial, quantize, refine

AS_ROUNDED = Refinements(rounding=False, bias_correction=False)

IMAGES_BYTES = 64 << 20
"""What the images of a trial may take in memory beyond the fewest."""

Calibrated = tuple[Graph, Params, Statistics]
Quantized = tuple[Graph, Params, Quantization]


@dataclass(frozen=True, slots=True)
class Apart:
    """A network as every other one of so many calibration images makes it, to choose by what those between say: images
    that said how far channels may grow do not go beyond, and clipping looks better on them than it is.
    """

    graph: Graph
    params: Params
    images: int


def affordable(graph: Graph, macs: int, fewest: int, most: int) -> int:
    """How many images a trial takes: `most` where a network is cheap enough, as on few images chance says as much as
    the networks do. macs: what a pass over the images beyond the fewest may cost, in multiply-accumulates.
    """
    by_time = macs // max(1, graph.coverage().macs)
    by_memory = IMAGES_BYTES // (4 * sum(math.prod(source.shape) for source in graph.inputs))
    return min(max(min(by_time, by_memory), fewest), most)


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
        quantization = refine(graph, params, quantization, recipe, images, refinements)
    return float(trial.image_dbs(graph, params, quantization).mean())
