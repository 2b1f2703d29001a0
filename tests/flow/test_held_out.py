"""Images that calibrate and images that judge are never the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mz import data, zoo
from mz.errors import UserError
from mz.flow.held_out import split

FASHION = zoo.load_network("resnet8_fashion")
CIFAR = zoo.load_network("resnet20_cifar10")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(12):
        pixels = np.full((32, 32, 3), index, np.uint8)
        (tmp_path / f"{index % 3}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"{index % 3}" / f"{index:02}.png")
    return tmp_path


def test_a_network_with_a_test_set_is_judged_by_it() -> None:
    calibration, evaluation = split(FASHION, None, 16, None, 50)
    assert (len(calibration), len(evaluation)) == (16, 50)
    assert evaluation.labels is not None


@pytest.mark.parametrize("named", [True, False])
def test_one_folder_serves_for_both(photos: Path, named: bool) -> None:
    calibration, evaluation = split(CIFAR, photos, 3, photos if named else None, None)
    assert (len(calibration), len(evaluation)) == (3, 9)
    assert data.without(evaluation, calibration) is evaluation
    calibration, evaluation = split(CIFAR, photos, None, photos if named else None, None)
    assert (len(calibration), len(evaluation)) == (3, 9)


def test_nothing_left_to_judge_by_is_an_error(photos: Path) -> None:
    with pytest.raises(UserError, match="none is left.*--data-path"):
        split(CIFAR, photos, 12, None, None)
