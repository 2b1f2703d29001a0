"""How many cycles one cluster of a target works on each layer, for one image."""

from __future__ import annotations

import math

from mz.compiler.hw_arch import kind_on, limits
from mz.graph import (
    AvgPool,
    Elementwise,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MaxPool,
    Quantization,
    Reshape,
    Resize,
    Weighted,
)
from mz.zoo import HwArch


def peak_rate(arch: HwArch, layer: Layer, quantization: Quantization) -> float:
    """What a cluster does a cycle at best: multiply-accumulates of a layer with weights, values of any other."""
    if not isinstance(layer, Weighted):
        return arch.values_per_cycle
    bits = quantization.tensors[layer.inputs[0]].bits, quantization.weights[layer.name].bits
    return arch.macs_per_cycle[f"a{bits[0]}_w{bits[1]}"]


def work(graph: Graph, layer: Layer) -> int:
    """Multiply-accumulates of a layer with weights; of any other the values that it looks at or writes, if those are
    more.

    Inputs and reshapes are no work: nothing moves.
    """
    if isinstance(layer, Weighted):
        return graph.macs(layer)
    if isinstance(layer, Input | Reshape):
        return 0
    written = math.prod(layer.shape)
    if isinstance(layer, MaxPool | AvgPool):
        return written * math.prod(layer.kernel_shape)
    if isinstance(layer, GlobalAvgPool):
        return math.prod(graph.input_shapes(layer)[0])
    if isinstance(layer, Resize) and layer.mode == "bilinear":
        return 4 * written
    if isinstance(layer, Elementwise):
        return 2 * written
    return written


def cluster_cycles(arch: HwArch, graph: Graph, quantization: Quantization) -> dict[str, int]:
    """Cycles of every accelerator layer on one cluster, rounded up."""
    return {
        layer.name: math.ceil(
            work(graph, layer)
            / (peak_rate(arch, layer, quantization) * limits(arch, kind_on(graph, layer)).speed)
        )
        for layer in graph.layers
        if not layer.host
    }
