"""Normalized images and the pixels behind them, which may be a network's integers though images are what it is fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images are (pixel - mean) / std; mean, std: by channel, in units of 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, images: np.ndarray) -> np.ndarray:
        """Normalized images [N, C, H, W] -> whole pixels of 0..255, float32 of that shape.

        A product and a sum in float32, as compiled files have them, so that any image gives the same pixels there.
        """
        mean, std = self.constants()
        pixels = np.asarray(images, np.float32) * std
        pixels += mean
        np.rint(pixels, out=pixels)
        return np.clip(pixels, 0, 255, out=pixels)

    def normalized(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pixels [N, C, H, W] by Input layer -> the images, float32 of that shape."""
        mean, std = self.constants()
        return {name: (pixels - mean) / std for name, pixels in feeds.items()}

    def constants(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and std, each float32 [C, 1, 1]."""
        mean, std = (np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (self.mean, self.std))
        return mean, std
