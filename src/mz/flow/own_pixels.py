"""Whether a network takes its normalization over from the host of its own accord, so that its integers are pixels."""

from __future__ import annotations

import numpy as np

from mz.graph import Conv, Graph, Pixels
from mz.optimize import PIXELS
from mz.quantize import Recipe
from mz.zoo import Preprocessing


def own_normalization(graph: Graph, recipe: Recipe, preprocessing: Preprocessing) -> Pixels | None:
    """The normalization to be taken over, or None where integers are pixels anyway, where others than convolutions
    read them, or where the recipe has other ideas of the input.
    """
    (source,) = graph.inputs
    if len(source.shape) != 3 or preprocessing.layout == "channels_last":
        return None
    mean, std = (
        tuple(np.broadcast_to(values, source.shape[0]).astype(float).tolist())
        for values in (preprocessing.mean, preprocessing.std)
    )
    pixels_anyway = len(set(mean)) == len(set(std)) == 1 and mean[0].is_integer()
    padded_by_pixels = PIXELS[0] <= min(mean) and max(mean) <= PIXELS[1]
    left_open = (
        source.name not in recipe.layer_ranges and recipe.precision_of(source.name).activation_bits >= 8
    )
    taken_up = all(isinstance(layer, Conv) and not layer.host for layer in graph.consumers[source.name])
    if pixels_anyway or not (padded_by_pixels and left_open and taken_up):
        return None
    return Pixels(mean, std)
