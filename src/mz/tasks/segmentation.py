"""Semantic segmentation: one class a pixel; intersection over union and pixel accuracy; a drawing of the classes.

mIoU as M. Everingham et al., The PASCAL VOC Challenge, IJCV 88 (2010), section 4.4: over all pixels of the data set, by
class TP / (TP + FP + FN), then the mean over the classes. Pixels of the ignored label are not judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mz.data import BatchInfo
from mz.errors import UserError
from mz.report.statistics import resampling_weights
from mz.tasks.base import Agreement, ImageTask, TaskResult, one_output
from mz.tasks.drawing import BLACK, captioned, palette, picture
from mz.zoo import NetworkConfig

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE_PIXELS = 480


class Segmentation(ImageTask):
    """The task with the settings of one network."""

    metric_names = ("miou", "pixel_accuracy")
    truth_apart = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._ignored = config.evaluation.ignored_label

    def evaluator(self) -> SegmentationEvaluator:
        return SegmentationEvaluator(self.name, self.metric, self._ignored)

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> Agreement:
        """Pixels that both give the same class."""
        same = (ours == theirs).reshape(len(ours), -1)
        return same.sum(axis=1, dtype=float), np.full(len(ours), float(same.shape[1]))

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray] | None,
        label: np.ndarray | None,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        from PIL import Image

        mask = label if outputs is None else predict(self.name, [output[None] for output in outputs])[0]
        base = picture(image, _PICTURE_PIXELS)
        lines = [(title, BLACK)] if title else []
        if mask is None:
            return captioned(base, lines)
        shown = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(base.size, Image.Resampling.NEAREST))
        coloured = Image.blend(base, Image.fromarray(palette()[shown]), 0.6)
        if outputs is not None and label is not None:
            judged = np.ones(label.shape, bool) if self._ignored is None else label != self._ignored
            right = float((_at(mask, label.shape) == label)[judged].mean())
            lines.append((f"{right:.1%} of the pixels right", BLACK))
        return captioned(coloured, lines)


@dataclass
class SegmentationEvaluator:
    """Counts, for every image, the pixels of each pair (true class, class told)."""

    name: str
    metric: str
    ignored: int | None
    _count: int = 0
    _pairs: list[np.ndarray] = field(default_factory=list)

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> np.ndarray:
        """The class of each pixel, uint8 [N, H, W]. outputs: one array [N, classes, H, W].

        Raises UserError for outputs that are no scores of classes, and for a true class beyond them.
        """
        told = predict(self.name, outputs)
        classes = outputs[0].shape[1]
        self._count += len(told)
        if info.labels is None:
            return told
        for mask, true in zip(told, info.labels, strict=True):
            if not isinstance(true, np.ndarray) or true.ndim != 2:
                raise UserError(
                    f"{self.name}: segmentation is judged by masks; these images have other labels"
                )
            judged = np.ones(true.shape, bool) if self.ignored is None else true != self.ignored
            if judged.any() and int(true[judged].max()) >= classes:
                raise UserError(
                    f"{self.name}: a mask holds class {int(true[judged].max())}, the network tells {classes}; "
                    "pixels that are not judged are named by evaluation.ignored_label"
                )
            pairs = true[judged].astype(np.int64) * classes + _at(mask, true.shape)[judged]
            self._pairs.append(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))
        return told

    def result(self) -> TaskResult:
        """Over all updates so far. Metrics are there only if every batch had labels."""
        if not 0 < self._count == len(self._pairs):
            return TaskResult(self.metric, {}, self._count)
        pairs = np.stack(self._pairs).astype(np.float64)
        judged = [number for number in range(pairs.shape[1]) if number != self.ignored]
        metrics = {name: float(value[0]) for name, value in _metrics(pairs.sum(0)[None], judged).items()}
        drawn = resampling_weights(self._count) @ pairs.reshape(self._count, -1)
        return TaskResult(
            self.metric,
            metrics,
            self._count,
            resampled=_metrics(drawn.reshape(-1, *pairs.shape[1:]), judged),
        )


def predict(name: str, outputs: list[np.ndarray]) -> np.ndarray:
    """uint8 [N, H, W]: the class with the largest score at each pixel of [N, classes, H, W]."""
    scores = one_output(name, "segmentation", "[N, classes, H, W]", outputs, axes=4)
    return scores.argmax(axis=1).astype(np.uint8)


def _metrics(pairs: np.ndarray, judged: list[int]) -> dict[str, np.ndarray]:
    """pairs [B, true, told] -> values in %, [B] each. A class that is neither true nor told anywhere does not count."""
    hits = pairs[:, judged, judged]
    union = pairs[:, judged].sum(2) + pairs[:, :, judged].sum(1) - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "miou": 100 * np.nanmean(hits / union, axis=1),
            "pixel_accuracy": 100 * hits.sum(1) / pairs.sum((1, 2)),
        }


def _at(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask [H, W] at another size, each pixel taken from the place of its centre."""
    if mask.shape == shape:
        return mask
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(shape, mask.shape, strict=True)
    )
    return mask[rows][:, columns]
