"""The idx files of MNIST and its successors: a magic number, the shape, then unsigned bytes; often gzipped.

Format as published with MNIST: two zero bytes, a type (0x08 = unsigned byte), the number of axes, then each axis as a
big-endian 32-bit integer.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from mz.data.dataset import ArrayDataset
from mz.errors import UserError

_IMAGES = re.compile(r"(?P<part>.+)-images[-.]idx3-ubyte(\.gz)?")
_PARTS = {"test": ("t10k", "test"), "calibration": ("calib", "train")}


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array with `axes` axes that an idx file holds. Raises UserError for a file that is anything else."""
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UserError(f"{path}: the gzip file is truncated or damaged") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    header = 4 + 4 * axes
    magic = bytes((0, 0, 8, axes))
    if len(raw) < header or raw[:4] != magic:
        raise UserError(
            f"{path}: not an idx file of bytes with {axes} axes: begins with {raw[:4].hex()}, not {magic.hex()}"
        )
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", axes, offset=4))
    if len(raw) - header != math.prod(shape):
        raise UserError(
            f"{path}: holds {len(raw) - header} bytes of data, its header announces {math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def find_parts(folder: Path) -> dict[str, Path]:
    """The image files among a folder's idx files, by the part of the data set (`t10k`, `train`, ...)."""
    matches = {path: _IMAGES.fullmatch(path.name) for path in sorted(folder.iterdir())}
    return {match["part"]: path for path, match in matches.items() if match}


def open_idx(folder: Path, split: str, name: str, class_names: tuple[str, ...]) -> ArrayDataset:
    """The part of an idx folder that serves a split (`test`, `calibration`); a folder with one part alone serves both.

    Raises UserError if no part fits, or images and labels do not.
    """
    parts = find_parts(folder)
    wanted = next((part for part in _PARTS[split] if part in parts), None)
    if wanted is None:
        if len(parts) != 1:
            found = ", ".join(parts) or "none"
            raise UserError(
                f"{folder}: no idx images for {split} ({' or '.join(_PARTS[split])}); found: {found}"
            )
        (wanted,) = parts
    images_path = parts[wanted]
    images = read_idx(images_path, 3)
    labels_name = re.sub(r"-images([-.])idx3", r"-labels\1idx1", images_path.name)
    labels_path = _either(folder / labels_name)
    if labels_path is None:
        return ArrayDataset(name, images, None, class_names)
    labels = read_idx(labels_path, 1).astype(np.int64)
    if len(labels) != len(images):
        raise UserError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}"
        )
    return ArrayDataset(name, images, labels, class_names)


def _either(path: Path) -> Path | None:
    """The file itself or the same name with `.gz` added or taken away, whichever is there."""
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (path, other) if candidate.is_file()), None)
