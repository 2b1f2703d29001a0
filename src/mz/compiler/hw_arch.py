"""What a target takes: every layer of a network held against its rules, all faults told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mz.errors import UserError
from mz.graph import Conv, Graph, Input, Layer, Precision, Quantization, Weighted
from mz.zoo import HwArch
from mz.zoo.schema import LayerLimits

_SHOWN = 3


def kind_on(graph: Graph, layer: Layer) -> str:
    """The layer's kind as targets see it: a convolution with one input channel a group is `depthwise`."""
    if isinstance(layer, Conv) and 1 < layer.groups == graph.input_shapes(layer)[0][0]:
        return "depthwise"
    return layer.kind


def limits(arch: HwArch, kind: str) -> LayerLimits:
    """What the target says of a kind; its own number formats where it says nothing."""
    said: Mapping[str, LayerLimits] = {str(key): value for key, value in arch.layers.items()}
    return said.get(kind, LayerLimits())


def check_precisions(arch: HwArch, graph: Graph, precisions: Mapping[str, Precision]) -> None:
    """Raises UserError, naming layers, reasons and remedies, for what `arch` does not take.

    precisions: of every accelerator layer by name; of those without weights only the activation bits count.
    """
    faults = [
        fault for layer in graph.layers if not layer.host for fault in _faults(arch, graph, layer, precisions)
    ]
    if faults:
        more = f"; and {len(faults) - _SHOWN} more like these" if len(faults) > _SHOWN else ""
        raise UserError(f"{graph.name}: " + "; ".join(faults[:_SHOWN]) + more)


def check_quantization(arch: HwArch, graph: Graph, quantization: Quantization) -> None:
    """The same for a quantized network."""
    names = [layer.name for layer in graph.layers if not layer.host]
    check_precisions(arch, graph, {name: quantization.layer_precision(name) for name in names})


def _faults(arch: HwArch, graph: Graph, layer: Layer, precisions: Mapping[str, Precision]) -> Iterator[str]:
    limit = limits(arch, kind_on(graph, layer))
    why = f": {limit.reason}. Way out: {limit.remedy}" if limit.reason else ""
    if not limit.supported:
        yield f"layer {layer.name}: hw_arch {arch.name} takes no {kind_on(graph, layer)} layers{why}"
        return
    allowed = limit.activation_bits or arch.activation_bits
    for name in dict.fromkeys((*layer.inputs, layer.name)):
        bits = precisions[name].activation_bits
        if bits not in allowed:
            tensor = "its output" if name == layer.name else f"its input {name}"
            yield _wrong_bits(arch, layer, tensor, bits, allowed, why)
    if isinstance(layer, Weighted):
        bits, allowed = precisions[layer.name].weight_bits, limit.weight_bits or arch.weight_bits
        if bits not in allowed:
            yield _wrong_bits(arch, layer, "its weights", bits, allowed, why)


def _wrong_bits(arch: HwArch, layer: Layer, what: str, bits: int, allowed: tuple[int, ...], why: str) -> str:
    either = " or ".join(map(str, sorted(allowed)))
    way_out = why or ". Way out: another --precision, or quantization_param in the model script"
    kind = "the input" if isinstance(layer, Input) else layer.kind
    return (
        f"layer {layer.name} ({kind}): {what} has {bits} bits and hw_arch {arch.name} takes {either}{way_out}"
    )
