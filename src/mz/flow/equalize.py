"""Equalization as the flow runs it: every method is tried, and the one whose integers measure best is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from mz.engines.float_ort import tapped_session
from mz.engines.memory import give_back
from mz.flow.calibration import halves, some, statistics_of
from mz.flow.options import Progress, Step
from mz.graph import Activation, Graph, Params, Quantization
from mz.optimize import (
    MAX_SCALE,
    METHODS,
    EqualizationReport,
    PeakGatherer,
    Peaks,
    absorb_bias,
    equalize,
    pools_to_convolutions,
)
from mz.quantize import (
    ActivationRange,
    Recipe,
    Refinements,
    Statistics,
    Trial,
    refine,
)
from mz.quantize.groups import scale_groups
from mz.quantize.range_choice import MARGIN_DB as RANGES_MARGIN_DB
from mz.script import Equalization

IMAGES = 128
"""Either half of them gives peaks and ranges once, and images of the other half judge; what is kept is made on all."""
JUDGED_IMAGES, ROUGHLY_JUDGED = 32, 8
ROUNDED_IMAGES, CORRECTED_IMAGES = 32, 8
MARGIN_DB = 0.25
"""What a method must bring over none on the mean of images, and more than it loses with the ranges of either half:
where these end depends on the few images that gave them, and that moves a network by more than most methods do."""

TOLERATED_DB = 1.0
"""What a method may lose on one half and still be tried on the other."""

HOPELESS_DB = 3.0
"""Behind the network as it came, before any refinement: more than refinements were ever seen to give back."""

ALIKE_DB = 0.5
"""Trials on a few dozen images tell no less apart."""

ALIKE_OCTAVES = 0.1
"""Root mean square over channels between two methods' factors, below which one trial is good for both: half of twelve
networks have one_step and two_step so near, and trials of both were within 0.2 dB of each other there.
"""

AS_ROUNDED = Refinements(rounding=False, bias_correction=False)

Network = tuple[Graph, Params]
Calibrated = tuple[Graph, Params, Statistics]
Change = Callable[[Peaks], tuple[Graph, Params, EqualizationReport, dict[str, Any]]]
"""The network as a method changes it by the peaks of some images, what it scaled, and what else is to be told."""


@dataclass(frozen=True, slots=True)
class _Fold:
    """Half of the images, float32 [N, *shape] by Input layer, what one pass over them gave of the network as it came,
    and a trial on images of the other half.
    """

    network: Calibrated
    seen: Mapping[str, np.ndarray]
    peaks: Peaks
    trial: Trial

    def changed(self, change: Change) -> Calibrated:
        graph, params, *_ = change(self.peaks)
        return graph, params, statistics_of(graph, params, [self.seen])

    def roughly(self, network: Calibrated, recipe: Recipe) -> float:
        """Mean SNR of a few of the other half's images in dB, nothing refined: what is far off stands out on any."""
        return float(self.trial.image_dbs(*network, recipe, most=ROUGHLY_JUDGED).mean())

    def judge(self, network: Calibrated, recipe: Recipe, refinements: Refinements) -> float:
        """Mean SNR of the other half's images in dB, after these refinements on some of this half."""
        images = some(self.seen, ROUNDED_IMAGES if refinements.rounding else CORRECTED_IMAGES)
        return judged(self.trial, network, recipe, images, refinements)


def judged(
    trial: Trial,
    network: Calibrated,
    recipe: Recipe,
    images: Mapping[str, np.ndarray],
    refinements: Refinements,
) -> float:
    """Mean SNR of the trial's images in dB, of a network quantized by the recipe and refined on `images`."""
    graph, params, statistics = network

    def refined(quantization: Quantization) -> Quantization:
        if refinements == AS_ROUNDED:
            return quantization
        return refine(graph, params, quantization, recipe, images, tapped_session(graph, params), refinements)

    return float(trial.image_dbs(graph, params, statistics, recipe, refined).mean())


def _fold(
    graph: Graph, params: Params, seen: Mapping[str, np.ndarray], unseen: Mapping[str, np.ndarray]
) -> _Fold:
    gatherer = PeakGatherer(graph)
    statistics = statistics_of(graph, params, [seen], [gatherer])
    trial = Trial(graph, params, some(unseen, JUDGED_IMAGES))
    return _Fold((graph, params, statistics), seen, gatherer.peaks, trial)


def _with_ranges(recipe: Recipe, fold: _Fold) -> tuple[Recipe, float]:
    """The recipe, with narrow ranges where it leaves the choice open and the network as it came is better off with
    them, and what the fold measures: under ranges that lose 5 dB no method shows what it brings.
    """
    wide = fold.roughly(fold.network, recipe)
    if recipe.activation_range.method != "auto" or recipe.precision.activation_bits > 8:
        return recipe, wide
    narrow = dataclasses.replace(recipe, activation_range=ActivationRange("l1_5"))
    found = fold.roughly(fold.network, narrow)
    return (narrow, found) if found > wide + RANGES_MARGIN_DB else (recipe, wide)


def _best(found: Mapping[str, float], names: Sequence[str], recipe: Recipe) -> str:
    """Of the networks that measure alike, the one by the method that METHODS names last: the finer the weights that
    judge, the less counts what a method that looks at activations alone does to the kernels. Above 8 bits all noise is
    rounding, which any image tells, and the weights judge as they are: the best is the best.
    """
    enough = max(found[name] for name in names) - (0 if recipe.precision.above_8_bits else ALIKE_DB)
    alike = [name for name in names if found[name] >= enough]
    return next((name for name in reversed(METHODS) if name in alike), alike[0])


def _alike(one: EqualizationReport, other: EqualizationReport) -> bool:
    """Whether two methods came to nearly the same, as one_step and two_step mostly do with one scale a channel."""
    octaves = np.log2(one.factors / other.factors)
    return bool(np.sqrt(np.square(octaves).mean()) <= ALIKE_OCTAVES)


def scalable_functions(graph: Graph, recipe: Recipe) -> list[str]:
    """Activation functions of 8-bit tensors, whose tables may differ by channel: at 16 bits each is 128 KiB."""
    bits = {name: recipe.activation_bits(group) for group in scale_groups(graph) for name in group}
    return [
        layer.name
        for layer in graph.layers
        if isinstance(layer, Activation) and not layer.host and bits[layer.inputs[0]] <= 8
    ]


def run_equalization(
    graph: Graph,
    params: Params,
    images: Mapping[str, np.ndarray],
    recipe: Recipe,
    asked: Equalization,
    progress: Progress,
    refinements: Refinements = AS_ROUNDED,
) -> tuple[Graph, Params, Step, dict[str, Any]]:
    """The equalized network (or the same one), the line of the table, and what was measured, in plain data.

    Policy `allowed` keeps a method only where it measures better than none, `enabled` takes the best one in any case;
    likewise for bias absorption before it. refinements: what the integers go through before they are judged.
    """
    folds = halves(images, IMAGES // 2, IMAGES // 2)
    trials = [_fold(graph, params, seen, unseen) for seen, unseen in (folds, folds[::-1])]
    give_back()
    peaks = trials[0].peaks.merged(trials[1].peaks)
    came, (graph, params, pools) = (graph, params), pools_to_convolutions(graph, params, peaks)
    keep = [name for name, how in recipe.layer_ranges.items() if how.method == "manual"]
    options: dict[str, Any] = {
        "layer_scale": recipe.per_layer_weight_scale,
        "layers": asked.layers,
        "keep": keep,
        "max_scale": asked.max_scale or MAX_SCALE,
        "scalable": scalable_functions(graph, recipe),
    }
    step = partial(Step, "equalization", True, optional=asked.policy == "allowed")
    recipe, rough = _with_ranges(recipe, trials[0])
    found = {"none": rough}
    better: list[str] = []
    networks: dict[str, Network] = {}
    reports: dict[str, EqualizationReport] = {}
    told: dict[str, dict[str, Any]] = {}

    @cache
    def without() -> list[float]:
        return [fold.judge(fold.network, recipe, refinements) for fold in trials]

    def judge(name: str, change: Change) -> None:
        """With the policy `allowed`, what is hopeless before any refinement, or loses on one half, is out, and is tried
        no further.
        """
        decibels: list[float] = []
        for fold in trials:
            network = fold.changed(change)
            if asked.policy == "allowed" and refinements != AS_ROUNDED and not decibels:
                found[name] = fold.roughly(network, recipe)
                if found[name] < rough - HOPELESS_DB:
                    return
            decibels.append(fold.judge(network, recipe, refinements))
            give_back()
            if asked.policy == "allowed" and decibels[-1] < without()[len(decibels) - 1] - TOLERATED_DB:
                break
        found[name], found["none"] = float(np.mean(decibels)), float(np.mean(without()))
        gains = np.subtract(decibels, without()[: len(decibels)])
        helps = len(gains) == len(trials) and gains.mean() > max(MARGIN_DB, -gains.min())
        if asked.policy != "allowed" or helps:
            better.append(name)

    def measure(name: str, change: Change) -> None:
        """What a change brings on images from which neither factors nor ranges come; as made on all, if it does any."""
        changed, scaled, report, told[name] = change(peaks)
        if report.scaled:
            same_graph = () if told[name] else networks
            twin = next((other for other in same_graph if _alike(reports[other], report)), None)
            networks[name], reports[name] = (changed, scaled), report
            if twin is None:
                judge(name, change)
            else:
                found[name] = found[twin]
        advance(1)

    def equalized(method: str, peaks: Peaks) -> tuple[Graph, Params, EqualizationReport, dict[str, Any]]:
        return *equalize(graph, params, peaks, method=method, **options), {}

    def absorbed(method: str, peaks: Peaks) -> tuple[Graph, Params, EqualizationReport, dict[str, Any]]:
        graph_a, params_a, peaks_a, absorption = absorb_bias(graph, params, peaks)
        found = equalize(graph_a, params_a, peaks_a, method=method, **options)
        return *found, {"absorbed": absorption.to_dict()["layers"]}

    methods = list(METHODS) if asked.method == "auto" else [asked.method]
    absorb = asked.bias_absorption != "disabled" and not keep
    with progress("equalization", len(methods) + absorb, "trials") as advance:
        for name in methods:
            measure(name, partial(equalized, name))
        # Where no method brings anything, neither does a bias that is moved out of its way.
        wanted = better or asked.bias_absorption == "enabled"
        if absorb and wanted and absorb_bias(graph, params, peaks)[3].layers:
            scaled = better or list(networks)
            base = _best(found, scaled, recipe) if scaled else methods[0]
            name = f"{base} with bias absorption"
            measure(name, partial(absorbed, base))
            if name in found and asked.bias_absorption == "enabled":
                better = [one for one in better if one == name]
    if not networks:
        return *came, step(False, "no channel can be scaled"), {}
    best = _best(found, better, recipe) if better else "none"
    measured = ", ".join(f"{name} {db:.1f} dB" for name, db in found.items())
    described: dict[str, Any] = {
        "method": best,
        "output_db": {name: round(db, 2) for name, db in found.items()},
    }
    if best == "none":
        return *came, step(False, f"brings nothing here ({measured})"), described
    report = reports[best]
    float_db = round(trials[0].trial.float_db(*networks[best]), 1)
    described = report.to_dict() | told[best] | described | {"float_db": float_db}
    note = (
        f"{best}: {report.scaled} channels of {report.bundles} sets of layers, "
        f"float output unchanged ({float_db:.0f} dB); {measured}"
    )
    if pools:
        described["pools"] = pools
        note += f"; {', '.join(pools)} as convolutions"
    return *networks[best], step(True, note), described
