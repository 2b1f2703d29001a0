"""Statistics as named arrays, and back: what a file of them holds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from mz.quantize.statistics import BINS, Statistics, TensorStatistics

FORMAT = 2
"""Counts changes of what statistics are or of how they are stored, so that older files are made anew."""


def to_arrays(statistics: Statistics) -> dict[str, np.ndarray]:
    """names: JSON in uint8. low, high: float64, exponent, first and size: int64, one a tensor; counts: int64, the bins
    from each tensor's first that is not empty to its last, one tensor after the other.
    """
    tensors = list(statistics.values())
    filled = [np.flatnonzero(tensor.counts) for tensor in tensors]
    first = [int(places[0]) if len(places) else 0 for places in filled]
    stop = [int(places[-1]) + 1 if len(places) else 0 for places in filled]
    parts = [tensor.counts[a:b] for tensor, a, b in zip(tensors, first, stop, strict=True)]
    return {
        "names": np.frombuffer(json.dumps(list(statistics)).encode(), np.uint8),
        "low": np.array([tensor.low for tensor in tensors]),
        "high": np.array([tensor.high for tensor in tensors]),
        "exponent": np.array([tensor.exponent for tensor in tensors], np.int64),
        "first": np.array(first, np.int64),
        "size": np.array([len(part) for part in parts], np.int64),
        "counts": np.concatenate([np.zeros(0, np.int64), *parts]),
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Statistics:
    """The inverse of `to_arrays`, in the same order. Raises ValueError for anything else."""
    try:
        names = json.loads(bytes(arrays["names"]))
        low, high = arrays["low"].tolist(), arrays["high"].tolist()
        columns = zip(
            names,
            low,
            high,
            arrays["exponent"].tolist(),
            arrays["first"].tolist(),
            np.split(arrays["counts"], np.cumsum(arrays["size"])),
            strict=False,
        )
        statistics: Statistics = {}
        for name, least, most, exponent, first, part in columns:
            counts = np.zeros(BINS, np.int64)
            counts[first : first + len(part)] = part
            statistics[name] = TensorStatistics(float(least), float(most), int(exponent), counts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not statistics: {error}") from error
    whole = len(names) == len(statistics) == len(low) and arrays["size"].sum() == len(arrays["counts"])
    if not whole or not all(math.isfinite(end) for end in (*low, *high)):
        raise ValueError("not statistics: parts are missing")
    return statistics
