"""The rows of a profile: what an archive knows of each layer of its working graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mz.archive import Archive
from mz.compiler import summarize
from mz.graph import Conv, Graph, Layer, TensorQuant
from mz.report.histogram import float_histogram, integer_histogram
from mz.report.plain import known

FAMILIES = {
    "input": "input",
    "conv": "convolution",
    "deconv": "convolution",
    "dense": "dense",
    "activation": "activation",
    "softmax": "activation",
    "add": "element-wise",
    "sub": "element-wise",
    "mul": "element-wise",
    "maxpool": "pooling",
    "avgpool": "pooling",
    "global_avgpool": "pooling",
}
"""Kinds that are drawn alike; any other kind moves data."""

_COMMON = ("kind", "name", "inputs", "shape", "origin", "host")


def layer_facts(archive: Archive, plans: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One mapping a layer in the graph's order; what is not known of it is left out.

    plans: the archive's `memory_plan`, `schedule` and `estimate`, where there are any.
    """
    graph = archive.working_graph
    sizes = _sizes(archive)
    structure = graph.to_dict()["layers"]
    estimates = {entry["name"]: entry for entry in plans.get("estimate", {}).get("layers", ())}
    rows = []
    for index, layer in enumerate(graph.layers):
        row: dict[str, Any] = {
            "index": index,
            "name": layer.name,
            "kind": layer.kind,
            "family": _family(layer, graph),
            "inputs": list(layer.inputs),
            "shape": list(layer.shape),
            "origin": list(layer.origin),
            "host": layer.host,
            "settings": {key: value for key, value in structure[index].items() if key not in _COMMON},
            "macs": graph.macs(layer),
            "parameters": sum(array.size for array in archive.working_params.get(layer.name, {}).values()),
            **sizes[layer.name],
            **_range(archive, layer),
            **_weights(archive, layer),
            **_measured(archive, layer.name),
            **_planned(estimates, layer.name),
        }
        rows.append(row)
    return rows


def saturation(report: Mapping[str, Any]) -> Mapping[str, Mapping[str, int]]:
    """The counters of clipped integers that `mz eval --saturation` left, by layer."""
    counted: Mapping[str, Mapping[str, int]] = (
        report.get("accuracy", {}).get("emulator", {}).get("saturation", {})
        if isinstance(report.get("accuracy", {}).get("emulator"), Mapping)
        else {}
    )
    return counted


def _family(layer: Layer, graph: Graph) -> str:
    if layer.host:
        return "host"
    if isinstance(layer, Conv) and layer.groups > 1 and layer.groups == graph.input_shapes(layer)[0][0]:
        return "depthwise"
    return FAMILIES.get(layer.kind, "movement")


def _sizes(archive: Archive) -> dict[str, dict[str, int]]:
    """Bytes by layer: of the integers as the compiler counts them, else of float32."""
    graph = archive.working_graph
    if archive.quantization is not None:
        keys = ("weight_bytes", "bias_bytes", "activation_bytes")
        entries = summarize(graph, archive.quantization)["layers"]
        return {entry["name"]: {key: entry[key] for key in keys if key in entry} for entry in entries}
    sizes = {}
    for layer in graph.layers:
        arrays = archive.working_params.get(layer.name, {})
        sizes[layer.name] = {"activation_bytes": 4 * math.prod(layer.shape)} | (
            {"weight_bytes": 4 * arrays["kernel"].size, "bias_bytes": 4 * arrays["bias"].size}
            if "kernel" in arrays
            else {}
        )
    return sizes


def _range(archive: Archive, layer: Layer) -> dict[str, Any]:
    """Bits, and what the tensor's integers can hold."""
    if archive.quantization is None or layer.name not in archive.quantization.tensors:
        return {}
    tensor: TensorQuant = archive.quantization.tensors[layer.name]
    low, high = tensor.real_range
    return {
        "activation_bits": tensor.bits,
        "range": {"low": low, "high": high, "scale": float(tensor.scale), "zero_point": tensor.zero_point},
    }


def _weights(archive: Archive, layer: Layer) -> dict[str, Any]:
    """Extremes and distribution of the kernel, in integers where there are any."""
    integers = archive.quantization and archive.quantization.weights.get(layer.name)
    if integers:
        kernel, histogram = integers.kernel, integer_histogram(integers.kernel, integers.bits)
        more = {"scale_low": float(integers.scale.min()), "scale_high": float(integers.scale.max())}
        bits = {"weight_bits": integers.bits}
    elif (arrays := archive.working_params.get(layer.name, {})) and "kernel" in arrays:
        kernel, histogram, more, bits = arrays["kernel"], float_histogram(arrays["kernel"]), {}, {}
    else:
        return {}
    finite = kernel[np.isfinite(kernel)]
    facts = {
        "unit": "integer" if integers else "float",
        "count": int(kernel.size),
        "zeros": int((kernel == 0).sum()),
        "not_finite": int(kernel.size - finite.size),
        "low": finite.min().item() if finite.size else 0,
        "high": finite.max().item() if finite.size else 0,
        "histogram": histogram,
    }
    return bits | {"weights": facts | more}


def _measured(archive: Archive, name: str) -> dict[str, Any]:
    """Noise, sensitivity, what calibration saw, and how many integers were clipped."""
    optimized = archive.report.get("optimize", {})
    found = {
        "snr_db": optimized.get("noise", {}).get("layers", {}).get(name),
        "sensitivity": optimized.get("sensitivity", {}).get(name),
        "activations": optimized.get("activations", {}).get(name),
        "saturation": saturation(archive.report).get(name),
    }
    facts: dict[str, Any] = known(found)
    return facts


def _planned(estimates: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The layer's own figures in the estimate: cycles, utilization, clusters and whatever else it says."""
    return {key: value for key, value in estimates.get(name, {}).items() if key != "name"}
