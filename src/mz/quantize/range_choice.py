"""Which way of finding activation ranges suits a network: tried, not guessed.

No power of the error is best everywhere: what a clipped peak costs depends on what the later layers make of it. So each
method quantizes the activations (weights at 16 bits, whose noise does not count), and the integer engine says which one
leaves the outputs closest to the float network's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mz.graph import Graph, Params
from mz.quantize.recipe import ActivationRange, Recipe
from mz.quantize.statistics import Statistics
from mz.quantize.trial import Trial

CANDIDATES = ("l3", "min_max", "mse", "l1_5")
"""The first one within MARGIN_DB of the best is taken: a few dozen images cannot tell less from chance, and what clips
more may lose more on images that come later.
"""
MARGIN_DB = 1.0


def output_noise_by_method(
    graph: Graph, params: Params, statistics: Statistics, recipe: Recipe, images: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Mean signal-to-noise ratio of the accelerator's outputs, in dB, for each of CANDIDATES; more is better.

    images: float32 [N, *shape] by Input layer. Ranges that the recipe sets layer by layer stay as they are.
    """
    trial = Trial(graph, params, images)
    found = {}
    for method in CANDIDATES:
        wide = dataclasses.replace(recipe.with_fine_weights(), activation_range=ActivationRange(method))
        found[method] = trial.output_db(graph, params, statistics, wide)
    return found


def best_method(decibels: Mapping[str, float]) -> str:
    """The candidate to take, given what `output_noise_by_method` measured."""
    enough = max(decibels.values()) - MARGIN_DB
    return next(name for name in CANDIDATES if decibels[name] > enough)
