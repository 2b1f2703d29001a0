"""A network whose outputs mz cannot read: float and integers are compared with one another, and nothing is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mz.data import BatchInfo
from mz.tasks.base import ImageTask, TaskResult, shapes_of
from mz.tasks.drawing import BLACK, captioned, picture

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE_PIXELS = 320


class Outputs(ImageTask):
    """The task with the settings of one network."""

    metric_names = ("agreement",)

    def evaluator(self) -> OutputsEvaluator:
        return OutputsEvaluator()

    def agreement(self, ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
        """Outputs of an image whose largest value both networks have at the same place."""
        same = sum(float(np.sum(a == b)) for a, b in zip(ours, theirs, strict=True))
        return same, float(sum(places.size for places in ours))

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray] | None,
        label: Any,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        lines = [(title, BLACK)] if title else []
        lines += [(f"outputs {shapes_of(outputs)}", BLACK)] if outputs else []
        return captioned(picture(image, _PICTURE_PIXELS), lines)


@dataclass
class OutputsEvaluator:
    """Counts images; an answer is the place of the largest value of each output."""

    _count: int = 0

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> list[np.ndarray]:
        self._count += len(outputs[0])
        return [output.reshape(len(output), -1).argmax(axis=1) for output in outputs]

    def result(self) -> TaskResult:
        return TaskResult(metric="agreement", metrics={}, count=self._count)
