"""Images in numpy files: `.npy` holds images alone, `.npz` may hold labels beside them. Pickles are never loaded."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from mz.data.dataset import ArrayDataset
from mz.errors import UserError

_IMAGE_KEYS = ("images", "x", "data")
_LABEL_KEYS = ("labels", "y")


def open_array(path: Path, name: str, class_names: tuple[str, ...]) -> ArrayDataset:
    """Raw images, uint8 [N, H, W] or [N, H, W, 1 or 3], and labels [N] if the file has them.

    Raises UserError for other shapes or types: preprocessing is ours, so images must come as they were stored.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as members:
                images = _member(path, members, _IMAGE_KEYS)
                labels = next((members[key] for key in _LABEL_KEYS if key in members), None)
        else:
            images, labels = np.load(path, mmap_mode="r", allow_pickle=False), None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a numpy file that can be read: {error}") from error
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise UserError(
            f"{path}: images are {images.dtype} {list(images.shape)}; "
            "expected raw uint8 [N, H, W] or [N, H, W, 3], before any preprocessing"
        )
    if labels is not None:
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise UserError(
                f"{path}: labels are {labels.dtype} {list(labels.shape)}; expected {len(images)} integers"
            )
        labels = labels.astype(np.int64)
    return ArrayDataset(name, images, labels, class_names)


def _member(path: Path, members: np.lib.npyio.NpzFile, keys: tuple[str, ...]) -> np.ndarray:
    for key in keys:
        if key in members:
            return np.asarray(members[key])
    if len(members.files) == 1:
        return np.asarray(members[members.files[0]])
    raise UserError(f"{path}: no array named {' or '.join(keys)}; it has {', '.join(members.files)}")
