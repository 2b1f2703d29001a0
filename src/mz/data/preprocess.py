"""From stored images to the network's input, a whole batch at a time: colours, steps, then (x - mean) / std.

The order and the float32 arithmetic are those of the usual training code: one subtraction, one division.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mz.data.geometry import fit, fit_height, stretch
from mz.zoo import Preprocessing
from mz.zoo.schema import Decode, Resize

Preprocess = Callable[[np.ndarray], np.ndarray]
"""uint8 [N, H, W] or [N, H, W, 3] (RGB) -> float32 [N, C, H', W'], or [N, H', W', C] where the network wants that."""


def preprocessing(config: Preprocessing) -> Preprocess:
    """The function that `config` describes."""
    mean = np.array(config.mean, np.float32).reshape(-1, 1, 1)
    std = np.array(config.std, np.float32).reshape(-1, 1, 1)

    def preprocess(images: np.ndarray) -> np.ndarray:
        images = as_decoded(images, config.decode)
        for step in config.steps:
            if step.pad is not None:
                images = pad(images, step.pad)
            elif step.stretch is not None:
                images = stretch(images, step.stretch)
            elif step.fit is not None:
                images = fit(images, step.fit, config.mean)
            elif step.fit_height is not None:
                images = fit_height(images, step.fit_height, config.mean)
            elif step.center_crop is not None:
                images = center_crop(images, *step.center_crop)
            elif step.resize is not None:
                images = resize(images, step.resize)
        x = np.moveaxis(images, 3, 1).astype(np.float32, order="C")
        x -= mean
        x /= std
        return np.ascontiguousarray(np.moveaxis(x, 1, 3)) if config.layout == "channels_last" else x

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


def center_crop(images: np.ndarray, part: int, whole: int) -> np.ndarray:
    """The square in the middle of [N, H, W, C] images: its side is part/whole of the shorter side, rounded down.

    Where the margins cannot be equal, the larger one is at the top and on the left, as TensorFlow's own preprocessing
    for ImageNet has it.
    """
    height, width = images.shape[1:3]
    side = max(min(height, width) * part // whole, 1)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return images[:, top : top + side, left : left + side]


def resize(images: np.ndarray, to: Resize) -> np.ndarray:
    """uint8 [N, H, W, C] -> [N, to.height, to.width, C], with Pillow's filters on 8-bit channels."""
    from PIL import Image

    method = Image.Resampling[to.method.upper()]
    resized = [
        np.asarray(
            Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).resize(
                (to.width, to.height), method
            )
        )
        for image in images
    ]
    return np.stack(resized).reshape(len(images), to.height, to.width, images.shape[3])
