"""Folders of image files: one subfolder a class, or images side by side with or without a list of labels.

A subfolder's label is its number if all are numbers, its place among the known class names if all are among them,
else its place in sorted order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mz.data.dataset import FileDataset
from mz.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
LABEL_FILES = ("labels.txt", "labels.csv", "labels.tsv")
_KNOWN_OTHERS = ("readme", "license", "licence", "thumbs.db")


def open_classes(folder: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """Images in one subfolder a class. Raises UserError where the subfolders' labels are in doubt."""
    folders = [path for path in _entries(folder) if path.is_dir()]
    stray = next((file for file in _images(folder)), None)
    if stray is not None:
        raise UserError(f"{stray}: an image beside class folders: move it into one of them")
    names = [path.name for path in folders]
    numbers, class_names = _class_labels(folder, names, class_names)
    files: list[Path] = []
    labels: list[int] = []
    for number, path in zip(numbers, folders, strict=True):
        if has_class_folders(path):
            raise UserError(f"{path}: a class folder holds images, not further folders")
        found = list(_images(path))
        files += found
        labels += [number] * len(found)
    return FileDataset(name, _some(files, folder), np.array(labels, np.int64), class_names)


def _class_labels(
    folder: Path, names: list[str], known: tuple[str, ...]
) -> tuple[list[int], tuple[str, ...]]:
    """The label of each class folder, and the class names in the order of the labels."""
    if all(name.isdecimal() for name in names):
        return [int(name) for name in names], known
    if known and set(names) <= set(known):
        return [known.index(name) for name in names], known
    if known and len(names) != len(known):
        raise UserError(
            f"{folder}: its {len(names)} class folders cannot be matched with the {len(known)} classes of the network: "
            f"name them by number (0..{len(known) - 1}) or by class ({known[0]!r}, ...)"
        )
    return list(range(len(names))), known or tuple(names)


def open_flat(folder: Path, name: str, class_names: tuple[str, ...], labelled: bool) -> FileDataset:
    """The images of one folder in sorted order; `labelled` reads a `labels.txt`, `.csv` or `.tsv` if there is one."""
    files = _some(list(_images(folder)), folder)
    lists = [folder / listed for listed in LABEL_FILES if (folder / listed).is_file()]
    labels = _read_labels(lists[0], files, class_names) if lists and labelled else None
    return FileDataset(name, files, labels, class_names)


def _read_labels(path: Path, files: tuple[Path, ...], class_names: tuple[str, ...]) -> np.ndarray:
    """int64 labels of the files from lines `name label`, separated by comma, tab or blanks.

    A label is a number or a class name. A first line whose label is neither is taken for a heading.
    """
    by_name = {name: number for number, name in enumerate(class_names)}
    labels: dict[str, int] = {}
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        separator = next((mark for mark in (",", "\t") if mark in line), None)
        fields = [field.strip() for field in line.split(separator, 1)]
        if fields in ([], [""]):
            continue
        label = fields[-1]
        if len(fields) == 2 and (label.isdecimal() or label in by_name):
            labels[fields[0]] = int(label) if label.isdecimal() else by_name[label]
        elif line_number > 1:
            raise UserError(f"{path}:{line_number}: expected a file name and a label, found {line!r}")
    missing = next((file for file in files if file.name not in labels), None)
    if missing is not None:
        raise UserError(f"{path}: no label for {missing.name}")
    return np.array([labels[file.name] for file in files], np.int64)


def within(folder: Path) -> Path:
    """The subfolder `images` where it is the only subfolder (data sets often come so), else the folder itself."""
    folders = [path for path in _entries(folder) if path.is_dir()]
    return folders[0] if len(folders) == 1 and folders[0].name == "images" else folder


def has_class_folders(folder: Path) -> bool:
    """Whether the folder has subfolders (hidden ones aside)."""
    return any(path.is_dir() for path in _entries(folder))


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def image_files(folder: Path, others: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """The image files of a folder in sorted order. Raises UserError where there are none, or for any other file but
    those with the suffixes `others`, readmes, licences and lists of labels.
    """
    return _some(list(_images(folder, others)), folder)


def _images(folder: Path, others: tuple[str, ...] = ()) -> Iterator[Path]:
    """The image files of a folder; raises UserError for any other file than a readme, a licence, a list of labels or
    one with a suffix of `others`.
    """
    for path in _entries(folder):
        if path.is_dir():
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        elif path.suffix in others:
            continue
        elif path.name.lower() not in LABEL_FILES and not path.name.lower().startswith(_KNOWN_OTHERS):
            raise UserError(f"{path}: not an image: remove it from the data folder")


def _some(files: list[Path], folder: Path) -> tuple[Path, ...]:
    if not files:
        raise UserError(f"{folder}: no images in this folder")
    return tuple(files)
