"""Which method finds the activation ranges, where a recipe leaves it open: the one whose integers measure best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mz.engines.memory import give_back
from mz.flow.calibration import Images, halves, some, statistics_of
from mz.flow.equalize import AS_ROUNDED, judged
from mz.flow.options import Progress
from mz.graph import Graph, Params
from mz.quantize import (
    REFINED_CANDIDATES,
    ActivationRange,
    Recipe,
    Refinements,
    Trial,
    best_method,
    contenders,
    output_noise_by_method,
    refined_best,
)

IMAGES, JUDGED_IMAGES = 64, 32
REFINED_IMAGES = 16
"""On so many integers are refined, and so many others judge them: a walk through the network is dear."""


@dataclass(frozen=True, slots=True)
class RangeTrials:
    """SNR of the outputs in dB by method: of the activations alone, and of those methods that were refined for it."""

    rounded: Mapping[str, float] = dataclasses.field(default_factory=dict)
    refined: Mapping[str, float] = dataclasses.field(default_factory=dict)


def with_range_method(
    graph: Graph,
    params: Params,
    recipe: Recipe,
    sample: Callable[[int], Images],
    refinements: Refinements,
    progress: Progress,
) -> tuple[Recipe, RangeTrials]:
    """The recipe with the range method that measures best where it leaves the choice open, and what each one measured.

    sample: gives so many calibration images (float32 [N, *shape] by Input layer), or all there are. Ranges are found on
    one half of them and judged on the other: on the images that it has seen, clipping looks better than it is. Where
    several methods measure alike, each one's integers are refined as the network's will be: much of what clipping does,
    bias correction and compensation mend.
    """
    if recipe.activation_range.method != "auto" or recipe.precision.activation_bits > 8:
        return recipe, RangeTrials()
    seen, unseen = halves(sample(2 * IMAGES), IMAGES, JUDGED_IMAGES)
    statistics = statistics_of(graph, params, [seen])
    calibrated = graph, params, statistics
    if refinements == AS_ROUNDED:
        rounded = output_noise_by_method(Trial(graph, params, unseen), *calibrated, recipe)
        return _with(recipe, best_method(rounded)), RangeTrials(rounded)
    seen, trial = some(seen, REFINED_IMAGES), Trial(graph, params, some(unseen, REFINED_IMAGES))
    rounded = output_noise_by_method(trial, *calibrated, recipe, REFINED_CANDIDATES)
    alike = contenders(rounded, recipe.precision.activation_bits)
    if len(alike) == 1:
        return _with(recipe, alike[0]), RangeTrials(rounded)
    refined = {}
    with progress("ranges", len(alike), "trials") as advance:
        for method in alike:
            give_back()
            refined[method] = judged(trial, calibrated, _with(recipe, method), seen, refinements)
            advance(1)
    return _with(recipe, refined_best(refined)), RangeTrials(rounded, refined)


def _with(recipe: Recipe, method: str) -> Recipe:
    return dataclasses.replace(recipe, activation_range=ActivationRange(method))
