"""A network whose outputs mz cannot read: float and integers are compared with one another, and nothing is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mz.data import BatchInfo
from mz.tasks.base import Agreement, ImageTask, TaskResult, shapes_of
from mz.tasks.drawing import BLACK, captioned, picture

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE_PIXELS = 320


class Outputs(ImageTask):
    """The task with the settings of one network."""

    metric_names = ("agreement",)

    def evaluator(self) -> OutputsEvaluator:
        return OutputsEvaluator()

    def agreement(self, ours: list[np.ndarray], theirs: list[np.ndarray]) -> Agreement:
        """Cosine similarity of each output, negative ones counting as 0. An output of one number has no direction: 1
        less its error, as a share of the larger number where that is above 1.
        """
        found = [
            (_closeness if a.shape[1] == 1 else _cosine)(a.astype(np.float64), b.astype(np.float64))
            for a, b in zip(ours, theirs, strict=True)
        ]
        return np.sum(found, axis=0), np.full(len(found[0]), float(len(found)))

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
    """Counts images; an answer is an output as it is, float [N, values]."""

    _count: int = 0

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> list[np.ndarray]:
        self._count += len(outputs[0])
        return [output.reshape(len(output), -1) for output in outputs]

    def result(self) -> TaskResult:
        return TaskResult(metric="agreement", metrics={}, count=self._count)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the rows of two arrays [N, values], within 0..1: float64 [N]. Two rows of zeros are alike."""
    lengths = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    products = np.einsum("nv,nv->n", a, b)
    found = np.where(np.all(a == b, axis=1), 1.0, products / np.where(lengths > 0, lengths, 1.0))
    return found.clip(0.0, 1.0)


def _closeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the numbers of two arrays [N, 1], within 0..1: float64 [N]."""
    size = np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
    return (1 - np.abs(a - b) / size).clip(0.0, 1.0)[:, 0]
