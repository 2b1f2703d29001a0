"""What a quantized network needs of a device: multiply-accumulates, weight bytes, activation bytes, layer by layer."""

from __future__ import annotations

import math
from typing import Any

from mz.graph import Graph, Input, Quantization, Weighted


def packed_bytes(values: int, bits: int) -> int:
    """Bytes of `values` integers packed tightly (4-bit ones two to a byte)."""
    return -(-values * bits // 8)


def bit_operations(graph: Graph, quantization: Quantization) -> int:
    """Multiply-accumulates of the accelerator for one image, each weighed by the bits of its input times those of its
    weight: 64 at 8 bits, the measure by which mixed precisions are compared.
    """
    return sum(
        graph.macs(layer) * quantization.tensors[layer.inputs[0]].bits * quantization.weights[layer.name].bits
        for layer in graph.layers
        if layer.name in quantization.weights
    )


def summarize(graph: Graph, quantization: Quantization) -> dict[str, Any]:
    """Plain data for JSON; sizes in bytes for one image, MACs for one image.

    weight_bytes: packed kernels; bias_bytes: 4 a channel (8 where the input or the weights have 16 bits).
    activation_peak_bytes: the largest sum of tensors alive at once when layers run in graph order, which no memory plan
    for that order can beat without letting a layer write over its own input.
    """
    layers = []
    for layer in graph.layers:
        entry: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "shape": list(layer.shape)}
        if layer.host:
            layers.append(entry | {"host": True})
            continue
        tensor = quantization.tensors[layer.name]
        entry["precision"] = str(quantization.layer_precision(layer.name))
        entry["macs"] = graph.macs(layer)
        entry["activation_bytes"] = packed_bytes(math.prod(layer.shape), tensor.bits)
        if isinstance(layer, Weighted):
            weight = quantization.weights[layer.name]
            wide = quantization.tensors[layer.inputs[0]].bits > 8 or weight.bits > 8
            entry["weight_bytes"] = packed_bytes(weight.kernel.size, weight.bits)
            entry["bias_bytes"] = len(weight.bias) * (8 if wide else 4)
        layers.append(entry)

    def total(key: str) -> int:
        return sum(entry.get(key, 0) for entry in layers)

    return {
        "network": graph.name,
        "macs": total("macs"),
        "weight_bytes": total("weight_bytes"),
        "bias_bytes": total("bias_bytes"),
        "float_weight_bytes": sum(4 * w.kernel.size + 4 * len(w.bias) for w in quantization.weights.values()),
        "activation_peak_bytes": activation_peak_bytes(graph, quantization),
        "layers_on_accelerator": sum(
            not layer.host and not isinstance(layer, Input) for layer in graph.layers
        ),
        "layers_on_host": sum(layer.host for layer in graph.layers),
        "layers": layers,
    }


def activation_peak_bytes(graph: Graph, quantization: Quantization) -> int:
    """Largest sum of live accelerator tensors: a tensor lives from its layer to its last reader, outputs to the end."""
    layers = [layer for layer in graph.layers if not layer.host]
    last = {name: index for index, layer in enumerate(layers) for name in layer.inputs}
    last |= dict.fromkeys(graph.accelerator_outputs(), len(layers) - 1)
    live: dict[str, int] = {}
    peak = 0
    for index, layer in enumerate(layers):
        live[layer.name] = packed_bytes(math.prod(layer.shape), quantization.tensors[layer.name].bits)
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, index) > index}
    return peak
