"""What every task offers to the stages: preprocessing, an evaluator, how far two networks agree, a drawing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mz.data import BatchInfo, preprocessing
from mz.errors import UserError
from mz.report.statistics import paired_difference, percentile_interval, wilson_interval
from mz.zoo import NetworkConfig

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What an evaluation found.

    metric: name of the metric that degradation is stated in.
    metrics: values in %, by name; empty for images without labels.
    count: number of images.
    correct: for every metric that is a share of images, which of them count: bool [count].
    resampled: for every other metric, its values over resampled images (`report.statistics.resampling_weights`).
    """

    metric: str
    metrics: dict[str, float]
    count: int
    correct: dict[str, np.ndarray] = field(default_factory=dict)
    resampled: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """95 % intervals in %: Wilson's for shares of images, else the bootstrap's percentiles over images."""
        shares = {name: wilson_interval(int(hits.sum()), self.count) for name, hits in self.correct.items()}
        return shares | {name: percentile_interval(values) for name, values in self.resampled.items()}


def degradation(baseline: TaskResult, result: TaskResult) -> dict[str, dict[str, float]]:
    """What `result` lost against `baseline` on the same images, by metric: `value` and its paired interval `low`,
    `high`, in points.
    """
    found = {}
    for name in result.metrics:
        if name in result.correct:
            value, low, high = paired_difference(baseline.correct[name], result.correct[name])
        else:
            value = baseline.metrics[name] - result.metrics[name]
            low, high = percentile_interval(baseline.resampled[name] - result.resampled[name])
        found[name] = {"value": value, "low": low, "high": high}
    return found


Agreement = tuple[np.ndarray, np.ndarray]
"""By image, how much of two answers is the same, and of how much: (part, whole), float64 [N] each, whole above 0. The
agreement of many images is the sum of parts over that of wholes.
"""


class Evaluator(Protocol):
    """Takes a network's outputs batch by batch."""

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> Any:
        """The network's answers to these images, one each, as `Task.agreement` compares them.

        outputs: the network's float outputs, batch axis first. info: the images' sizes, and labels or None.
        Raises UserError for outputs or labels that do not fit the task.
        """
        ...

    def result(self) -> TaskResult: ...


class Task(Protocol):
    """One task with the settings of one network."""

    truth_apart: bool
    """Whether what is true is drawn as a picture of its own."""

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

    def agreement(self, ours: Any, theirs: Any) -> Agreement:
        """How much of two networks' answers to the same batch is the same."""
        ...

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray] | None,
        label: Any,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        """The image with what one network says of it and, where known, what is true.

        image: uint8 [H, W] or [H, W, 3]. outputs: those of this image alone, without the batch axis; None draws what
        is true. title: written first, the network's name. class_names: those of the data set, if the configuration has
        none.
        """
        ...


class ImageTask:
    """What the tasks share: the input of one network, and the names of its classes and of its metric."""

    metric_names: tuple[str, ...] = ()
    truth_apart = False

    def __init__(self, config: NetworkConfig) -> None:
        self.name = config.network.name
        self.metric = config.evaluation.metric or self.metric_names[0]
        if self.metric not in self.metric_names:
            raise UserError(
                f"{self.name}: evaluation.metric: {self.metric!r} is no metric of {config.network.task}; "
                f"it has {', '.join(self.metric_names)}"
            )
        self._preprocess = preprocessing(config.preprocessing)
        dataset = config.evaluation.dataset
        self._class_names = dataset.class_names if dataset else ()
        shapes = list(config.parser.input_shapes.values())
        self._input_shape = tuple(shapes[0]) if shapes else None

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self._input_shape

    def preprocess_batch(self, images: np.ndarray) -> np.ndarray:
        x = self._preprocess(images)
        if self._input_shape is not None and x.shape[1:] != self._input_shape:
            raise UserError(
                f"{self.name}: images of {_size(images.shape[1:3])} become {_size(x.shape[1:])} by preprocessing, "
                f"the network reads {_size(self._input_shape)}: resize the images or mend preprocessing.steps"
            )
        return x

    def class_name(self, number: int, names: tuple[str, ...] = ()) -> str:
        """The class's name by the configuration, else by `names`, else its number."""
        known = self._class_names or names
        return known[number] if number < len(known) else f"class {number}"


def one_output(name: str, task: str, form: str, outputs: list[np.ndarray], axes: int) -> np.ndarray:
    """The network's only output, of `axes` axes (batch included) and free of NaN. Raises UserError otherwise."""
    if len(outputs) != 1 or outputs[0].ndim != axes:
        raise UserError(f"{name}: {task} expects one output {form}, the network gives {shapes_of(outputs)}")
    if np.isnan(outputs[0]).any():
        raise UserError(f"{name}: the network's output holds NaN")
    return outputs[0]


def shapes_of(outputs: list[np.ndarray]) -> str:
    """Shapes as messages name them."""
    return ", ".join(str(list(output.shape)) for output in outputs)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
