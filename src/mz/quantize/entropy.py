"""The range whose integers tell values apart most as the floats do: least Kullback-Leibler divergence.

Source: Migacz, "8-bit Inference with TensorRT" (GPU Technology Conference, 2017). That is for symmetric ranges: one
threshold on magnitudes. What differs here:

- a range has two ends, searched in turn as for least error, over the same shares of the full range;
- integers are those of the asymmetric range, so that 0 is one of them. What is exactly 0 is kept at any range, so the
  zeros that a ReLU heaps up say nothing: their bin counts no more than the larger of its neighbours;
- of several tensors that share a range each has its own divergence, and the sum decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mz.emulator.numerics import q_max
from mz.quantize.ranges import Function, as_it_is, min_max, search_ends
from mz.quantize.statistics import BINS, TensorStatistics

Histogram = tuple[np.ndarray, np.ndarray]
"""Middles of the bins that are not empty, rising, and their counts; both float64 [K]."""


def least_divergence(
    statistics: Sequence[TensorStatistics], bits: int, function: Function = as_it_is
) -> tuple[float, float]:
    """The range, within `ranges.min_max`, with the least divergence of `bits`-bit integers from the values, summed over
    the tensors. Values beyond the ends on which `function` is constant count as those ends.
    """
    full = min_max(statistics, function)
    if full[0] == full[1]:
        return full
    tensors = [_histogram(s, *full) for s in statistics]

    def total(low: float, high: float) -> float:
        return sum(divergence(tensor, low, high, bits) for tensor in tensors)

    return search_ends(full, total)


def divergence(histogram: Histogram, low: float, high: float, bits: int) -> float:
    """KL(P || Q) in nats of a histogram P and what integers make of it, Q.

    P is clipped: what lies beyond the range counts in its outermost bins. Q knows the values within the range only, and
    spreads those of each integer evenly over its bins. So rounding costs as far as P is uneven within a step, and
    clipping as far as it heaps up at the ends. Infinite where no value lies within the range.
    """
    values, counts = histogram
    inside = (values >= low) & (values <= high)
    if not inside.any():
        return math.inf if len(values) else 0.0
    kept = counts[inside]
    clipped = kept.copy()
    clipped[0] += counts[values < low].sum()
    clipped[-1] += counts[values > high].sum()
    scale, top = (high - low) / q_max(bits), q_max(bits)
    zero = np.rint(-low / scale)
    levels = np.clip(np.rint(values[inside] / scale) + zero, 0, top).astype(np.int64)
    spread = np.bincount(levels, kept)[levels] / np.bincount(levels)[levels]
    total = clipped.sum()
    return float(clipped @ np.log(clipped / spread) / total + math.log(kept.sum() / total))


def _histogram(statistics: TensorStatistics, low: float, high: float) -> Histogram:
    """Of the values as they count: none beyond the full range [low, high], and no heap of zeros."""
    counts = statistics.counts.astype(np.float64)
    zero = BINS // 2
    counts[zero] = min(counts[zero], max(counts[zero - 1], counts[zero + 1]))
    used = counts > 0
    values = np.clip(statistics.centres[used], max(low, statistics.low), min(high, statistics.high))
    values, place = np.unique(values, return_inverse=True)
    return values, np.bincount(place, counts[used], minlength=len(values))
