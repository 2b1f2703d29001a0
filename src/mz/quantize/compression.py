"""Which layers' weights go to 4 bits or to 16, chosen by measured sensitivity per byte saved or spent.

A layer's sensitivity is the noise that its integer weights alone add to the outputs of the otherwise float network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mz.graph import Graph, Params, Quantization, Weighted
from mz.quantize.remainder import places
from mz.quantize.weights import dequantize_kernel, quantize_weights

SHARES = {0: 0.0, 1: 0.2, 2: 0.4, 3: 0.6, 4: 0.8, 5: 1.0}
"""Share of all weights that go to 4 bits, by compression level."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """noise: power of the change of the outputs over their power, mean over the outputs. weights: how many weights the
    layer has.
    """

    layer: str
    noise: float
    weights: int


def sensitivities(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    images: Mapping[str, np.ndarray],
    *,
    per_layer_scale: bool,
    bits: int = 4,
    layer_done: Callable[[str], None] = lambda name: None,
) -> list[Sensitivity]:
    """Every accelerator layer with weights of `bits` bits, measured on `images` (float32 [N, *shape] by Input layer),
    in graph order.
    """
    found = []
    for place in places(graph, params, images):
        layer = place.layer
        if not isinstance(layer, Weighted):
            continue
        x, y = quantization.tensors[layer.inputs[0]], quantization.tensors[layer.name]
        kernel, bias = params[layer.name]["kernel"], params[layer.name]["bias"]
        weight = quantize_weights(layer, kernel, bias, x, y, bits, per_layer=per_layer_scale)
        changed = params[layer.name] | {"kernel": dequantize_kernel(layer, weight)}
        noise = place.noise(place.output_with({layer.name: changed}))
        found.append(Sensitivity(layer.name, noise, kernel.size))
        layer_done(layer.name)
    return found


def choose_four_bit(found: list[Sensitivity], share: float) -> set[str]:
    """The layers that go to 4 bits: least noise per weight first, until `share` of all weights is reached."""
    target = share * sum(s.weights for s in found)
    chosen: set[str] = set()
    reached = 0
    for s in sorted(found, key=lambda s: (s.noise / s.weights, s.layer)):
        if reached >= target:
            break
        chosen.add(s.layer)
        reached += s.weights
    return chosen


def choose_sixteen_bit(found: list[Sensitivity], share: float) -> set[str]:
    """The layers that go to 16 bits: most noise per weight first, as far as they fit into `share` of all weights."""
    left = share * sum(s.weights for s in found)
    chosen: set[str] = set()
    for s in sorted(found, key=lambda s: (-s.noise / s.weights, s.layer)):
        if s.noise > 0 and s.weights <= left:
            chosen.add(s.layer)
            left -= s.weights
    return chosen
