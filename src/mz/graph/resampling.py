"""Where a resized pixel comes from: ONNX's coordinate rules for nearest and bilinear resize, one axis at a time.

Formulas: the Resize operator of the ONNX specification.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def source_coordinates(size: int, out_size: int, scale: float, coordinates: str) -> np.ndarray:
    """The source coordinate (float64 [out_size]) of every output index along an axis of `size` pixels.

    Raises KeyError for a coordinate rule other than those of `Resize`.
    """
    index = np.arange(out_size, dtype=np.float64)
    rules: dict[str, Callable[[], np.ndarray]] = {
        "half_pixel": lambda: (index + 0.5) / scale - 0.5,
        "pytorch_half_pixel": lambda: (index + 0.5) / scale - 0.5 if out_size > 1 else np.zeros(1),
        "asymmetric": lambda: index / scale,
        "align_corners": lambda: index * (size - 1) / (out_size - 1) if out_size > 1 else np.zeros(1),
    }
    return rules[coordinates]()


def nearest_indices(
    size: int, out_size: int, scale: float, coordinates: str, nearest_mode: str
) -> np.ndarray:
    """The source index (int64 [out_size]) of every output index."""
    x = source_coordinates(size, out_size, scale, coordinates)
    rounding: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    return np.clip(rounding[nearest_mode](x), 0, size - 1).astype(np.int64)


def bilinear_weights(size: int, out_size: int, scale: float, coordinates: str) -> np.ndarray:
    """Weight of every source index in every output index: float64 [out_size, size], rows sum to 1."""
    x = np.clip(source_coordinates(size, out_size, scale, coordinates), 0, size - 1)
    left = np.floor(x).astype(np.int64)
    right = np.minimum(left + 1, size - 1)
    weights = np.zeros((out_size, size))
    np.add.at(weights, (np.arange(out_size), left), 1 - (x - left))
    np.add.at(weights, (np.arange(out_size), right), x - left)
    return weights
