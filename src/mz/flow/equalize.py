"""Equalization as the flow runs it: every method is tried, and the one whose integers measure best is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mz.engines.float_ort import tapped_session
from mz.engines.memory import give_back
from mz.flow.calibration import halves, some
from mz.flow.options import Progress, Step
from mz.graph import Graph, Params, Quantization
from mz.optimize import MAX_SCALE, METHODS, PeakGatherer, Peaks, absorb_bias, equalize
from mz.quantize import Recipe, Refinements, Statistics, Trial, collect, image_bytes, refine
from mz.script import Equalization

IMAGES = 128
"""Either half of them gives peaks and ranges once, and images of the other half judge; what is kept is made on all."""
JUDGED_IMAGES = 32
ROUNDED_IMAGES = 32
MARGIN_DB = 0.25
"""What a method must bring over none on the mean of images, whichever half the ranges come from: where they end
depends on the few images that gave them, and that moves a network by more than most methods do."""

Network = tuple[Graph, Params]
Change = Callable[[Peaks], tuple[Graph, Params, dict[str, Any]]]
"""The network as a method changes it by the peaks of some images, and its report."""


@dataclass(frozen=True, slots=True)
class _Fold:
    """Half of the images, float32 [N, *shape] by Input layer, what one pass over them gave of the network as it came,
    and a trial on images of the other half.
    """

    network: Network
    seen: Mapping[str, np.ndarray]
    peaks: Peaks
    statistics: Statistics
    trial: Trial

    def judge(self, change: Change | None, recipe: Recipe, rounding: bool) -> float:
        """change: None for the network as it came."""
        (graph, params), statistics = self.network, self.statistics
        if change is not None:
            graph, params, _ = change(self.peaks)
            statistics = collect(tapped_session(graph, params), [self.seen], image_bytes(graph))
        if not rounding:
            return float(self.trial.image_dbs(graph, params, statistics, recipe).mean())

        def refined(quantization: Quantization) -> Quantization:
            images, session = some(self.seen, ROUNDED_IMAGES), tapped_session(graph, params)
            return refine(graph, params, quantization, recipe, images, session, Refinements())

        return float(self.trial.image_dbs(graph, params, statistics, recipe, refined).mean())


def _fold(
    graph: Graph, params: Params, seen: Mapping[str, np.ndarray], unseen: Mapping[str, np.ndarray]
) -> _Fold:
    gatherer = PeakGatherer(graph)
    statistics = collect(tapped_session(graph, params), [seen], image_bytes(graph), [gatherer])
    trial = Trial(graph, params, some(unseen, JUDGED_IMAGES))
    return _Fold((graph, params), seen, gatherer.peaks, statistics, trial)


def _equal(one: Params, other: Params) -> bool:
    """Whether two methods came to the same, as one_step and two_step mostly do with one scale a channel."""
    return one.keys() == other.keys() and all(
        arrays.keys() == other[name].keys()
        and all(np.array_equal(array, other[name][key]) for key, array in arrays.items())
        for name, arrays in one.items()
    )


def run_equalization(
    graph: Graph,
    params: Params,
    images: Mapping[str, np.ndarray],
    recipe: Recipe,
    asked: Equalization,
    progress: Progress,
    rounding: bool = False,
) -> tuple[Graph, Params, Step, dict[str, Any]]:
    """The equalized network (or the same one), the line of the table, and what was measured, in plain data.

    Policy `allowed` keeps a method only where it measures better than none, `enabled` takes the best one in any case;
    likewise for bias absorption before it. rounding: judge after second-order rounding and bias correction.
    """
    folds = halves(images, IMAGES // 2, IMAGES // 2)
    trials = [_fold(graph, params, seen, unseen) for seen, unseen in (folds, folds[::-1])]
    give_back()
    peaks = trials[0].peaks.merged(trials[1].peaks)
    keep = [name for name, how in recipe.layer_ranges.items() if how.method == "manual"]
    options: dict[str, Any] = {
        "layer_scale": recipe.per_layer_weight_scale,
        "layers": asked.layers,
        "keep": keep,
        "max_scale": asked.max_scale or MAX_SCALE,
    }
    step = partial(Step, "equalization", True, optional=asked.policy == "allowed")
    without = [fold.judge(None, recipe, rounding) for fold in trials]
    found = {"none": float(np.mean(without))}
    better: list[str] = []
    networks: dict[str, Network] = {}
    reports: dict[str, dict[str, Any]] = {"none": {}}

    def judge(name: str, change: Change) -> None:
        """With the policy `allowed`, what brings nothing on one half is out, and is not tried on the other."""
        decibels = []
        for fold, before in zip(trials, without, strict=True):
            decibels.append(fold.judge(change, recipe, rounding))
            give_back()
            if asked.policy == "allowed" and decibels[-1] < before + MARGIN_DB:
                break
        else:
            better.append(name)
        found[name] = float(np.mean(decibels))

    def measure(name: str, change: Change) -> None:
        """What a change brings on images from which neither factors nor ranges come; as made on all, if it does any."""
        changed, scaled, reports[name] = change(peaks)
        if reports[name]["scaled"]:
            twin = next((other for other in networks if _equal(networks[other][1], scaled)), None)
            networks[name] = changed, scaled
            if twin is None:
                judge(name, change)
            else:
                found[name] = found[twin]
        advance(1)

    def equalized(method: str, peaks: Peaks) -> tuple[Graph, Params, dict[str, Any]]:
        changed, scaled, report = equalize(graph, params, peaks, method=method, **options)
        return changed, scaled, report.to_dict()

    def absorbed(method: str, peaks: Peaks) -> tuple[Graph, Params, dict[str, Any]]:
        graph_a, params_a, peaks_a, absorption = absorb_bias(graph, params, peaks)
        changed, scaled, report = equalize(graph_a, params_a, peaks_a, method=method, **options)
        return changed, scaled, report.to_dict() | {"absorbed": absorption.to_dict()["layers"]}

    methods = list(METHODS) if asked.method == "auto" else [asked.method]
    absorb = asked.bias_absorption != "disabled" and not keep
    with progress("equalization", len(methods) + absorb, "trials") as advance:
        for name in methods:
            measure(name, partial(equalized, name))
        # Where no method brings anything, neither does a bias that is moved out of its way.
        wanted = better or asked.bias_absorption == "enabled"
        if absorb and wanted and absorb_bias(graph, params, peaks)[3].layers:
            base = max(better or networks, key=lambda name: found[name], default=methods[0])
            name = f"{base} with bias absorption"
            measure(name, partial(absorbed, base))
            if name in found and asked.bias_absorption == "enabled":
                better = [one for one in better if one == name]
    if not networks:
        return graph, params, step(False, "no channel can be scaled"), {}
    best = max(better, key=lambda name: found[name], default="none")
    measured = ", ".join(f"{name} {db:.1f} dB" for name, db in found.items())
    described = {"method": best, "output_db": {name: round(db, 2) for name, db in found.items()}} | {
        key: value for key, value in reports[best].items() if key != "method"
    }
    if best == "none":
        return graph, params, step(False, f"brings nothing here ({measured})"), described
    described["float_db"] = round(trials[0].trial.float_db(*networks[best]), 1)
    note = (
        f"{best}: {reports[best]['scaled']} channels of {reports[best]['bundles']} sets of layers, "
        f"float output unchanged ({described['float_db']:.0f} dB); {measured}"
    )
    return *networks[best], step(True, note), described
