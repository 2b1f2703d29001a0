"""Boxes, masks and texts from the folders in which people have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mz import data, zoo
from mz.data.opening import open_dataset
from mz.errors import UserError


def picture(path: Path, width: int = 40, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 9, 9)).save(path)


def coco(path: Path) -> dict[str, object]:
    content: dict[str, object] = {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 20},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 20},
        ],
        "categories": [{"id": 90, "name": "tooth"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 90, "bbox": [4, 5, 20, 10]},
            {"image_id": 7, "category_id": 2, "bbox": [0, 0, 40, 20], "iscrowd": 1},
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return content


@pytest.mark.parametrize("place", ["instances.json", "annotations/instances_val.json"])
@pytest.mark.parametrize("images", ["", "images"])
def test_coco(tmp_path: Path, place: str, images: str) -> None:
    coco(tmp_path / place)
    for name in ("a.png", "b.png"):
        picture(tmp_path / images / name)
    for path in (tmp_path, tmp_path / place):
        dataset = open_dataset(None, path, task="detection")
        assert dataset.class_names == ("cat", "tooth") and len(dataset) == 2
        assert dataset.labels is not None
        none, some = dataset.labels[0], dataset.labels[1]
        assert len(none) == 0 and none.corners.shape == (0, 4)
        assert some.classes.tolist() == [1, 0] and some.crowd.tolist() == [False, True]
        assert some.corners[0] == pytest.approx([0.1, 0.25, 0.6, 0.75])


def test_coco_classes_by_name(tmp_path: Path) -> None:
    coco(tmp_path / "x.json")
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    spec = zoo.DatasetSpec(class_names=("dog", "tooth", "cat"))
    dataset = open_dataset(spec, tmp_path, task="detection")
    assert dataset.labels is not None and dataset.labels[1].classes.tolist() == [1, 2]
    with pytest.raises(UserError, match="2 categories cannot be matched with the 3 classes"):
        open_dataset(zoo.DatasetSpec(class_names=("a", "b", "c")), tmp_path, task="detection")


def test_coco_without_its_image(tmp_path: Path) -> None:
    coco(tmp_path / "x.json")
    picture(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"x\.json: its image b\.png is not beside it"):
        open_dataset(None, tmp_path, task="detection")


@pytest.mark.parametrize("content", ["{", '{"images": 3}', "[]"])
def test_a_json_that_is_no_coco(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json"):
        open_dataset(zoo.DatasetSpec(kind="coco"), tmp_path / "x.json", task="detection")


@pytest.mark.parametrize("apart", [True, False])
def test_yolo(tmp_path: Path, apart: bool) -> None:
    images, labels = (tmp_path / "images", tmp_path / "labels") if apart else (tmp_path, tmp_path)
    labels.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        picture(images / name)
    (labels / "b.txt").write_text("1 0.5 0.5 0.2 0.4\n\n")
    (tmp_path / "my.names").write_text("cat\ndog\n")
    dataset = open_dataset(None, tmp_path, task="detection")
    assert dataset.class_names == ("cat", "dog") and dataset.labels is not None
    assert len(dataset.labels[0]) == 0
    assert dataset.labels[1].corners[0] == pytest.approx([0.4, 0.3, 0.6, 0.7])
    few = data.subset(dataset, 1)
    assert few.labels is not None and len(few.labels) == 1
    (labels / "b.txt").write_text("1 0.5 0.5 0.2\n")
    with pytest.raises(UserError, match=r"b\.txt:1: expected `class centre_x"):
        open_dataset(None, tmp_path, task="detection")


def test_a_class_beyond_those_of_the_network(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.2 0.4")
    with pytest.raises(UserError, match="label 2 is beyond the 2 classes"):
        open_dataset(zoo.DatasetSpec(class_names=("a", "b")), tmp_path, task="detection")


def test_faces(tmp_path: Path) -> None:
    rect = {"left": 0.1, "top": 0.2, "right": 0.3, "bottom": 0.4}
    for part, name, place in (
        ("one", "a", "faces/one/a.jpg"),
        ("two", "b", "faces/images_two/b.jpg"),
        ("two", "c", "other/images/c.jpg"),
    ):
        file = tmp_path / "faces" / part / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        regions = [{"label": 5, "rect": rect}, {"label": 0, "rect": rect}]
        file.write_text(json.dumps({"file_name": f"{name}.jpg", "regions": regions}))
        picture(tmp_path / place)
    dataset = open_dataset(None, tmp_path / "faces", task="face_detection")
    assert dataset.labels is not None
    assert [dataset.labels[i].corners.tolist() for i in range(3)] == [[[0.1, 0.2, 0.3, 0.4]]] * 3
    (tmp_path / "other/images/c.jpg").unlink()
    with pytest.raises(UserError, match=r"c\.json: its image c\.jpg is neither"):
        open_dataset(None, tmp_path / "faces", task="face_detection")


def test_masks_are_read_with_their_images(tmp_path: Path) -> None:
    for index in range(3):
        picture(tmp_path / "images" / f"{index}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 40), index, np.uint8)).save(tmp_path / "labels" / f"{index}.png")
    dataset = open_dataset(None, tmp_path, task="segmentation")
    preprocess = data.preprocessing(zoo.Preprocessing(decode="rgb"))
    parts = list(data.batches(dataset, preprocess, 2))
    masks = [mask for _, about in parts for mask in about.labels or ()]
    assert [mask.shape for mask in masks] == [(20, 40)] * 3
    assert [int(mask[0, 0]) for mask in masks] == [0, 1, 2]
    assert data.subset(dataset, 2).labels[1][0, 0] == 1  # type: ignore[index]
    picture(tmp_path / "labels" / "1.png")
    with pytest.raises(UserError, match=r"1\.png: a mask of mode RGB"):
        list(data.batches(dataset, preprocess, 2))
    (tmp_path / "labels" / "2.png").unlink()
    with pytest.raises(UserError, match=r"2\.jpg: no mask of this name"):
        open_dataset(None, tmp_path, task="segmentation")


def test_lines(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "unlisted.png"):
        picture(tmp_path / "images" / name)
    (tmp_path / "labels.tsv").write_text("b.png\tzwei  \na.png\t\n\n", encoding="utf-8")
    dataset = open_dataset(None, tmp_path, task="text_recognition")
    assert dataset.labels is not None and [dataset.labels[0], dataset.labels[1]] == ["", "zwei  "]
    (tmp_path / "labels.tsv").write_text("b.png zwei\n")
    with pytest.raises(UserError, match=r"labels\.tsv:1: expected a file name, a tab and a text"):
        open_dataset(None, tmp_path, task="text_recognition")
    (tmp_path / "labels.tsv").write_text("c.png\tdrei\n")
    with pytest.raises(UserError, match=r"labels\.tsv:1: c\.png is not in"):
        open_dataset(None, tmp_path, task="text_recognition")


@pytest.mark.parametrize("labelled", [True, False])
def test_every_line_is_shown_both_ways(tmp_path: Path, labelled: bool) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (4, 9, 3), np.uint8) for _ in range(5)]
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    if labelled:
        (tmp_path / "labels.tsv").write_text("".join(f"{index}.png\tx\n" for index in range(5)))
    dataset = open_dataset(None, tmp_path, task="text_orientation")
    assert isinstance(dataset.labels, np.ndarray) and dataset.labels.tolist() == [0] * 5 + [1] * 5
    for index, image in enumerate(images):
        assert np.array_equal(dataset.read(index), image)
        assert np.array_equal(dataset.read(5 + index), image[::-1, ::-1])
    half = data.subset(dataset, 4)
    assert isinstance(half.labels, np.ndarray) and half.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("task", ["detection", "face_detection", "segmentation", "text_recognition"])
@pytest.mark.parametrize("inner", ["", "images"])
def test_images_alone_have_no_labels(tmp_path: Path, task: str, inner: str) -> None:
    picture(tmp_path / inner / "a.png")
    dataset = open_dataset(None, tmp_path, task=task)
    assert len(dataset) == 1 and dataset.labels is None


def test_content_key_sees_every_kind_of_label(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    files = (tmp_path / "a.png",)
    kinds = [
        data.LabelList(("x",)),
        data.LabelList(("y",)),
        data.LabelList((data.Boxes.of([[0, 0, 1, 1]], [0]),)),
        data.LabelList((data.Boxes.of([[0, 0, 1, 1]], [1]),)),
        data.LabelList((data.Boxes.of([[0, 0, 1, 1]], [1], [True]),)),
        None,
    ]
    keys = {data.content_key(data.FileDataset("x", files, labels)) for labels in kinds}
    assert len(keys) == len(kinds)
