"""How many cycles one cluster of a target works on each layer for one image, and external memory on bytes."""

from __future__ import annotations

import math
from fractions import Fraction

from mz.compiler.hw_arch import kind_on, limits
from mz.compiler.summary import packed_bytes
from mz.graph import (
    AvgPool,
    Conv,
    Deconv,
    Dense,
    Elementwise,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Quantization,
    Reshape,
    Resize,
    Weighted,
)
from mz.zoo import HwArch


def peak_rate(arch: HwArch, layer: Layer, quantization: Quantization) -> float:
    """What a cluster does a cycle at best: multiply-accumulates of a layer with weights or of a product of matrices,
    whose second stands for weights; values of any other.
    """
    if isinstance(layer, MatMul):
        a, b = (quantization.tensors[name].bits for name in layer.inputs)
        return arch.macs_per_cycle[f"a{a}_w{b}"]
    if not isinstance(layer, Weighted):
        return arch.values_per_cycle
    bits = quantization.tensors[layer.inputs[0]].bits, quantization.weights[layer.name].bits
    return arch.macs_per_cycle[f"a{bits[0]}_w{bits[1]}"]


def work(graph: Graph, layer: Layer) -> int:
    """Multiply-accumulates of a layer with weights or a product of matrices; of any other the values that it looks at,
    or writes, if those are more.

    Inputs and reshapes are no work: nothing moves.
    """
    if isinstance(layer, Weighted | MatMul):
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


def padded_macs(arch: HwArch, graph: Graph, layer: Layer) -> int:
    """Multiply-accumulates that a cluster is busy with: those of the layer, and those of lanes that it leaves idle.

    Sums of K products for O output channels (of a group) take lanes for K and O rounded up to whole ones; a depthwise
    layer has its groups in the place of channels, a product of matrices the columns of its second.
    """
    macs, share = graph.macs(layer), Fraction(1)
    if macs:
        for size, lanes in zip(_products_and_channels(graph, layer), arch.lanes, strict=True):
            share *= Fraction(-(-size // lanes) * lanes, size)
    return math.ceil(macs * share)


def _products_and_channels(graph: Graph, layer: Layer) -> tuple[int, int]:
    shape = graph.input_shapes(layer)[0]
    if isinstance(layer, Dense | MatMul):
        return shape[-1], layer.shape[-1]
    assert isinstance(layer, Conv | Deconv)
    depthwise = kind_on(graph, layer) == "depthwise"
    channels = layer.shape[0] if depthwise else layer.shape[0] // layer.groups
    return shape[0] // layer.groups * math.prod(layer.kernel_shape), channels


def cluster_cycles(arch: HwArch, graph: Graph, quantization: Quantization) -> dict[str, int]:
    """Cycles of every accelerator layer on one cluster, rounded up."""
    cycles = {}
    for layer in graph.layers:
        if not layer.host:
            load = padded_macs(arch, graph, layer) or work(graph, layer)
            rate = peak_rate(arch, layer, quantization) * limits(arch, kind_on(graph, layer)).speed
            cycles[layer.name] = math.ceil(load / rate)
    return cycles


def transfer_cycles(arch: HwArch, size: float) -> int:
    """Cycles in which external memory moves so many bytes."""
    return math.ceil(size * arch.clock_mhz * 1e6 / arch.memory.external_bytes_per_second)


def tensor_bytes(graph: Graph, quantization: Quantization, name: str) -> int:
    """Bytes of a tensor of one image; 4-bit values two to a byte."""
    return packed_bytes(math.prod(graph[name].shape), quantization.tensors[name].bits)
