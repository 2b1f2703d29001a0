"""The distribution of a layer's weights, integer or float, in few bars."""

from __future__ import annotations

from typing import Any

import numpy as np

BARS = 64
"""The most bars of one kernel."""


def integer_histogram(kernel: np.ndarray, bits: int) -> dict[str, Any]:
    """Bars over all that `bits` can hold, -2^(bits-1) .. 2^(bits-1) - 1, so that unused levels show.

    kernel: signed integers of any shape. A bar begins at `start` + i `width` and holds that integer and those after it.
    """
    width = max(1, (1 << bits) // BARS)
    lowest = -(1 << (bits - 1))
    places = (kernel.reshape(-1).astype(np.int64) - lowest) // width
    counts = np.bincount(places, minlength=(1 << bits) // width)
    return {"start": lowest, "width": width, "counts": counts.tolist()}


def float_histogram(kernel: np.ndarray) -> dict[str, Any]:
    """Bars from the smallest to the largest finite weight; one bar where all are alike. kernel: float32, any shape."""
    values = kernel[np.isfinite(kernel)].astype(np.float64)
    if not values.size:
        return {"start": 0.0, "width": 0.0, "counts": []}
    low, high = float(values.min()), float(values.max())
    if low == high:
        return {"start": low, "width": 0.0, "counts": [values.size]}
    counts, edges = np.histogram(values, BARS, (low, high))
    return {"start": low, "width": float(edges[1] - edges[0]), "counts": counts.tolist()}
