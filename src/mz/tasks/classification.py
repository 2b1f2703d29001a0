"""Classification: one score a class; top-1 and top-5 accuracy; a drawing of the image with its class under it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mz.data import preprocessing
from mz.errors import UserError
from mz.tasks.base import TaskResult
from mz.zoo import NetworkConfig

if TYPE_CHECKING:
    from PIL.Image import Image

TOP = {"top1": 1, "top5": 5}
_PICTURE_PIXELS = 224
_MARGIN_PIXELS = 8
_TEXT_PIXELS = 14
_BLACK, _RED = "black", "#b00020"


class Classification:
    """The task with the settings of one network."""

    def __init__(self, config: NetworkConfig) -> None:
        self._name = config.network.name
        self._metric = config.evaluation.metric
        self._probabilities = config.postprocessing.outputs == "probabilities"
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
                f"{self._name}: images of {_size(images.shape[1:3])} become {_size(x.shape[1:])} by preprocessing, "
                f"the network reads {_size(self._input_shape)}: resize the images or mend preprocessing.steps"
            )
        return x

    def evaluator(self) -> ClassificationEvaluator:
        return ClassificationEvaluator(self._name, self._metric)

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray],
        label: int | None,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        names = self._class_names or class_names
        scores = np.asarray(outputs[0], np.float64).ravel()
        probabilities = scores if self._probabilities else _softmax(scores)
        best = int(np.argmax(scores))
        lines = {title: _BLACK} if title else {}
        lines[f"{_class_name(best, names)} {probabilities[best]:.1%}"] = (
            _BLACK if label in (None, best) else _RED
        )
        if label is not None:
            lines[f"true: {_class_name(label, names)}"] = _BLACK
        return _captioned(image, lines)


@dataclass
class ClassificationEvaluator:
    """Counts, for every image, whether its class is the best or among the best five.

    Equal scores, which integers often have, rank by class number, so that top-1 is numpy's argmax.
    """

    name: str
    metric: str
    _predictions: list[np.ndarray] = field(default_factory=list)
    _ranks: list[np.ndarray] = field(default_factory=list)

    def update(self, outputs: list[np.ndarray], labels: np.ndarray | None) -> None:
        """outputs: one array [N, classes] (further axes of size 1 are dropped). labels: integers [N] or None.

        Raises UserError for outputs that are no scores of classes, or a label beyond them.
        """
        scores = outputs[0].reshape(len(outputs[0]), -1)
        if len(outputs) != 1 or scores.shape[1] != outputs[0].shape[1]:
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise UserError(
                f"{self.name}: classification expects one output [N, classes], the network gives {shapes}"
            )
        if np.isnan(scores).any():
            raise UserError(f"{self.name}: the network's output holds NaN")
        self._predictions.append(scores.argmax(axis=1))
        if labels is None:
            return
        if int(labels.max()) >= scores.shape[1]:
            raise UserError(f"{self.name}: label {int(labels.max())} is beyond its {scores.shape[1]} classes")
        own = np.take_along_axis(scores, labels[:, None], axis=1)
        earlier = np.arange(scores.shape[1]) < labels[:, None]
        self._ranks.append(np.sum((scores > own) | ((scores == own) & earlier), axis=1))

    def result(self) -> TaskResult:
        """Over all updates so far. Metrics are there only if every batch had labels."""
        predictions = np.concatenate(self._predictions) if self._predictions else np.empty(0, np.int64)
        ranks = np.concatenate(self._ranks) if self._ranks else np.empty(0, np.int64)
        labelled = len(predictions) > 0 and len(ranks) == len(predictions)
        correct = {name: ranks < limit for name, limit in TOP.items()} if labelled else {}
        metrics = {name: 100 * float(hits.mean()) for name, hits in correct.items()}
        return TaskResult(self.metric, metrics, len(predictions), correct, predictions)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def _class_name(number: int, names: tuple[str, ...]) -> str:
    return names[number] if number < len(names) else f"class {number}"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _captioned(image: np.ndarray, lines: dict[str, str]) -> Image:
    """The image with lines of text, each in its colour, under it.

    Small images are enlarged by a whole factor, pixel by pixel; large ones are reduced.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image).convert("RGB")
    factor = _PICTURE_PIXELS // max(picture.size)
    if factor >= 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    font = ImageFont.load_default(_TEXT_PIXELS)
    line_pixels = _TEXT_PIXELS + 4
    width = max(picture.width, *(int(font.getlength(line)) + 1 for line in lines))
    height = picture.height + line_pixels * len(lines)
    canvas = Image.new("RGB", (width + 2 * _MARGIN_PIXELS, height + 3 * _MARGIN_PIXELS), "white")
    canvas.paste(picture, (_MARGIN_PIXELS, _MARGIN_PIXELS))
    pen = ImageDraw.Draw(canvas)
    for row, (line, colour) in enumerate(lines.items()):
        top = picture.height + 2 * _MARGIN_PIXELS + row * line_pixels
        pen.text((_MARGIN_PIXELS, top), line, fill=colour, font=font)
    return canvas
