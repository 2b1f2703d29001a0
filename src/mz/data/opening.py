"""From what the configuration or the user names to a data set: which kind it is, and which part of it is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mz.data import arrays, folder, idx
from mz.data.dataset import Dataset
from mz.errors import UserError
from mz.zoo import DatasetSpec, NetworkConfig, bundled_root


def open_dataset(spec: DatasetSpec | None, path: Path | None = None, count: int | None = None) -> Dataset:
    """The data set that `spec` describes, or the one at `path` read with the split and class names of `spec`.

    count: take this many images, evenly spaced over the whole set. A path may be a folder of idx files, of class
    folders or of images, or a `.npy` or `.npz` file; its form is recognized unless `spec.kind` states it.
    Raises UserError if the data cannot be found or read, or holds fewer than `count` images.
    """
    spec = spec or DatasetSpec()
    whole = _open_path(spec, path) if path is not None else _open_bundled(spec)
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
    return open_dataset(spec, path, count)


def open_calibration(config: NetworkConfig, path: Path | None = None, count: int | None = None) -> Dataset:
    """The images that quantization looks at: the network's own or those at `path`.

    A `count` that is asked for must be there; the configuration's own count is lowered to what a `path` holds.
    """
    calibration = config.quantization.calibration
    if calibration.dataset is None and path is None:
        raise UserError(
            f"{config.network.name}: no quantization.calibration.dataset in its configuration: "
            "name a folder of images with --calib-path"
        )
    spec = calibration.dataset or DatasetSpec(split="calibration")
    if count is not None:
        return open_dataset(spec, path, count)
    whole = open_dataset(spec, path)
    return subset(whole, calibration.count if path is None else min(calibration.count, len(whole)))


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


def _open_path(spec: DatasetSpec, path: Path) -> Dataset:
    kind = spec.kind if spec.kind not in ("auto", "bundled") else _recognize(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if kind != "array" and not path.is_dir():
        raise UserError(f"{path}: not a folder")
    name, class_names = str(path), spec.class_names
    try:
        if kind == "idx":
            return idx.open_idx(path, spec.split, name, class_names)
        if kind == "array":
            return arrays.open_array(path, name, class_names)
        if kind == "classes":
            return folder.open_classes(path, name, class_names)
        return folder.open_flat(path, name, class_names, labelled=spec.split != "calibration")
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error


def _recognize(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        if path.suffix not in (".npy", ".npz"):
            raise UserError(f"{path}: expected a folder of images or idx files, or a .npy or .npz file")
        return "array"
    try:
        if idx.find_parts(path):
            return "idx"
        return "classes" if folder.has_class_folders(path) else "images"
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_labels(dataset: Dataset, class_names: tuple[str, ...]) -> None:
    if dataset.labels is not None and class_names and int(dataset.labels.max()) >= len(class_names):
        raise UserError(
            f"{dataset.name}: label {int(dataset.labels.max())} is beyond the {len(class_names)} classes of the network"
        )
