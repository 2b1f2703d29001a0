"""What an image may be labelled with (a class, boxes, a class for each pixel, a line of text), and rows of such labels.

A data set has one kind. Masks are files that are read when they are asked for, everything else is held in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mz.errors import UserError


@dataclass(frozen=True, slots=True)
class Boxes:
    """The objects of one image.

    corners: float64 [n, 4], left, top, right, bottom as shares of the image's width and height.
    classes: int64 [n]. crowd: bool [n], boxes around many objects that COCO's evaluation passes over.
    """

    corners: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray

    @staticmethod
    def of(corners: Sequence[Any], classes: Sequence[int], crowd: Sequence[bool] = ()) -> Boxes:
        """From plain lists; no box is a crowd where `crowd` is left out."""
        return Boxes(
            np.array(corners, np.float64).reshape(-1, 4),
            np.array(classes, np.int64),
            np.array(crowd or [False] * len(classes), bool),
        )

    def __len__(self) -> int:
        return len(self.classes)


class Labels(Protocol):
    """One label an image: int64 [N] for classes, else a sequence that `take` can select from."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class LabelList:
    """Labels of any kind, in memory."""

    values: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        return self.values[index]

    def take(self, indices: np.ndarray) -> LabelList:
        return replace(self, values=tuple(self.values[index] for index in indices))


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """Masks, uint8 [H, W] of class numbers, one image file each."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_mask(self.files[index])

    def take(self, indices: np.ndarray) -> MaskFiles:
        return replace(self, files=tuple(self.files[index] for index in indices))


def read_mask(file: Path) -> np.ndarray:
    """The class numbers in an image file of one channel (gray or palette): uint8 [H, W].

    Raises UserError for a file that is damaged or has colours, which are no class numbers.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P", "1"):
                raise UserError(
                    f"{file}: a mask of mode {image.mode}; one channel of class numbers is expected"
                )
            return np.asarray(image.convert("L") if image.mode == "1" else image)
    except UnidentifiedImageError:
        raise UserError(f"{file}: not an image that can be read: remove it or mend it") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{file}: the mask cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def take(labels: Labels | None, indices: np.ndarray) -> Any:
    """The labels of these images alone, in this order, in the form that they came in."""
    if labels is None or isinstance(labels, np.ndarray):
        return None if labels is None else labels[indices]
    return labels.take(indices)  # type: ignore[attr-defined]


def gather(labels: Labels | None, indices: np.ndarray) -> np.ndarray | list[Any] | None:
    """The labels of these images as they are judged: int64 [n] for classes, else a list; masks are read."""
    if labels is None or isinstance(labels, np.ndarray):
        return None if labels is None else labels[indices]
    return [labels[int(index)] for index in indices]


def update_digest(digest: hashlib._Hash, labels: Labels) -> None:
    """Take the labels into a hash, whatever their kind is."""
    if isinstance(labels, np.ndarray):
        digest.update(labels.astype(np.int64).tobytes())
        return
    for index in range(len(labels)):
        label = labels[index]
        if isinstance(label, Boxes):
            parts = [label.corners, label.classes, label.crowd]
        else:
            parts = [np.frombuffer(label.encode(), np.uint8) if isinstance(label, str) else np.asarray(label)]
        for part in parts:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(part.tobytes())
