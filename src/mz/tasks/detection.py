"""Object detection: boxes with classes and scores; COCO's mAP and AP50; a drawing of the boxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mz.data import BatchInfo, Boxes
from mz.data.geometry import filled
from mz.errors import UserError
from mz.tasks.average_precision import average_precision
from mz.tasks.base import Agreement, ImageTask, TaskResult
from mz.tasks.boxes import Detections, matches, suppress
from mz.tasks.decoders import DECODERS
from mz.tasks.drawing import BLACK, captioned, colour, draw_boxes, draw_truth, picture
from mz.zoo import NetworkConfig

if TYPE_CHECKING:
    from PIL.Image import Image

_COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_COCO_DETECTIONS = 100
_AGREEMENT_IOU = 0.5
_PICTURE_PIXELS = 480


class Detection(ImageTask):
    """The task with the settings of one network."""

    metric_names: tuple[str, ...] = ("map", "ap50")

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        settings = config.postprocessing
        if settings.decoder is None:
            raise UserError(
                f"{self.name}: postprocessing.decoder says how its outputs become boxes: {', '.join(DECODERS)}"
            )
        if self._input_shape is None:
            raise UserError(
                f"{self.name}: parser.input_shapes must state the input's size, boxes depend on it"
            )
        last = config.preprocessing.layout == "channels_last"
        height, width = self._input_shape[:2] if last else self._input_shape[1:]
        self._input_size = (height, width)
        self._decode = DECODERS[settings.decoder]
        self._threshold, self._iou, self._shown = (
            settings.score_threshold,
            settings.nms_iou,
            settings.shown_score,
        )
        self._steps = config.preprocessing.steps

    def predict(self, outputs: list[np.ndarray], sizes: np.ndarray) -> list[Detections]:
        """Boxes above the score threshold after suppression, in shares of each image; sizes: [N, 2] in pixels.

        Raises UserError for outputs that are not the decoder's, or hold NaN.
        """
        if any(np.isnan(output).any() for output in outputs):
            raise UserError(f"{self.name}: the network's output holds NaN")
        height, width = self._input_size
        answers = []
        for found, size in zip(self._decode(self.name, outputs, (height, width)), sizes, strict=True):
            kept = suppress(found.at(found.scores > self._threshold), self._iou)
            share = filled((int(size[0]), int(size[1])), self._steps)
            scale = np.array([share[1], share[0]] * 2, np.float32)
            answers.append(Detections(kept.corners / scale, kept.scores, kept.classes))
        return answers

    def evaluator(self) -> DetectionEvaluator:
        return DetectionEvaluator(self)

    def metrics(
        self, found: list[Detections], true: list[Boxes], sizes: np.ndarray
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Values in %, and the same over resampled images."""
        values, drawn = average_precision(found, true, sizes, _COCO_THRESHOLDS, _COCO_DETECTIONS)
        return (
            {"map": float(values.mean()), "ap50": float(values[0])},
            {"map": drawn.mean(axis=1), "ap50": drawn[:, 0]},
        )

    def agreement(self, ours: list[Detections], theirs: list[Detections]) -> Agreement:
        """Boxes of at least the shown score that pair off (same class, overlap of at least 0.5), counted on both
        sides, of all such boxes; an image in which neither network sees any counts as one that agrees.
        """
        part, whole = np.ones(len(ours)), np.ones(len(ours))
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a, b = a.at(a.scores >= self._shown), b.at(b.scores >= self._shown)
            if len(a) + len(b):
                part[index], whole[index] = 2 * matches(a, b, _AGREEMENT_IOU), len(a) + len(b)
        return part, whole

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray] | None,
        label: Boxes | None,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        base = picture(image, _PICTURE_PIXELS)
        draw_truth(base, label)
        lines = [(title, BLACK)] if title else []
        if outputs is not None:
            (found,) = self.predict([output[None] for output in outputs], np.array([image.shape[:2]]))
            shown = found.at(found.scores >= self._shown)
            texts = [
                f"{self.class_name(int(number), class_names)} {score:.0%}"
                for number, score in zip(shown.classes, shown.scores, strict=True)
            ]
            draw_boxes(base, shown.corners, texts, [colour(int(number)) for number in shown.classes])
            lines.append(
                (f"{len(shown)} found" + (f", {len(label)} true" if label is not None else ""), BLACK)
            )
        return captioned(base, lines)


@dataclass
class DetectionEvaluator:
    """Keeps the boxes of all images; they are few."""

    task: Detection
    _found: list[Detections] = field(default_factory=list)
    _true: list[Boxes] = field(default_factory=list)
    _sizes: list[np.ndarray] = field(default_factory=list)

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> list[Detections]:
        """The boxes in each image."""
        found = self.task.predict(outputs, info.sizes)
        self._found += found
        self._sizes.append(info.sizes)
        for boxes in info.labels if info.labels is not None else ():
            if not isinstance(boxes, Boxes):
                raise UserError(
                    f"{self.task.name}: detection is judged by boxes; these images have other labels"
                )
            self._true.append(boxes)
        return found

    def result(self) -> TaskResult:
        """Over all updates so far. Metrics are there only if every batch had labels, and there was any object."""
        count = len(self._found)
        if not 0 < count == len(self._true) or not any(len(boxes) for boxes in self._true):
            return TaskResult(self.task.metric, {}, count)
        metrics, resampled = self.task.metrics(self._found, self._true, np.concatenate(self._sizes))
        return TaskResult(self.task.metric, metrics, count, resampled=resampled)
