"""Crops and resizes against Pillow's own, and class folders that lie one floor deeper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mz import data, zoo
from mz.data.preprocess import center_crop, resize
from mz.zoo.schema import Resize

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(320, 427), (333, 250), (57, 56), (1, 9)])
def test_center_crop_is_that_of_tensorflow(shape: tuple[int, int]) -> None:
    images = RNG.integers(0, 256, (2, *shape, 3), np.uint8)
    side = max(int(224 / 256 * min(shape)), 1)
    top, left = ((size - side + 1) // 2 for size in shape)
    cropped = center_crop(images, 224, 256)
    assert np.array_equal(cropped, images[:, top : top + side, left : left + side])
    assert cropped.shape[1:3] == (side, side)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
def test_resize_is_that_of_pillow(method: str, channels: int) -> None:
    images = RNG.integers(0, 256, (2, 40, 31, channels), np.uint8)
    resized = resize(images, Resize(17, 50, method))  # type: ignore[arg-type]
    for image, found in zip(images, resized, strict=True):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        expected = picture.resize((50, 17), Image.Resampling[method.upper()])
        assert np.array_equal(found, np.asarray(expected).reshape(17, 50, channels))


def test_imagenets_folders_give_labels_by_their_names(tmp_path: Path) -> None:
    config = zoo.load_network("efficientnet_lite0")
    for name in ("n01440764", "n15075141", "n02102040"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (300, 270)).save(tmp_path / "images" / name / "x.png")
    (tmp_path / "README.md").write_text("x")
    dataset = data.open_evaluation(config, tmp_path)
    assert dataset.labels is not None and list(dataset.labels) == [0, 217, 999]
    x = data.preprocessing(config.preprocessing)(np.asarray(dataset.read_many(0, 3)))
    assert x.shape == (3, 3, 224, 224) and np.unique(x) == [np.float32(-127 / 128)]
