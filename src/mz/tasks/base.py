"""What every task offers to the stages: preprocessing, an evaluator, a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mz.report.statistics import wilson_interval

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What an evaluation found.

    metric: name of the metric that degradation is stated in.
    metrics: values in %, by name; empty for images without labels.
    count: number of images.
    correct: for every metric that is a share of images, which of them count: bool [count].
    predictions: the answer to each image, so that two networks' agreement can be told: integers [count].
    """

    metric: str
    metrics: dict[str, float]
    count: int
    correct: dict[str, np.ndarray]
    predictions: np.ndarray

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """Wilson's 95 % interval in %, of every metric that is a share of images."""
        return {name: wilson_interval(int(hits.sum()), self.count) for name, hits in self.correct.items()}


class Evaluator(Protocol):
    """Takes a network's outputs batch by batch."""

    def update(self, outputs: list[np.ndarray], labels: np.ndarray | None) -> None:
        """outputs: the network's float outputs, batch axis first. labels: as the data set has them, or None."""
        ...

    def result(self) -> TaskResult: ...


class Task(Protocol):
    """One task with the settings of one network."""

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """[C, H, W] that the network reads, where the configuration states it."""
        ...

    def preprocess_batch(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W] or [N, H, W, 3] (RGB) -> float32 [N, C, H, W].

        Raises UserError where the result is not of `input_shape`.
        """
        ...

    def evaluator(self) -> Evaluator: ...

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray],
        label: int | None,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        """The image with what one network says of it and, where known, what is true.

        image: uint8 [H, W] or [H, W, 3]. outputs: those of this image alone, without the batch axis.
        title: written first, the network's name. class_names: those of the data set, if the configuration has none.
        """
        ...
