"""From what the configuration or the user names to a data set: which kind it is, and which part of it is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mz.data import arrays, boxes, cifar, folder, idx, pairs
from mz.data.dataset import Dataset, TurnedDataset
from mz.data.labels import Boxes, LabelList
from mz.errors import UserError
from mz.zoo import DatasetSpec, NetworkConfig, bundled_root

_BOXES = {"detection", "face_detection"}
_LINES = {"text_orientation", "text_recognition"}
"""Tasks by the labels that their data have; segmentation has masks, every other task classes."""


def open_dataset(
    spec: DatasetSpec | None,
    path: Path | None = None,
    count: int | None = None,
    task: str = "classification",
) -> Dataset:
    """The data set that `spec` describes, or the one at `path` read with the split and class names of `spec`.

    count: take this many images, evenly spaced over the whole set. task: decides what kind of labels are looked for
    at a path whose form `spec.kind` does not state; for text orientation every image comes turned as well.
    Raises UserError if the data cannot be found or read, or holds fewer than `count` images.
    """
    spec = spec or DatasetSpec()
    whole = _open_path(spec, path, task) if path is not None else _open_bundled(spec)
    if task == "text_orientation" and not isinstance(whole.labels, np.ndarray):
        whole = TurnedDataset.of(whole)
    if len(whole) == 0:
        raise UserError(f"{whole.name}: no images in this data set")
    _check_labels(whole, spec.class_names)
    return whole if count is None else subset(whole, count)


def open_evaluation(config: NetworkConfig, path: Path | None = None, count: int | None = None) -> Dataset:
    """The data set that a network is judged on: its own, or the one at `path`. Labels may be missing (None)."""
    spec = config.evaluation.dataset
    if spec is None and path is None:
        raise UserError(
            f"{config.network.name}: no evaluation.dataset in its configuration: name one with --data-path"
        )
    return open_dataset(spec, path, count, config.network.task)


def open_calibration(config: NetworkConfig, path: Path | None = None, count: int | None = None) -> Dataset:
    """The images that quantization looks at: the network's own or those at `path`.

    A `count` that is asked for must be there; the configuration's own count is lowered to what a `path` holds.
    """
    whole, known = calibration_pool(config, path), config.quantization.calibration.count
    if count is None:
        count = known if path is None else min(known, len(whole))
    return subset(whole, count)


def calibration_pool(config: NetworkConfig, path: Path | None = None) -> Dataset:
    """All images of a network's own calibration set, or of those at `path`."""
    calibration = config.quantization.calibration
    if calibration.dataset is None and path is None:
        raise UserError(
            f"{config.network.name}: no quantization.calibration.dataset in its configuration: "
            "name a folder of images with --calib-path"
        )
    spec = calibration.dataset or DatasetSpec(split="calibration")
    return open_dataset(spec, path, task=config.network.task)


def subset(dataset: Dataset, count: int) -> Dataset:
    """`count` images, evenly spaced. Raises UserError if there are fewer."""
    if not 1 <= count <= len(dataset):
        raise UserError(f"{dataset.name}: holds {len(dataset)} images, {count} were asked for")
    if count == len(dataset):
        return dataset
    return dataset.take(np.arange(count) * len(dataset) // count)


def _open_bundled(spec: DatasetSpec) -> Dataset:
    if spec.kind != "bundled":
        raise UserError(
            f"a data set of kind {spec.kind!r} needs a path: name it with --data-path or --calib-path"
        )
    path = bundled_root() / "data" / str(spec.name)
    if not path.is_dir():
        raise UserError(f"no bundled data set is named {spec.name!r}")
    return idx.open_idx(path, spec.split, f"{spec.name} {spec.split}", spec.class_names)


_LABELLED: dict[str, Callable[[Path, str, tuple[str, ...]], Dataset]] = {
    "coco": boxes.open_coco,
    "yolo": boxes.open_yolo,
    "faces": boxes.open_faces,
    "masks": pairs.open_masks,
    "lines": pairs.open_lines,
}


def _open_path(spec: DatasetSpec, path: Path, task: str) -> Dataset:
    kind = spec.kind if spec.kind not in ("auto", "bundled") else _recognize(path, task)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if kind not in ("array", "cifar", "coco") and not path.is_dir():
        raise UserError(f"{path}: not a folder")
    name, class_names = str(path), spec.class_names
    try:
        if kind in _LABELLED:
            return _LABELLED[kind](path, name, class_names)
        if kind == "idx":
            return idx.open_idx(path, spec.split, name, class_names)
        if kind == "array":
            return arrays.open_array(path, name, class_names)
        if kind == "cifar":
            return cifar.open_cifar(path, spec.split, name, class_names)
        if kind == "classes":
            return folder.open_classes(folder.within(path), name, class_names)
        if task != "classification":
            return boxes.open_unlabelled(path, name, class_names)
        return folder.open_flat(folder.within(path), name, class_names, labelled=spec.split != "calibration")
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error


def _recognize(path: Path, task: str) -> str:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.suffix == ".json" and task in _BOXES:
        return "coco"
    if path.is_file():
        if cifar.is_cifar(path):
            return "cifar"
        if path.suffix not in (".npy", ".npz"):
            raise UserError(
                f"{path}: expected a folder of images or idx files, a .npy or .npz file, or CIFAR's tar archive"
            )
        return "array"
    try:
        if task in _BOXES:
            return boxes.recognize(path)
        if task == "segmentation":
            return "masks" if pairs.mask_folder(path) else "images"
        if task in _LINES:
            return "lines" if (path / pairs.TEXT_FILE).is_file() else "images"
        if idx.find_parts(path):
            return "idx"
        if cifar.is_cifar(path):
            return "cifar"
        return "classes" if folder.has_class_folders(folder.within(path)) else "images"
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_labels(dataset: Dataset, class_names: tuple[str, ...]) -> None:
    labels = dataset.labels
    if isinstance(labels, LabelList):
        found = [label.classes.max() for label in labels.values if isinstance(label, Boxes) and len(label)]
        largest = int(max(found, default=0))
    else:
        largest = int(labels.max()) if isinstance(labels, np.ndarray) else 0
    if class_names and largest >= len(class_names):
        raise UserError(
            f"{dataset.name}: label {largest} is beyond the {len(class_names)} classes of the network"
        )
