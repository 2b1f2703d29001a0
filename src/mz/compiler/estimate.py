"""How fast a scheduled network should run on its target: a roofline of compute and bandwidth, layer by layer.

An estimate from the figures of the hw_arch, with the assumptions that docs/hardware.md states; nothing here was
measured on a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mz.compiler.cycles import cluster_cycles, peak_rate, tensor_bytes, transfer_cycles, work
from mz.compiler.schedule import Context, Schedule
from mz.graph import Graph, Input, Quantization
from mz.zoo import HwArch

BATCH = 8
"""Images that pass through a context before the next one is loaded, for `fps_batch`."""

_SHOWN = 3


@dataclass(frozen=True)
class _Pace:
    """Cycles: of one image from end to end, from one image to the next, and of one in a batch of BATCH."""

    latency: int
    interval: int
    in_batch: float


@dataclass(frozen=True)
class _Load:
    """What one context costs, in cycles: loading its constants, then images.

    interval: from one image to the next; latency: of one image; bound: what sets the interval.
    """

    constants: int
    interval: int
    latency: int
    bound: str


def estimate(
    arch: HwArch,
    graph: Graph,
    quantization: Quantization,
    plan: Schedule,
    constant_bytes: Mapping[str, int],
) -> dict[str, Any]:
    """Plain data for JSON: cycles at the target's clock, times in milliseconds, utilization in 0..1.

    fps, latency_ms: images one by one. fps_batch: of BATCH images for each time that a context is loaded. utilization:
    of all multiply-accumulates that the clusters could do meanwhile. bottlenecks: the layers with the most
    cycles, the worst first.
    """
    if plan.execution == "sequential":
        layers = _sequential_layers(arch, graph, quantization, plan, constant_bytes)
        loads: list[_Load] = []
        total = sum(layer["cycles"] for layer in layers)
        pace = _Pace(total, total, total)
    else:
        layers = _dataflow_layers(arch, graph, quantization, plan, constant_bytes)
        loads = [_load(arch, graph, quantization, context, len(plan.contexts)) for context in plan.contexts]
        pace = _dataflow_pace(loads)
    clock = arch.clock_mhz * 1e6
    macs = sum(
        graph.macs(layer) / peak_rate(arch, layer, quantization) for layer in graph.layers if not layer.host
    )
    worst = sorted(layers, key=lambda layer: -layer["cycles"])[:_SHOWN]
    return {
        "hw_arch": arch.name,
        "execution": arch.execution,
        "clock_mhz": arch.clock_mhz,
        "cycles": pace.latency,
        "latency_ms": _rounded(1e3 * pace.latency / clock),
        "fps": _rounded(clock / max(pace.interval, 1)),
        "fps_batch": _rounded(clock / max(pace.in_batch, 1)),
        "batch": BATCH,
        "utilization": _rounded(macs / (max(pace.in_batch, 1) * arch.clusters)),
        "contexts": [_facts(context, load) for context, load in zip(plan.contexts, loads, strict=False)],
        "bottlenecks": [layer["name"] for layer in worst if layer["cycles"]],
        "layers": layers,
    }


def _dataflow_pace(loads: Sequence[_Load]) -> _Pace:
    latency = sum(load.constants + load.latency for load in loads)
    if len(loads) == 1:  # nothing is ever loaded again: images follow one another
        return _Pace(latency, loads[0].interval, loads[0].interval)
    batch = sum(load.constants + load.latency + (BATCH - 1) * load.interval for load in loads)
    return _Pace(latency, latency, batch / BATCH)


def _facts(context: Context, load: _Load) -> dict[str, Any]:
    return {
        "layers": len(context.layers),
        "constant_bytes": context.constant_bytes,
        "buffer_bytes": context.buffer_bytes,
        "load_cycles": load.constants,
        "interval_cycles": load.interval,
        "latency_cycles": load.latency,
        "bound": load.bound,
    }


def _load(arch: HwArch, graph: Graph, quantization: Quantization, context: Context, contexts: int) -> _Load:
    moved = sum(tensor_bytes(graph, quantization, name) for name in (*context.reads, *context.writes))
    constants = context.constant_bytes if contexts > 1 else 0
    if not context.fits:  # constants and input rows come from outside whenever they are needed
        (name,) = context.layers
        constants = 0
        moved += context.constant_bytes + context.buffer_bytes * _rows(graph, name)
    transfer = transfer_cycles(arch, moved)
    return _Load(
        constants=transfer_cycles(arch, constants),
        interval=max(context.interval, transfer),
        latency=max(context.latency, transfer),
        bound="bandwidth" if transfer > context.interval else "compute",
    )


def _dataflow_layers(
    arch: HwArch, graph: Graph, quantization: Quantization, plan: Schedule, constant_bytes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """cycles: of a layer on its clusters. utilization: of what those could do until the next image."""
    alone = cluster_cycles(arch, graph, quantization)
    layers = []
    for number, context in enumerate(plan.contexts):
        load = _load(arch, graph, quantization, context, len(plan.contexts))
        for name in context.layers:
            clusters = context.clusters.get(name, ())
            peak = peak_rate(arch, graph[name], quantization) * max(len(clusters), 1) * max(load.interval, 1)
            layers.append(
                {
                    "name": name,
                    "context": number,
                    "clusters": list(clusters),
                    "cycles": math.ceil(alone[name] / max(len(clusters), 1)),
                    "utilization": _rounded(work(graph, graph[name]) / peak),
                    "bound": load.bound,
                    "constant_bytes": constant_bytes.get(name, 0),
                    "line_buffer_bytes": context.line_buffers.get(name, 0),
                }
            )
    return layers


def _sequential_layers(
    arch: HwArch, graph: Graph, quantization: Quantization, plan: Schedule, constant_bytes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """cycles: the longer of computing and of reading the constants. utilization: of the peak."""
    alone = cluster_cycles(arch, graph, quantization)
    layers = []
    for name in plan.order:
        if isinstance(graph[name], Input):
            continue
        transfer = transfer_cycles(arch, constant_bytes.get(name, 0))
        cycles = max(alone[name], transfer)
        peak = peak_rate(arch, graph[name], quantization) * max(cycles, 1)
        layers.append(
            {
                "name": name,
                "cycles": cycles,
                "utilization": _rounded(work(graph, graph[name]) / peak),
                "bound": "bandwidth" if transfer > alone[name] else "compute",
                "constant_bytes": constant_bytes.get(name, 0),
            }
        )
    return layers


def _rows(graph: Graph, name: str) -> int:
    shape = graph[name].shape
    return shape[1] if len(shape) == 3 else 1


def _rounded(value: float) -> float:
    """To five digits: more would claim what the model does not know."""
    return float(f"{value:.5g}")
