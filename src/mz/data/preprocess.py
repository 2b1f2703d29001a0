"""From stored images to the network's input, a whole batch at a time: colours, steps, then (x - mean) / std.

The order and the float32 arithmetic are those of the usual training code: one subtraction, one division.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mz.zoo import Preprocessing
from mz.zoo.schema import Decode

Preprocess = Callable[[np.ndarray], np.ndarray]
"""uint8 [N, H, W] or [N, H, W, 3] (RGB) -> float32 [N, C, H', W']."""


def preprocessing(config: Preprocessing) -> Preprocess:
    """The function that `config` describes."""
    mean = np.array(config.mean, np.float32).reshape(-1, 1, 1)
    std = np.array(config.std, np.float32).reshape(-1, 1, 1)

    def preprocess(images: np.ndarray) -> np.ndarray:
        images = as_decoded(images, config.decode)
        for step in config.steps:
            if step.pad is not None:
                images = pad(images, step.pad)
        x = np.moveaxis(images, 3, 1).astype(np.float32, order="C")
        x -= mean
        x /= std
        return x

    return preprocess


def as_decoded(images: np.ndarray, decode: Decode) -> np.ndarray:
    """uint8 [N, H, W] (gray) or [N, H, W, 3] (RGB) -> [N, H, W, C] in the channels of `decode`.

    Gray is ITU-R BT.601 luma in 16-bit fixed point, rounded to nearest, as libjpeg and Pillow have it.
    """
    if decode == "gray":
        if images.ndim == 4:
            weights = np.array([19595, 38470, 7471], np.uint32)
            images = ((images.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)
        return images[..., None]
    if images.ndim == 3:
        return np.repeat(images[..., None], 3, axis=3)
    return images[..., ::-1] if decode == "bgr" else images


def pad(images: np.ndarray, sides: tuple[int, int, int, int]) -> np.ndarray:
    """Zeros around [N, H, W, C] images: `sides` are top, left, bottom, right."""
    top, left, bottom, right = sides
    return np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)))
