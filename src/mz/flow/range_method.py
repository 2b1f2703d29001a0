"""Which method finds the activation ranges, where a recipe leaves it open: the one whose integers measure best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mz.engines.memory import give_back
from mz.flow.calibration import Images, halves, some, statistics_of
from mz.flow.options import Progress
from mz.flow.trials import AS_ROUNDED, judged, quantized
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
FEWEST_REFINED, MOST_REFINED, MOST_REFINED_JUDGED = 16, 64, 256
"""On so many integers are refined, and so many others judge them: a walk through a network is dear. Where it is not,
more: on 16 images the methods differ by chance as much as in truth.
"""
REFINED_MACS, JUDGED_BYTES = 1 << 32, 64 << 20
"""What the images beyond the fewest may cost in time and in memory."""


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
    refined_on, judged_on = _affordable(graph)
    most = max(JUDGED_IMAGES, judged_on)
    seen, unseen = halves(sample(2 * max(IMAGES, most)), IMAGES, most)
    statistics = statistics_of(graph, params, [seen])
    if refinements == AS_ROUNDED:
        trial = Trial(graph, params, some(unseen, JUDGED_IMAGES))
        rounded = output_noise_by_method(trial, graph, params, statistics, recipe)
        return _with(recipe, best_method(rounded)), RangeTrials(rounded)
    trial = Trial(graph, params, some(unseen, FEWEST_REFINED))
    rounded = output_noise_by_method(trial, graph, params, statistics, recipe, REFINED_CANDIDATES)
    alike = contenders(rounded, recipe.precision.activation_bits)
    if len(alike) == 1:
        return _with(recipe, alike[0]), RangeTrials(rounded)
    seen, refined = some(seen, refined_on), {}
    if judged_on > FEWEST_REFINED:
        trial = Trial(graph, params, some(unseen, judged_on))
    with progress("ranges", len(alike), "trials") as advance:
        for method in alike:
            give_back()
            tried = _with(recipe, method)
            network = quantized((graph, params, statistics), tried)
            refined[method] = judged(trial, network, tried, seen, refinements)
            advance(1)
    return _with(recipe, refined_best(refined)), RangeTrials(rounded, refined)


def _with(recipe: Recipe, method: str) -> Recipe:
    return dataclasses.replace(recipe, activation_range=ActivationRange(method))


def _affordable(graph: Graph) -> tuple[int, int]:
    """On how many images integers are refined, and how many others judge them."""
    by_time = REFINED_MACS // max(1, graph.coverage().macs)
    by_memory = JUDGED_BYTES // (4 * sum(math.prod(source.shape) for source in graph.inputs))
    refined = min(max(by_time, FEWEST_REFINED), MOST_REFINED)
    return refined, min(max(min(2 * by_time, by_memory), FEWEST_REFINED), MOST_REFINED_JUDGED)
