"""Equalization as the flow runs it: every method is tried, and the one whose integers measure best is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.flow.calibration import halves
from mz.flow.options import Progress, Step
from mz.graph import Graph, Params
from mz.optimize import MAX_SCALE, METHODS, absorb_bias, equalize, find_peaks
from mz.quantize import Recipe, Trial, collect, image_bytes, in_chunks
from mz.script import Equalization

IMAGES = 128
"""What peaks are found on; half of them also give the ranges that methods are compared by."""
JUDGED_IMAGES = 32
MARGIN_DB = 0.25
"""What a method must bring over none: a few dozen images cannot tell less from chance."""

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
    seen, unseen = halves(images, IMAGES // 2, JUDGED_IMAGES)
    peaks = find_peaks(graph, params, in_chunks(images, image_bytes(graph)))
    trial = Trial(graph, params, unseen)
    keep = [name for name, how in recipe.layer_ranges.items() if how.method == "manual"]
    options: dict[str, Any] = {
        "layer_scale": recipe.per_layer_weight_scale,
        "layers": asked.layers,
        "keep": keep,
        "max_scale": asked.max_scale or MAX_SCALE,
    }
    found: dict[str, float] = {}
    networks: dict[str, Network] = {"none": (graph, params)}
    reports: dict[str, dict[str, Any]] = {"none": {}}

    def measure(name: str, network: Network) -> None:
        session = FloatSession(*network, taps=[layer.name for layer in network[0].layers if not layer.host])
        statistics = collect(session, [seen], image_bytes(network[0]))
        networks[name] = network
        found[name] = trial.output_db(*network, statistics, recipe)
        advance(1)

    wanted = asked.policy == "enabled"  # `allowed` leaves the choice to the measurement: nothing was missed
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
        return graph, params, Step("equalization", wanted, False, "no channel can be scaled"), {}
    best = max(tried, key=lambda name: found[name])
    if asked.policy == "allowed" and found[best] < found["none"] + MARGIN_DB:
        best = "none"
    measured = ", ".join(f"{name} {db:.1f} dB" for name, db in found.items())
    described = {"method": best, "output_db": {name: round(db, 2) for name, db in found.items()}} | {
        key: value for key, value in reports[best].items() if key != "method"
    }
    if best == "none":
        return (
            graph,
            params,
            Step("equalization", wanted, False, f"brings nothing here ({measured})"),
            described,
        )
    described["float_db"] = round(trial.float_db(*networks[best]), 1)
    note = (
        f"{best}: {reports[best]['scaled']} channels of {reports[best]['bundles']} sets of layers, "
        f"float output unchanged ({described['float_db']:.0f} dB); {measured}"
    )
    return *networks[best], Step("equalization", True, True, note), described
