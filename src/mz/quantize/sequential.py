"""One walk through the integer network that improves each linear layer in turn, on the integers that really reach it.

Every layer is run as soon as it is final, bit for bit as the numpy emulator does it, so rounding and bias correction of
a layer see all that earlier layers do wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from mz.emulator import layer_constants
from mz.emulator.numerics import quantize as quantize_input
from mz.emulator.numerics import weight_max
from mz.engines.one_layer import LayerRun, layer_run
from mz.graph import Deconv, Graph, Input, Params, Quantization, Shape, TensorQuant, Weighted, WeightQuant
from mz.quantize.bias_correction import corrected_bias
from mz.quantize.compensation import compensated
from mz.quantize.covariance import WIDEST_MOMENTS, at_places, centred, patches, patches_at
from mz.quantize.float_targets import Target, float_targets
from mz.quantize.recipe import Recipe
from mz.quantize.rounded_scales import round_with_scales
from mz.quantize.rounding import round_second_order
from mz.quantize.uptake import Inputs, inputs_of
from mz.quantize.weights import by_channel, from_channels, integers, quantize_weights, with_room_for
from mz.threads import side_by_side

_LARGEST_TENSOR_BYTES = 128 << 20
_MOST_WIDE_WEIGHTS = 40 << 20
_PIECE_BYTES = 4 << 20
_FEWEST_IMAGES, _MOST_IMAGES = 16, 256


@dataclass(frozen=True, slots=True)
class Refinements:
    """Which refinements a walk applies."""

    rounding: bool = True
    bias_correction: bool = True


def image_count(
    graph: Graph, available: int, most: int = _MOST_IMAGES, value_bytes: int = 1, *, four_bit: bool = False
) -> int:
    """How many images a walk takes: fewer than `most` to keep its largest tensor within 128 MiB, 256 MiB where weights
    may have 4 bits: the larger the errors, the more there is to fit, and the more images that takes.
    """
    largest = value_bytes * max(int(np.prod(layer.shape)) for layer in graph.layers)
    budget = _LARGEST_TENSOR_BYTES * (1 + four_bit)
    return min(available, most, max(_FEWEST_IMAGES, budget // largest))


def refine(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    recipe: Recipe,
    images: Mapping[str, np.ndarray],
    refinements: Refinements,
    *,
    real: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    layer_done: Callable[[str], None] = lambda name: None,
) -> Quantization:
    """A quantization with the same activation scales, better integers and, where the recipe has weight scales searched,
    better weight scales.

    quantization: made by `recipe`. images: float32 [N, *shape] by Input layer. real: what the float network reads,
    where that is not `images`: the graph is a part of a network, and integers before it have made `images` of them.
    """
    refined = Quantization(tensors=dict(quantization.tensors), weights=dict(quantization.weights))
    last_reader = {name: layer.name for layer in graph.layers for name in layer.inputs}
    live: dict[str, np.ndarray] = {}
    compensates: list[Weighted] = []
    if refinements.rounding and refinements.bias_correction:
        compensates = [
            layer
            for layer in graph.weighted
            if rounds_to_second_order(layer, params[layer.name]["kernel"].shape)
            and min(quantization.weights[layer.name].bits, quantization.tensors[layer.inputs[0]].bits) <= 8
        ]
    # Threads of BLAS wait for each other at each of the many small products: on a processor that others use too, the
    # walk took twenty times as long. The steps have threads of their own.
    with threadpool_limits(1, user_api="blas"):
        means, targets = float_targets(
            graph, params, quantization.tensors, images if real is None else real, compensates, seed
        )
        for layer in graph.layers:
            if layer.host:
                continue
            if isinstance(layer, Input):
                live[layer.name] = _input_integers(images[layer.name], refined.tensors[layer.name])
                continue
            if isinstance(layer, Weighted):
                own = params[layer.name]
                if refinements.rounding and rounds_to_second_order(layer, own["kernel"].shape):
                    target = targets.pop(layer.name, None)
                    kernel, inputs = _to_round(layer, own["kernel"], refined, live, target, seed)
                    refined.weights[layer.name] = _rounded(
                        layer, kernel, own["bias"], refined, recipe, inputs
                    )
                if refinements.bias_correction:
                    q_bias = _corrected_bias(layer, own, refined, live, means)
                    refined.weights[layer.name] = dataclasses.replace(
                        refined.weights[layer.name], bias=q_bias
                    )
            constants = layer_constants(graph, layer, params, refined)
            run = layer_run(graph, layer, constants, refined)
            carrier = refined.tensors[layer.name].carrier
            live[layer.name] = _in_pieces(run, [live[name] for name in layer.inputs], layer.shape, carrier)
            for name in layer.inputs:
                if last_reader[name] == layer.name:
                    live.pop(name, None)
            layer_done(layer.name)
    return refined


def rounds_to_second_order(layer: Weighted, kernel_shape: tuple[int, ...]) -> bool:
    """Whether second-order rounding is done: not for so many weights, so many of them in a channel, that it would take
    gigabytes (a dense layer of 25,088 inputs and 4,096 outputs).
    """
    if isinstance(layer, Deconv):  # [I, O/groups, ...]
        kernel_shape = (kernel_shape[1], kernel_shape[0] // layer.groups, *kernel_shape[2:])
    return math.prod(kernel_shape[1:]) <= WIDEST_MOMENTS or math.prod(kernel_shape) <= _MOST_WIDE_WEIGHTS


def _to_round(
    layer: Weighted,
    kernel: np.ndarray,
    quantization: Quantization,
    live: Mapping[str, np.ndarray],
    target: Target | None,
    seed: int,
) -> tuple[np.ndarray, Inputs]:
    """The float kernel that is to be rounded, compensated where there is a target, and what its rounding is judged by:
    the layer's integer inputs.
    """
    if target is not None:
        return _compensated(layer, kernel, quantization, live, target)
    (source,) = layer.inputs
    rng = np.random.default_rng([seed, *layer.name.encode()])
    return kernel, inputs_of(patches(layer, live[source], rng, quantization.tensors[source].zero_point))


def _corrected_bias(
    layer: Weighted,
    own: Mapping[str, np.ndarray],
    quantization: Quantization,
    live: Mapping[str, np.ndarray],
    means: Mapping[str, np.ndarray],
) -> np.ndarray:
    """The layer's bias in integers with which its mean output is the float network's. own: its float parameters."""
    (source,) = layer.inputs
    x, tensor = live[source], quantization.tensors[source]
    integer_mean = x.sum(axis=0, dtype=np.uint32) / len(x)
    integer_mean -= tensor.zero_point
    weight = quantization.weights[layer.name]
    return corrected_bias(layer, own["kernel"], own["bias"], means[source], weight, tensor, integer_mean)


def _compensated(
    layer: Weighted,
    kernel: np.ndarray,
    quantization: Quantization,
    live: Mapping[str, np.ndarray],
    target: Target,
) -> tuple[np.ndarray, Inputs]:
    """The float kernel that suits the layer's integer inputs, and these about their mean: the bias takes back the
    mean of the error, so only what varies counts.
    """
    x, y = (quantization.tensors[name] for name in (layer.inputs[0], layer.name))
    samples = centred(patches_at(layer, live[layer.inputs[0]], target.places, x.zero_point))
    rows = by_channel(layer, kernel).astype(np.float64).reshape(len(samples), -1, samples.shape[2])
    wanted = target.steps.astype(np.float32) * np.float32(y.scale)
    if target.summand:
        other = quantization.tensors[target.summand]
        wanted -= other.dequantize(at_places(layer, live[target.summand], target.places))
    step = float(x.scale)
    found, inputs = compensated(
        rows * step, samples, wanted.reshape(len(wanted), len(samples), -1).transpose(1, 0, 2), target.half
    )
    return from_channels(layer, (found / step).reshape(wanted.shape[1], -1), kernel.shape), inputs


def _rounded(
    layer: Weighted,
    kernel: np.ndarray,
    bias: np.ndarray,
    quantization: Quantization,
    recipe: Recipe,
    inputs: Inputs,
) -> WeightQuant:
    """The layer's weights by second-order rounding, its bias to nearest."""
    weight, per_layer = quantization.weights[layer.name], recipe.per_layer_weight_scale
    x = quantization.tensors[layer.inputs[0]]
    rows = by_channel(layer, kernel).astype(np.float64)
    grouped = rows.reshape(inputs.groups, -1, rows.shape[1])
    scale = weight.scale
    if recipe.searches_weights(layer.name):
        y = quantization.tensors[layer.name]
        largest = quantize_weights(
            layer, kernel, bias, x, y, weight.bits, per_layer=per_layer, search=False
        ).scale.astype(np.float64)
        q, found = round_with_scales(
            grouped, largest.reshape(grouped.shape[:2]), inputs, weight.bits, per_layer=per_layer
        )
        scale = with_room_for(bias, found.reshape(-1), x, weight.bits, per_layer=per_layer)
    else:
        own = scale.astype(np.float64).reshape(grouped.shape[:2])
        q = round_second_order(grouped, own, inputs.factorize(), weight_max(weight.bits))
    q_kernel = from_channels(layer, q.reshape(rows.shape), kernel.shape).astype(weight.kernel.dtype)
    return dataclasses.replace(integers(layer, kernel, bias, x, scale, weight.bits), kernel=q_kernel)


def _input_integers(images: np.ndarray, t: TensorQuant) -> np.ndarray:
    def run(inputs: Sequence[np.ndarray]) -> np.ndarray:
        return quantize_input(inputs[0], t.scale, t.zero_point, t.bits)

    return _in_pieces(run, [images], images.shape[1:], t.carrier)


def _in_pieces(run: LayerRun, inputs: list[np.ndarray], shape: Shape, carrier: type) -> np.ndarray:
    """The layer's integers, a few images at a time: kernels work on wider types."""
    images = len(inputs[0])
    found: np.ndarray = np.empty((images, *shape), carrier)
    largest = max(found[0].size, *(x[0].size for x in inputs))
    step = max(1, _PIECE_BYTES // (4 * largest))

    def fill(start: int) -> None:
        found[start : start + step] = run([x[start : start + step] for x in inputs])

    side_by_side(fill, range(0, images, step))
    return found
