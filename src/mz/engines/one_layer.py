"""One layer of a quantized graph, on the integers of its inputs: for walks that change a layer before they run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mz.emulator import is_wide
from mz.emulator.constants import Constants
from mz.emulator.kernels import run_kernel
from mz.engines.lower_integer import LOWERINGS
from mz.engines.lower_integer_tensors import Kernels, Tensors
from mz.engines.self_test import CPU, open_integer_session, trusted_kernels
from mz.graph import Graph, Input, Layer, Quantization

LayerRun = Callable[[Sequence[np.ndarray]], np.ndarray]

_FASTER = ("conv", "dense", "add", "sub", "mul")
"""Kinds whose integers of up to 8 bits the runtime computes several times as fast as numpy. It moves and looks up no
faster, and wide integers it sums in parts.
"""


def layer_run(graph: Graph, layer: Layer, constants: Constants, quantization: Quantization) -> LayerRun:
    """The function from the integers of the layer's inputs [N, *shape] to those of its output, each in its tensor's
    `carrier`: bit for bit those of the numpy emulator. Several threads may call it.
    """
    providers, kernels, _ = trusted_kernels()
    if providers == [CPU] and _is_faster(layer, quantization, kernels):
        return _in_the_runtime(graph, layer, constants, quantization, kernels)
    carrier = quantization.tensors[layer.name].carrier
    return lambda inputs: run_kernel(layer, constants, [x.astype(np.int32) for x in inputs]).astype(carrier)


def _is_faster(layer: Layer, quantization: Quantization, kernels: Kernels) -> bool:
    weight = quantization.weights.get(layer.name)
    wide = is_wide(layer, quantization) or (weight is not None and weight.bits > 8)
    return layer.kind in _FASTER and not wide and kernels.unsigned_conv and kernels.elementwise


def _in_the_runtime(
    graph: Graph, layer: Layer, constants: Constants, quantization: Quantization, kernels: Kernels
) -> LayerRun:
    """Of a layer with no tensor above 8 bits."""
    names = list(dict.fromkeys(layer.inputs))
    sources = [Input(name=name, inputs=(), shape=graph[name].shape) for name in names]
    t = Tensors(Graph(layer.name, (*sources, layer), (layer.name,)), quantization, kernels)
    for source in sources:
        t.place(source, source.name)
    t.writer.node("Identity", [LOWERINGS[layer.kind](t, layer, constants)], f"{layer.name}_u8")
    t.writer.name_output(layer.name)
    inputs = {source.name: (np.uint8, source.shape) for source in sources}
    model = t.writer.model(layer.name, inputs, {layer.name: (np.uint8, layer.shape)})
    session = open_integer_session(model, [CPU], threads=1)

    def run(tensors: Sequence[np.ndarray]) -> np.ndarray:
        found: np.ndarray = session.run([layer.name], dict(zip(layer.inputs, tensors, strict=True)))[0]
        return found

    return run
