"""Steps that bring images of any size to the size that a network reads, with OpenCV's bilinear filter.

What an image does not fill is given the mean, so that it is zero at the network's input.
"""

from __future__ import annotations

import math

import numpy as np

from mz.data.resample import resize_linear
from mz.errors import UserError
from mz.zoo.schema import Step

Size = tuple[int, int]
"""Height and width in pixels."""


def stretch(images: np.ndarray, size: Size) -> np.ndarray:
    """uint8 [N, H, W, C] -> uint8 [N, *size, C], whatever the proportions were."""
    return np.stack([resize_linear(image, *size) for image in images])


def fit(images: np.ndarray, size: Size, mean: tuple[float, ...]) -> np.ndarray:
    """uint8 [N, H, W, C] -> float32 [N, *size, C], proportions kept, at the top left."""
    return _placed(images, fitted(images.shape[1:3], size), size, mean)


def fitted(stored: Size, size: Size) -> Size:
    """The size of the part of `size` that `fit` fills: the larger one that keeps proportions, rounded down."""
    scale = min(size[0] / stored[0], size[1] / stored[1])
    return max(1, int(stored[0] * scale)), max(1, int(stored[1] * scale))


def fit_height(images: np.ndarray, size: Size, mean: tuple[float, ...]) -> np.ndarray:
    """uint8 [N, H, W, C] -> float32 [N, *size, C]: the full height, proportions kept, at the left.

    The width is rounded up; an image that would be wider than `size` is squeezed into it.
    """
    height, width = size
    filled = min(width, math.ceil(height * images.shape[2] / images.shape[1]))
    return _placed(images, (height, filled), size, mean)


def _placed(images: np.ndarray, filled: Size, size: Size, mean: tuple[float, ...]) -> np.ndarray:
    canvas = np.empty((len(images), *size, images.shape[3]), np.float32)
    canvas[:] = np.array(mean, np.float32)
    canvas[:, : filled[0], : filled[1]] = stretch(images, filled)
    return canvas


def filled(stored: Size, steps: tuple[Step, ...]) -> tuple[float, float]:
    """The share of the network's input, in height and width, that an image of this size fills, from the top left.

    Raises UserError for steps after which places in the input are no longer places in the image.
    """
    share = (1.0, 1.0)
    for step in steps:
        if step.fit is not None:
            inside = fitted(stored, step.fit)
            share = inside[0] / step.fit[0], inside[1] / step.fit[1]
        elif step.stretch is None and step.resize is None:
            raise UserError(
                "boxes need preprocessing.steps that keep the whole image: stretch, fit or resize"
            )
    return share
