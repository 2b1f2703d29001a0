"""Second moments of what a linear layer multiplies: the patches of its quantized input, sampled at random positions."""

from __future__ import annotations

import math

import numpy as np

from mz.emulator.linear import pad_map, windows
from mz.graph import Conv, Dense, Weighted

_SAMPLES_PER_WEIGHT = 8
_FEWEST_SAMPLES = 4096
_MOST_BYTES = 192 << 20


def patches(layer: Weighted, x: np.ndarray, rng: np.random.Generator, zero: int = 0) -> np.ndarray | None:
    """Patches of input integers `x` [N, *shape], less `zero`, as float32 [groups, samples, weights of one channel].

    The same positions are taken in every channel. None for a layer kind whose patches overlap in the output (Deconv).
    """
    if isinstance(layer, Dense):
        rows = x.reshape(-1, x.shape[-1])
        return _thin(rows, rows.shape[1], rng).astype(np.float32)[None] - np.float32(zero)
    if not isinstance(layer, Conv):
        return None
    n, channels = x.shape[:2]
    height, width = layer.shape[1:]
    size = channels // layer.groups * math.prod(layer.kernel_shape)
    count = min(n * height * width, _sample_count(size, size * layer.groups))
    chosen = np.sort(rng.choice(n * height * width, count, replace=False))
    image, row, column = np.unravel_index(chosen, (n, height, width))
    taken = np.empty((layer.groups, count, size), np.float32)
    for one in range(n):
        places = slice(*np.searchsorted(image, (one, one + 1)))
        padded = pad_map(x[one : one + 1].astype(np.float32) - np.float32(zero), layer.pads, 0)
        view = windows(padded, layer.kernel_shape, layer.strides, layer.dilations)[0]
        found = view[:, row[places], column[places]]  # [C, samples, kh, kw]
        found = found.reshape(layer.groups, channels // layer.groups, -1, math.prod(layer.kernel_shape))
        taken[:, places] = found.transpose(0, 2, 1, 3).reshape(layer.groups, -1, size)
    return taken


def second_moments(samples: np.ndarray) -> np.ndarray:
    """X^T X / samples of each group: [G, P, K] -> float64 [G, K, K]. Integer inputs make the float32 product
    near exact.
    """
    return np.matmul(samples.transpose(0, 2, 1), samples).astype(np.float64) / samples.shape[1]


def _sample_count(size: int, row_values: int) -> int:
    wanted = max(_FEWEST_SAMPLES, _SAMPLES_PER_WEIGHT * size)
    return max(size, min(wanted, _MOST_BYTES // (4 * row_values)))


def _thin(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    count = _sample_count(size, size)
    return rows if len(rows) <= count else rows[np.sort(rng.choice(len(rows), count, replace=False))]
