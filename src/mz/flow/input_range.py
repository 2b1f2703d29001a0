"""The range of the network's input: all that pixels can be, a little wider where errors of rounding would add up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np

from mz.flow.calibration import Images
from mz.flow.options import Step
from mz.graph import Graph, Params
from mz.optimize import PIXELS
from mz.quantize import Recipe, Trial, fake, tensor_quant
from mz.zoo import Preprocessing

IMAGES = 8
SHARES = (1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
"""Of the range of pixels. At 1.3 rounding errors are 2.3 dB larger, but unlike for neighbouring values."""

ENOUGH_DB = 40.0
"""Output SNR with the input alone in integers that the rest of an 8-bit network hides."""
MARGIN_DB = 1.0


def pixel_ends(preprocessing: Preprocessing) -> tuple[float, float]:
    """The least and the largest input that pixels of 0..255 give, over all channels."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    lows, highs = ((pixel - mean) / std for pixel in PIXELS)
    return float(lows.min()), float(highs.max())


def with_input_range(
    graph: Graph,
    params: Params,
    recipe: Recipe,
    ends: tuple[float, float],
    sample: Callable[[int], Images],
) -> tuple[Recipe, Step | None]:
    """The recipe with the range of the network's input, and the line of the table if that is not `ends` itself.

    ends: the least and the largest value that images can give. sample: gives so many calibration images. A range that
    the recipe has for the input stays. Where channels are normalized differently, a step is nearly but not quite that
    of a pixel: then rounding errors of an even area are all alike, and no sum over a window averages them out. Of
    wider ranges, the one with which the network's outputs suffer least is taken, if the input shows in them at all.
    """
    (source,) = graph.inputs
    name = source.name
    fixed = dataclasses.replace(recipe, input_ranges={name: ends})
    if ends == PIXELS or recipe.precision_of(name).activation_bits != 8 or name in recipe.layer_ranges:
        return fixed, None
    trial = Trial(graph, params, sample(IMAGES))

    def output_db(share: float) -> float:
        quant = tensor_quant(share * ends[0], share * ends[1], 8, even_zero_point=False)
        return trial.float_db(graph, params, partial(fake, quant=quant))

    plain = output_db(1.0)
    if plain >= ENOUGH_DB:
        return fixed, None
    found = {share: output_db(share) for share in SHARES}
    best = max(found, key=lambda share: found[share])
    if found[best] < plain + MARGIN_DB:
        return fixed, None
    wider = {name: (best * ends[0], best * ends[1])}
    note = f"{best:g} times that of pixels, for steps less like theirs: alone {plain:.1f} -> {found[best]:.1f} dB"
    return dataclasses.replace(recipe, input_ranges=wider), Step("input range", True, True, note)
