"""CIFAR-10 in its two forms, and everything that is not quite one of them."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mz import data
from mz.errors import UserError
from mz.zoo import DatasetSpec

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
LABELS = [3, 8, 0, 6, 1, 9]
NAMES = tuple("abcdefghij")


def by_channel(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def batch(images: np.ndarray = IMAGES, labels: Any = LABELS, protocol: int = 2, **more: Any) -> bytes:
    """As the authors' Python wrote it: text keys as bytes."""
    return pickle.dumps(
        {b"data": by_channel(images), b"labels": labels, b"batch_label": b"x"} | more, protocol
    )


def write_images(folder: Path, name: str, images: np.ndarray = IMAGES, labels: Any = LABELS) -> None:
    Image.fromarray(images.reshape(len(images), 1024, 3)).save(folder / f"{name}_batch.png")
    (folder / f"{name}_lables.json").write_text(json.dumps(labels))


def opened(path: Path, split: str = "test") -> data.Dataset:
    return data.open_dataset(DatasetSpec(split=split, class_names=NAMES), path)  # type: ignore[arg-type]


def is_whole(dataset: data.Dataset, images: np.ndarray = IMAGES, labels: list[int] = LABELS) -> bool:
    return np.array_equal(dataset.read_many(0, len(dataset)), images) and list(dataset.labels) == labels  # type: ignore[arg-type]


def test_batch_images(tmp_path: Path) -> None:
    write_images(tmp_path, "test")
    assert is_whole(opened(tmp_path)) and is_whole(opened(tmp_path, "calibration"))
    assert opened(tmp_path).class_names == NAMES
    write_images(tmp_path, "data", IMAGES[:2], LABELS[:2])
    (tmp_path / "data_lables.json").rename(tmp_path / "train_labels.json")
    assert is_whole(opened(tmp_path)) and is_whole(opened(tmp_path, "calibration"), IMAGES[:2], LABELS[:2])


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_python_archive_unpacked(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "test_batch").write_bytes(batch(protocol=protocol))
    (tmp_path / "data_batch_1").write_bytes(batch(IMAGES[:2], LABELS[:2], protocol))
    (tmp_path / "data_batch_2").write_bytes(batch(IMAGES[2:], LABELS[2:], protocol))
    (tmp_path / "batches.meta").write_bytes(b"")
    (tmp_path / "readme.html").write_text("x")
    assert is_whole(opened(tmp_path)) and is_whole(opened(tmp_path, "calibration"))


def test_the_python_archive_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("cifar-10-batches-py/test_batch", "../../data_batch_1"):
            info = tarfile.TarInfo(name)
            info.size = len(batch())
            archive.addfile(info, io.BytesIO(batch()))
    assert is_whole(opened(path)) and is_whole(opened(path, "calibration"))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="the archive cannot be read"):
        opened(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("broken into",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch(more=Evil()), "asks for .*print, which is not data"),
        (batch(labels=LABELS[:-1]), "5 labels for 6 images"),
        (batch(labels=[-1] * 6), "no list of whole numbers"),
        (batch(labels=None), "has no data and labels"),
        (batch()[:-30], "not a pickle"),
        (pickle.dumps([1]), "holds a list"),
        (pickle.dumps({b"data": np.zeros((6, 9), np.uint8), b"labels": LABELS}, 2), "data of shape"),
        (pickle.dumps({b"data": np.zeros((6, 3072)), b"labels": LABELS}, 2), "no array of bytes"),
    ],
)
def test_pickles_that_are_no_batch(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=f"test_batch: .*{message}"):
        opened(tmp_path)


def test_images_that_are_no_batch(tmp_path: Path) -> None:
    write_images(tmp_path, "test", labels=[1, 2])
    with pytest.raises(UserError, match=r"test_lables\.json: 2 labels for 6 images"):
        opened(tmp_path)
    (tmp_path / "test_lables.json").write_text("[1,")
    with pytest.raises(UserError, match=r"test_lables\.json: not a JSON list"):
        opened(tmp_path)
    (tmp_path / "test_lables.json").unlink()
    with pytest.raises(UserError, match=r"no test_labels\.json beside test_batch\.png"):
        opened(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "test_batch.png")
    (tmp_path / "test_labels.json").write_text("[1]")
    with pytest.raises(UserError, match="32x32 pixels; a batch has one image of 1024 RGB pixels a row"):
        opened(tmp_path)


def test_a_label_beyond_the_classes(tmp_path: Path) -> None:
    write_images(tmp_path, "test", labels=[0, 1, 2, 3, 4, 10])
    with pytest.raises(UserError, match="label 10 is beyond the 10 classes"):
        opened(tmp_path)
