"""What calibration saw of every tensor, in few enough bars for the archive's report."""

from __future__ import annotations

from typing import Any

import numpy as np

from mz.quantize.statistics import BINS, Statistics, TensorStatistics

BARS = 48
"""The most bars of one tensor."""


def histograms(statistics: Statistics) -> dict[str, dict[str, Any]]:
    """By tensor: the exact extremes `low` and `high`, and bars of one `width`, the first of which begins at `start`.

    Bars are whole bins of the statistics, merged: `counts` has their sum, in values of all calibration images.
    """
    return {name: _bars(tensor) for name, tensor in statistics.items()}


def _bars(tensor: TensorStatistics) -> dict[str, Any]:
    filled = np.flatnonzero(tensor.counts)
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (BINS // 2, BINS // 2)
    merged = -(-(last + 1 - first) // BARS)
    counts = np.add.reduceat(tensor.counts[first : last + 1], np.arange(0, last + 1 - first, merged))
    bin_width = float(np.ldexp(2 / BINS, tensor.exponent))
    return {
        "low": tensor.low,
        "high": tensor.high,
        "start": (first - BINS // 2) * bin_width,
        "width": merged * bin_width,
        "counts": counts.tolist(),
    }
