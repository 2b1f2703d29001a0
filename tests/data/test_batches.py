from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mz import data, zoo
from mz.data.preprocess import as_decoded, pad
from mz.errors import UserError

RNG = np.random.default_rng(0)
GRAY = data.preprocessing(zoo.Preprocessing(decode="gray", mean=(72.94,), std=(90.02,)))


def arrays(count: int = 11) -> data.ArrayDataset:
    return data.ArrayDataset("x", RNG.integers(0, 256, (count, 6, 5), np.uint8), np.arange(count))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_batches_are_the_whole_set_in_order(threads: int, batch_size: int) -> None:
    dataset = arrays()
    parts = list(data.batches(dataset, GRAY, batch_size, threads))
    assert np.array_equal(np.concatenate([x for x, _ in parts]), GRAY(dataset.images))
    assert np.concatenate([about.labels for _, about in parts]).tolist() == list(range(11))
    assert np.concatenate([about.indices for _, about in parts]).tolist() == list(range(11))
    assert all((about.sizes == (6, 5)).all() for _, about in parts)
    assert [len(x) for x, _ in parts[:-1]] == [batch_size] * (len(parts) - 1)


def test_files_give_the_batches_that_arrays_give(tmp_path: Path) -> None:
    dataset = arrays()
    for index, image in enumerate(dataset.images):
        Image.fromarray(image).save(tmp_path / f"{index:02}.png")
    files = data.open_dataset(zoo.DatasetSpec(), tmp_path)
    for (ours, about), (wanted, _) in zip(
        data.batches(files, GRAY, 4), data.batches(dataset, GRAY, 4), strict=True
    ):
        assert about.labels is None
        assert np.array_equal(ours, wanted)


@given(st.sets(st.integers(0, 10)))
def test_what_one_set_holds_beyond_another(seen: set[int]) -> None:
    whole = arrays()
    turned = data.TurnedDataset.of(whole)
    part = whole.take(np.array(sorted(seen), np.int64))
    rest, turned_rest = data.without(whole, part), data.without(turned, part)
    if len(seen) == 11:
        assert rest is None and turned_rest is None
    else:
        assert rest is not None and turned_rest is not None
        assert rest.labels.tolist() == [place for place in range(11) if place not in seen]
        assert turned_rest.labels.tolist() == [0] * len(rest) + [1] * len(rest)


def test_files_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(arrays().images[0]).save(tmp_path / f"{index}.png")
    files = data.open_dataset(zoo.DatasetSpec(), tmp_path)
    rest = data.without(files, data.subset(files, 2))
    assert rest is not None
    assert [file.name for file in rest.files] == ["1.png", "3.png"]


def test_images_of_several_forms_in_one_batch(tmp_path: Path) -> None:
    Image.new("RGB", (5, 6), (9, 9, 9)).save(tmp_path / "a.png")
    Image.new("L", (5, 6), 9).save(tmp_path / "b.png")
    ((x, _),) = data.batches(data.open_dataset(zoo.DatasetSpec(), tmp_path), GRAY, 4)
    assert x.shape == (2, 1, 6, 5)
    assert np.array_equal(x[0], x[1])


def test_an_error_comes_in_the_place_of_its_batch(tmp_path: Path) -> None:
    for index in range(6):
        Image.new("L", (5, 6), index).save(tmp_path / f"{index}.png")
    (tmp_path / "3.png").write_text("no image")
    stream = data.batches(data.open_dataset(zoo.DatasetSpec(), tmp_path), GRAY, 2)
    assert len(next(stream)[0]) == 2
    with pytest.raises(UserError, match=r"3\.png: not an image"):
        next(stream)


def test_only_a_few_batches_are_read_ahead() -> None:
    started: list[int] = []

    def preprocess(images: np.ndarray) -> np.ndarray:
        started.append(len(images))
        return GRAY(images)

    stream = data.batches(arrays(100), preprocess, 1, threads=2)
    next(stream)
    time.sleep(0.05)
    assert len(started) <= 4


def test_leaving_early_ends_the_threads() -> None:
    stream = data.batches(arrays(100), GRAY, 1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mz-data")]


def test_ten_thousand_images_cost_well_under_a_second() -> None:
    config = zoo.load_network("resnet8_fashion")
    dataset = data.open_evaluation(config)
    preprocess = data.preprocessing(config.preprocessing)
    began = time.process_time()
    assert sum(len(x) for x, _ in data.batches(dataset, preprocess, 64)) == 10_000
    assert time.process_time() - began < 1.0


def test_preprocessing_is_the_training_arithmetic() -> None:
    config = zoo.load_network("resnet8_fashion").preprocessing
    images = RNG.integers(0, 256, (3, 28, 28), np.uint8)
    x = data.preprocessing(config)(images)
    padded = np.zeros((3, 32, 32), np.float32)
    padded[:, 2:30, 2:30] = images
    wanted = (padded - np.float32(72.94)) / np.float32(90.02)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    assert np.array_equal(x, wanted[:, None])


def test_channels_take_their_own_mean_and_std() -> None:
    config = zoo.Preprocessing(decode="bgr", mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    x = data.preprocessing(config)(np.full((1, 2, 2, 3), (11, 22, 33), np.uint8))
    assert x[0, :, 0, 0].tolist() == [32.0, 10.0, 2.0]


def test_gray_is_pillows() -> None:
    rgb = RNG.integers(0, 256, (1, 64, 64, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(rgb[0]).convert("L"))
    assert np.array_equal(as_decoded(rgb, "gray")[0, ..., 0], wanted)


def test_gray_images_for_a_colour_network() -> None:
    gray = RNG.integers(0, 256, (2, 4, 4), np.uint8)
    for order in ("rgb", "bgr"):
        assert np.array_equal(as_decoded(gray, order), np.stack([gray] * 3, axis=3))


@given(st.tuples(*[st.integers(0, 4)] * 4))
def test_pad_puts_zeros_on_each_side(sides: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = sides
    out = pad(np.ones((1, 3, 2, 1), np.uint8), sides)
    assert out.shape == (1, 3 + top + bottom, 2 + left + right, 1)
    assert out.sum() == 6
    assert out[0, top : top + 3, left : left + 2].all()


@given(st.integers(1, 300), st.data())
def test_a_subset_is_evenly_spaced(size: int, draw: st.DataObject) -> None:
    count = draw.draw(st.integers(1, size))
    dataset = data.ArrayDataset("x", np.zeros((size, 1, 1), np.uint8), np.arange(size))
    chosen = data.subset(dataset, count).labels
    assert chosen is not None and len(chosen) == count and chosen[0] == 0
    gaps = np.diff([*chosen, size])
    assert gaps.max() - gaps.min() <= 1


def test_too_few_images_are_never_silent(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("L", (28, 28)).save(tmp_path / f"{index}.png")
    config = zoo.load_network("resnet8_fashion")
    with pytest.raises(UserError, match="holds 3 images, 4 were asked for"):
        data.open_calibration(config, tmp_path, 4)
    assert len(data.open_calibration(config, tmp_path)) == 3
    assert len(data.open_calibration(config, tmp_path, 2)) == 2
    assert len(data.open_evaluation(config, count=100)) == 100


def test_content_key_sees_images_and_labels_alone(tmp_path: Path) -> None:
    dataset = arrays()
    key = data.content_key(dataset)
    assert key == data.content_key(data.ArrayDataset("other", dataset.images.copy(), dataset.labels))
    assert key != data.content_key(data.ArrayDataset("x", dataset.images, None))
    assert key != data.content_key(data.ArrayDataset("x", dataset.images[::-1], dataset.labels))
    Image.new("L", (5, 6), 3).save(tmp_path / "a.png")
    before = data.content_key(data.open_dataset(zoo.DatasetSpec(), tmp_path))
    Image.new("L", (5, 6), 4).save(tmp_path / "a.png")
    assert before != data.content_key(data.open_dataset(zoo.DatasetSpec(), tmp_path))
