"""Changed networks against the network as it came: each quantized and measured on images that it was not made by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mz.engines.memory import give_back
from mz.flow.calibration import halves, some, statistics_of
from mz.flow.trials import AS_ROUNDED, Apart, Calibrated, Quantized, affordable, judged, quantized
from mz.graph import Graph, Params
from mz.optimize import METHODS, EqualizationReport, PeakGatherer, Peaks
from mz.quantize import REFINED_CANDIDATES, Recipe, Refinements, Trial, best_method

IMAGES, MOST_IMAGES, IMAGES_MACS = 128, 512, 1 << 34
"""Either half of them gives peaks and ranges once, and images of the other half judge; what is kept is made on all."""
JUDGED_IMAGES, ROUGHLY_JUDGED = 32, 8
ROUNDED_IMAGES, CORRECTED_IMAGES = 32, 8
"""Of `IMAGES`; of a cheap network's more images likewise more."""

MARGIN_DB = 0.25
"""What a method must bring over none on the mean of images, and more than it loses with the ranges of either half:
where these end depends on the few images that gave them, and that moves a network by more than most methods do."""

TOLERATED_DB = 1.0
"""What a method may lose on one half and still be tried on the other."""

HOPELESS_DB = 3.0
"""Behind the network as it came, before any refinement: more than refinements were ever seen to give back."""

ALIKE_DB = 0.5
"""Trials on a few dozen images tell no less apart."""

ALIKE_OCTAVES = 0.25
"""Root mean square over channels between two methods' factors, below which one trial is good for both: with one scale
a channel one_step and two_step are so near, and end alike whatever their trials say (docs/full-precision-evidence.md).
"""


@dataclass(frozen=True, slots=True)
class Changed:
    """A network as a method made it, what it scaled, and what else is to be told of it."""

    graph: Graph
    params: Params
    report: EqualizationReport
    told: dict[str, Any] = field(default_factory=dict)


Change = Callable[[Peaks], Changed]
"""What a method makes by the peaks of some images."""


def image_count(graph: Graph) -> int:
    """How many images a contest takes: what a channel may reach, which bounds how far it may grow, is seen by many."""
    return affordable(graph, IMAGES_MACS, IMAGES, MOST_IMAGES)


class Fold:
    """Half of the images, float32 [N, *shape] by Input layer, what one pass over them gives of the network as it came,
    and a trial on images of the other half.
    """

    def __init__(
        self, graph: Graph, params: Params, seen: Mapping[str, np.ndarray], unseen: Mapping[str, np.ndarray]
    ) -> None:
        gatherer = PeakGatherer(graph)
        self.seen = seen
        self.network: Calibrated = graph, params, statistics_of(graph, params, [seen], [gatherer])
        self.peaks = gatherer.peaks
        self.times = image_count(graph) // IMAGES
        self.trial = Trial(graph, params, some(unseen, self.times * JUDGED_IMAGES))

    def changed(self, change: Change) -> Calibrated:
        made = change(self.peaks)
        return made.graph, made.params, statistics_of(made.graph, made.params, [self.seen])

    def suited(self, network: Calibrated, recipe: Recipe) -> tuple[Recipe, Quantized, float]:
        """The recipe, with the ranges that suit the network where it leaves the choice open; its integers; and the mean
        SNR of a few of the other half's images in dB, nothing refined: what is far off stands out on any.
        """

        def tried(recipe: Recipe) -> tuple[Recipe, Quantized, float]:
            integers = quantized(network, recipe)
            count = self.times * ROUGHLY_JUDGED
            return recipe, integers, float(self.trial.image_dbs(*integers, most=count).mean())

        if not recipe.leaves_ranges_open:
            return tried(recipe)
        found = {method: tried(recipe.with_ranges_by(method)) for method in REFINED_CANDIDATES}
        return found[best_method({method: decibels for method, (*_, decibels) in found.items()})]

    def judge(self, network: Quantized, recipe: Recipe, refinements: Refinements) -> float:
        """Mean SNR of the other half's images in dB, after these refinements on some of this half."""
        count = self.times * (ROUNDED_IMAGES if refinements.rounding else CORRECTED_IMAGES)
        return judged(self.trial, network, recipe, some(self.seen, count), refinements)


class Contest:
    """Methods by name, and what they measured: each on either half of the images, made by the other half.

    peaks: of all images. found: mean SNR of the outputs in dB, `none` being the network as it came. made: by the peaks
    of all images, where that changes anything. better: the names of those that help; of all that were judged where
    a method is not `optional`.
    """

    def __init__(
        self,
        graph: Graph,
        params: Params,
        images: Mapping[str, np.ndarray],
        recipe: Recipe,
        refinements: Refinements,
        optional: bool,
    ) -> None:
        self._count = image_count(graph)
        seen, unseen = halves(images, self._count // 2, self._count // 2)
        self.folds = [Fold(graph, params, *pair) for pair in ((seen, unseen), (unseen, seen))]
        give_back()
        self.peaks = self.folds[0].peaks.merged(self.folds[1].peaks)
        self.recipe, self.refinements, self.optional = recipe, refinements, optional
        self._suited, _, self._rough = self.folds[0].suited(self.folds[0].network, recipe)
        self.found = {"none": self._rough}
        self.made: dict[str, Changed] = {}
        self._changes: dict[str, Change] = {}
        self.better: list[str] = []

    def enter(self, name: str, change: Change) -> None:
        """Makes and measures what a method makes, or takes the measure of another that made nearly the same."""
        made = change(self.peaks)
        if not made.report.scaled:
            return
        rivals = {} if made.told else self.made
        twin = next((other for other in rivals if _alike(rivals[other].report, made.report)), None)
        self.made[name], self._changes[name] = made, change
        if twin is None:
            self._judge(name, change)
        else:
            self.found[name] = self.found[twin]

    def best(self, names: Sequence[str]) -> str:
        """Of the networks that measure alike, the one by the method that METHODS names last: the finer the weights that
        judge, the less counts what a method that looks at activations alone does to the kernels. Above 8 bits all noise
        is rounding, which any image tells, and the weights judge as they are: the best is the best.
        """
        margin = 0 if self.recipe.precision.above_8_bits else ALIKE_DB
        enough = max(self.found[name] for name in names) - margin
        alike = [name for name in names if self.found[name] >= enough]
        return next((name for name in reversed(METHODS) if name in alike), alike[0])

    def apart(self, name: str) -> Apart:
        """What a method makes by one half of the images."""
        made = self._changes[name](self.folds[0].peaks)
        return Apart(made.graph, made.params, self._count)

    def _judge(self, name: str, change: Change) -> None:
        """With the ranges that suit the network which the method makes, as they will if it is kept. An optional method
        that is hopeless before any refinement, or loses on one half, is tried no further.
        """
        recipe, decibels = self.recipe, list[float]()
        for number, fold in enumerate(self.folds):
            network = fold.changed(change)
            if decibels:
                tried = quantized(network, recipe)
            else:
                recipe, tried, self.found[name] = fold.suited(network, recipe)
                refined = self.refinements != AS_ROUNDED
                if self.optional and refined and self.found[name] < self._rough - HOPELESS_DB:
                    return
            decibels.append(fold.judge(tried, recipe, self.refinements))
            give_back()
            if self.optional and decibels[number] < self._without[number] - TOLERATED_DB:
                break
        self.found[name], self.found["none"] = float(np.mean(decibels)), float(np.mean(self._without))
        gains = np.subtract(decibels, self._without[: len(decibels)])
        helps = len(gains) == len(self.folds) and gains.mean() > max(MARGIN_DB, -gains.min())
        if helps or not self.optional:
            self.better.append(name)

    @cached_property
    def _without(self) -> list[float]:
        recipe = self._suited
        return [fold.judge(quantized(fold.network, recipe), recipe, self.refinements) for fold in self.folds]


def _alike(one: EqualizationReport, other: EqualizationReport) -> bool:
    """Whether two methods came to nearly the same, as one_step and two_step mostly do with one scale a channel."""
    octaves = np.log2(one.factors / other.factors)
    return bool(np.sqrt(np.square(octaves).mean()) <= ALIKE_OCTAVES)
