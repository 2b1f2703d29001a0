"""From statistics to activation ranges: min/max, percentile, and least mean squared error.

Ranges always contain zero, so that padding and ReLU are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mz.emulator.numerics import q_max
from mz.graph import TensorQuant
from mz.quantize.statistics import BINS, TensorStatistics

_SHRINK = np.concatenate([np.linspace(1.0, 0.7, 31), np.linspace(0.68, 0.1, 30)])
"""Shares of the full range that the search tries: finely near all of it, coarsely below."""


def min_max(statistics: Sequence[TensorStatistics]) -> tuple[float, float]:
    """The smallest range that holds every value seen."""
    return min(0.0, *(s.low for s in statistics)), max(0.0, *(s.high for s in statistics))


def percentile(statistics: Sequence[TensorStatistics], low: float, high: float) -> tuple[float, float]:
    """The range between two percentiles (0..100), within min/max; over several tensors the widest."""
    bounds = []
    for s in statistics:
        total = np.cumsum(s.counts)
        edges = s.centres[np.searchsorted(total, np.array([low, high]) / 100 * total[-1]).clip(0, BINS - 1)]
        bounds.append((max(edges[0], s.low), min(edges[1], s.high)))
    return min(0.0, *(b[0] for b in bounds)), max(0.0, *(b[1] for b in bounds))


def least_squares(statistics: Sequence[TensorStatistics], bits: int) -> tuple[float, float]:
    """The range with the least mean squared error of `bits`-bit integers, summed over the tensors that share it.

    Clipping and rounding error both count, measured on the histograms; the ends are searched in turn. Each
    tensor weighs by its own power, so that a quiet one is not drowned by a loud one.
    """
    low, high = full = min_max(statistics)
    if low == high:
        return full
    values, weights = _merged(statistics)
    for _ in range(2):
        highs = full[1] * _SHRINK if full[1] > 0 else np.zeros(1)
        high = highs[np.argmin([_squared_error(values, weights, low, h, bits) for h in highs])]
        lows = full[0] * _SHRINK if full[0] < 0 else np.zeros(1)
        low = lows[np.argmin([_squared_error(values, weights, v, high, bits) for v in lows])]
    return float(low), float(high)


def _merged(statistics: Sequence[TensorStatistics]) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights of all non-empty bins; each tensor's weights divided by its total power."""
    values, weights = [], []
    for s in statistics:
        used = s.counts > 0
        centres, counts = s.centres[used], s.counts[used].astype(np.float64)
        power = float(counts @ centres**2)
        values.append(np.clip(centres, s.low, s.high))
        weights.append(counts / power if power > 0 else counts)
    return np.concatenate(values), np.concatenate(weights)


def _squared_error(values: np.ndarray, weights: np.ndarray, low: float, high: float, bits: int) -> float:
    scale = (high - low) / q_max(bits)
    if scale <= 0:
        return float(weights @ values**2)
    zero = np.rint(-low / scale)
    restored = (np.clip(np.rint(values / scale) + zero, 0, q_max(bits)) - zero) * scale
    return float(weights @ (values - restored) ** 2)


def tensor_quant(low: float, high: float, bits: int, even_zero_point: bool) -> TensorQuant:
    """Scale and zero point of the range [low, high] (containing 0), which they cover whole.

    even_zero_point: what element-wise layers ask for (docs/numerics.md); costs at most one step of the range.
    """
    top = q_max(bits)
    if low == high:
        return TensorQuant(np.float32(1.0 / top), 0, bits)
    zero = round(-low / (high - low) * top)
    if even_zero_point and zero % 2:
        zero += 1 if -low / (high - low) * top > zero or zero == 1 else -1
    zero = min(zero, top - top % 2 if even_zero_point else top)
    scale = max(high / (top - zero) if zero < top else 0.0, -low / zero if zero > 0 else 0.0)
    return TensorQuant(np.float32(scale), zero, bits)
