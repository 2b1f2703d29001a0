from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mz import data, zoo
from mz.errors import UserError

RGB = data.preprocessing(zoo.Preprocessing(decode="rgb"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"{index}.jpg")
    for index in (1, 4, 5):
        whole = (tmp_path / f"{index}.jpg").read_bytes()
        (tmp_path / f"{index}.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6])
def test_damaged_images_are_named_and_left_out(folder: Path, batch_size: int) -> None:
    faults: list[str] = []
    dataset = data.open_dataset(None, folder)
    stream = data.batches(dataset, RGB, batch_size, damaged=lambda fault: faults.append(str(fault)))
    parts = list(stream)
    places = np.concatenate([about.indices for _, about in parts])
    assert places.tolist() == [0, 2, 3]
    assert all(len(x) == len(about.indices) == len(about.sizes) > 0 for x, about in parts)
    assert np.array_equal(parts[0][0][0], RGB(dataset.read(0)[None])[0])
    assert [fault.split("/")[-1].split(":")[0] for fault in faults] == ["1.jpg", "4.jpg", "5.jpg"]


def test_labels_stay_with_their_images(tmp_path: Path, folder: Path) -> None:
    dataset = data.FileDataset("x", tuple(sorted(folder.glob("*.jpg"))), data.LabelList(tuple("abcdef")))
    parts = list(data.batches(dataset, RGB, 3, damaged=lambda fault: None))
    assert [label for _, about in parts for label in about.labels or ()] == ["a", "c", "d"]


def test_without_anyone_to_tell_they_are_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match=r"1\.jpg: the image cannot be read"):
        list(data.batches(data.open_dataset(None, folder), RGB, 2))


def test_a_file_that_is_no_image_is_always_an_error(folder: Path) -> None:
    (folder / "3.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"3\.jpg: not an image"):
        list(data.batches(data.open_dataset(None, folder), RGB, 2, damaged=lambda fault: None))
