"""What an archive holds, and the rules that its arrays keep with the graph they belong to."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mz.graph import (
    Activation,
    Add,
    Conv,
    Deconv,
    Dense,
    Graph,
    HostOp,
    Layer,
    Params,
    Quantization,
    Shape,
    Weighted,
)
from mz.graph.functions import ARRAYS, BY_CHANNEL, FUNCTIONS, SCALING
from mz.graph.quantization import BITS

STATES = ("parsed", "fp_optimized", "quantized", "compiled")
NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass(eq=False)
class Archive:
    """One network at one stage. Compare two with `diff`.

    name: of the network; letters, digits, `_`, `.` and `-`, as it names the members of the file.
    state: one of STATES. config: the resolved network YAML as plain data.
    graph, params: as parsed. fpo_graph, fpo_params: after full-precision optimization, both or neither.
    input_form: steps that make of an image of `graph` what `working_graph` takes (mz.optimize.input_form).
    quantization: the integers of `working_graph`. history: one entry a stage, `stage` and `settings`, with no time and
    no path in it. report: plain data. artefacts: deployable files by relative path.
    """

    name: str
    state: str
    hw_arch: str
    config: dict[str, Any]
    graph: Graph
    params: Params
    fpo_graph: Graph | None = None
    fpo_params: Params | None = None
    input_form: list[dict[str, Any]] = field(default_factory=list)
    quantization: Quantization | None = None
    script: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artefacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def working_graph(self) -> Graph:
        """The graph after the last full-precision stage that ran."""
        return self.graph if self.fpo_graph is None else self.fpo_graph

    @property
    def working_params(self) -> Params:
        """The float parameters of `working_graph`."""
        return self.params if self.fpo_params is None else self.fpo_params


def param_shapes(graph: Graph, layer: Layer) -> dict[str, Shape]:
    """Name and shape of every float32 array that `layer` must have in `Params`."""
    if isinstance(layer, Weighted):
        channels = (output_channels(layer),)
        bounds = dict.fromkeys(("clip_low", "clip_high"), channels) if layer.clip_by_channel else {}
        slope = {"slope": channels} if layer.prelu else {}
        return {"kernel": kernel_shape(graph, layer), "bias": channels} | bounds | slope
    if isinstance(layer, Add) and layer.prelu:
        return dict.fromkeys(("factor", "offset", "slope"), (layer.shape[0],))
    if isinstance(layer, Activation):
        names = SCALING if layer.scaled else ARRAYS.get(layer.function, ())
        return dict.fromkeys(names, (layer.shape[0],))
    if isinstance(layer, HostOp):
        return {f"input{place}": shape for place, shape in layer.constants}
    return {}


def output_channels(layer: Weighted) -> int:
    return layer.shape[-1] if isinstance(layer, Dense) else layer.shape[0]


def kernel_shape(graph: Graph, layer: Weighted) -> Shape:
    (in_shape,) = graph.input_shapes(layer)
    if isinstance(layer, Conv):
        return (layer.shape[0], in_shape[0] // layer.groups, *layer.kernel_shape)
    if isinstance(layer, Deconv):
        return (in_shape[0], layer.shape[0] // layer.groups, *layer.kernel_shape)
    return (layer.shape[-1], in_shape[-1])


def params_fault(graph: Graph, params: Params) -> str | None:
    """What is wrong with `params` as the arrays of `graph`, in one line; None if nothing is."""
    if unknown := sorted(set(params) - set(graph.by_name)):
        return f"parameters of {', '.join(unknown)}, which the graph does not have"
    for layer in graph.layers:
        if isinstance(layer, Activation) and layer.function not in (FUNCTIONS | BY_CHANNEL):
            return f"layer {layer.name} has the function {layer.function!r}, unknown to this mz: run mz optimize anew"
        arrays, wanted = params.get(layer.name, {}), param_shapes(graph, layer)
        if set(arrays) != set(wanted):
            return f"layer {layer.name} has the parameters {sorted(arrays)} and needs {sorted(wanted)}"
        for key, shape in wanted.items():
            if fault := _array_fault(arrays[key], shape, np.float32):
                return f"{layer.name}/{key} {fault}"
    return None


def quantization_fault(graph: Graph, quantization: Quantization) -> str | None:
    """What is wrong with `quantization` as the integers of `graph`, in one line; None if nothing is."""
    inside = [layer for layer in graph.layers if not layer.host]
    for what, held, wanted in (
        ("a scale", quantization.tensors, {layer.name for layer in inside}),
        ("integers", quantization.weights, {layer.name for layer in inside if isinstance(layer, Weighted)}),
    ):
        if missing := sorted(wanted - set(held)):
            return f"no {what} for {', '.join(missing)}"
        if unknown := sorted(set(held) - wanted):
            return f"{what} for {', '.join(unknown)}, which needs none"
    for name, tensor in quantization.tensors.items():
        if tensor.bits not in BITS:
            return f"tensor {name} has {tensor.bits} bits"
        if not (math.isfinite(tensor.scale) and tensor.scale > 0 and 0 <= tensor.zero_point <= tensor.q_max):
            return f"tensor {name} has scale {tensor.scale} and zero point {tensor.zero_point}"
    for name, weight in quantization.weights.items():
        layer = graph[name]
        assert isinstance(layer, Weighted)
        if weight.bits not in BITS:
            return f"{name} has weights of {weight.bits} bits"
        channels = (output_channels(layer),)
        for key, array, shape, dtype in (
            ("kernel", weight.kernel, kernel_shape(graph, layer), np.int8 if weight.bits <= 8 else np.int16),
            ("scale", weight.scale, channels, np.float32),
            ("bias", weight.bias, channels, np.int64),
        ):
            if fault := _array_fault(array, shape, dtype):
                return f"{name}/{key} {fault}"
        limit = (1 << (weight.bits - 1)) - 1
        if weight.kernel.size and (weight.kernel.max() > limit or weight.kernel.min() < -limit):
            return f"{name}/kernel leaves the range of {weight.bits} bits, -{limit} .. {limit}"
    return None


def state_fault(archive: Archive) -> str | None:
    """What the archive's stage lacks, in one line; None if nothing."""
    if archive.state not in STATES:
        return f"state {archive.state!r} is not one of {', '.join(STATES)}"
    if (archive.fpo_graph is None) != (archive.fpo_params is None):
        return "the optimized graph and its parameters do not come together"
    if archive.state == "fp_optimized" and archive.fpo_graph is None:
        return "state fp_optimized without an optimized graph"
    if (archive.quantization is not None) != (archive.state in ("quantized", "compiled")):
        return f"state {archive.state} {'without' if archive.quantization is None else 'with'} quantized parameters"
    return None


def _array_fault(array: np.ndarray, shape: Shape, dtype: Any) -> str | None:
    if array.dtype == dtype and array.shape == tuple(shape):
        return None
    return f"is {array.dtype} {list(array.shape)} and must be {np.dtype(dtype)} {list(shape)}"
