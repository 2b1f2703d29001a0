"""The range of an input of pixels: known beforehand, and wider where rounding errors of neighbouring values add up."""

from __future__ import annotations

import numpy as np
import pytest

from mz.flow.calibration import some
from mz.flow.input_range import SHARES, pixel_ends, with_input_range
from mz.graph import Conv, Graph, Input, Params, Precision
from mz.quantize import ActivationRange, Recipe
from mz.zoo import Preprocessing


def network(channels: int) -> tuple[Graph, Params]:
    """Means over 8x8 pixels of every channel, less what they have in common: rounding noise vanishes, shifts stay."""
    source = Input(name="image", inputs=(), shape=(channels, 32, 32))
    means = Conv(
        name="means",
        inputs=("image",),
        shape=(channels, 4, 4),
        kernel_shape=(8, 8),
        strides=(8, 8),
        groups=channels,
    )
    params: Params = {
        "means": {
            "kernel": np.full((channels, 1, 8, 8), 1 / 64, np.float32),
            "bias": np.zeros(channels, np.float32),
        }
    }
    return Graph("means", (source, means), ("means",)), params


def even_areas(mean: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray]:
    """Images of 8x8 patches of nearly one colour, near the mean."""
    rng = np.random.default_rng(0)
    patches = rng.integers(-20, 20, (8, len(mean), 4, 1, 4, 1)) + 110
    pixels = (patches + rng.integers(-2, 3, (8, len(mean), 4, 8, 4, 8))).reshape(8, len(mean), 32, 32)
    normalized = (pixels - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
    return {"image": normalized.astype(np.float32)}


def ranged(mean: list[float], std: list[float], recipe: Recipe):
    graph, params = network(len(mean))
    images = even_areas(np.array(mean), np.array(std))
    ends = pixel_ends(Preprocessing(decode="rgb", mean=tuple(mean), std=tuple(std)))
    found, step = with_input_range(graph, params, recipe, ends, lambda count: some(images, count))
    return found.input_ranges.get("image"), ends, step


def test_ends_are_those_of_pixels_over_all_channels() -> None:
    assert pixel_ends(Preprocessing(decode="gray", mean=(127.0,), std=(128.0,))) == (-127 / 128, 1.0)
    three = Preprocessing(decode="rgb", mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 50.0))
    assert pixel_ends(three) == (-2.0, 155 / 50)


def test_steps_that_are_pixels_stay() -> None:
    found, ends, step = ranged([100.0, 100.0, 100.0], [51.0, 51.0, 51.0], Recipe())
    assert found == ends and step is None


def test_steps_that_are_nearly_pixels_are_widened() -> None:
    found, ends, step = ranged([110.3, 108.4, 105.0], [18392.0, 18536.0, 17826.0], Recipe())
    assert found is not None and step is not None and step.applied and "times that of pixels" in step.note
    assert pytest.approx(found[0] / ends[0]) == found[1] / ends[1]
    assert min(abs(found[1] / ends[1] - share) for share in SHARES) < 1e-6


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(layer_ranges={"image": ActivationRange("manual", (-1.0, 1.0))}),
        Recipe(precision=Precision(16, 8)),
        Recipe(precision=Precision(4, 4)),
    ],
)
def test_nothing_is_tried_where_the_script_or_the_bits_decide(recipe: Recipe) -> None:
    found, ends, step = ranged([110.3, 108.4, 105.0], [18392.0, 18536.0, 17826.0], recipe)
    assert found == ends and step is None
