from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mz import data, zoo
from mz.errors import UserError

AUTO = zoo.DatasetSpec()


def picture(path: Path, value: int = 0, size: tuple[int, int] = (4, 3), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0, 255)[: len(mode)]).save(path)


def test_class_folders_in_sorted_order(tmp_path: Path) -> None:
    for value, name in enumerate(["cat/b.png", "ant/z.png", "ant/a.png", "bee/q.png"]):
        picture(tmp_path / name, value)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".DS_Store").write_text("")
    dataset = data.open_dataset(AUTO, tmp_path)
    assert dataset.class_names == ("ant", "bee", "cat")
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 1, 2]
    assert [int(dataset.read(index)[0, 0]) for index in range(4)] == [2, 1, 3, 0]


def test_numbered_class_folders_keep_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        picture(tmp_path / str(number) / "x.png", number)
    dataset = data.open_dataset(AUTO, tmp_path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [int(dataset.read(index)[0, 0]) for index in range(3)]


def test_folders_named_by_class_keep_the_order_of_the_network(tmp_path: Path) -> None:
    for name in ("dog", "ant"):
        picture(tmp_path / name / "x.png")
    dataset = data.open_dataset(zoo.DatasetSpec(class_names=("dog", "cat", "ant")), tmp_path)
    assert dataset.labels is not None and dataset.labels.tolist() == [2, 0]


def test_folders_that_match_no_class_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        picture(tmp_path / name / "x.png")
    with pytest.raises(UserError, match="its 2 class folders cannot be matched with the 3 classes"):
        data.open_dataset(zoo.DatasetSpec(class_names=("dog", "cat", "ant")), tmp_path)
    assert len(data.open_dataset(zoo.DatasetSpec(class_names=("dog", "cat")), tmp_path)) == 2


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "b.png", 1)
    picture(tmp_path / "a.JPG", 0)
    dataset = data.open_dataset(AUTO, tmp_path)
    assert dataset.labels is None and len(dataset) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "a.png 3\nb.png dog\n"),
        ("labels.csv", "file,label\nb.png, 1\na.png,3\n\n"),
        ("labels.tsv", "a.png\tbig cat\nb.png\tdog\n"),
    ],
)
def test_listed_labels(tmp_path: Path, name: str, text: str) -> None:
    for file in ("a.png", "b.png"):
        picture(tmp_path / file)
    (tmp_path / name).write_text(text)
    names = ("ant", "dog", "emu", "big cat")
    dataset = data.open_dataset(zoo.DatasetSpec(class_names=names), tmp_path)
    assert dataset.labels is not None and dataset.labels.tolist() == [3, 1]
    assert data.open_dataset(zoo.DatasetSpec(split="calibration"), tmp_path).labels is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 1\nb.png x\n", "labels.txt:2: expected a file name and a label, found 'b.png x'"),
        ("a.png 1\n", "labels.txt: no label for b.png"),
    ],
)
def test_listed_labels_must_be_whole(tmp_path: Path, text: str, message: str) -> None:
    for file in ("a.png", "b.png"):
        picture(tmp_path / file)
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        data.open_dataset(AUTO, tmp_path)


def test_colours_are_kept_as_stored(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 7, mode="RGBA")
    picture(tmp_path / "b.png", 7)
    dataset = data.open_dataset(AUTO, tmp_path)
    assert dataset.read(0).tolist() == [[[7, 0, 0]] * 4] * 3
    assert dataset.read(1).tolist() == [[7] * 4] * 3
    assert isinstance(dataset.read_many(0, 2), list)


@pytest.mark.parametrize("name", ["notes.pdf", "cat/notes.pdf", "data.bin"])
def test_a_stray_file_is_named(tmp_path: Path, name: str) -> None:
    picture(tmp_path / Path(name).parent / "x.png")
    (tmp_path / name).write_text("no image")
    with pytest.raises(UserError) as caught:
        data.open_dataset(AUTO, tmp_path)
    assert str(caught.value) == f"{tmp_path / name}: not an image: remove it from the data folder"


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    picture(tmp_path / "b.png", size=(64, 64))
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:-30])
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "c.png")
    dataset = data.open_dataset(AUTO, tmp_path)
    for index, message in enumerate(["not an image that can be read", "cannot be read: ", "mode I"]):
        with pytest.raises(UserError, match=message) as caught:
            dataset.read(index)
        assert str(dataset.files[index]) in str(caught.value)  # type: ignore[attr-defined]
        assert "\n" not in str(caught.value)


def test_wrong_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        data.open_dataset(AUTO, tmp_path / "gone")
    with pytest.raises(UserError, match="no images in this folder"):
        data.open_dataset(AUTO, tmp_path)
    picture(tmp_path / "x.png")
    with pytest.raises(UserError, match="expected a folder of images"):
        data.open_dataset(AUTO, tmp_path / "x.png")
    picture(tmp_path / "class" / "x.png")
    with pytest.raises(UserError, match=r"x\.png: an image beside class folders"):
        data.open_dataset(AUTO, tmp_path)
    with pytest.raises(UserError, match="needs a path"):
        data.open_dataset(AUTO)
    with pytest.raises(UserError, match="no bundled data set is named 'x'"):
        data.open_dataset(zoo.DatasetSpec(kind="bundled", name="x"))


def test_nested_class_folders_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "b" / "x.png")
    with pytest.raises(UserError, match="a class folder holds images, not further folders"):
        data.open_dataset(AUTO, tmp_path)


def test_arrays(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", images[..., None])
    assert np.array_equal(data.open_dataset(AUTO, tmp_path / "a.npy").read_many(0, 2), images)
    np.savez(tmp_path / "b.npz", images=images, labels=np.array([4, 2]))
    dataset = data.open_dataset(AUTO, tmp_path / "b.npz")
    assert dataset.labels is not None and dataset.labels.tolist() == [4, 2]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 3, 4), np.float32)}, r"images are float32 \[2, 3, 4\]; expected raw uint8"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, "expected raw uint8"),
        ({"images": np.zeros((2, 3, 4), np.uint8), "labels": np.zeros(3, int)}, "expected 2 integers"),
        ({"p": np.zeros(1), "q": np.zeros(1)}, "no array named images or x or data; it has p, q"),
        ({"images": np.array([None])}, "not a numpy file that can be read"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=message):
        data.open_dataset(AUTO, tmp_path / "x.npz")


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    for name in ("x.npz", "x.npy"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(UserError, match=f"{name}: not a numpy file"):
            data.open_dataset(AUTO, tmp_path / name)


def test_real_photographs(mirror: Path) -> None:
    dataset = data.open_dataset(AUTO, mirror / "data" / "imagenet_dev" / "images")
    assert len(dataset) == 1000
    assert dataset.labels is not None and dataset.labels.tolist() == list(range(1000))
    assert min(dataset.read(0).shape[:2]) == 320
