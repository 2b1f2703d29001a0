"""Second moments of what a linear layer multiplies: the patches of its quantized input, sampled at random positions."""

from __future__ import annotations

import math

import numpy as np

from mz.emulator.linear import pad_map, windows
from mz.graph import Conv, Dense, Weighted

_SAMPLES_PER_WEIGHT = 8
_FEWEST_SAMPLES = 4096
_MOST_BYTES = 192 << 20


def patches(layer: Weighted, x: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Patches of centred input integers `x` [N, *shape] as float32 [groups, samples, weights of one output channel].

    The same positions are taken in every channel. None for a layer kind whose patches overlap in the output (Deconv).
    """
    if isinstance(layer, Dense):
        rows = x.reshape(-1, x.shape[-1])
        return _thin(rows, rows.shape[1], rng).astype(np.float32)[None]
    if not isinstance(layer, Conv):
        return None
    view = windows(pad_map(x, layer.pads, 0), layer.kernel_shape, layer.strides, layer.dilations)
    n, channels, height, width = view.shape[:4]
    size = channels // layer.groups * math.prod(layer.kernel_shape)
    count = min(n * height * width, _sample_count(size, size * layer.groups))
    chosen = np.sort(rng.choice(n * height * width, count, replace=False))
    image, row, column = np.unravel_index(chosen, (n, height, width))
    taken = view[image, :, row, column].astype(np.float32)  # [samples, C, kh, kw]
    return np.ascontiguousarray(taken.reshape(count, layer.groups, size).transpose(1, 0, 2))


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
