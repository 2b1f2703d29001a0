"""Equalization as the flow runs it: every method is tried, and the one whose integers measure best is kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.flow.calibration import halves, some
from mz.flow.options import Progress, Step
from mz.graph import Graph, Params
from mz.optimize import MAX_SCALE, METHODS, absorb_bias, equalize, find_peaks
from mz.quantize import Recipe, Trial, collect, image_bytes, in_chunks
from mz.script import Equalization

IMAGES = 128
"""What peaks are found on; either half of them gives ranges once, and images of the other half judge."""
JUDGED_IMAGES = 32
MARGIN_DB = 0.25
"""What a method must bring over none on the mean of images, whichever half the ranges come from: where they end
depends on the few images that gave them, and that moves a network by more than most methods do."""

Network = tuple[Graph, Params]


def run_equalization(
    graph: Graph,
    params: Params,
    images: Mapping[str, np.ndarray],
    recipe: Recipe,
    asked: Equalization,
    progress: Progress,
) -> tuple[Graph, Params, Step, dict[str, Any]]:
    """The equalized network (or the same one), the line of the table, and what was measured, in plain data.

    Policy `allowed` keeps a method only where it measures better than none, `enabled` takes the best one in any case;
    likewise for bias absorption before it.
    """
    first, second = halves(images, IMAGES // 2, IMAGES // 2)
    peaks = find_peaks(graph, params, in_chunks(images, image_bytes(graph)))
    folds = [
        (seen, Trial(graph, params, some(unseen, JUDGED_IMAGES)))
        for seen, unseen in ((first, second), (second, first))
    ]
    keep = [name for name, how in recipe.layer_ranges.items() if how.method == "manual"]
    options: dict[str, Any] = {
        "layer_scale": recipe.per_layer_weight_scale,
        "layers": asked.layers,
        "keep": keep,
        "max_scale": asked.max_scale or MAX_SCALE,
    }
    step = partial(Step, "equalization", True, optional=asked.policy == "allowed")
    judged: dict[str, np.ndarray] = {}
    found: dict[str, float] = {}
    networks: dict[str, Network] = {"none": (graph, params)}
    reports: dict[str, dict[str, Any]] = {"none": {}}

    def measure(name: str, network: Network) -> None:
        session = FloatSession(*network, taps=[layer.name for layer in network[0].layers if not layer.host])
        networks[name] = network
        measured = [
            trial.image_dbs(*network, collect(session, [seen], image_bytes(network[0])), recipe).mean()
            for seen, trial in folds
        ]
        judged[name], found[name] = np.array(measured), float(np.mean(measured))
        advance(1)

    methods = list(METHODS) if asked.method == "auto" else [asked.method]
    absorb = asked.bias_absorption != "disabled" and not keep
    with progress("equalization", len(methods) + 1 + absorb, "trials") as advance:
        measure("none", (graph, params))
        for name in methods:
            changed, scaled, report = equalize(graph, params, peaks, method=name, **options)
            reports[name] = report.to_dict()
            if report.scaled:
                measure(name, (changed, scaled))
            else:
                advance(1)
        tried = [name for name in found if name != "none"]
        if absorb:
            graph_a, params_a, peaks_a, absorbed = absorb_bias(graph, params, peaks)
            if absorbed.layers:
                base = max(tried, key=lambda name: found[name], default=methods[0])
                changed, scaled, report = equalize(graph_a, params_a, peaks_a, method=base, **options)
                name = f"{base} with bias absorption"
                reports[name] = report.to_dict() | {"absorbed": absorbed.to_dict()["layers"]}
                measure(name, (changed, scaled))
                tried = [name] if asked.bias_absorption == "enabled" else [*tried, name]
    if not tried:
        return graph, params, step(False, "no channel can be scaled"), {}
    best = max(tried, key=lambda name: found[name])
    if asked.policy == "allowed" and (judged[best] - judged["none"]).min() < MARGIN_DB:
        best = "none"
    measured = ", ".join(f"{name} {db:.1f} dB" for name, db in found.items())
    described = {"method": best, "output_db": {name: round(db, 2) for name, db in found.items()}} | {
        key: value for key, value in reports[best].items() if key != "method"
    }
    if best == "none":
        return graph, params, step(False, f"brings nothing here ({measured})"), described
    described["float_db"] = round(folds[0][1].float_db(*networks[best]), 1)
    note = (
        f"{best}: {reports[best]['scaled']} channels of {reports[best]['bundles']} sets of layers, "
        f"float output unchanged ({described['float_db']:.0f} dB); {measured}"
    )
    return *networks[best], step(True, note), described
