"""What a target takes: every layer of a network held against its rules, all faults told at once."""

from __future__ import annotations

from collections.abc import Mapping

from mz.errors import UserError
from mz.graph import Conv, Graph, Layer, Precision, Quantization, Weighted
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
    found = (_fault(arch, graph, layer, precisions) for layer in graph.layers if not layer.host)
    faults = [fault for fault in found if fault is not None]
    if faults:
        more = f"; and {len(faults) - _SHOWN} more layers" if len(faults) > _SHOWN else ""
        told = "; ".join(what for what, _ in faults[:_SHOWN])
        whys = "; ".join(dict.fromkeys(why for _, why in faults))
        raise UserError(f"{graph.name}: hw_arch {arch.name} takes no {told}{more}: {whys}")


def takes(arch: HwArch, graph: Graph, precisions: Mapping[str, Precision]) -> bool:
    """Whether `check_precisions` has nothing against them."""
    return not any(_fault(arch, graph, layer, precisions) for layer in graph.layers if not layer.host)


def check_quantization(arch: HwArch, graph: Graph, quantization: Quantization) -> None:
    """The same for a quantized network."""
    names = [layer.name for layer in graph.layers if not layer.host]
    check_precisions(arch, graph, {name: quantization.layer_precision(name) for name in names})


def _fault(
    arch: HwArch, graph: Graph, layer: Layer, precisions: Mapping[str, Precision]
) -> tuple[str, str] | None:
    """The first thing about the layer that the target does not take, and why with the way out."""
    kind = kind_on(graph, layer)
    limit = limits(arch, kind)
    why = f"{limit.reason}. Way out: {limit.remedy}"
    if not limit.supported:
        return f"layer {layer.name} of kind {kind}", why
    usual = "Way out: another --precision, or quantization_param in the model script"
    allowed = limit.activation_bits or arch.activation_bits
    for name in dict.fromkeys((*layer.inputs, layer.name)):
        bits = precisions[name].activation_bits
        if bits not in allowed:
            tensor = "output" if name == layer.name else f"input {name}"
            what = f"layer {layer.name} ({kind}) with {bits} bits in its {tensor}"
            return what, why if limit.activation_bits else f"activations have {either(allowed)} bits. {usual}"
    if isinstance(layer, Weighted):
        bits, allowed = precisions[layer.name].weight_bits, limit.weight_bits or arch.weight_bits
        if bits not in allowed:
            what = f"layer {layer.name} ({kind}) with weights of {bits} bits"
            return what, why if limit.weight_bits else f"weights have {either(allowed)} bits. {usual}"
    return None


def either(bits: tuple[int, ...]) -> str:
    """`4 or 8`."""
    return " or ".join(map(str, sorted(bits)))
