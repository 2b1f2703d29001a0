"""The baseline quantizer: ranges from statistics, weights to the nearest integers.

Algorithms that win accuracy back start from what this returns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mz.emulator import is_wide
from mz.emulator.numerics import product_ratio, product_scale
from mz.graph import (
    Activation,
    Elementwise,
    Graph,
    Layer,
    Mul,
    Pad,
    Params,
    Quantization,
    TensorQuant,
    Weighted,
    WeightQuant,
)
from mz.graph.functions import BY_CHANNEL, apply
from mz.graph.layers import UNBOUNDED
from mz.quantize.entropy import least_divergence
from mz.quantize.groups import is_move, scale_groups
from mz.quantize.ranges import (
    BEST_METHOD,
    POWERS,
    Function,
    as_it_is,
    least_error,
    min_max,
    percentile,
    tensor_quant,
    varied_end,
)
from mz.quantize.recipe import ActivationRange, Recipe
from mz.quantize.statistics import Statistics, TensorStatistics
from mz.quantize.weights import quantize_weights
from mz.threads import side_by_side

_FEWEST_PRODUCT_STEPS = 128
"""From here on a product's scale grows by at most 1/127 on its way to an exact ratio."""

_NEAR = 8
"""Times the range that the calibration set showed: so much more than twice that loses at most two bits."""


def quantize(graph: Graph, params: Params, statistics: Statistics, recipe: Recipe) -> Quantization:
    """Integers for every accelerator layer.

    statistics: of every accelerator tensor of the float network. Raises UserError for a recipe that names
    unknown layers.
    """
    recipe.check(graph)
    tensors = activation_quants(graph, statistics, recipe)

    def weights(layer: Weighted) -> WeightQuant:
        return quantize_weights(
            layer,
            params[layer.name]["kernel"],
            params[layer.name]["bias"],
            tensors[layer.inputs[0]],
            tensors[layer.name],
            recipe.precision_of(layer.name).weight_bits,
            per_layer=recipe.per_layer_weight_scale,
            search=recipe.searches_weights(layer.name),
        )

    names = [layer.name for layer in graph.weighted]
    return Quantization(tensors, dict(zip(names, side_by_side(weights, graph.weighted), strict=True)))


def activation_quants(graph: Graph, statistics: Statistics, recipe: Recipe) -> dict[str, TensorQuant]:
    """Scale, zero point and bits of every accelerator tensor; groups between which integers move share theirs.

    A group takes the most bits that any of its layers asks for. Products get the scale that makes their ratio exact.
    """
    groups = scale_groups(graph)
    tensors: dict[str, TensorQuant] = {}
    for group in groups:
        makers = [name for name in group if not is_move(graph[name])]
        bits = recipe.activation_bits(group)
        how = _how(recipe, group, makers, bits)
        made, readers = [statistics[name] for name in makers], _readers(graph, group)
        function = _readers_function(graph, group, readers)
        low, high = _range(made, how, bits, function)
        if how.method not in ("manual", "percentile"):
            if bits >= 8 and not readers:
                # The few largest of many scores are what the network says; 4 bits have to cut them.
                high = min_max(made)[1]
            if bits > 8:
                low, high = _with_headroom(graph, makers, low, high, function)
        if how.method != "manual":
            high = min(high, _beside_pole(graph, makers, tensors))
        fills = [value for name in group if isinstance(pad := graph[name], Pad) for value in pad.fill]
        low, high = min([low, *fills]), max([high, *fills])
        even = any(isinstance(graph[name], Elementwise) for name in group)
        tensors.update(dict.fromkeys(group, tensor_quant(low, high, bits, even)))
    _make_products_exact(graph, groups, tensors)
    return tensors


def _how(recipe: Recipe, group: Sequence[str], makers: Sequence[str], bits: int) -> ActivationRange:
    """How the range of a group is found. One with which an input alone makes its integers may be known beforehand; 4
    bits have to cut it.
    """
    named = (recipe.layer_ranges[name] for name in group if name in recipe.layer_ranges)
    known = [recipe.input_ranges[name] for name in makers if name in recipe.input_ranges]
    common = recipe.activation_range
    if known and len(makers) == 1 and bits >= 8:
        common = ActivationRange("manual", known[0])
    return next(named, common)


def _readers(graph: Graph, group: Sequence[str]) -> list[Layer]:
    """The layers of the accelerator that read a group of tensors and do not belong to it."""
    readers = (layer for name in group for layer in graph.consumers[name])
    return [layer for layer in readers if layer.name not in group and not layer.host]


def _readers_function(graph: Graph, group: Sequence[str], readers: Sequence[Layer]) -> Function:
    """The activation function through which alone the rest of the network sees a group of tensors, if there is one."""
    # Of tensors that scaled functions read, the statistics hold only what these can see (`scaled_ends`).
    functions = {
        (layer.function, layer.constants) if isinstance(layer, Activation) and not layer.scaled else None
        for layer in readers
    }
    if len(functions) != 1 or None in functions or set(graph.accelerator_outputs()).intersection(group):
        return as_it_is
    ((function, constants),) = (one for one in functions if one is not None)
    return as_it_is if function in BY_CHANNEL else lambda values: apply(function, values, constants)


def _range(
    statistics: Sequence[TensorStatistics], how: ActivationRange, bits: int, function: Function
) -> tuple[float, float]:
    if how.method == "manual":
        return min(0.0, how.bounds[0]), max(0.0, how.bounds[1])
    if how.method == "percentile":
        return percentile(statistics, *how.bounds)
    if not np.isfinite(function(np.array([*min_max(statistics), 0.0]))).all():  # as 1 / x has a pole at 0
        function = as_it_is
    # 16 bits leave nothing to trade: steps are finer than the histogram's bins, and clipping can only lose.
    method = BEST_METHOD[bits] if how.method == "auto" else how.method
    if method in POWERS and bits <= 8:
        return least_error(statistics, bits, POWERS[method], function)
    if method == "entropy" and bits <= 8:
        return least_divergence(statistics, bits, function)
    return min_max(statistics, function)


def _with_headroom(
    graph: Graph, makers: Sequence[str], low: float, high: float, function: Function
) -> tuple[float, float]:
    """Twice the range, or up to where `function` becomes constant if that is near, but never beyond what the layers'
    own clips let through.

    With 16 bits a step is nothing and a clipped value is all the error there is: one bit buys room for inputs that
    the calibration set did not show.
    """
    far_low, far_high = (varied_end(_NEAR * end, function) for end in (low, high))
    clips = [getattr(graph[name], "clip", UNBOUNDED) for name in makers]
    lowest, highest = min(clip[0] for clip in clips), max(clip[1] for clip in clips)
    least = far_low if far_low > _NEAR * low else 2 * low
    most = far_high if far_high < _NEAR * high else 2 * high
    return max(least, min(lowest, low)), min(most, max(highest, high))


def _beside_pole(graph: Graph, makers: Sequence[str], tensors: dict[str, TensorQuant]) -> float:
    """The largest number that x^-1/2 and its like give of half a step of what they read; infinite for other layers.

    All that lies nearer to the pole rounds to it. One vector of zeros among the calibration images, divided by a length
    of at least 1e-12, would else leave no integers to the others.
    """
    largest = 0.0
    for layer in (graph[name] for name in makers):
        if not isinstance(layer, Activation) or not layer.divides or layer.scaled:
            return np.inf
        if layer.inputs[0] not in tensors:  # it shares the scale of a tensor that comes before its own input
            return np.inf
        nearest = np.array(tensors[layer.inputs[0]].scale / 2)
        largest = max(largest, float(apply(layer.function, nearest, layer.constants)))
    return largest


def _make_products_exact(
    graph: Graph, groups: Sequence[tuple[str, ...]], tensors: dict[str, TensorQuant]
) -> None:
    """Widens the output scale of each product a little, so that its fixed-point ratio loses nothing.

    Of several products in one group the first decides. A product that shares a group with one of its factors is left
    alone: its own scale cancels out of the ratio.
    """
    group_of = {name: group for group in groups for name in group}
    waiting: dict[tuple[str, ...], Mul] = {}
    for layer in graph.layers:
        if isinstance(layer, Mul) and not layer.host:
            group = group_of[layer.name]
            if not any(name in group for name in layer.inputs):
                waiting.setdefault(group, layer)
    while waiting:
        # First those whose factors are final; where products wait for each other in a circle, any will do.
        group = next(
            (
                g
                for g, layer in waiting.items()
                if not any(group_of[name] in waiting for name in layer.inputs)
            ),
            next(iter(waiting)),
        )
        layer = waiting.pop(group)
        a, b = (tensors[name] for name in layer.inputs)
        y = tensors[layer.name]
        wide = is_wide(layer, Quantization(tensors=tensors))
        scale = product_scale(a.scale, b.scale, y.scale, wide)
        # A product much fainter than its group has a ratio of few digits. To make that exact would move the scale
        # of all its neighbours, while its rounding costs no more than half a step.
        if product_ratio(a.scale, b.scale, scale, wide).factor >= _FEWEST_PRODUCT_STEPS:
            tensors.update(dict.fromkeys(group, TensorQuant(scale, y.zero_point, y.bits)))
