"""Which method finds the activation ranges, where a recipe leaves it open: the one whose integers measure best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mz.engines.float_ort import tapped_session
from mz.flow.calibration import halves
from mz.graph import Graph, Params
from mz.quantize import ActivationRange, Recipe, best_method, collect, image_bytes, output_noise_by_method

IMAGES, JUDGED_IMAGES = 64, 32


def with_range_method(
    graph: Graph, params: Params, recipe: Recipe, sample: Mapping[str, np.ndarray]
) -> tuple[Recipe, dict[str, float]]:
    """The recipe with the range method that measures best where it leaves the choice open, and what each one measured.

    Ranges are found on half of the sample and judged on the other: on the images that it has seen, clipping looks
    better than it is.
    """
    if recipe.activation_range.method != "auto" or recipe.precision.activation_bits > 8:
        return recipe, {}
    seen, unseen = halves(sample, IMAGES, JUDGED_IMAGES)
    statistics = collect(tapped_session(graph, params), [seen], image_bytes(graph))
    tried = output_noise_by_method(graph, params, statistics, recipe, unseen)
    return dataclasses.replace(recipe, activation_range=ActivationRange(best_method(tried))), tried
