from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz import data, zoo
from mz.data.geometry import filled, fit, fit_height, fitted, stretch
from mz.data.resample import resize_linear
from mz.errors import UserError
from mz.zoo.schema import Step

SIDES = st.integers(1, 40)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_resize_by_opencvs_values() -> None:
    """Golden values of cv2.resize (5.0.0): both axes enlarged, edges included, and one reduced."""
    image = np.array([[114, 213, 74], [181, 98, 234]], np.uint8)[..., None]
    wanted = [
        [114, 176, 161, 74],
        [114, 176, 161, 74],
        [118, 173, 160, 83],
        [133, 163, 157, 118],
        [148, 152, 155, 154],
        [162, 142, 152, 189],
        [177, 132, 149, 225],
        [181, 129, 149, 234],
        [181, 129, 149, 234],
    ]
    assert resize_linear(image, 9, 4)[..., 0].tolist() == wanted
    row = np.array([[0, 255, 255, 0, 255, 0, 0, 255]], np.uint8)[..., None]
    assert resize_linear(row, 1, 4)[0, :, 0].tolist() == [128, 128, 128, 128]


@given(SIDES, SIDES, SIDES, SIDES)
def test_resize_is_bilinear_within_a_level(height: int, width: int, rows: int, columns: int) -> None:
    image = noise(height, width)

    def weights(size: int, out: int) -> np.ndarray:
        place = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
        return np.maximum(0, 1 - abs(place[:, None] - np.arange(size)))

    wanted = np.einsum("yh,hwc,xw->yxc", weights(height, rows), image, weights(width, columns))
    found = resize_linear(image, rows, columns)
    assert found.dtype == np.uint8 and found.shape == (rows, columns, 3)
    assert abs(found - wanted).max() <= 1.25


@given(SIDES, SIDES)
def test_resize_to_its_own_size_and_of_one_colour_changes_nothing(height: int, width: int) -> None:
    image = noise(height, width)
    assert np.array_equal(resize_linear(image, height, width), image)
    assert abs(resize_linear(np.full_like(image, 200), 17, 23).astype(int) - 200).max() <= 1


@given(SIDES, SIDES)
def test_fit_keeps_proportions_at_the_top_left(height: int, width: int) -> None:
    image = noise(height, width)[None]
    out = fit(image, (24, 32), (7.5,))
    inside = fitted((height, width), (24, 32))
    assert inside[0] <= 24 and inside[1] <= 32 and (inside[0] >= 23 or inside[1] >= 31)
    assert np.array_equal(out[:, : inside[0], : inside[1]], stretch(image, inside))
    assert (out[:, inside[0] :] == 7.5).all() and (out[:, :, inside[1] :] == 7.5).all()
    share = filled((height, width), (Step(fit=(24, 32)),))
    assert share == (inside[0] / 24, inside[1] / 32)


@pytest.mark.parametrize(("width", "inside"), [(10, 48), (11, 53), (40, 64), (400, 64)])
def test_fit_height_squeezes_only_what_is_too_wide(width: int, inside: int) -> None:
    image = noise(10, width)[None]
    out = fit_height(image, (48, 64), (127.5, 127.5, 127.5))
    assert np.array_equal(out[:, :, :inside], stretch(image, (48, inside)))
    assert (out[:, :, inside:] == 127.5).all()


def test_what_is_not_filled_is_zero_at_the_input() -> None:
    config = zoo.Preprocessing(
        decode="bgr", steps=(Step(fit_height=(8, 30)),), mean=(127.5, 100.0, 3.0), std=(127.5, 2.0, 1.0)
    )
    x = data.preprocessing(config)(noise(8, 20)[None])
    assert x.shape == (1, 3, 8, 30) and x.dtype == np.float32
    assert (x[..., 20:] == 0).all()
    assert np.array_equal(x[0, 2, :, :20], noise(8, 20)[..., 0] - np.float32(3))


def test_boxes_need_the_whole_image() -> None:
    assert filled((3, 4), (Step(stretch=(9, 9)),)) == (1.0, 1.0)
    with pytest.raises(UserError, match="keep the whole image"):
        filled((3, 4), (Step(pad=(1, 1, 1, 1)),))
