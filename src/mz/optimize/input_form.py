"""What the host must do to an image that the parsed network takes, so that a network with another input takes it.

The inverse of the input passes: those put work into the network, this undoes it on the host, so that one data set
serves both networks. Plain data, kept in the archive. Colours: full-range ITU-R BT.601, as JPEG has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mz.errors import UserError
from mz.graph import Pixels

RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
)
"""Rows Y, U, V; U and V get 128 added."""
CHROMA_OFFSET = np.array([0.0, 128.0, 128.0])

InputForm = Sequence[Mapping[str, Any]]
"""Steps in order, each {"step": name, its arguments}; none where the input is that of the parsed network."""


def device_input(form: InputForm, images: np.ndarray) -> np.ndarray:
    """float32 [N, *shape] as the parsed network takes it -> float32 [N, *shape] as the changed network takes it.

    Raises UserError for a step that this version does not know.
    """
    for step in form:
        if step["step"] not in _STEPS:
            raise UserError(f"input_form: this version of mz knows no step {step['step']!r}")
        arguments = {key: value for key, value in step.items() if key != "step"}
        images = _STEPS[step["step"]](images, **arguments)
    return np.ascontiguousarray(images, dtype=np.float32)


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(images), 0, 255).astype(np.float32)


def own_pixels(form: InputForm) -> Pixels | None:
    """What a network that takes pixels of its own accord makes of normalized images: its compiled files do it first."""
    for step in form:
        if step["step"] == "pixels":
            return Pixels(tuple(step["mean"]), tuple(step["std"]))
    return None


def _denormalize(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    return Pixels(tuple(mean), tuple(std)).of(images)


def _swap(images: np.ndarray) -> np.ndarray:
    return images[:, ::-1]


def _fourth(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images, np.zeros_like(images[:, :1])], axis=1)


def _yuv(images: np.ndarray) -> np.ndarray:
    turned = np.einsum("oc,nchw->nohw", RGB_TO_YUV, images) + CHROMA_OFFSET.reshape(-1, 1, 1)
    return _pixels(turned)


def _nv12(images: np.ndarray) -> np.ndarray:
    """[N, 3, H, W] YUV -> [N, 1, 3 H / 2, W]: the plane of Y, then rows of U and V in turn, each the mean of 2 x 2."""
    n, _, height, width = images.shape
    chroma = images[:, 1:].reshape(n, 2, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
    rows = _pixels(chroma).transpose(0, 2, 3, 1).reshape(n, 1, height // 2, width)
    return np.concatenate([images[:, :1], rows], axis=2)


def _yuy2(images: np.ndarray) -> np.ndarray:
    """[N, 3, H, W] YUV -> [N, 1, H, 2 W]: Y U Y V for every two pixels of a row, U and V the mean of both."""
    n, _, height, width = images.shape
    pairs = images.reshape(n, 3, height, width // 2, 2)
    chroma = _pixels(pairs[:, 1:].mean(axis=4))
    packed = np.stack([pairs[:, 0, ..., 0], chroma[:, 0], pairs[:, 0, ..., 1], chroma[:, 1]], axis=-1)
    return packed.reshape(n, 1, height, 2 * width)


def _resize(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Bilinear, as a camera of that resolution would see the picture."""
    from PIL import Image

    height, width = shape
    resized = [
        [np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)) for plane in x]
        for x in images
    ]
    return _pixels(np.array(resized, np.float32))


_STEPS: dict[str, Any] = {
    "denormalize": _denormalize,
    "pixels": _denormalize,
    "swap": _swap,
    "fourth_channel": _fourth,
    "yuv": _yuv,
    "nv12": _nv12,
    "yuy2": _yuy2,
    "resize": _resize,
}
