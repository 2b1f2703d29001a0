"""What a data set is: images as they were stored, and labels where they are known. Three forms serve all kinds.

`ArrayDataset` has its images in memory (or mapped from a file), `FileDataset` decodes image files one by one,
`TurnedDataset` shows another one's images upright and turned.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mz.data.labels import Labels, take, update_digest
from mz.errors import UserError

Images = np.ndarray | list[np.ndarray]
"""uint8 [N, H, W] (gray) or [N, H, W, 3] (RGB) where all have one size, else a list of [H, W] and [H, W, 3]."""


class Dataset(Protocol):
    """Images in a fixed order.

    labels: one label an image (`mz.data.labels`), classes as int64 [N]; None for images without labels.
    class_names: in the order of the class numbers, () if unknown.
    """

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Labels | None: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> np.ndarray:
        """One image: uint8 [H, W] (gray) or [H, W, 3] (RGB). Raises UserError for a file that is no image."""
        ...

    def read_many(self, start: int, stop: int) -> Images:
        """The images start..stop-1. Raises UserError as `read` does."""
        ...

    def take(self, indices: np.ndarray) -> Dataset:
        """The data set of these images alone, in this order."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayDataset:
    """images: uint8 [N, H, W] or [N, H, W, 3]."""

    name: str
    images: np.ndarray
    labels: Labels | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> np.ndarray:
        return np.asarray(self.images[index])

    def read_many(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.images[start:stop])

    def take(self, indices: np.ndarray) -> ArrayDataset:
        return replace(self, images=self.images[indices], labels=take(self.labels, indices))


@dataclass(frozen=True, slots=True)
class FileDataset:
    """files: one image each."""

    name: str
    files: tuple[Path, ...]
    labels: Labels | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> np.ndarray:
        return decode(self.files[index])

    def read_many(self, start: int, stop: int) -> Images:
        images = [decode(file) for file in self.files[start:stop]]
        return np.stack(images) if len({image.shape for image in images}) == 1 else images

    def take(self, indices: np.ndarray) -> FileDataset:
        files = tuple(self.files[index] for index in indices)
        return replace(self, files=files, labels=take(self.labels, indices))


@dataclass(frozen=True, slots=True)
class TurnedDataset:
    """Every image of `base` upright (label 0), then every image turned by 180 degrees (label 1).

    order: the places in that double row that this data set has.
    """

    base: Dataset
    order: np.ndarray

    @staticmethod
    def of(base: Dataset) -> TurnedDataset:
        return TurnedDataset(base, np.arange(2 * len(base)))

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def labels(self) -> np.ndarray:
        return (self.order >= len(self.base)).astype(np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.base.class_names

    def __len__(self) -> int:
        return len(self.order)

    def read(self, index: int) -> np.ndarray:
        turned, place = divmod(int(self.order[index]), len(self.base))
        image = self.base.read(place)
        return image[::-1, ::-1] if turned else image

    def read_many(self, start: int, stop: int) -> Images:
        return [self.read(index) for index in range(start, stop)]

    def take(self, indices: np.ndarray) -> TurnedDataset:
        return replace(self, order=self.order[indices])


class DamagedImageError(UserError):
    """A file that is an image, but cannot be decoded to its end."""


def decode(file: Path) -> np.ndarray:
    """The image in a file: uint8 [H, W] if it is stored in gray, else RGB [H, W, 3]; transparency is dropped.

    Raises DamagedImageError for an image that breaks off or contradicts itself, UserError for a file that is missing
    or no image at all.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{file}: an image of mode {image.mode}; 8 bits a channel are expected")
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except UnidentifiedImageError:
        raise UserError(f"{file}: not an image that can be read: remove it or mend it") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None)
        kind = UserError if reason else DamagedImageError
        raise kind(f"{file}: the image cannot be read: {reason or error}") from error


def without(dataset: Dataset, seen: Dataset) -> Dataset | None:
    """The images of `dataset` that `seen` does not hold, turned or not; None if it holds all of them."""
    known = set(_image_keys(seen))
    kept = [place for place, key in enumerate(_image_keys(dataset)) if key not in known]
    if len(kept) == len(dataset):
        return dataset
    return dataset.take(np.array(kept, np.int64)) if kept else None


def _image_keys(dataset: Dataset) -> list[str]:
    """What tells each image from others: its file, else its pixels."""
    if isinstance(dataset, TurnedDataset):
        keys = _image_keys(dataset.base)
        return [keys[place % len(keys)] for place in dataset.order]
    if isinstance(dataset, FileDataset):
        return [str(file.resolve()) for file in dataset.files]
    return [hashlib.sha256(dataset.read(place).tobytes()).hexdigest() for place in range(len(dataset))]


def content_key(dataset: Dataset) -> str:
    """sha256 (hex) over images and labels, the same whatever the data set's name and place are."""
    digest = hashlib.sha256()
    if isinstance(dataset, FileDataset):
        for file in dataset.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    else:
        for start in range(0, len(dataset), 1024):
            images = dataset.read_many(start, min(start + 1024, len(dataset)))
            for block in [images] if isinstance(images, np.ndarray) else images:
                digest.update(f"{block.dtype}{block.shape}".encode())
                digest.update(block.tobytes())
    if dataset.labels is not None:
        digest.update(b"labels")
        update_digest(digest, dataset.labels)
    return digest.hexdigest()
