"""From statistics to activation ranges: min/max, percentile, and the least error of rounding and clipping.

Ranges always contain zero, so that padding and ReLU are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from mz.emulator.numerics import q_max
from mz.graph import TensorQuant
from mz.quantize.statistics import BINS, TensorStatistics

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below it float32 loses digits, and processors that flush such numbers to zero would divide by it."""

_SHRINK = np.concatenate([np.linspace(1.0, 0.7, 31), np.linspace(0.68, 0.1, 30)])
"""Shares of the full range that the search tries: finely near all of it, coarsely below."""


Function = Callable[[np.ndarray], np.ndarray]
"""What every reader of a tensor makes of its values first: float64 of any shape -> the same shape."""


def as_it_is(values: np.ndarray) -> np.ndarray:
    """The function of a tensor whose readers take its values themselves."""
    return values


def min_max(statistics: Sequence[TensorStatistics], function: Function = as_it_is) -> tuple[float, float]:
    """The smallest range that holds every value seen, but for ends on which `function` is constant: a hard swish
    makes nothing of what lies below -3.
    """
    low, high = min(0.0, *(s.low for s in statistics)), max(0.0, *(s.high for s in statistics))
    return varied_end(low, function), varied_end(high, function)


def varied_end(end: float, function: Function) -> float:
    """The value nearest to 0 from which on the function is constant up to `end`; found to a 16,384th of it."""
    if function is as_it_is or end == 0:
        return end
    steps = np.linspace(end, 0.0, (1 << 14) + 1)
    differs = np.flatnonzero(function(steps) != function(steps[:1]))
    return float(steps[max(int(differs[0]) - 1, 0)]) if differs.size else 0.0


def percentile(statistics: Sequence[TensorStatistics], low: float, high: float) -> tuple[float, float]:
    """The range between two percentiles (0..100), within min/max; over several tensors the widest.

    0 and 100 are the exact extremes; anything between is found to a bin of the histogram.
    """
    bounds = []
    for s in statistics:
        total = np.cumsum(s.counts)
        edges = s.centres[np.searchsorted(total, np.array([low, high]) / 100 * total[-1]).clip(0, BINS - 1)]
        bounds.append(
            (
                s.low if low <= 0 else max(float(edges[0]), s.low),
                s.high if high >= 100 else min(float(edges[1]), s.high),
            )
        )
    return min(0.0, *(b[0] for b in bounds)), max(0.0, *(b[1] for b in bounds))


POWERS = {"l1_5": 1.5, "mse": 2.0, "l3": 3.0}
"""Exponent of the error that a range search minimizes, by method."""

BEST_METHOD = {4: "mse", 8: "l3", 16: "min_max"}
"""What `auto` means, by bits, as measured (docs/quantization-evidence.md)."""


def least_error(
    statistics: Sequence[TensorStatistics], bits: int, power: float = 3.0, function: Function = as_it_is
) -> tuple[float, float]:
    """The range with the least mean |error|^power of `bits`-bit integers, summed over the tensors that share it.

    Values beyond the ends on which `function` is constant (`min_max`) count as those ends.

    Clipping and rounding error both count, measured on the histograms; the ends are searched in turn. Each
    tensor weighs by its own mean |value|^power, so that a quiet one is not drowned by a loud one. A power above 2 clips
    less: the few largest values carry more of what a network says than their share of the squared error (measured in
    docs/quantization-evidence.md; Nahshan et al., "Loss Aware Post-Training Quantization", 2019, section 4, search the
    power itself).
    """
    full = min_max(statistics, function)
    if full[0] == full[1]:
        return full
    values, weights = _merged(statistics, power)
    values = np.clip(values, *full)

    def error(low: float, high: float) -> float:
        return _mean_error(values, weights, low, high, bits, power)

    return search_ends(full, error)


def search_ends(full: tuple[float, float], error: Callable[[float, float], float]) -> tuple[float, float]:
    """The range within `full` (which is among those tried) with the least error of (low, high): the upper and the lower
    end in turn, twice. Of equal ranges the widest.
    """
    error = cache(error)  # an end that stays where it is leaves nothing new to measure
    low = full[0]
    for _ in range(2):
        highs = full[1] * _SHRINK if full[1] > 0 else np.zeros(1)
        high = highs[np.argmin([error(low, h) for h in highs])]
        lows = full[0] * _SHRINK if full[0] < 0 else np.zeros(1)
        low = lows[np.argmin([error(v, high) for v in lows])]
    return float(low), float(high)


def _merged(statistics: Sequence[TensorStatistics], power: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights of all non-empty bins; each tensor's weights divided by its total |value|^power."""
    values, weights = [], []
    for s in statistics:
        used = s.counts > 0
        centres, counts = s.centres[used], s.counts[used].astype(np.float64)
        total = float(counts @ _to_the(power, np.abs(centres)))
        values.append(np.clip(centres, s.low, s.high))
        weights.append(counts / total if total > 0 else counts)
    return np.concatenate(values), np.concatenate(weights)


def _mean_error(
    values: np.ndarray, weights: np.ndarray, low: float, high: float, bits: int, power: float
) -> float:
    scale, top = (high - low) / q_max(bits), q_max(bits)
    if scale <= 0:
        return float(weights @ _to_the(power, np.abs(values)))
    zero = np.rint(-low / scale)
    error = values / scale  # in place from here on: this runs a hundred thousand times
    np.rint(error, out=error)
    np.maximum(error, -zero, out=error)
    np.minimum(error, top - zero, out=error)
    error *= scale
    error -= values
    return float(weights @ _to_the(power, np.abs(error, out=error)))


def _to_the(power: float, values: np.ndarray) -> np.ndarray:
    """values ** power; those of `POWERS` by multiplication, which takes a tenth of the time."""
    if power == 3:
        return values * values * values
    return values * np.sqrt(values) if power == 1.5 else values**power


def tensor_quant(low: float, high: float, bits: int, even_zero_point: bool) -> TensorQuant:
    """Scale and zero point of the range [low, high] (containing 0), which they cover to within half a step.

    Of the integers on both sides of the ideal zero point the one with the finer scale is taken. A range too small for
    a float32 scale gets the smallest one that float32 holds with all its digits.
    even_zero_point: what element-wise layers ask for (docs/numerics.md); costs at most one step of the range.
    """
    top = q_max(bits)
    if low == high:
        return TensorQuant(np.float32(1.0 / top), 0, bits)
    step = 2 if even_zero_point else 1
    below = int(-low / (high - low) * top) // step * step
    zero = min((z for z in (below, below + step) if z <= top), key=lambda z: _scale(low, high, z, top))
    scale = _scale(low, high, zero, top)
    return TensorQuant(np.float32(max(scale, _SMALLEST_SCALE)), zero, bits)


def _scale(low: float, high: float, zero: int, top: int) -> float:
    """The smallest scale with which `zero` covers the range; an end closer than half a step rounds to 0 itself."""
    negligible = (high - low) / top / 2
    below = 0.0 if zero == 0 and -low <= negligible else -low / zero if zero > 0 else math.inf
    above = 0.0 if zero == top and high <= negligible else high / (top - zero) if zero < top else math.inf
    return max(below, above)
