from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mz import data, zoo
from mz.data.idx import read_idx
from mz.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 5, 4), np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def write(folder: Path, part: str, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> None:
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))


def test_bundled_sets_are_whole() -> None:
    config = zoo.load_network("resnet8_fashion")
    test = data.open_evaluation(config)
    assert len(test) == 10_000
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert test.class_names[9] == "Ankle boot"
    calibration = data.open_dataset(config.quantization.calibration.dataset)
    assert len(calibration) == 2048
    assert len(data.open_calibration(config)) == config.quantization.calibration.count


def test_no_test_image_is_a_calibration_image() -> None:
    config = zoo.load_network("resnet8_fashion")
    spec = config.quantization.calibration.dataset
    test = {image.tobytes() for image in data.open_evaluation(config).read_many(0, 10_000)}
    assert not [image for image in data.open_dataset(spec).read_many(0, 2048) if image.tobytes() in test]


def test_published_names_gzipped_or_not(tmp_path: Path) -> None:
    write(tmp_path, "t10k")
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx_bytes(IMAGES[:3]))
    (tmp_path / "train-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(LABELS[:3])))
    test = data.open_dataset(zoo.DatasetSpec(split="test"), tmp_path)
    calibration = data.open_dataset(zoo.DatasetSpec(split="calibration"), tmp_path)
    assert np.array_equal(test.read_many(0, 7), IMAGES)
    assert test.labels is not None
    assert test.labels.dtype == np.int64 and np.array_equal(test.labels, LABELS)
    assert len(calibration) == 3


def test_a_single_part_serves_both_splits(tmp_path: Path) -> None:
    write(tmp_path, "emnist-letters")
    assert len(data.open_dataset(zoo.DatasetSpec(split="calibration"), tmp_path)) == 7


def test_two_parts_of_unknown_names_are_in_doubt(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    with pytest.raises(UserError, match="no idx images for test .*; found: a, b"):
        data.open_dataset(zoo.DatasetSpec(), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx_bytes(IMAGES))[:-20], "truncated or damaged"),
        (b"\x1f\x8b" + b"nonsense" * 4, "truncated or damaged"),
        (gzip.compress(idx_bytes(IMAGES))[:40] + bytes(40), "truncated or damaged"),
        (idx_bytes(IMAGES)[:-1], "holds 139 bytes of data, its header announces 140"),
        (idx_bytes(LABELS), "not an idx file of bytes with 3 axes: begins with 00000801, not 00000803"),
        (b"\x89PNG\r\n", "not an idx file"),
        (b"", "not an idx file"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        data.open_dataset(zoo.DatasetSpec(), tmp_path)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_labels_must_fit_images_and_classes(tmp_path: Path) -> None:
    write(tmp_path, "t10k", labels=LABELS[:5])
    with pytest.raises(UserError, match="5 labels for the 7 images"):
        data.open_dataset(zoo.DatasetSpec(), tmp_path)
    write(tmp_path, "t10k")
    with pytest.raises(UserError, match="label 6 is beyond the 2 classes"):
        data.open_dataset(zoo.DatasetSpec(class_names=("a", "b")), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: no such file"):
        read_idx(tmp_path / "gone", 3)
