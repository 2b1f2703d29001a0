"""CIFAR-10 in the two forms in which it is handed around: the authors' python archive, and batches as images.

The archive (a tar file, or the folder that it unpacks to) holds pickles, which `mz.zoo.unpickle` reads as data. A batch
image has one image a row: 1024 RGB pixels, row by row; a JSON list beside it holds the labels.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mz.data.dataset import ArrayDataset, decode
from mz.errors import UserError
from mz.zoo.unpickle import unpickle

_SIDE = 32
_PIXELS = _SIDE * _SIDE
_BATCH = re.compile(r"(?P<part>test|data|train)_batch(_\d+)?(?P<image>\.png)?")
_TAR = (".tar", ".tar.gz", ".tgz")
_SPLITS = {"test": ("test",), "calibration": ("data", "train")}


def is_cifar(path: Path) -> bool:
    """Whether a file is named as the archive is, or a folder holds batches."""
    return _is_tar(path) if path.is_file() else bool(_batches(path))


def open_cifar(path: Path, split: str, name: str, class_names: tuple[str, ...]) -> ArrayDataset:
    """The batches that serve a split (`test`, `calibration`); where there is one kind of batches it serves both.

    Raises UserError for batches that are missing, damaged or hold anything but images and labels.
    """
    if _is_tar(path):
        parts = [_read_pickle(content, f"{path}: {batch}") for batch, content in _from_tar(path, split)]
    else:
        files = _of_split(_batches(path), split)
        if not files:
            raise UserError(f"{path}: no CIFAR batches (test_batch, data_batch_1, ...) in this folder")
        if files[0].suffix:
            parts = _read_images(files)
        else:
            parts = [_read_pickle(file.read_bytes(), str(file)) for file in files]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return ArrayDataset(name, images, labels, class_names)


def _is_tar(path: Path) -> bool:
    return path.is_file() and path.name.endswith(_TAR)


def _batches(folder: Path) -> list[Path]:
    """Batches in order; those of one form, pickles before images, where a folder has both."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and _BATCH.fullmatch(path.name))
    pickles = [path for path in files if not path.suffix]
    return pickles or files


def _of_split(files: list[Path], split: str) -> list[Path]:
    wanted = [file for file in files if _part(file.name) in _SPLITS[split]]
    return wanted or files


def _part(name: str) -> str:
    match = _BATCH.fullmatch(name)
    return match["part"] if match else ""


def _from_tar(path: Path, split: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as archive:
            members = {
                PurePosixPath(member.name).name: member
                for member in archive.getmembers()
                if member.isfile() and _part(PurePosixPath(member.name).name)
            }
            wanted = _of_split([Path(name) for name in sorted(members)], split)
            if not wanted:
                raise UserError(f"{path}: no CIFAR batches (test_batch, data_batch_1, ...) in this archive")
            for file in wanted:
                stream = archive.extractfile(members[file.name])
                assert stream is not None  # it is a file
                yield file.name, stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path}: the archive cannot be read: {error}") from error


Part = tuple[np.ndarray, np.ndarray]
"""uint8 [N, 32, 32, 3] and int64 [N]."""


def _read_images(files: list[Path]) -> list[Part]:
    """Batch images with the labels of all of one kind, in order, in one JSON list (some spell it `lables`)."""
    kind = "test" if _part(files[0].name) == "test" else "train"
    found = [
        path
        for path in (files[0].with_name(f"{kind}_{word}.json") for word in ("labels", "lables"))
        if path.is_file()
    ]
    if not found:
        raise UserError(f"{files[0].parent}: no {kind}_labels.json beside {files[0].name}")
    try:
        labels = json.loads(found[0].read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{found[0]}: not a JSON list that can be read: {error}") from error
    images = []
    for file in files:
        pixels = decode(file)
        if pixels.ndim != 3 or pixels.shape[1] != _PIXELS:
            height, width = pixels.shape[:2]
            raise UserError(
                f"{file}: {width}x{height} pixels; a batch has one image of {_PIXELS} RGB pixels a row"
            )
        images.append(pixels.reshape(-1, _SIDE, _SIDE, 3))
    numbers = _labels(labels, sum(map(len, images)), str(found[0]))
    ends = np.cumsum([len(batch) for batch in images])[:-1]
    return list(zip(images, np.split(numbers, ends), strict=True))


def _read_pickle(content: bytes, where: str) -> Part:
    """One batch of the archive: a dict with `data`, uint8 [N, 3072] by channel, and `labels`."""
    batch = unpickle(io.BytesIO(content), _ALLOWED, where, encoding="bytes")
    if not isinstance(batch, dict):
        raise UserError(f"{where}: not a CIFAR batch: holds a {type(batch).__name__}")
    by_name = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    data, labels = by_name.get("data"), by_name.get("labels")
    if not isinstance(data, _Array) or labels is None:
        raise UserError(f"{where}: not a CIFAR-10 batch: has no data and labels")
    rows = data.values(where)
    if rows.ndim != 2 or rows.shape[1] != 3 * _PIXELS:
        raise UserError(f"{where}: data of shape {list(rows.shape)}; expected [N, {3 * _PIXELS}]")
    images = rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), _labels(labels, len(images), where)


def _labels(labels: Any, count: int, where: str) -> np.ndarray:
    if not isinstance(labels, list) or not all(type(label) is int and label >= 0 for label in labels):
        raise UserError(f"{where}: labels are no list of whole numbers")
    if len(labels) != count:
        raise UserError(f"{where}: {len(labels)} labels for {count} images")
    return np.array(labels, np.int64)


class _Array:
    """Stands for numpy.ndarray in a pickle: keeps what the pickle says of it, and looks at it only when asked."""

    def __init__(self, *_: Any) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def values(self, where: str) -> np.ndarray:
        match self._state:
            case (int(), tuple(shape), _Type(of_bytes=True), order, bytes(content)) if all(
                type(size) is int and size >= 0 for size in shape
            ) and math.prod(shape) == len(content):
                return np.frombuffer(content, np.uint8).reshape(shape, order="F" if order else "C")
        raise UserError(f"{where}: its data are no array of bytes")


class _Type:
    """Stands for numpy.dtype in a pickle."""

    def __init__(self, kind: Any = None, *_: Any) -> None:
        self.of_bytes = kind in (b"u1", "u1")

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which bytes have none of."""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin-1"),
}
