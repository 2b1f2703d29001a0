"""Classification: one score a class; top-1 and top-5 accuracy; a drawing of the image with its class under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mz.data import BatchInfo
from mz.errors import UserError
from mz.tasks.base import Agreement, ImageTask, TaskResult, shapes_of
from mz.tasks.drawing import BLACK, RED, captioned, picture
from mz.zoo import NetworkConfig

if TYPE_CHECKING:
    from PIL.Image import Image

TOP = {"top1": 1, "top5": 5}


class Classification(ImageTask):
    """The task with the settings of one network."""

    tops: Mapping[str, int] = TOP
    metric_names = tuple(TOP)
    picture_pixels = 224

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._probabilities = config.postprocessing.outputs == "probabilities"

    def evaluator(self) -> ClassificationEvaluator:
        return ClassificationEvaluator(self.name, self.metric, self.tops)

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> Agreement:
        """Images that both give the same class."""
        return (ours == theirs).astype(float), np.ones(len(ours))

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray] | None,
        label: int | None,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        lines = [(title, BLACK)] if title else []
        if outputs is not None:
            scores = np.asarray(outputs[0], np.float64).ravel()
            probabilities = scores if self._probabilities else _softmax(scores)
            best = int(np.argmax(scores))
            right = label is None or label == best
            text = f"{self.class_name(best, class_names)} {probabilities[best]:.1%}"
            lines.append((text, BLACK if right else RED))
        if label is not None:
            lines.append((f"true: {self.class_name(int(label), class_names)}", BLACK))
        return captioned(picture(image, self.picture_pixels, whole_factor=True), lines)


@dataclass
class ClassificationEvaluator:
    """Counts, for every image, whether its class is among the best; `tops` says by metric how many those are.

    Equal scores, which integers often have, rank by class number, so that top-1 is numpy's argmax.
    """

    name: str
    metric: str
    tops: Mapping[str, int]
    _count: int = 0
    _ranks: list[np.ndarray] = field(default_factory=list)

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> np.ndarray:
        """The best class of each image, int64 [N]. outputs: one array [N, classes], further axes of size 1 are dropped.

        Raises UserError for outputs that are no scores of classes, or a label beyond them.
        """
        scores = outputs[0].reshape(len(outputs[0]), -1)
        if len(outputs) != 1 or scores.shape[1] != outputs[0].shape[1]:
            raise UserError(
                f"{self.name}: classification expects one output [N, classes], the network gives {shapes_of(outputs)}"
            )
        if np.isnan(scores).any():
            raise UserError(f"{self.name}: the network's output holds NaN")
        best = scores.argmax(axis=1)
        self._count += len(best)
        labels = info.labels
        if labels is None:
            return best
        if not isinstance(labels, np.ndarray):
            raise UserError(
                f"{self.name}: classification is judged by class numbers; these images have other labels"
            )
        if int(labels.max()) >= scores.shape[1]:
            raise UserError(f"{self.name}: label {int(labels.max())} is beyond its {scores.shape[1]} classes")
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        earlier = np.arange(scores.shape[1]) < labels[:, None]
        self._ranks.append(np.sum((scores > own) | ((scores == own) & earlier), axis=1))
        return best

    def result(self) -> TaskResult:
        """Over all updates so far. Metrics are there only if every batch had labels."""
        ranks = np.concatenate(self._ranks) if self._ranks else np.empty(0, np.int64)
        labelled = 0 < self._count == len(ranks)
        correct = {name: ranks < limit for name, limit in self.tops.items()} if labelled else {}
        metrics = {name: 100 * float(hits.mean()) for name, hits in correct.items()}
        return TaskResult(self.metric, metrics, self._count, correct)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())
