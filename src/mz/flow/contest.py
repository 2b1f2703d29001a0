"""Changed networks against the network as it came: each quantized and measured on images that it was not made by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mz.engines.memory import give_back
from mz.flow.calibration import halves, some, statistics_of
from mz.flow.trials import Apart, Calibrated, Quantized, affordable, judged, quantized
from mz.graph import Graph, Params
from mz.optimize import METHODS, EqualizationReport, PeakGatherer, Peaks
from mz.quantize import REFINED_CANDIDATES, Recipe, Refinements, Trial, best_method

IMAGES, MOST_IMAGES, IMAGES_MACS = 128, 512, 1 << 34
"""Either half of them gives peaks and ranges once, and images of the other half judge; what is kept is made on all."""
FEWEST_IMAGES, MOST_MACS = 32, 1 << 38
"""Fewer where a pass over `IMAGES` would take more multiply-accumulates: a contest takes a dozen."""
JUDGED_IMAGES, ROUGHLY_JUDGED = 32, 8
ROUNDED_IMAGES, CORRECTED_IMAGES = 32, 8
"""Of `IMAGES`; of more or fewer images likewise, down to `FEWEST_JUDGED`."""
FEWEST_JUDGED = 8

MARGIN_DB = 0.25
"""What a method must bring over none on the mean of images, and more than it loses with the ranges of either half:
where these end depends on the few images that gave them, and that moves a network by more than most methods do."""

HOPELESS_DB = 4.0
"""Behind the best before any refinement: more than refinements were ever seen to give back."""

BEHIND_DB = 1.0
"""Behind the best on one half, a method is not tried on the other."""

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
    enough = min(max(MOST_MACS // max(1, graph.coverage().macs), FEWEST_IMAGES), IMAGES)
    return affordable(graph, IMAGES_MACS, enough, MOST_IMAGES)


class Fold:
    """Half of the images, float32 [N, *shape] by Input layer, what one pass over them gives of the network as it came,
    and a trial on images of the other half. count: of the contest's images (`image_count`).
    """

    def __init__(
        self,
        graph: Graph,
        params: Params,
        count: int,
        seen: Mapping[str, np.ndarray],
        unseen: Mapping[str, np.ndarray],
    ) -> None:
        gatherer = PeakGatherer(graph)
        self.seen = seen
        self.network: Calibrated = graph, params, statistics_of(graph, params, [seen], [gatherer])
        self.peaks = gatherer.peaks
        self._count = count
        self.trial = Trial(graph, params, some(unseen, self._share(JUDGED_IMAGES)))

    def network_by(self, change: Change | None) -> Calibrated:
        """The network as it came, or as a method makes it by the peaks of this half."""
        if change is None:
            return self.network
        made = change(self.peaks)
        return made.graph, made.params, statistics_of(made.graph, made.params, [self.seen])

    def suited(self, network: Calibrated, recipe: Recipe) -> tuple[Recipe, Quantized, float]:
        """The recipe, with the ranges that suit the network where it leaves the choice open; its integers; and the mean
        SNR of a few of the other half's images in dB, nothing refined: what is far off stands out on any.
        """

        def tried(recipe: Recipe) -> tuple[Recipe, Quantized, float]:
            integers = quantized(network, recipe)
            decibels = self.trial.image_dbs(*integers, most=self._share(ROUGHLY_JUDGED))
            return recipe, integers, float(decibels.mean())

        if not recipe.leaves_ranges_open:
            return tried(recipe)
        found = {method: tried(recipe.with_ranges_by(method)) for method in REFINED_CANDIDATES}
        return found[best_method({method: decibels for method, (*_, decibels) in found.items()})]

    def judge(self, network: Quantized, recipe: Recipe, refinements: Refinements) -> float:
        """Mean SNR of the other half's images in dB, after these refinements on some of this half."""
        count = self._share(ROUNDED_IMAGES if refinements.rounding else CORRECTED_IMAGES)
        return judged(self.trial, network, recipe, some(self.seen, count), refinements)

    def _share(self, images: int) -> int:
        """As many of the contest's images as `images` are of `IMAGES`."""
        times = self._count // IMAGES
        return images * times if times else max(images * self._count // IMAGES, FEWEST_JUDGED)


@dataclass(slots=True)
class Entry:
    """A network in a contest, and what it measured in dB: mean SNR of a few images before any refinement, then of all
    on either half.

    change: None makes it the network as it came. recipe: with the ranges that suit it. first: its integers by the
    ranges of the first half, as long as they are to be judged.
    """

    change: Change | None
    recipe: Recipe
    first: Quantized | None
    rough: float
    halves: list[float] = field(default_factory=list)

    @property
    def decibels(self) -> float:
        return float(np.mean(self.halves)) if self.halves else self.rough


class Contest:
    """Methods by name, and what they measured: each on either half of the images, made by the other half.

    peaks: of all images. reports: what a method scales by them, where that is anything.
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
        self.folds = [Fold(graph, params, self._count, *pair) for pair in ((seen, unseen), (unseen, seen))]
        give_back()
        self.peaks = self.folds[0].peaks.merged(self.folds[1].peaks)
        self.recipe, self.refinements, self.optional = recipe, refinements, optional
        self.reports: dict[str, EqualizationReport] = {}
        self._entries = {"none": self._entry(None)}
        self._twins: dict[str, str] = {}

    @property
    def found(self) -> dict[str, float]:
        """Mean SNR of the outputs in dB as far as it was measured, `none` being the network as it came."""
        return {name: self._of(name).decibels for name in ("none", *self.reports)}

    @property
    def left_early(self) -> dict[str, float]:
        """Those that were not judged on both halves, and what they lacked in dB against the best on the same images."""
        entries = self._entries.values()
        best = {0: max(entry.rough for entry in entries)}
        best[1] = max((entry.halves[0] for entry in entries if entry.halves), default=np.nan)
        found = {name: self._of(name) for name in self.found}
        early = {name: entry for name, entry in found.items() if len(entry.halves) < len(self.folds)}
        return {name: best[len(entry.halves)] - entry.decibels for name, entry in early.items()}

    @property
    def better(self) -> list[str]:
        """The names of those that help; of all that were judged where a method is not `optional`."""
        return [name for name, entry in self._entries.items() if entry.change and self._helps(entry)]

    def enter(self, name: str, change: Change, base: str | None = None) -> None:
        """Makes what a method makes and measures it roughly, unless another one makes nearly the same.

        base: the method that this one only adds to. Where it does not look better than that, it is not judged.
        """
        made = change(self.peaks)
        if not made.report.scaled:
            return
        rivals = {} if made.told else self.reports
        twin = next((other for other in rivals if _alike(rivals[other], made.report)), None)
        self.reports[name] = made.report
        if twin is not None:
            self._twins[name] = twin
            return
        self._entries[name] = entry = self._entry(change)
        if base and entry.rough < self._of(base).rough + MARGIN_DB:
            entry.first = None

    def judge(self) -> None:
        """Those that came in since, with the ranges that suit each, as they will if it is kept; on the second half
        those that are near the best on the first. What is far behind before any refinement is judged on neither.
        """
        if not self.reports:
            return
        entries = self._entries.values()
        rivals = [entry for entry in entries if entry.change or self.optional]
        enough = max(entry.rough for entry in rivals) - HOPELESS_DB
        running = []
        for entry in entries:
            first, entry.first = entry.first, None
            if first and entry.rough >= enough:
                self._measure(entry, self.folds[0], first)
                running.append(entry)
        best = max(entry.halves[0] for entry in rivals if entry.halves)
        for entry in running:
            if entry.halves[0] >= best - (BEHIND_DB if entry.change else HOPELESS_DB):
                network = self.folds[1].network_by(entry.change)
                self._measure(entry, self.folds[1], quantized(network, entry.recipe))

    def best(self, names: Sequence[str]) -> str:
        """Of the networks that measure alike, the one by the method that METHODS names last: the finer the weights that
        judge, the less counts what a method that looks at activations alone does to the kernels. Above 8 bits all noise
        is rounding, which any image tells, and the weights judge as they are: the best is the best.
        """
        found = self.found
        margin = 0 if self.recipe.precision.above_8_bits else ALIKE_DB
        enough = max(found[name] for name in names) - margin
        alike = [name for name in names if found[name] >= enough]
        return next(name for method in reversed(METHODS) for name in alike if name.startswith(method))

    def changed(self, name: str) -> tuple[Changed, Apart]:
        """What a method makes by all images, and by one half of them."""
        change = self._entries[name].change
        assert change is not None
        half = change(self.folds[0].peaks)
        return change(self.peaks), Apart(half.graph, half.params, self._count)

    def _of(self, name: str) -> Entry:
        return self._entries[self._twins.get(name, name)]

    def _entry(self, change: Change | None) -> Entry:
        return Entry(change, *self.folds[0].suited(self.folds[0].network_by(change), self.recipe))

    def _measure(self, entry: Entry, fold: Fold, network: Quantized) -> None:
        entry.halves.append(fold.judge(network, entry.recipe, self.refinements))
        give_back()

    def _helps(self, entry: Entry) -> bool:
        """On both halves, more than the network as it came; of itself where that was too far behind to be judged."""
        came = self._entries["none"].halves
        if len(entry.halves) < len(self.folds):
            return False
        if not self.optional or len(came) < len(self.folds):
            return True
        gains = np.subtract(entry.halves, came)
        return bool(gains.mean() > max(MARGIN_DB, -gains.min()))


def _alike(one: EqualizationReport, other: EqualizationReport) -> bool:
    """Whether two methods came to nearly the same, as one_step and two_step mostly do with one scale a channel."""
    if one.factors.shape != other.factors.shape:  # of other channels
        return False
    octaves = np.log2(one.factors / other.factors)
    return bool(np.sqrt(np.square(octaves).mean()) <= ALIKE_OCTAVES)
