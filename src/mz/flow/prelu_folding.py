"""Normalizations before PReLUs as the flow folds them: tried both ways, and folded where the integers measure better.

A fold takes away a rounding, and with it the bias that could take back a shift of the mean on the way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mz.engines.memory import give_back
from mz.flow.calibration import halves, statistics_of
from mz.flow.options import Progress
from mz.flow.trials import judged
from mz.graph import Graph, Params
from mz.quantize import ActivationRange, Recipe, Refinements, Trial

IMAGES = 32
"""On so many ranges and weights are found, and so many others judge."""

Candidate = tuple[Graph, Params, Recipe]


def as_layers_and_folded(
    layers: Candidate,
    folded: Candidate,
    ranges: ActivationRange,
    images: Mapping[str, np.ndarray],
    refinements: Refinements,
    progress: Progress,
) -> tuple[float, float]:
    """Mean SNR of the outputs in dB, of either network quantized by its recipe and refined.

    ranges: how both find their activation ranges. images: float32 [N, *shape] by Input layer; every other one judges.
    """
    seen, unseen = halves(images, IMAGES, IMAGES)
    trial = Trial(*layers[:2], unseen)
    found = []
    with progress("normalizations", 2, "trials") as advance:
        for graph, params, recipe in (layers, folded):
            recipe = dataclasses.replace(recipe, activation_range=ranges)
            statistics = statistics_of(graph, params, [seen])
            found.append(judged(trial, (graph, params, statistics), recipe, seen, refinements))
            give_back()
            advance(1)
    return found[0], found[1]
