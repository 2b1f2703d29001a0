"""Boxes as arrays: overlap, non-maximum suppression, and matching of two sets. Corners are left, top, right, bottom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Detections:
    """What a network finds in one image.

    corners: float32 [n, 4] in shares of the image's width and height. scores: float32 [n]. classes: int64 [n].
    """

    corners: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, which: np.ndarray) -> Detections:
        """Those of a mask or of a list of places."""
        return Detections(self.corners[which], self.scores[which], self.classes[which])


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of a [n, 4] with every box of b [m, 4]: [n, m]; 0 for empty boxes."""
    a, b = a.T[:, :, None], b.T[:, None, :]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(a) + _area(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppress(found: Detections, iou: float) -> Detections:
    """Non-maximum suppression class by class: of boxes that overlap by more than `iou` the best stays.

    Sorted by score, the best first; equal scores keep their order.
    """
    ranked = found.at(np.argsort(-found.scores, kind="stable"))
    alive = np.ones(len(ranked), bool)
    for number in np.unique(ranked.classes):
        places = np.flatnonzero(ranked.classes == number)
        alive[places] = _survivors(ranked.corners[places], iou)
    return ranked.at(alive)


def _survivors(corners: np.ndarray, iou: float) -> np.ndarray:
    """bool [n] for boxes sorted by score. Overlaps are computed for a block of boxes against all that come later."""
    alive = np.ones(len(corners), bool)
    for start in range(0, len(corners), _BLOCK):
        rows = start + np.flatnonzero(alive[start : start + _BLOCK])
        too_close = overlap(corners[rows], corners[start:]) > iou
        for row, close in zip(rows, too_close, strict=True):
            if alive[row]:
                close[: row - start + 1] = False
                alive[start:] &= ~close
    return alive


def matches(ours: Detections, theirs: Detections, iou: float) -> int:
    """How many boxes pair off: one to one, same class, overlap of at least `iou`; the best score chooses first."""
    overlaps = overlap(ours.corners, theirs.corners)
    overlaps[ours.classes[:, None] != theirs.classes[None]] = 0
    pairs = 0
    for row in np.argsort(-ours.scores, kind="stable"):
        if overlaps.shape[1] and overlaps[row].max() >= iou:
            overlaps[:, overlaps[row].argmax()] = 0
            pairs += 1
    return pairs


def _area(sides: np.ndarray) -> np.ndarray:
    """Of boxes whose sides are along the first axis."""
    return np.asarray(np.maximum(sides[2] - sides[0], 0) * np.maximum(sides[3] - sides[1], 0))
