"""Where the noise of a quantized network comes from: what every layer adds alone, and what it suffers in the whole.

Alone: a layer in integers in the otherwise float network. Noise of layers that do not know of each other adds up, so
that these shares, unlike the noise that has piled up at a layer, say which layer to mend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mz.emulator import NumpySession, Saturation
from mz.emulator.numerics import quantize as quantize_values
from mz.engines.float_ort import FloatSession, HostSession
from mz.graph import Graph, Params, Quantization, TensorQuant, Weighted
from mz.quantize.bias_correction import mean_output
from mz.quantize.groups import is_move
from mz.quantize.remainder import Place, places
from mz.quantize.statistics import image_bytes, in_chunks
from mz.quantize.visible import as_seen, visible_ends
from mz.quantize.weights import dequantize_kernel, integers
from mz.report.statistics import SnrMeter


@dataclass(frozen=True, slots=True)
class Alone:
    """Noise power at the network's outputs over their power, mean over the outputs, that one layer alone adds.

    weights: by its integer weights and bias (`noise_alone`); output: by the integers of its tensor; both: together.
    """

    weights: float
    output: float
    both: float


@dataclass(frozen=True, slots=True)
class Observed:
    """One layer of the full integer network against the float one.

    snr_db: of its tensor, as its readers see it (`visible_ends`). bias_shift, bias_shift_max: mean and largest
    magnitude, over channels, of the mean difference, likewise, in steps of its scale. clipped: share of its integers
    that the ends of the range took in (0 for layers that clip nothing of their own). dead: share of the range's
    integers below the smallest and above the largest that occurred.
    """

    snr_db: float
    bias_shift: float
    bias_shift_max: float
    clipped: float
    dead: float


def fake(values: np.ndarray, quant: TensorQuant) -> np.ndarray:
    """Float32 values after a way through integers."""
    return quant.dequantize(quantize_values(values, quant.scale, quant.zero_point, quant.bits))


def makers(graph: Graph, params: Params, images: Mapping[str, np.ndarray]) -> Iterator[Place]:
    """The places whose integers are their own: layers that only move integers add no noise."""
    return (place for place in places(graph, params, images) if not is_move(place.layer))


def noise_alone(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    images: Mapping[str, np.ndarray],
    *,
    bias_corrected: bool,
    layer_done: Callable[[str], None] = lambda name: None,
) -> dict[str, Alone]:
    """By layer, in graph order; images float32 [N, *shape] by Input layer.

    bias_corrected: the biases take back shifts of earlier layers, which are not there when a layer is alone: each is
    given the bias that takes back its own. Weights that take back what earlier layers do are noise alone, too. Where
    the nearest integers would make less of it, they stand for them: more than their rounding no bits can take away.
    """
    found = {}
    for place in makers(graph, params, images):
        name, quant = place.layer.name, quantization.tensors[place.layer.name]
        output = place.noise(fake(place.output, quant))
        if isinstance(place.layer, Weighted):
            weights, rounded = min(_rounded(place, quantization, bias_corrected), key=lambda one: one[0])
            found[name] = Alone(weights, output, place.noise(fake(rounded, quant)))
        else:
            found[name] = Alone(0.0, output, output)
        layer_done(name)
    return found


def _rounded(
    place: Place, quantization: Quantization, bias_corrected: bool
) -> Iterator[tuple[float, np.ndarray]]:
    """The layer's tensor with its weights in integers, and the noise of that: in its own integers and, where biases are
    corrected, in the nearest ones.
    """
    layer = place.layer
    assert isinstance(layer, Weighted)
    weight, x = quantization.weights[layer.name], quantization.tensors[layer.inputs[0]]
    own = place.params[layer.name]

    def with_kernel(kernel: np.ndarray, bias: np.ndarray) -> tuple[float, np.ndarray]:
        changed = {"kernel": kernel, "bias": bias.astype(np.float32)}
        rounded = place.output_with({layer.name: own | changed})
        return place.noise(rounded), rounded

    if not bias_corrected:
        yield with_kernel(dequantize_kernel(layer, weight), weight.bias * (float(x.scale) * weight.scale))
        return
    (values,) = place.inputs.values()
    means = values.mean(axis=0, dtype=np.float64)
    nearest = integers(layer, own["kernel"], own["bias"], x, weight.scale, weight.bits)
    for kernel in (dequantize_kernel(layer, one) for one in (weight, nearest)):
        yield with_kernel(kernel, own["bias"] - mean_output(layer, kernel - own["kernel"], means))


def observe(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    images: Mapping[str, np.ndarray],
    images_done: Callable[[int], object] = lambda count: None,
) -> tuple[dict[str, Observed], float]:
    """Every accelerator layer by name, in graph order, and the noise of the network's outputs as `Alone` counts it."""
    names = [layer.name for layer in graph.layers if not layer.host]
    saturation = Saturation(quantization)
    exact = FloatSession(graph, params, taps=names)
    engine = NumpySession(graph, params, quantization, taps=names, saturation=saturation)
    host = HostSession(graph, params)
    meters = {name: SnrMeter() for name in names}
    outputs = {name: SnrMeter() for name in graph.outputs}
    ends = visible_ends(graph, params)
    shifts: dict[str, np.ndarray] = {}
    extremes: dict[str, tuple[int, int]] = {}
    count = 0
    for part in in_chunks(images, image_bytes(graph)):
        expected, found_integers = exact.run(part), engine.run(part)
        size = len(next(iter(part.values())))
        for name in names:
            q = found_integers[name]
            wanted = as_seen(expected[name], ends.get(name))
            real = as_seen(quantization.tensors[name].dequantize(q), ends.get(name))
            meters[name].update(wanted, real)
            shifts[name] = shifts.get(name, 0.0) + size * _channel_means(real - wanted)
            low, high = extremes.get(name, (int(q.min()), int(q.max())))
            extremes[name] = min(low, int(q.min())), max(high, int(q.max()))
        restored = host.run(
            {
                name: quantization.tensors[name].dequantize(found_integers[name])
                for name in graph.accelerator_outputs()
            }
        )
        for name in graph.outputs:
            outputs[name].update(expected[name], restored[name])
        count += size
        images_done(size)
    found = {}
    for name in names:
        quant = quantization.tensors[name]
        steps = np.abs(shifts[name]) / (count * float(quant.scale))
        clipped = saturation.layers[name].share if name in saturation.layers else 0.0
        low, high = extremes[name]
        dead = 1 - (high - low + 1) / (quant.q_max + 1)
        found[name] = Observed(meters[name].db, float(steps.mean()), float(steps.max()), clipped, dead)
    shares = [10 ** (-meter.db / 10) for meter in outputs.values() if not math.isnan(meter.db)]
    return found, float(np.mean(shares)) if shares else 0.0


def _channel_means(values: np.ndarray) -> np.ndarray:
    """Mean over images and positions: maps [N, C, H, W] have their channels first, all else has them last."""
    return values.mean(
        axis=(0, 2, 3) if values.ndim == 4 else tuple(range(values.ndim - 1)), dtype=np.float64
    )
