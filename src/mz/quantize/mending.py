"""What to change so that a quantized network gets better: the layers whose noise weighs most, and what takes it away.

A tensor's noise goes with more bits or, free of cost at run time, with another range; a kernel's with more bits. What
each change takes away is known from `noise_analysis`, where it was measured at the network's outputs.

Ranges are percentiles: equalization scales channels anew when the network is optimized again, so that real ends of this
network's tensors would be none of that one's, and would forbid it to scale them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mz.graph import Graph, Params, Precision, Quantization
from mz.quantize.groups import is_move, scale_groups
from mz.quantize.noise_analysis import Alone, fake, makers
from mz.quantize.ranges import tensor_quant

_NEXT_BITS = {4: 8, 8: 16}
_TAILS = (0.001, 0.01, 0.1, 0.5)
"""Percent of a tensor's values that a range may clip, tried for each end alone and for both."""

RANGE_INSTEAD = 0.5
"""Share of a tensor's noise that another range must take away to be preferred over more bits."""
RANGE_ALONE = 0.1
"""The same where more bits are not to be had."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range that was tried for a group: between which percentiles, and the noise that its tensors then add."""

    percentiles: tuple[float, float]
    noise: float


@dataclass(frozen=True, slots=True)
class Mend:
    """One change: `activations` or `weights` of a layer to `bits`, or its range to that between `percentiles`.

    removed: noise power over the outputs' power that goes with it.
    """

    layer: str
    what: str
    removed: float
    bits: int = 0
    percentiles: tuple[float, float] | None = None

    def __str__(self) -> str:
        if self.percentiles is not None:
            return f"{self.layer}: range of percentiles {self.percentiles[0]:g} .. {self.percentiles[1]:g}"
        return f"{self.layer}: {self.what} of {self.bits} bits"


def output_noise(graph: Graph, alone: Mapping[str, Alone]) -> dict[tuple[str, ...], float]:
    """Noise of each group of tensors that share a scale: that of the layers which make its integers."""
    groups = scale_groups(graph)
    return {
        group: sum(alone[name].output for name in group if name in alone)
        for group in groups
        if any(name in alone for name in group)
    }


def try_ranges(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    images: Mapping[str, np.ndarray],
    groups: Collection[tuple[str, ...]],
    group_done: Callable[[str], None] = lambda name: None,
) -> dict[tuple[str, ...], Range]:
    """The best of some ranges for each of `groups` that one layer alone makes. Not where they have 16 bits: there a
    clipped value is all the error that these images may not show.
    """
    wanted = {
        own[0]: group
        for group in groups
        if len(own := [name for name in group if not is_move(graph[name])]) == 1
    }
    found = {}
    for place in makers(graph, params, images):
        name = place.layer.name
        if (group := wanted.get(name)) is None or (quant := quantization.tensors[name]).bits > 8:
            continue
        tried = []
        for percentiles in _ranges(signed=bool(place.output.min() < 0)):
            low, high = np.percentile(place.output, percentiles)
            candidate = tensor_quant(
                min(0.0, low), max(0.0, high), quant.bits, even_zero_point=quant.zero_point % 2 == 0
            )
            tried.append(Range(percentiles, place.noise(fake(place.output, candidate))))
        found[group] = min(tried, key=lambda one: one.noise)
        group_done(name)
    return found


def _ranges(signed: bool) -> Iterable[tuple[float, float]]:
    yield 0.0, 100.0
    for tail in _TAILS:
        yield 0.0, 100 - tail
        if signed:
            yield tail, 100 - tail
            yield tail, 100.0


def mends(
    graph: Graph,
    quantization: Quantization,
    alone: Mapping[str, Alone],
    ranges: Mapping[tuple[str, ...], Range],
    *,
    layers: Collection[str],
    activation_bits: Collection[int],
    weight_bits: Collection[int],
    range_pays: float = RANGE_INSTEAD,
) -> list[Mend]:
    """One change a group of tensors and one a kernel, the one that takes away most noise first.

    layers: those that a script can name. activation_bits, weight_bits: what the target takes. range_pays: share of a
    tensor's noise that another range must take away to be taken.
    """
    found = []
    for group, noise in output_noise(graph, alone).items():
        named = [name for name in group if name in layers]
        if not named or noise <= 0:
            continue
        tried = ranges.get(group)
        if tried is not None and noise - tried.noise >= range_pays * noise:
            found.append(Mend(named[0], "range", noise - tried.noise, percentiles=tried.percentiles))
            continue
        maker = max(
            (name for name in named if name in alone), key=lambda name: alone[name].output, default=named[0]
        )
        bits = quantization.tensors[maker].bits
        more = _NEXT_BITS.get(bits, 0)
        if more in activation_bits:
            found.append(Mend(maker, "activations", noise * _rest(bits, more), bits=more))
    for name, own in alone.items():
        if name in quantization.weights and name in layers and own.weights > 0:
            bits = quantization.weights[name].bits
            more = _NEXT_BITS.get(bits, 0)
            if more in weight_bits:
                found.append(Mend(name, "weights", own.weights * _rest(bits, more), bits=more))
    return sorted(found, key=lambda mend: (-mend.removed, mend.layer, mend.what))


def _rest(bits: int, more: int) -> float:
    """Share of rounding noise that more bits take away: each one halves the step, and quarters the power."""
    return 1 - 4.0 ** (bits - more)


def worst_first(found: Sequence[Mend], total: float, goal_db: float) -> tuple[list[Mend], float]:
    """The fewest of the mends (in their order) by which the noise `total` should fall by `goal_db`, and the decibels
    by which it then should; all of them where they do not suffice.
    """
    wanted = total * 10 ** (-goal_db / 10)
    left = total
    taken = []
    for mend in found:
        if left <= wanted:
            break
        taken.append(mend)
        left -= mend.removed
    return taken, float(10 * np.log10(total / max(left, total * 1e-12))) if total > 0 else 0.0


def mended(
    precisions: Mapping[str, Precision], quantization: Quantization, chosen: Iterable[Mend]
) -> tuple[dict[str, Precision], dict[str, tuple[float, float]]]:
    """Precisions and percentiles by layer with the changes in them."""
    changed, percentiles = dict(precisions), {}
    for mend in chosen:
        if mend.percentiles is not None:
            percentiles[mend.layer] = mend.percentiles
            continue
        old = changed.get(mend.layer, quantization.layer_precision(mend.layer))
        changed[mend.layer] = (
            Precision(mend.bits, old.weight_bits)
            if mend.what == "activations"
            else Precision(old.activation_bits, mend.bits)
        )
    return changed, percentiles
