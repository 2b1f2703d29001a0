"""Which method finds the activation ranges, where a recipe leaves it open: the one whose integers measure best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mz.engines.memory import give_back
from mz.flow.calibration import Images, halves, some, statistics_of
from mz.flow.options import Progress
from mz.flow.trials import AS_ROUNDED, Apart, affordable, judged, quantized
from mz.graph import Graph, Params
from mz.quantize import (
    REFINED_CANDIDATES,
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
REFINED_MACS, JUDGED_MACS = 1 << 32, 1 << 33
"""On so many images integers are refined, and so many others judge them: a walk through a network is dear."""


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
    apart: Apart | None = None,
) -> tuple[Recipe, RangeTrials]:
    """The recipe with the range method that measures best where it leaves the choice open, and what each one measured.

    sample: gives so many calibration images (float32 [N, *shape] by Input layer), or all there are. Ranges are found on
    one half of them and judged on the other: on the images that it has seen, clipping looks better than it is. apart:
    the network that is tried instead of one in which images of both halves had a say. Where several methods measure
    alike, each one's integers are refined as the network's will be: much of what clipping does, bias correction and
    compensation mend.
    """
    if not recipe.leaves_ranges_open:
        return recipe, RangeTrials()
    refined_on = affordable(graph, REFINED_MACS, FEWEST_REFINED, MOST_REFINED)
    judged_on = affordable(graph, JUDGED_MACS, FEWEST_REFINED, MOST_REFINED_JUDGED)
    most = max(JUDGED_IMAGES, judged_on)
    count = 2 * max(IMAGES, most)
    if apart is not None:
        graph, params, count = apart.graph, apart.params, apart.images
    seen, unseen = halves(sample(count), IMAGES, most)
    statistics = statistics_of(graph, params, [seen])
    if refinements == AS_ROUNDED:
        trial = Trial(graph, params, some(unseen, JUDGED_IMAGES))
        rounded = output_noise_by_method(trial, graph, params, statistics, recipe)
        return recipe.with_ranges_by(best_method(rounded)), RangeTrials(rounded)
    trial = Trial(graph, params, some(unseen, FEWEST_REFINED))
    rounded = output_noise_by_method(trial, graph, params, statistics, recipe, REFINED_CANDIDATES)
    alike = contenders(rounded, recipe.precision.activation_bits)
    if len(alike) == 1:
        return recipe.with_ranges_by(alike[0]), RangeTrials(rounded)
    seen, refined = some(seen, refined_on), {}
    if judged_on > FEWEST_REFINED:
        trial = Trial(graph, params, some(unseen, judged_on))
    with progress("ranges", len(alike), "trials") as advance:
        for method in alike:
            give_back()
            tried = recipe.with_ranges_by(method)
            network = quantized((graph, params, statistics), tried)
            refined[method] = judged(trial, network, tried, seen, refinements)
            advance(1)
    return recipe.with_ranges_by(refined_best(refined)), RangeTrials(rounded, refined)
