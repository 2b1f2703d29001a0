"""Text recognition: one line of text an image, read from a distribution over symbols for every column (CTC).

Greedy decoding, A. Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2: the best symbol of
each column, repetitions merged, blanks (symbol 0) dropped. Edit distance is Levenshtein's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mz.data import BatchInfo
from mz.errors import UserError
from mz.report.statistics import resampling_weights
from mz.tasks.base import Agreement, ImageTask, TaskResult, one_output
from mz.tasks.drawing import BLACK, RED, captioned, picture
from mz.zoo import NetworkConfig

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE_PIXELS = 360


class TextRecognition(ImageTask):
    """The task with the settings of one network."""

    metric_names = ("exact", "exact_without_spaces", "edit_similarity")

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._characters = config.postprocessing.characters

    def evaluator(self) -> TextEvaluator:
        return TextEvaluator(self.name, self.metric, self._characters)

    def agreement(self, ours: list[str], theirs: list[str]) -> Agreement:
        """Images that both read the same text from."""
        return np.array([float(a == b) for a, b in zip(ours, theirs, strict=True)]), np.ones(len(ours))

    def draw(
        self,
        image: np.ndarray,
        outputs: list[np.ndarray] | None,
        label: str | None,
        *,
        title: str = "",
        class_names: tuple[str, ...] = (),
    ) -> Image:
        lines = [(title, BLACK)] if title else []
        if outputs is not None:
            batch = [output[None] for output in outputs]
            (text,) = decode(self.name, batch, self._characters)
            lines.append((text or "(nothing)", BLACK if label in (None, text) else RED))
        if label is not None:
            lines.append((f"true: {label}", BLACK))
        return captioned(picture(image, _PICTURE_PIXELS), lines)


@dataclass
class TextEvaluator:
    """Compares texts, as they are and without spaces."""

    name: str
    metric: str
    characters: tuple[str, ...]
    _count: int = 0
    _exact: list[bool] = field(default_factory=list)
    _without_spaces: list[bool] = field(default_factory=list)
    _similarity: list[float] = field(default_factory=list)

    def update(self, outputs: list[np.ndarray], info: BatchInfo) -> list[str]:
        """The text of each image. outputs: one array [N, columns, symbols] of scores or probabilities."""
        texts = decode(self.name, outputs, self.characters)
        self._count += len(texts)
        if info.labels is None:
            return texts
        for text, true in zip(texts, info.labels, strict=True):
            if not isinstance(true, str):
                raise UserError(
                    f"{self.name}: text recognition is judged by texts; these images have other labels"
                )
            self._exact.append(text == true)
            self._without_spaces.append(text.replace(" ", "") == true.replace(" ", ""))
            longer = max(len(text), len(true))
            self._similarity.append(1 - edit_distance(text, true) / longer if longer else 1.0)
        return texts

    def result(self) -> TaskResult:
        """Over all updates so far. Metrics are there only if every batch had labels."""
        if not 0 < self._count == len(self._exact):
            return TaskResult(self.metric, {}, self._count)
        correct = {
            "exact": np.array(self._exact),
            "exact_without_spaces": np.array(self._without_spaces),
        }
        similarity = np.array(self._similarity)
        metrics = {name: 100 * float(hits.mean()) for name, hits in correct.items()}
        metrics["edit_similarity"] = 100 * float(similarity.mean())
        resampled = 100 * (resampling_weights(self._count) @ similarity) / self._count
        return TaskResult(self.metric, metrics, self._count, correct, {"edit_similarity": resampled})


def decode(name: str, outputs: list[np.ndarray], characters: tuple[str, ...]) -> list[str]:
    """Greedy CTC over [N, columns, symbols].

    characters: the symbols after the blank; with the blank as its first entry, or without the space that networks of
    this kind have last, it is understood too. Raises UserError where it does not fit the output.
    """
    scores = one_output(name, "text recognition", "[N, columns, symbols]", outputs, axes=3)
    symbols = scores.shape[2]
    if len(characters) == symbols - 2:
        characters = (*characters, " ")
    if len(characters) == symbols:
        characters = characters[1:]
    if len(characters) != symbols - 1:
        raise UserError(
            f"{name}: the network tells {symbols} symbols (the blank included), its character set has "
            f"{len(characters)}: name the right one by postprocessing.charset_file"
        )
    best = scores.argmax(axis=2)
    return [
        "".join(characters[b - 1] for b, before in zip(row, [0, *row], strict=False) if b and b != before)
        for row in best.tolist()
    ]


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and exchanges of one character from a to b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def with_characters(config: NetworkConfig, onnx_file: Path) -> NetworkConfig:
    """The configuration with the symbols read from where it says that they stand, so that an archive carries them.

    Raises UserError where the file or the property is missing.
    """
    settings = config.postprocessing
    if settings.charset_file is not None:
        places = [onnx_file.parent / settings.charset_file, Path(settings.charset_file)]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise UserError(
                f"{config.network.name}: postprocessing.charset_file: no file {settings.charset_file!r} "
                f"in {onnx_file.parent} or here"
            )
        text = file.read_text(encoding="utf-8")
    elif settings.charset_metadata is not None:
        import onnx

        model = onnx.load(onnx_file, load_external_data=False)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        if settings.charset_metadata not in properties:
            raise UserError(
                f"{onnx_file}: has no property {settings.charset_metadata!r} with the symbols that it tells: "
                "name a text file by postprocessing.charset_file"
            )
        text = properties[settings.charset_metadata]
    else:
        return config
    lines = text.split("\n")
    characters = tuple(line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines))
    changed: Any = msgspec.structs.replace(settings, characters=characters)
    return msgspec.structs.replace(config, postprocessing=changed)
