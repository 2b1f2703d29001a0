"""Images with boxes: COCO's JSON, YOLO's text files, and JSON files of face regions, one an image.

Formats: cocodataset.org/#format-data; a YOLO line is `class centre_x centre_y width height` in shares of the image; a
region file holds `file_name` and `regions`, each with a `label` (0 is a face) and a `rect` in shares of the image.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from mz.data.dataset import FileDataset
from mz.data.folder import image_files, open_flat
from mz.data.labels import Boxes, LabelList
from mz.errors import UserError

_FACE = 0


def recognize(path: Path) -> str:
    """`coco`, `yolo`, `faces`, or `images` for a folder without labels."""
    if path.is_file() or _coco_file(path) is not None:
        return "coco"
    if (path / "labels").is_dir() or any(path.glob("*.txt")):
        return "yolo"
    return "faces" if _region_files(path) else "images"


def open_coco(path: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """A COCO JSON file, or a folder with one in it or in its `annotations`.

    Classes are matched by name where all names are known, else numbered in the order of their ids.
    """
    file = path if path.is_file() else _coco_file(path)
    if file is None:
        raise UserError(f"{path}: no COCO file (a JSON with images and annotations) in this folder")
    data = _json(file)
    try:
        categories = sorted(data["categories"], key=lambda category: int(category["id"]))
        own_names = tuple(str(category["name"]) for category in categories)
        known = class_names if set(own_names) <= set(class_names) else own_names
        if class_names and len(known) != len(class_names):
            raise UserError(
                f"{file}: its {len(known)} categories cannot be matched with the {len(class_names)} classes of the "
                f"network: name them as the network does ({class_names[0]!r}, ...)"
            )
        numbers = {int(category["id"]): known.index(str(category["name"])) for category in categories}
        found: dict[int, list[Any]] = defaultdict(list)
        for entry in data["annotations"]:
            found[int(entry["image_id"])].append(entry)
        files, labels = [], []
        for image in sorted(data["images"], key=lambda image: str(image["file_name"])):
            width, height = float(image["width"]), float(image["height"])
            objects = found[int(image["id"])]
            corners = []
            for entry in objects:
                x, y, w, h = map(float, entry["bbox"])
                corners.append((x / width, y / height, (x + w) / width, (y + h) / height))
            classes = [numbers[int(entry["category_id"])] for entry in objects]
            files.append(_beside(file, str(image["file_name"])))
            labels.append(Boxes.of(corners, classes, [bool(entry.get("iscrowd", 0)) for entry in objects]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{file}: not a COCO file that can be read: {type(error).__name__} {error}"
        ) from error
    if not files:
        raise UserError(f"{file}: lists no images")
    return FileDataset(name, tuple(files), LabelList(tuple(labels)), known)


def open_yolo(path: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """Images in `images` and a text file of the same name for each in `labels`, or both side by side.

    An image without a text file has no objects. Class names may stand in `*.names` or `classes.txt`.
    """
    apart = (path / "labels").is_dir()
    folder, texts = (path / "images", path / "labels") if apart else (path, path)
    if not folder.is_dir():
        raise UserError(f"{path}: has `labels` but no folder `images` beside it")
    listed = sorted([*path.glob("*.names"), *path.glob("classes.txt")])
    names = class_names or (tuple(listed[0].read_text(encoding="utf-8").split("\n")) if listed else ())
    names = tuple(entry.strip() for entry in names if entry.strip())
    files = image_files(folder, others=(".txt", ".names"))
    labels = tuple(_yolo_boxes(texts / f"{file.stem}.txt") for file in files)
    return FileDataset(name, files, LabelList(labels), names)


def _yolo_boxes(file: Path) -> Boxes:
    corners, classes = [], []
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        try:
            cx, cy, w, h = map(float, fields[1:])
            classes.append(int(fields[0]))
        except ValueError:
            raise UserError(
                f"{file}:{number}: expected `class centre_x centre_y width height`, found {line!r}"
            ) from None
        corners.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    return Boxes.of(corners, classes)


def open_faces(path: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """Folders of region files. A file's image is looked for beside it, in `images*` and then in the folder's
    neighbours' `images`.
    """
    places = [path, *sorted(p for p in path.glob("images*") if p.is_dir())]
    places += sorted(p for p in path.resolve().parent.glob("*/images") if p.is_dir())
    files, labels = [], []
    for file in _region_files(path):
        data = _json(file)
        try:
            rects = [region["rect"] for region in data["regions"] if int(region["label"]) == _FACE]
            corners = [[float(rect[side]) for side in ("left", "top", "right", "bottom")] for rect in rects]
            wanted = str(data["file_name"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file}: not a region file that can be read: {type(error).__name__} {error}"
            ) from error
        image = next((place / wanted for place in [file.parent, *places] if (place / wanted).is_file()), None)
        if image is None:
            raise UserError(
                f"{file}: its image {wanted} is neither in {path} nor in a folder `images` beside it"
            )
        files.append(image)
        labels.append(Boxes.of(corners, [0] * len(corners)))
    if not files:
        raise UserError(f"{path}: no region files in this folder")
    return FileDataset(name, tuple(files), LabelList(tuple(labels)), class_names)


def open_unlabelled(path: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """Images alone, in the folder or in its `images`."""
    inner = path / "images"
    return open_flat(inner if inner.is_dir() else path, name, class_names, labelled=False)


def _region_files(path: Path) -> list[Path]:
    files = sorted([*path.glob("*.json"), *path.glob("*/*.json")])
    return [file for file in files if _begins_with(file, '"regions"')]


def _coco_file(path: Path) -> Path | None:
    files = [*sorted(path.glob("*.json")), *sorted((path / "annotations").glob("*.json"))]
    return next((file for file in files if not _begins_with(file, '"regions"') and _is_coco(file)), None)


def _begins_with(file: Path, key: str) -> bool:
    """Whether the key stands in the first few thousand characters; large files are not read for it."""
    with open(file, encoding="utf-8", errors="replace") as stream:
        return key in stream.read(4096)


def _is_coco(file: Path) -> bool:
    data = _json(file)
    return isinstance(data, dict) and {"images", "annotations", "categories"} <= set(data)


def _beside(file: Path, wanted: str) -> Path:
    """The image that a COCO file names: beside it, above it, or in a folder of images there."""
    above = file.parent.parent
    for place in (
        file.parent,
        above,
        file.parent / "images",
        above / "images",
        above / file.stem.split("_")[-1],
    ):
        if (place / wanted).is_file():
            return place / wanted
    raise UserError(f"{file}: its image {wanted} is not beside it, nor in a folder `images` there")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: not JSON that can be read: {error}") from None
